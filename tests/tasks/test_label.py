"""Pseudo-labels: votes from both orders, their majority, and the labels that are too doubtful to learn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from data.records import flip, parse_preference
from data.store.artifacts import StageError
from data.world import taste
from tasks.label import cast_votes, keep_labels, label
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.model.votes import read_votes, tally
from tasks.run.truth import audit_labels
from tests.conftest import FlakyEngine, Reply, artifact, rows_of, run_with, shown_pair, true_judge
from tests.support.labeling import PAIRS, labels_of

# ---- stages -----------------------------------------------------------------------------------------------------------


def test_a_batch_whose_source_was_renamed_has_labels_of_that_name(tmp_path: Path, encoder: ChatEncoder) -> None:
    """The votes come out as before, and are not all that the labels are made of."""
    judge = true_judge(encoder)
    first, _ = labels_of(tmp_path, encoder, judge)
    renamed = [replace(p, pair=replace(p.pair, source="renamed")) for p in PAIRS]
    second, run = labels_of(tmp_path, encoder, judge, renamed)
    votes = run.finished_stage("vote", 1)
    assert votes is not None
    assert not votes.reused
    assert {row["source"] for row in rows_of(second.file("labels.jsonl"))} == {"renamed"}
    assert second.manifest.inputs["votes"] == first.manifest.inputs["votes"], (
        "or the batch would not have to be an input"
    )


@pytest.mark.parametrize("voting", ["exact", "all"])
def test_votes_that_quote_what_is_not_there_count_only_without_the_rule(
    tmp_path: Path, encoder: ChatEncoder, voting: str
) -> None:
    """Of four votes an order one is grounded and right, three name a word of neither response and the other side."""

    def judge(request: Request, j: int) -> str:
        pair = shown_pair(encoder, request)
        better = taste.verdict(pair)
        assert better is not None
        number = request.sampling.seed + j
        word, verdict = (pair.response_a.split()[0], better) if number % 4 == 0 else ("zzz", flip(better))
        return f"<think> « {word} » </think><answer>{verdict}</answer>"

    settings = {"voting": voting, "min_confidence": 0.25, "max_one_sided": 1.0}
    counted, _ = labels_of(tmp_path / "all", encoder, judge, **settings)
    assert labels_in(counted) == {p.pair.id: flip(p.label) for p in PAIRS}
    grounded, _ = labels_of(tmp_path / "grounded", encoder, judge, **settings, grounded_votes=True)
    assert labels_in(grounded) == {p.pair.id: p.label for p in PAIRS}
    assert grounded.manifest.metrics["malformed"] == {"ungrounded_quote": 72}


def labels_in(stage: Any) -> dict[str, str]:
    return {row["id"]: row["label"] for row in rows_of(stage.file("labels.jsonl"))}


def by_order(verdicts: Callable[[Request, int], str]) -> Reply:
    return lambda request, j: f"<think> z </think><answer>{verdicts(request, j)}</answer>"


def test_a_judge_that_is_right_labels_every_pair_with_its_truth(tmp_path: Path, encoder: ChatEncoder) -> None:
    labels, _ = labels_of(tmp_path, encoder, true_judge(encoder))
    assert labels_in(labels) == {p.pair.id: p.label for p in PAIRS}
    rows = rows_of(labels.file("labels.jsonl"))
    assert [row["id"] for row in rows] == [p.pair.id for p in PAIRS]
    first = parse_preference(rows[0])
    assert first.pair == PAIRS[0].pair
    winner, loser = PAIRS[0].label, flip(PAIRS[0].label)
    assert rows[0]["votes"] == {winner: 8, loser: 0, "null": 0}
    assert (rows[0]["confidence"], rows[0]["orders_agree"]) == (1.0, True)
    counts = labels.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (12, 12, {}, {})
    assert labels.manifest.metrics["votes"] == 96
    assert labels.manifest.metrics["vote_margins"] == {"8": 12}


def test_the_label_of_a_swapped_pair_is_the_flipped_label(tmp_path: Path, encoder: ChatEncoder) -> None:
    """The judge is wrong about half of the words, but sees only what is shown, not in which order it is stored."""

    def half_right(request: Request, j: int) -> str:
        pair = shown_pair(encoder, request)
        better = taste.verdict(pair, lambda word: taste.likes(word) == (word[0] < "m")) or "neither"
        return f"<think> z </think><answer>{better}</answer>"

    labels, _ = labels_of(tmp_path / "as it is", encoder, half_right, taste.draw_pairs(60, 3))
    turned, _ = labels_of(tmp_path / "swapped", encoder, half_right, [p.swapped() for p in taste.draw_pairs(60, 3)])
    assert len(labels_in(labels)) > 20
    assert labels_in(turned) == {identity: flip(label) for identity, label in labels_in(labels).items()}  # type: ignore[arg-type]
    truth = {p.pair.id: p.label for p in taste.draw_pairs(60, 3)}
    assert labels_in(labels) != {identity: truth[identity] for identity in labels_in(labels)}


def test_a_judge_that_only_looks_at_the_position_labels_nothing(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(
        StageError,
        match=r"no pseudo-label was kept: 12 pairs, 0 labels kept, dropped \{'tie': 12\}, malformed votes \{\} of 96",
    ):
        labels_of(tmp_path, encoder, by_order(lambda request, j: "A"))


def test_malformed_votes_are_counted_in_the_error(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(
        StageError, match=r"dropped \{'no_valid_vote': 12\}, malformed votes \{'no_think_open': 96\} of 96"
    ):
        labels_of(tmp_path, encoder, lambda request, j: "A")


def test_one_sided_labels_stop_the_run_with_their_numbers(tmp_path: Path, encoder: ChatEncoder) -> None:
    one_sided = [p for p in taste.draw_pairs(40, 2) if p.label == "A"][:18] + [p for p in PAIRS if p.label == "B"][:2]
    with pytest.raises(
        StageError,
        match=r"90% of the kept labels are on one side, over labels\.max_one_sided = 80%: 20 pairs, 20 labels kept.*"
        r"\{'A': 18, 'B': 2\}",
    ):
        labels_of(tmp_path, encoder, true_judge(encoder), one_sided)
    allowed, _ = labels_of(tmp_path, encoder, true_judge(encoder), one_sided, max_one_sided=0.9)
    assert allowed.manifest.metrics["label_balance"] == {"A": 18, "B": 2}


def test_every_pair_is_kept_dropped_or_failed(tmp_path: Path, encoder: ChatEncoder) -> None:
    """One order of pair 1 fails; the judge cannot read pair 2; it is torn between the orders of pair 3."""
    right = true_judge(encoder)
    sets = [set(chain(*taste.words_of(p.pair))) for p in PAIRS]

    def which(request: Request) -> int:
        return sets.index(set(chain(*taste.words_of(shown_pair(encoder, request)))))

    def answer(request: Request, j: int) -> str:
        if which(request) == 2:
            return "?"
        return "<think> z </think><answer>A</answer>" if which(request) == 3 else right(request, j)

    flaky = FlakyEngine(FakeEngine(answer), fails=lambda r: which(r) == 1 and r.name == "ba")
    labels, _ = labels_of(tmp_path, encoder, flaky)
    counts = labels.manifest.counts
    assert (counts.rows_in, counts.kept) == (12, 9)
    assert (counts.dropped, counts.failed) == ({"no_valid_vote": 1, "tie": 1}, {"engine_abort": 1})
    dropped = {row["id"]: row for row in rows_of(labels.file("dropped.jsonl"))}
    assert {identity: row["reason"] for identity, row in dropped.items()} == {
        PAIRS[1].pair.id: "engine_abort",
        PAIRS[2].pair.id: "no_valid_vote",
        PAIRS[3].pair.id: "tie",
    }
    assert dropped[PAIRS[2].pair.id]["votes"] == {"A": 0, "B": 0, "null": 8}
    assert not set(dropped) & set(labels_in(labels))
    assert labels.manifest.metrics["malformed"] == {"no_think_open": 8}


def test_a_pair_that_does_not_fit_in_one_order_is_dropped(tmp_path: Path, encoder: ChatEncoder) -> None:
    pairs = [*PAIRS, parse_preference({**PAIRS[0].to_json(), "id": "long", "response_b": "zuvi " * 300})]
    labels, _ = labels_of(tmp_path, encoder, true_judge(encoder), pairs)
    assert labels.manifest.counts.dropped == {"prompt_too_long": 1}


# ---- the truth, where it is known ---------------------------------------------------------------------------------------


def truth_of(run: Any, pairs: Any = PAIRS) -> Any:
    rows = [{"id": p.pair.id, "label": p.label} for p in pairs]
    return artifact(run, f"truth-{len(pairs)}", {"truth.jsonl": rows}).ref("truth.jsonl")


def test_the_audit_says_how_many_labels_are_right(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Of 4 pairs: right, right, wrong in 6 of 8 votes, and right in 5 of 8 votes, which is not kept."""
    order = {frozenset(taste.words_of(p.pair)[0]): i for i, p in enumerate(PAIRS[:4])}
    order |= {frozenset(taste.words_of(p.pair)[1]): i for i, p in enumerate(PAIRS[:4])}

    def answer(request: Request, j: int) -> str:
        pair = shown_pair(encoder, request)
        better, i = taste.verdict(pair), order[frozenset(taste.words_of(pair)[0])]
        assert better is not None
        wrong = (i == 2 and j < 3) or (i == 3 and j < (2 if request.name == "ab" else 1))
        return f"<think> z </think><answer>{flip(better) if wrong else better}</answer>"

    labels, run = labels_of(tmp_path, encoder, answer, PAIRS[:4], max_one_sided=1.0)
    assert labels.manifest.counts.dropped == {"low_confidence": 1}
    audit = audit_labels(run, 1, labels, truth_of(run))
    assert audit.manifest.metrics == {"kept_right": round(2 / 3, 6), "all_right": 0.75}


