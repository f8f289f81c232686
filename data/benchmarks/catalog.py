"""The benchmarks by name."""

from __future__ import annotations

from typing import Literal, get_args

from data.benchmarks import (
    if_reward_bench,
    judgebench,
    llmbar,
    m_reward_bench,
    ppe,
    preferences,
    reward_bench,
    rm_bench,
    rmb,
    salesforce,
)
from data.benchmarks.items import Benchmark, Notice
from data.sources.sources import Format, Source

BenchmarkName = Literal[
    "rm-bench",
    "judgebench",
    "reward-bench",
    "reward-bench-2",
    "llmbar",
    "ppe",
    "rmb",
    "contextual-judgebench",
    "reasoning-judgebench",
    "m-reward-bench",
    "ppe-human-preference",
    "if-reward-bench",
    "preferences",
]
NAMES: tuple[str, ...] = get_args(BenchmarkName)
UNCHECKED: dict[str, str] = {
    "ppe": "the columns are those of the card of lmarena-ai/PPE-MMLU-Pro-Best-of-K; the authors' code was not at hand",
    "rmb": "the overall number: the authors' code has none, so it is the mean of the four sections, as in RM-R1's "
    "(RM-R1-UIUC/RM-R1 at d4c2542f, process_final_result.py)",
    "contextual-judgebench": "the rows themselves (the columns are those that the authors' main_eval.py names), and whether the "
    "published average is over splits or over pairs: total is the first, micro the second",
    "reasoning-judgebench": "the rows themselves; columns and splits are those of the card of Salesforce/ReasoningJudgeBench",
    "m-reward-bench": "the rows themselves (the columns are those of the card and the authors' scripts), and which of two tables "
    "of weights the published numbers have: total has that of run_generative.py, own_counts that of plot_utils.py",
    "ppe-human-preference": "the rows, and the authors' code (lmarena/PPE), which was not at hand: the columns are those of the "
    "card, and ties are left out of the accuracy as in public adaptations of that code; its metrics over models (Pearson, "
    "Spearman, Kendall, separability, Brier) are not computed",
    "if-reward-bench": "the rows themselves (the columns are those of the repository's README and code); whether the graph names "
    "preferences twice, or none for an instruction, which the authors' code scores 0 and which is dropped here",
}
"""What could not be verified of a benchmark's data or rules; all else was read in its authors' files or code."""


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
        case "rmb":
            return rmb.load(data, notice)
        case "contextual-judgebench":
            return salesforce.load_contextual(data, notice)
        case "reasoning-judgebench":
            return salesforce.load_reasoning(data, notice)
        case "m-reward-bench":
            return m_reward_bench.load(data, notice)
        case "ppe-human-preference":
            return ppe.load_human(data, notice)
        case "if-reward-bench":
            return if_reward_bench.load(data, notice)
        case "preferences":
            return preferences.load(Source(path=data, format=format))


def path_of(name: BenchmarkName, data: str) -> str:
    """The path that names a benchmark's own files in `data`."""
    match name:
        case "llmbar":
            return llmbar.path_of(data)
        case "rmb":
            return rmb.path_of(data)
        case "contextual-judgebench" | "reasoning-judgebench":
            return salesforce.path_of(data)
        case "m-reward-bench":
            return m_reward_bench.path_of(data)
        case "if-reward-bench":
            return if_reward_bench.path_of(data)
        case _:
            return data
