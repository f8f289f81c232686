"""The benchmarks by name."""

from __future__ import annotations

from typing import Literal, get_args

from data.benchmarks import judgebench, llmbar, ppe, preferences, reward_bench, rm_bench
from data.benchmarks.items import Benchmark
from data.sources.sources import Format, Source

BenchmarkName = Literal["rm-bench", "judgebench", "reward-bench", "reward-bench-2", "llmbar", "ppe", "preferences"]
NAMES: tuple[str, ...] = get_args(BenchmarkName)


def load(name: BenchmarkName, data: str, split: str | None = None, format: Format = "records") -> Benchmark:
    """A benchmark from its authors' files or the hub. `split` is JudgeBench's, `format` that of a preference set.

    Raises SourceError if the data is not as its authors publish it.
    """
    match name:
        case "rm-bench":
            return rm_bench.load(data)
        case "judgebench":
            return judgebench.load(data, split)
        case "reward-bench":
            return reward_bench.load(data)
        case "reward-bench-2":
            return reward_bench.load_2(data)
        case "llmbar":
            return llmbar.load(data)
        case "ppe":
            return ppe.load(data)
        case "preferences":
            return preferences.load(Source(path=data, format=format))