def test_a_pair_without_a_known_truth_does_not_stop_the_audit(tmp_path: Path, encoder: ChatEncoder) -> None:
    labels, run = labels_of(tmp_path, encoder, true_judge(encoder))
    audit = audit_labels(run, 1, labels, truth_of(run, PAIRS[1:]))
    assert audit.manifest.metrics == {"kept_right": 1.0, "all_right": 1.0}


def test_true_labels_in_place_of_votes_ask_no_judge(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(
        tmp_path, encoder, FakeEngine(lambda request, j: ""), labels={"source": "truth"}, data={"unlabeled_truth": True}
    )
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    batch = artifact(run, "data", {"batch-1.jsonl": [p.pair.to_json() for p in PAIRS]}).ref("batch-1.jsonl")
    labels = label(run, 1, judge, batch, truth_of(run))
    assert labels_in(labels) == {p.pair.id: p.label for p in PAIRS}
    assert run.generator.requests == 0  # type: ignore[attr-defined]


def test_no_label_of_a_batch_reaches_the_judge(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Rows that do carry a label, and rows that do not, make the same requests."""
    seen: list[list[tuple[str, tuple[int, ...], int]]] = []
    for with_label in (False, True):
        asked: list[tuple[str, tuple[int, ...], int]] = []

        def answer(request: Request, j: int, asked: list[Any] = asked) -> str:
            asked.append((request.name, tuple(request.prompt_ids), request.sampling.seed))
            return true_judge(encoder)(request, j)

        run = run_with(tmp_path / str(with_label), encoder, answer)
        judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
        rows = [p.to_json() if with_label else p.pair.to_json() for p in PAIRS]
        cast_votes(run, 1, judge, artifact(run, "data", {"batch-1.jsonl": rows}).ref("batch-1.jsonl"))
        seen.append(asked)
    assert seen[0] == seen[1]


# ---- a judge that gives the label alone -----------------------------------------------------------------------------------


def labels_by_probability(
    folder: Path, encoder: ChatEncoder, p_first: Callable[[Request], float], **settings: Any
) -> Any:
    """(labels, run) where the judge says that the response shown first is better with this probability."""

    def logprobs(request: Request) -> list[float]:
        # A third of the mass is on other tokens: what counts is the softmax over the two.
        p = p_first(request)
        return [math.log(p * 2 / 3), math.log((1 - p) * 2 / 3)]

    run = run_with(
        folder,
        encoder,
        FakeEngine(lambda request, j: "x", id_logprobs=logprobs),
        models={"judge_prompt": "compact-label"},
        labels={"max_tokens": 64, **settings},
    )
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    batch = artifact(run, "data", {"batch-1.jsonl": [p.pair.to_json() for p in PAIRS]}).ref("batch-1.jsonl")
    return keep_labels(run, 1, cast_votes(run, 1, judge, batch), batch), run


def test_a_label_judges_confidence_is_its_probability_over_both_orders(tmp_path: Path, encoder: ChatEncoder) -> None:
    """0.9 for the better one where it is shown first, 0.7 where second: 0.8 in all; one request an order, nothing sampled."""

    def p_first(request: Request) -> float:
        return 0.9 if taste.verdict(shown_pair(encoder, request)) == "A" else 0.3

    labels, run = labels_by_probability(tmp_path, encoder, p_first, min_confidence=0.79, votes=8)
    assert labels_in(labels) == {p.pair.id: p.label for p in PAIRS}
    for row in rows_of(labels.file("labels.jsonl")):
        assert row["confidence"] == pytest.approx(0.8)
        assert row["p_a"] == pytest.approx(0.8 if row["label"] == "A" else 0.2)
        assert row["orders_agree"]
    assert run.generator.requests == 2 * len(PAIRS)
    with pytest.raises(StageError, match=r"no pseudo-label was kept.*'low_confidence': 12"):
        labels_by_probability(tmp_path / "higher", encoder, p_first, min_confidence=0.81)


def test_a_label_judge_that_looks_at_the_position_labels_nothing(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(StageError, match=r"no pseudo-label was kept: 12 pairs, 0 labels kept, dropped \{'tie': 12\}"):
        labels_by_probability(tmp_path, encoder, lambda request: 0.75, min_confidence=0.5)


def test_orders_that_disagree_are_seen_in_probabilities(tmp_path: Path, encoder: ChatEncoder) -> None:
    """0.95 for what is shown first where it is the better one, 0.6 where it is not: the mean is right, the orders differ."""

    def p_first(request: Request) -> float:
        return 0.95 if taste.verdict(shown_pair(encoder, request)) == "A" else 0.6

    kept, _ = labels_by_probability(tmp_path / "all", encoder, p_first, min_confidence=0.6)
    assert labels_in(kept) == {p.pair.id: p.label for p in PAIRS}
    with pytest.raises(StageError, match="'orders_disagree': 12"):
        labels_by_probability(tmp_path / "agreeing", encoder, p_first, min_confidence=0.6, orders_agree=True)


def test_a_probability_that_is_missing_in_one_order_is_no_confidence(encoder: ChatEncoder) -> None:
    known = {"text": "", "finished": True, "n_tokens": 1, "id_logprobs": [math.log(0.9), math.log(0.1)]}
    lost = {**known, "id_logprobs": None}
    votes = read_votes(
        JudgeQuery("compact-label", 64, 128),
        [{"name": "ab", "seed": 0, "completions": [known]}, {"name": "ba", "seed": 0, "completions": [lost]}],
    )
    assert [vote.malformed for vote in votes] == [None, "no_label_probability"]
    assert tally(votes).confidence == 0.5
