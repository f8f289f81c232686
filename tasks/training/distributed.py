"""Training in several processes: which of them reads the weights, what is sharded, and in which dtype gradients are summed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from tasks.settings import Optimization

SHARD_FOLDER = "pytorch_model_fsdp_0"
"""The folder in a checkpoint of a sharded training that holds the weights, one file from each process (accelerate's name)."""


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_connected() -> bool:
    """Whether a launcher has told this process which of several it is, and where they meet."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def leave() -> NoReturn:
    """Ends a process that has trained its part: at once, as threads of libraries that outlive the interpreter may abort it."""
    import torch.distributed as dist

    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def machines() -> int:
    """On how many machines they are."""
    return world_size() // int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def is_sharded(gpu: bool, optimization: Optimization) -> bool:
    """Whether each process holds a part of the weights: in full fine-tuning on several GPUs. Adapters are replicated."""
    return world_size() > 1 and gpu and optimization.lora is None


def distributed_arguments(gpu: bool, sharded: bool) -> dict[str, Any]:
    """The trainer's arguments for several processes; none for a single one."""
    if world_size() == 1:
        return {}
    # The other processes wait while the first one reads the weights, and in the end while it writes them.
    arguments: dict[str, Any] = {"ddp_timeout": 3600, "ddp_find_unused_parameters": False}
    if not gpu:
        arguments["ddp_backend"] = "gloo"
    if not sharded:
        return arguments
    if 1 < machines() < world_size():
        from accelerate import ParallelismConfig

        # HSDP: weights are gathered within a machine; between machines only gradients are exchanged.
        shards = world_size() // machines()
        arguments["parallelism_config"] = ParallelismConfig(dp_replicate_size=machines(), dp_shard_size=shards)
    return {
        **arguments,
        "fsdp": True,
        # Every process writes its own part of a checkpoint: 12 bytes a weight in all, not 16 from the first process alone.
        "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"},
        # Gradients are reduced and sharded after each micro-batch: kept whole until the last one, they take as much memory
        # on every GPU as its entire share of weights and moments.
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }


def load_model(kind: Any, base: str, sharded: bool, config: Mapping[str, Any], how: Mapping[str, Any]) -> Any:
    """The model of class `kind`, with these changes to its configuration, loaded as `how` says (dtype, attention, …).

    In a sharded training only the first process reads the weights; the others get a model without, and receive their part
    when the trainer shards the model: accelerate's `cpu_ram_efficient_loading`. transformers' own part of it fills the
    weights of the others with zeros, which takes as much memory as the weights do.
    """
    if sharded and os.environ["RANK"] != "0":
        model = _without_weights(kind, base, config, how)
        if not has_stored_buffers(model):
            return model
    return kind.from_pretrained(base, **config, **how)


def _without_weights(kind: Any, base: str, config: Mapping[str, Any], how: Mapping[str, Any]) -> Any:
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    described = AutoConfig.from_pretrained(base, trust_remote_code=how["trust_remote_code"], **config)
    with init_empty_weights(include_buffers=False):
        model = kind.from_config(described, **how)
    # accelerate finds an optimizer's weights again by their address, and all of those on the meta device have the same
    # one. Memory that is allocated but never written to has an address, and takes no room.
    model._apply(lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
    model.tie_weights()
    return model


def has_stored_buffers(model: Any) -> bool:
    """Whether a model's files contain more than weights: accelerate sends only weights to the other processes."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return bool(model.state_dict().keys() - weights)


def complete_sharding(arguments: Any, model: Any, dtype: str) -> None:
    """Adds what the trainer's own arguments have no names for. Changes `arguments`."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = arguments.fsdp_plugin_args
    plugin["cpu_ram_efficient_loading"] = not has_stored_buffers(model)
    if dtype != "float32":
        # By default gradients are summed in the dtype that is computed in, and so are rounded once a process; outputs,
        # log-probabilities and scores among them, are rounded to it too.
        plugin["mixed_precision_policy"] = MixedPrecisionPolicy(
            param_dtype=getattr(torch, dtype), reduce_dtype=torch.float32
        )
