"""ContextualJudgeBench and ReasoningJudgeBench: a positive and a negative response, in splits of one file each.

A row of ``Salesforce/ContextualJudgeBench`` (here of the split faithfulness_qa), whose id is the split and the row's number
from 0, "faithfulness_qa/0"; and one of ``Salesforce/ReasoningJudgeBench``::

    {"question": "Who built it?", "context": "The tower was built by …", "question_id": "…",
     "positive_response": "It was …", "negative_response": "Nobody knows …"}
    {"problem_id": "reasoning-judge-bench-folio_pairwise:3f0c…", "instruction": "Given that …", "source_id": "folio",
     "positive_response": "True, since …", "negative_response": "False, …", "label": 1}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from data.benchmarks.items import CHOSEN_ORDERS, HUB, Benchmark, Cell, Item, Notice, prompt_of, read_items
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, got, optional_text_at, reach, text_at
from data.sources.rows import RawRow, SourceError

CONTEXTUAL, REASONING = "contextual-judgebench", "reasoning-judgebench"

# Of SalesforceAIResearch/ContextualJudgeBench at 4d480a9d (2026-03-23), main_eval.py, VALID_DATASET_SPLITS.
CONTEXTUAL_SPLITS = (
    "completeness_qa",
    "completeness_summ",
    "conciseness_qa",
    "conciseness_summ",
    "faithfulness_qa",
    "faithfulness_summ",
    "refusal_answerable",
    "refusal_unanswerable",
)

# Of SalesforceAIResearch/ReasoningJudgeBench at 191ca391 (2025-06-17), aggregate.py, split_names.
REASONING_SPLITS = {
    "aime_4o_pairwise": "math",
    "aime_pairwise": "math",
    "arc_challenge_pairwise": "multihop",
    "bbeh_be_pairwise": "multihop",
    "bbeh_cu_pairwise": "everyday",
    "bbeh_dq_pairwise": "everyday",
    "bbeh_hyper_pairwise": "everyday",
    "bbeh_ma_pairwise": "math",
    "reclor_pairwise": "multihop",
    "strategy_qa_pairwise": "everyday",
    "folio_pairwise": "multihop",
    "supergpqa_pairwise": "domain",
    "olympiadbench_pairwise": "math",
}
"""The splits → the category that each is scored in."""
_CELL = (Cell("", 0, 1),)
_Read = Callable[[Row, str, int], Item]


def load_contextual(data: str, notice: Notice | None = None) -> Benchmark:
    """ContextualJudgeBench from ``hub:Salesforce/ContextualJudgeBench``, a folder with its files, or some of them."""
    return _load(CONTEXTUAL, data, CONTEXTUAL_SPLITS, _contextual, notice)


def load_reasoning(data: str, notice: Notice | None = None) -> Benchmark:
    """ReasoningJudgeBench from ``hub:Salesforce/ReasoningJudgeBench``, a folder with its files, or some of them."""
    return _load(REASONING, data, tuple(REASONING_SPLITS), _reasoning, notice)


def path_of(data: str) -> str:
    """The path that names the files themselves: a pattern for all files below `data`, if that is a folder."""
    return f"{data.rstrip('/')}/**" if Path(rows.expand_path(data)).is_dir() else data


def _load(name: str, data: str, splits: Sequence[str], read: _Read, notice: Notice | None) -> Benchmark:
    items: list[Item] = []
    for split, raw in _by_split(name, data, splits):
        items += read_items(raw, lambda row, i, split=split: read(row, split, i), notice)  # type: ignore[misc]
    return Benchmark(name, CHOSEN_ORDERS, tuple(splits), tuple(items))


def _by_split(name: str, data: str, splits: Sequence[str]) -> Iterator[tuple[str, Iterator[RawRow]]]:
    if data.startswith(HUB):
        for split in splits:
            yield split, rows.read_hub(data.removeprefix(HUB), subset=None, split=split, revision=None)
        return
    for file in rows.local_files(rows.expand_path(path_of(data))):
        # A shard's number, if it has one, comes after a hyphen, which no split has.
        split = rows.data_set_name(file).split("-")[0]
        if split not in splits:
            raise SourceError(f"{file}: is not named as one of the splits of {name}, which are {', '.join(splits)}")
        yield split, rows.read_file(file)


def _contextual(row: Row, split: str, index: int) -> Item:
    """The prompt is the question and then the context, the two parts of a row in the order of the authors' prompt."""
    question, context = (optional_text_at(row, column).strip() for column in ("question", "context"))
    prompt = "\n\n".join(part for part in (question, f"Context:\n{context}" if context else "") if part)
    return Item(f"{split}/{index}", split, prompt_of(prompt, "question"), _responses(row), (True, False), _CELL)


def _reasoning(row: Row, split: str, index: int) -> Item:
    label = reach(row, "label")
    if isinstance(label, bool) or label != 1:
        raise RecordError("label", f"must be 1, for positive_response, got {got(label)}")
    identity, prompt = (
        as_id(reach(row, "problem_id"), "problem_id"),
        prompt_of(reach(row, "instruction"), "instruction"),
    )
    return Item(identity, split, prompt, _responses(row), (True, False), _CELL)


def _responses(row: Row) -> tuple[str, str]:
    return text_at(row, "positive_response"), text_at(row, "negative_response")
