"""How engines run, and what is kept on disk."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.settings.section import Section, Share

_THE_RUN = "the run itself"
_SET_ELSEWHERE = {
    "dtype": "models.dtype",
    "max_model_len": "models.max_tokens",
    "trust_remote_code": "models.trust_remote_code",
    "tensor_parallel_size": "generation.tensor_parallel",
    "gpu_memory_utilization": "generation.gpu_memory_share",
    "kv_cache_memory_bytes": "generation.kv_cache_mib",
    "enforce_eager": "generation.enforce_eager",
    "kv_cache_dtype": "generation.kv_cache_dtype",
    "quantization": "generation.quantization",
    "hf_token": "the environment variable HF_TOKEN",  # here it would be written into keys and manifests
    **dict.fromkeys(("model", "tokenizer", "tokenizer_mode", "skip_tokenizer_init", "runner", "convert"), _THE_RUN),
    **dict.fromkeys(("seed", "hf_overrides", "logprobs_mode", "generation_config", "data_parallel_size"), _THE_RUN),
    **dict.fromkeys(("enable_prefix_caching", "enable_chunked_prefill"), _THE_RUN),
}
"""vLLM's arguments that cannot be given in `engine`, and what sets them."""


class GenerationSettings(Section):
    """How vLLM runs. A stage's rows are split into shards; a finished shard is never regenerated."""

    shard_rows: int = Field(
        256,
        ge=1,
        title="Rows per shard",
        description="A shard has at most this many rows; a small stage has smaller shards. Each engine takes the next shard "
        "when it has room, so that all end together. A lost machine's finished shards are kept.",
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
        0.9, gt=0, le=1, title="GPU memory share", description="vLLM takes this share of each GPU's memory."
    )
    kv_cache_mib: int | None = Field(
        None,
        ge=16,
        title="KV cache (MiB)",
        description="The KV cache has this size instead of a share of the memory. Empty: a share on a GPU, 256 on a CPU.",
    )
    tensor_parallel: int = Field(
        1,
        ge=1,
        title="GPUs per engine",
        description="Each engine is spread over this many GPUs, for models that do not fit on one.",
    )
    enforce_eager: bool = Field(
        False,
        title="Eager mode",
        description="No CUDA graphs are made: an engine is slower, but starts sooner. It is always on without a GPU.",
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e5m2"] = Field(
        "auto",
        title="Data type of the KV cache",
        description="auto: that of the model. fp8 (e4m3) halves what is read for each token, which limits how fast many "
        "replies to one prompt are written; replies change slightly. Needs a GPU that computes in fp8, such as an H100.",
        exclude_if=lambda value: value == "auto",
    )
    quantization: Literal["fp8_per_tensor", "fp8_per_block", "fp8_per_channel"] | None = Field(
        None,
        title="Weights quantized on the fly",
        description="vLLM quantizes the linear layers when it loads a model; nothing is calibrated, checkpoints stay as they "
        "are, and replies change slightly. Empty: the weights as they are. Needs a GPU that computes in fp8.",
        exclude_if=lambda value: value is None,
    )
    engine: dict[str, Any] = Field(
        {},
        title="Other arguments of vLLM",
        description="Further arguments of vLLM's EngineArgs, passed on as they are, such as { max_num_seqs = 512 }; names and "
        "values are checked before a run starts. Any change of them makes what was generated stale.",
        exclude_if=lambda value: not value,
    )
    endpoint_requests: int = Field(
        32,
        ge=1,
        le=4096,
        title="Concurrent requests",
        description="An endpoint is sent this many at a time; a vLLM engine takes as many as its memory holds.",
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

    @model_validator(mode="after")
    def _nothing_is_set_twice(self) -> Self:
        for name in self.engine:
            if name in _SET_ELSEWHERE:
                raise ValueError(f"engine has {name!r}, which is set by {_SET_ELSEWHERE[name]}: leave it out")
        return self

    def facts_in_keys(self) -> dict[str, Any]:
        """What goes into the keys of stages whose replies come from vLLM: the options that change them, if any is set."""
        return self.model_dump(mode="json", include={"kv_cache_dtype", "quantization", "engine"})


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
