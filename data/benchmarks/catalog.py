"""The benchmarks by name."""

from __future__ import annotations

from typing import Literal, get_args

from data.benchmarks import judgebench, llmbar, ppe, preferences, reward_bench, rm_bench
from data.benchmarks.items import Benchmark, Notice
from data.sources.sources import Format, Source

BenchmarkName = Literal["rm-bench", "judgebench", "reward-bench", "reward-bench-2", "llmbar", "ppe", "preferences"]
NAMES: tuple[str, ...] = get_args(BenchmarkName)


def load(
    name: BenchmarkName,
    data: str,
    split: str | None = None,
    format: Format = "records",
    notice: Notice | None = None,
) -> Benchmark:
    """A benchmark from its authors' files or the hub. `split` is JudgeBench's, `format` that of a preference set.

    `notice` is called with each row and the columns read from it, but not for a preference set, whose format names them.
    Raises SourceError if the data is not as its authors publish it.
    """
    match name:
        case "rm-bench":
            return rm_bench.load(data, notice)
        case "judgebench":
            return judgebench.load(data, split, notice)
        case "reward-bench":
            return reward_bench.load(data, notice)
        case "reward-bench-2":
            return reward_bench.load_2(data, notice)
        case "llmbar":
            return llmbar.load(data, notice)
        case "ppe":
            return ppe.load(data, notice)
        case "preferences":
            return preferences.load(Source(path=data, format=format))
