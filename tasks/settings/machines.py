"""How engines run, and what is kept on disk."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings.section import Section, Share


class GenerationSettings(Section):
    """How vLLM runs. A stage's rows are split into shards; a finished shard is never regenerated."""

    shard_rows: int = Field(
        256,
        ge=1,
        title="Rows per shard",
        description="At most; a small stage has smaller shards. Each engine takes the next shard when it has room for more, so "
        "that all end together. A lost machine's finished shards are kept.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        title="Generation workers",
        description="0: engines run on the run's own machine, one per GPU. N: a stage is shared by N runs of the deployment "
        "generate/shards in the work pool gpu, on any machines that have a worker there and see the store; needs an explicit "
        "models.dtype. Must be 0 in the flows benchmark and adapt.",
    )
    gpu_memory_share: float = Field(
        0.9, gt=0, le=1, title="GPU memory share", description="Share of each GPU's memory for vLLM."
    )
    kv_cache_mib: int | None = Field(
        None,
        ge=16,
        title="KV cache (MiB)",
        description="A fixed size instead of a share of the memory. If empty, 256 on a CPU.",
    )
    tensor_parallel: int = Field(
        1, ge=1, title="GPUs per engine", description="Tensor parallelism, for models that do not fit on one GPU."
    )
    enforce_eager: bool = Field(
        False, title="Eager mode", description="No CUDA graphs: slower, but starts sooner. Always on without a GPU."
    )
    endpoint_requests: int = Field(
        32,
        ge=1,
        le=4096,
        title="Concurrent requests",
        description="For an endpoint; a vLLM engine takes as many as its memory holds.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        title="Attempts per row",
        description="A row on which the engine fails is retried once immediately, then on later starts of the run. If it "
        "succeeds on a later start, the stages built without it become stale.",
    )
    max_failed_share: Share = Field(
        0.01,
        title="Maximum share of failed rows",
        description="The run stops if the engine failed on a larger share of a stage's rows.",
    )


class RetentionSettings(Section):
    """Which files of a run are kept. Manifests always are; a removed file is recreated if a stage needs it."""

    judges: Literal["all", "last_and_best"] = Field(
        "all",
        title="Judges to keep",
        description="last_and_best: after each round, the weights of all other rounds' judges are removed.",
    )
    completions: Literal["all", "last_round"] = Field(
        "all",
        title="Raw completions to keep",
        description="last_round: after each round, the raw votes and proofs of earlier rounds are removed. Labels, selected "
        "proofs and the report's samples stay.",
    )
    reserve_gib: float = Field(
        2.0,
        ge=0,
        title="Disk space to keep free (GiB)",
        description="A stage does not start if its estimated disk use would leave less than this.",
    )
