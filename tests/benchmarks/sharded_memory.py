"""The host's memory for loading and training a sharded model: ``python -m tests.benchmarks.sharded_memory 4``.

N processes (gloo, on the CPU) train a Llama of 51M weights in float32 for two steps. Each reads its proportional set size
(a page that k processes share counts 1/k) every 20 ms; what it had with all libraries imported is left out. Figures are
the sums of the processes' own peaks ÷ the weights in float32. On GPUs only what is loaded lies in the host's memory; on
the CPU the parts, gradients and moments do too. ``--each``: every process reads the weights. ``--lora``: an adapter, which
is replicated (DDP), as its base is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data.files import write_json
from tasks.machine import child
from tasks.settings import LoraSettings, Optimization, TrainingSettings
from tasks.training.encoded import encode_sets
from tasks.training.job import TrainingJob
from tests.conftest import free_port
from tests.support.training_jobs import BASE, example_rows, models_for, training_job

MODULE = "tests.benchmarks.sharded_memory"


def new_base(folder: Path, stored: str) -> int:
    """A random model, stored in this dtype; returns the bytes of its weights in float32."""
    import torch
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=8,
        vocab_size=AutoConfig.from_pretrained(BASE).vocab_size, pad_token_id=0, bos_token_id=1, eos_token_id=5,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(getattr(torch, stored))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, folder)
    return sum(4 * one.numel() for one in model.parameters())


def pss() -> dict[str, int]:
    """This process's share of the memory in use, in bytes: with and without pages of files, which the kernel can drop."""
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    found = {line[0]: int(line[1]) << 10 for line in lines}
    return {"": found["Pss:"], " without files": found["Pss:"] - found["Pss_File:"]}


def one_process(job: TrainingJob, each: bool) -> dict[str, int]:
    """Trains its part; returns the most memory while loading, sharding and training, in bytes."""
    import torch.distributed as dist
    import transformers
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM
    from trl import RewardTrainer, SFTTrainer  # noqa: F401

    from tasks.training import distributed, objectives
    from tasks.training.rank import train_part
    from tests.support.processes import shard

    if job.optimization["lora"] is None:
        shard()
    if each:
        distributed.has_stored_buffers = lambda model: True
    PartialState(cpu=True, backend="gloo")
    phase, before, peaks = "importing", pss(), defaultdict[str, int](int)
    load, prepare = objectives.load_model, transformers.Trainer._prepare_for_training

    def note(name: str) -> None:
        for which, held in pss().items():
            peaks[name + which] = max(peaks[name + which], held - before[which])

    def loaded(*given: Any) -> Any:
        nonlocal phase, before
        AutoModelForCausalLM.from_pretrained(BASE)  # imports what loading needs
        dist.barrier()
        before, phase = pss(), "loading"
        model = load(*given)
        dist.barrier()
        note("loaded")
        phase = "sharding"
        return model

    def prepared(*given: Any) -> Any:
        nonlocal phase
        made = prepare(*given)
        phase = "training"
        return made

    def look() -> None:
        while True:
            note(phase)
            time.sleep(0.02)

    objectives.load_model, transformers.Trainer._prepare_for_training = loaded, prepared
    threading.Thread(target=look, daemon=True).start()
    train_part(job)
    dist.destroy_process_group()
    return {name: peak for name, peak in peaks.items() if "importing" not in name}


def measure(processes: int, each: bool, lora: bool) -> dict[str, Any]:
    peaks: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # As published: what is trained in full is read into float32, and an adapter's base stays as it is.
        weights = new_base(folder / "base", "float32" if lora else "bfloat16")
        training = TrainingSettings(log_every=1, processes=processes)
        optimization = Optimization(
            max_steps=2, batch_size=processes, micro_batch_size=1, lora=LoraSettings(r=4) if lora else None
        )
        job = training_job(folder, example_rows(8), training, optimization, models=models_for())
        job = replace(job, base=str(folder / "base"))
        write_json(folder / "job.json", asdict(job))
        encode_sets(job)
        shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        shared |= {"MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        arguments = [str(processes), "--part", str(folder / "job.json"), *(["--each"] if each else [])]
        commands = [
            child.Command(MODULE, arguments, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, str(rank))
            for rank in range(processes)
        ]
        child.run_children(commands, folder / "log", lambda line: None, peaks.__setitem__)
    phases = {name for one in peaks.values() for name in one}
    sums = {name: round(sum(one.get(name, 0) for one in peaks.values()) / weights, 2) for name in sorted(phases)}
    return {"processes": processes, "each": each, "lora": lora, "weights_mib": round(weights / (1 << 20)), **sums}


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("processes", type=int)
    parser.add_argument("--each", action="store_true", help="every process reads the weights")
    parser.add_argument("--lora", action="store_true", help="an adapter, replicated")
    parser.add_argument("--part", type=Path, metavar="JOB", help="for the script's own use")
    given = parser.parse_args()
    if given.part:
        child.die_with_parent()
        child.report_progress(**one_process(TrainingJob.read(given.part), given.each))
    else:
        print(json.dumps(measure(given.processes, given.each, given.lora)))


if __name__ == "__main__":
    main()
