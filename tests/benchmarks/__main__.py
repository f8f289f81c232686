"""``make benchmarks``: speed and memory, as ratios within one run; figures go to ``tests/benchmarks/results.md`` by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tasks.model.device import engine_environment


def measure(*arguments: str) -> Any:
    """Runs one benchmark in its own process; returns the figures in its last line of output."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **engine_environment(on_gpus=False)},
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    speed = measure("tests.benchmarks.generation")
    print(f"generation stage ÷ bare LLM.generate, rows/s: {speed} (goal ≥ 0.95)", flush=True)
    stream = measure("tests.benchmarks.stream")
    print(f"the same on heavy-tailed replies in small shards: {stream} (goal ≥ 0.97)", flush=True)
    print(f"traced memory of a stream of rows, MiB: {measure('tests.benchmarks.stream', 'memory')}", flush=True)
    for told, goal in ((("325000", "16384", "1"), 1.03), (("2000", "2048", "10"), 1.05)):
        simulated = measure("tests.benchmarks.claims", *told)
        print(f"simulated wall time of 8 engines ÷ that of one queue of rows: {simulated} (goal ≤ {goal})", flush=True)
    training = measure("tests.benchmarks.training")
    print(f"training child ÷ a plain script with TRL's trainer, tokens/s: {training} (goal ≥ 1.0)", flush=True)
    ranking = measure("tests.benchmarks.ranking")
    print(f"ranking in batches ÷ one comparison at a time: {ranking} (goal ≥ 5)", flush=True)
    cached, uncached = (measure("tests.benchmarks.ranking", caching) for caching in ("on", "off"))
    print(f"games of a benchmark, prefixes cached: {cached}; not cached: {uncached}", flush=True)
    service = measure("tests.benchmarks.service_load", "ratio")
    print(f"comparisons by callers of the reward service ÷ in one process: {service} (goal ≥ 0.9)", flush=True)
    faults = measure("tests.benchmarks.service_load", "faults", "30", "100")
    print(f"the reward service while its servers fail: {faults} (goal: none wrong)", flush=True)
    small, large = (measure("tests.benchmarks.memory", str(n)) for n in (10_000, 200_000))
    growth = large["peak_mib"] / small["peak_mib"] - 1
    print(f"peak memory of label + prove + select: {small} → {large}, {growth:+.1%} (goal within 10%)")
    stages = measure("tests.benchmarks.data", "100000")
    print(f"stages without a model, minutes a million rows: {stages} (goal ≤ 15 of CPU in all)", flush=True)


if __name__ == "__main__":
    main()
