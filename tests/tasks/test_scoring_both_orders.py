"""ContextualJudgeBench and ReasoningJudgeBench: a pair counts if the judge is right in both orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks import salesforce
from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark.games import of_rows
from tasks.benchmark.score import parts, score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import (
    Judge,
    Row,
    contextual_row,
    game_rows,
    played,
    reasoning_row,
    right_always,
    verdict,
    write_rows,
)


def contextual_of(tmp_path: Path, **sizes: int) -> Benchmark:
    """One row of each split, or as many as are given."""
    for split in salesforce.CONTEXTUAL_SPLITS:
        write_rows(tmp_path / f"{split}.jsonl", [contextual_row(i) for i in range(sizes.get(split, 1))])
    return salesforce.load_contextual(str(tmp_path))


def reasoning_of(tmp_path: Path, **sizes: int) -> Benchmark:
    for split in salesforce.REASONING_SPLITS:
        write_rows(tmp_path / f"{split}.jsonl", [reasoning_row(f"{split}:{i}") for i in range(sizes.get(split, 1))])
    return salesforce.load_reasoning(str(tmp_path))


def in_orders(first: str | None, second: str | None) -> Judge:
    """A judge that gives one verdict where the positive response is shown first, and another where it is second."""

    def judge(item: Item, cell: Cell, order: int) -> Row:
        return {"verdict": (first, second)[order]}

    return judge


@pytest.mark.parametrize(
    ("orders", "accuracy", "consistency", "by_order"),
    [
        (("A", "B"), 1.0, 1.0, (1.0, 1.0)),
        (("A", "A"), 0.0, 0.0, (1.0, 0.0)),
        (("B", "A"), 0.0, 1.0, (0.0, 0.0)),
        (("A", None), 0.0, 0.0, (1.0, 0.0)),
        (("A", "tie"), 0.0, 0.0, (1.0, 0.0)),
        ((None, None), 0.0, 1.0, (0.0, 0.0)),  # as the authors count two replies that cannot be read
    ],
)
def test_contextual_pairs_are_right_in_both_orders(
    tmp_path: Path,
    orders: tuple[str | None, str | None],
    accuracy: float,
    consistency: float,
    by_order: tuple[float, float],
) -> None:
    scored = score(played(contextual_of(tmp_path), in_orders(*orders)), draws=DRAWS)
    split = scored["splits"]["refusal_answerable"]
    assert (split["accuracy"], split["consistency"]) == (accuracy, consistency)
    assert (split["accuracy_chosen_first"], split["accuracy_rejected_first"]) == by_order
    assert scored["total"] == accuracy
    assert "without the authors' criteria" in scored["note"]


@pytest.mark.parametrize(
    ("orders", "accuracy", "consistency"),
    [
        (("A", "B"), 1.0, 1.0),
        (("A", "A"), 0.0, 0.0),
        (("A", "tie"), 1.0, 1.0),  # a tie follows the other order
        (("tie", "A"), 0.0, 1.0),
        (("A", None), 0.0, 0.0),
        (("tie", None), 0.0, 1.0),
        (("tie", "tie"), 0.0, 1.0),
    ],
)
def test_a_tie_in_one_order_of_a_reasoning_pair_follows_the_other(
    tmp_path: Path, orders: tuple[str | None, str | None], accuracy: float, consistency: float
) -> None:
    scored = score(played(reasoning_of(tmp_path), in_orders(*orders)), draws=DRAWS)
    assert (scored["total"], scored["consistency"]) == (accuracy, consistency)


def test_contextual_splits_count_alike_and_reasoning_pairs_do(tmp_path: Path) -> None:
    """Three of ten contextual pairs and three of fifteen reasoning pairs are of the splits in which the judge is right."""
    contextual = contextual_of(tmp_path / "contextual", refusal_answerable=3)
    scored = score(played(contextual, lambda i, c, o: verdict(i.group == "refusal_answerable", o)), draws=DRAWS)
    assert (scored["total"], scored["micro"], parts(scored)["refusal_answerable"]) == (0.125, 0.3, 1.0)
    reasoning = reasoning_of(tmp_path / "reasoning", aime_pairwise=3)
    scored = score(played(reasoning, lambda i, c, o: verdict(i.group == "aime_pairwise", o)), draws=DRAWS)
    assert scored["total"] == round(3 / 15, 10)
    assert parts(scored) == {"math": 0.5, "multihop": 0.0, "everyday": 0.0, "domain": 0.0}


def test_votes_are_paired_in_one_and_counted_in_the_other(tmp_path: Path) -> None:
    """Votes of the first order: right, right, wrong; of the second: right, wrong, right. One of three pairs of votes is right
    in both; the majority of each order is right.
    """
    right = {0: (True, True, False), 1: (True, False, True)}
    for benchmark, accuracy in ((contextual_of(tmp_path / "c"), round(1 / 3, 10)), (reasoning_of(tmp_path / "r"), 1.0)):
        rows = game_rows(benchmark, lambda i, c, o: {}, votes=3)
        for row in rows:
            order = benchmark.orders.index(row["order"])
            row |= verdict(right[order][row["vote"]], order)
        assert score(of_rows(benchmark, rows), draws=DRAWS)["total"] == accuracy


def test_a_majority_is_more_than_half_of_all_votes(tmp_path: Path) -> None:
    """Two of four votes are right and two cannot be read: the authors' code takes that for no verdict."""
    benchmark = reasoning_of(tmp_path)
    rows = [
        {**row, "verdict": row["verdict"] if row["vote"] < 2 else None} for row in game_rows(benchmark, right_always, 4)
    ]
    assert score(of_rows(benchmark, rows), draws=DRAWS)["total"] == 0.0


def test_missing_splits_and_games_leave_no_total(tmp_path: Path) -> None:
    write_rows(tmp_path / "folio_pairwise.jsonl", [reasoning_row("1"), reasoning_row("2")])
    write_rows(tmp_path / "supergpqa_pairwise.jsonl", [reasoning_row("3")])
    benchmark = salesforce.load_reasoning(str(tmp_path))
    scored = score(played(benchmark, right_always), draws=DRAWS)
    assert (scored["total"], scored["categories"]["multihop"]["accuracy"]) == (None, None)
    assert scored["categories"]["domain"]["accuracy"] == scored["splits"]["folio_pairwise"]["accuracy"] == 1.0


def test_a_pair_without_the_games_of_both_orders_does_not_count(tmp_path: Path) -> None:
    """Of two pairs, the one that has both orders is right; the other has its first order, and is right there."""
    for benchmark, split in (
        (contextual_of(tmp_path / "c", refusal_answerable=2), "refusal_answerable"),
        (reasoning_of(tmp_path / "r", folio_pairwise=2), "folio_pairwise"),
    ):
        rows = [
            row for row in game_rows(benchmark, right_always) if row["order"] == "chosen_first" or row["id"][-1] == "0"
        ]
        scored = score(of_rows(benchmark, rows), partial=True, draws=DRAWS)["splits"][split]
        assert (scored["accuracy"], scored["accuracy_rejected_first"]) == (1.0, 1.0)
