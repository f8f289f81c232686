"""Votes as needed: they end when the others no longer matter, and the labels are those of all votes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import write_jsonl
from data.store.artifacts import Counts, Outcome, StageError
from data.world import taste
from tasks.label import cast_votes, keep_labels, more_votes, vote_requests
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.requests import Skip
from tasks.model.votes import Vote, tally
from tasks.model.voting import (
    VotingRule,
    confidence_bounds,
    is_settled,
    majority_probability,
    rounds_wanted,
    verdict_on,
)
from tasks.run.stage import Context
from tasks.settings import LabelSettings
from tests.conftest import artifact, rows_of, run_with, true_judge
from tests.support.labeling import labels_of
from tests.support.voting import LETTERS, votes

EIGHT = VotingRule("exact", 8, 0.75, False)


def outcome(of: Sequence[Vote], rule: VotingRule) -> str | None:
    """The label, or why there is none."""
    counted = tally(of)
    return verdict_on(counted, LabelSettings(**settings_of(rule))) or counted.label


def settings_of(rule: VotingRule) -> dict[str, Any]:
    return {"min_confidence": rule.min_confidence, "orders_agree": rule.orders_agree}


def with_the_rest(of: Sequence[Vote], rule: VotingRule) -> Iterator[list[Vote]]:
    """All votes of a pair, in every way that these may go on."""
    left = [(rule.planned - len(of)) // 2] * 2
    for letters in itertools.product("AB-", repeat=sum(left)):
        yield [*of, *votes("".join(letters[: left[0]]), "".join(letters[left[0] :]))]


def one_by_one(ab: str, ba: str, rule: VotingRule) -> list[Vote]:
    """The votes that are cast of these if no more than one round is cast at once."""
    cast: list[Vote] = []
    while rounds_wanted(cast, rule):
        n = len(cast) // 2 + 1
        cast = votes(ab[:n], ba[:n])
    return cast


# ---- when votes end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ab", "ba", "rule", "rounds"),
    [
        ("", "", EIGHT, 3),  # with fewer, a tie is still possible
        ("", "", VotingRule("exact", 16, 0.75, False), 6),  # 12 are needed to be kept
        ("", "", VotingRule("exact", 16, 0.5, False), 5),
        ("", "", VotingRule("exact", 4, 0.75, False), 2),
        ("", "", VotingRule("exact", 2, 0.75, False), 1),
        ("", "", VotingRule("all", 8, 0.75, False), 4),
        ("AAA", "AAA", EIGHT, 0),
        ("AAA", "AA-", EIGHT, 1),  # 5 of 8 are too few, 7 are enough
        ("AAA", "A--", VotingRule("exact", 8, 0.8, False), 0),  # at most 6 of 8
        ("AAB", "BBA", EIGHT, 1),  # a tie or a low confidence
        ("AAAAA", "AAAAA", VotingRule("exact", 16, 0.6, False), 0),
        ("AAAAA", "AAAAA", VotingRule("exact", 16, 0.75, False), 1),
        ("AAAA", "AAAB", VotingRule("exact", 8, 0.9, False), 0),
        ("AAAAAA", "AAA---", VotingRule("exact", 16, 0.5, False), 0),
        ("AAAAAA", "AAA---", VotingRule("exact", 16, 0.5, True), 0),
        ("AAAAAA", "AA----", VotingRule("exact", 16, 0.5, False), 0),
        ("AAAAAA", "AA----", VotingRule("exact", 16, 0.5, True), 1),  # in the order ba it may still be a tie
        ("AAAAAAA", "ABBBBBB", VotingRule("exact", 16, 0.4, True), 1),
        ("", "", VotingRule("beta", 8, 0.75, False), 2),
        ("AA", "AA", VotingRule("beta", 8, 0.75, False), 0),  # 0.97
        ("AA", "A-", VotingRule("beta", 8, 0.75, False), 1),  # 0.94
        ("AAA", "AAB", VotingRule("beta", 8, 0.75, False), 1),  # 0.94
        ("AAAB", "AAAA", VotingRule("beta", 16, 0.75, False), 0),  # 0.98
        ("AB", "AB", VotingRule("beta", 16, 0.75, False), 3),  # 0.97 if all six are for one
    ],
)
def test_how_many_rounds_are_cast_next(ab: str, ba: str, rule: VotingRule, rounds: int) -> None:
    assert rounds_wanted(votes(ab, ba), rule) == rounds


RULES = st.builds(
    VotingRule, st.just("exact"), st.just(0), st.sampled_from([0.0, 0.5, 0.625, 0.75, 1.0]), st.booleans()
)


@given(LETTERS, RULES)
def test_the_outcome_is_that_of_all_votes(letters: tuple[str, str], drawn: VotingRule) -> None:
    rule = VotingRule("exact", 2 * len(letters[0]), drawn.min_confidence, drawn.orders_agree)
    cast, whole = one_by_one(*letters, rule), votes(*letters)
    assert outcome(cast, rule) == outcome(whole, rule)
    assert tally(cast).label == tally(whole).label
    least, most = confidence_bounds(cast, tally(cast).label, rule)
    assert least <= tally(whole).confidence <= most
    assert least <= tally(cast).confidence <= most


@given(LETTERS, RULES, st.sampled_from(["exact", "beta"]))
def test_rounds_cast_at_once_are_none_too_many(letters: tuple[str, str], drawn: VotingRule, voting: Any) -> None:
    rule = VotingRule(voting, 2 * len(letters[0]), drawn.min_confidence, drawn.orders_agree)
    cast: list[Vote] = []
    while rounds := rounds_wanted(cast, rule):
        n = len(cast) // 2 + rounds
        cast = votes(letters[0][:n], letters[1][:n])
    assert cast == one_by_one(*letters, rule)


@pytest.mark.parametrize("min_confidence", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("orders_agree", [False, True])
def test_votes_end_exactly_when_no_other_outcome_is_possible(min_confidence: float, orders_agree: bool) -> None:
    """Every sequence of four and of six votes that can be cast, held against every way in which it may go on."""
    for planned in (4, 6):
        rule = VotingRule("exact", planned, min_confidence, orders_agree)
        for n in range(1, planned // 2 + 1):
            for ab, ba in itertools.product(map("".join, itertools.product("AB-", repeat=n)), repeat=2):
                if planned == 6 and ab > ba:
                    continue  # the orders are alike
                cast = votes(ab, ba)
                possible = {outcome(whole, rule) for whole in with_the_rest(cast, rule)}
                assert is_settled(cast, rule) == (len(possible) == 1), (ab, ba, possible)


@pytest.mark.parametrize(("more", "fewer", "expected"), [(0, 0, 0.5), (4, 0, 31 / 32), (5, 1, 0.9375), (3, 3, 0.5)])
def test_the_probability_that_the_majority_is_right(more: int, fewer: int, expected: float) -> None:
    assert majority_probability(more, fewer) == pytest.approx(expected)


def test_the_bounds_of_a_confidence() -> None:
    assert confidence_bounds(votes("AA-", "AAB"), "A", EIGHT) == (0.5, 0.75)
    assert confidence_bounds(votes("AABB", "AABB"), None, EIGHT) == (0.0, 0.0)


# ---- the stages -----------------------------------------------------------------------------------------------------------


PAIRS = taste.draw_pairs(80, 0)


def unsure_judge(encoder: ChatEncoder) -> Any:
    """Right in some of its votes: by the vote's seed, in a share that depends on the pair. Some cannot be read."""
    right = true_judge(encoder)

    def reply(request: Request, j: int) -> str:
        draw = random.Random(request.sampling.seed + j)
        if draw.random() < 0.05:
            return "?"
        sure = random.Random(str(sorted(request.prompt_ids))).choice((0.5, 0.8, 1.0))
        text, verdict = right(request, j).removesuffix("</answer>").rsplit(">", 1)
        said = verdict if draw.random() < sure else "AB"[verdict == "A"]
        return f"{text}>{said}</answer>"

    return reply


def stored(stage: Any) -> dict[str, Any]:
    """What is kept and dropped, by id: the label and the reason."""
    names = ("labels.jsonl", "dropped.jsonl")
    return {row["id"]: (row["label"], row.get("reason")) for name in names for row in rows_of(stage.file(name))}


@pytest.mark.parametrize("orders_agree", [False, True])
def test_labels_are_those_of_all_votes_for_fewer_of_them(
    tmp_path: Path, encoder: ChatEncoder, orders_agree: bool
) -> None:
    judge, settings = unsure_judge(encoder), {"orders_agree": orders_agree}
    every, _ = labels_of(tmp_path / "all", encoder, judge, PAIRS, voting="all", **settings)
    needed, _ = labels_of(tmp_path / "exact", encoder, judge, PAIRS, voting="exact", **settings)
    assert stored(needed) == stored(every)
    assert {reason for _, reason in stored(every).values()} >= {None, "tie", "low_confidence"}
    metrics = needed.manifest.metrics
    assert metrics["votes_planned"] == every.manifest.metrics["votes"] == 80 * 8
    assert metrics["votes"] == sum(int(n) * pairs for n, pairs in metrics["pairs_by_votes"].items())
    assert set(metrics["pairs_by_votes"]) == {"6", "8"}
    assert every.manifest.metrics["pairs_by_votes"] == {"8": 80}
    confidences = {row["id"]: row["confidence"] for row in rows_of(every.file("labels.jsonl"))}
    for row in rows_of(needed.file("labels.jsonl")):
        least, most = row["confidence_bounds"]
        assert least <= row["confidence"] <= most
        assert least <= confidences[row["id"]] <= most
    assert "confidence_bounds" not in rows_of(every.file("labels.jsonl"))[0]


def params_of(**changes: Any) -> dict[str, Any]:
    sampled = {"prompt": "compact", "votes": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 60, "context": 128}
    ends = {"voting": "exact", "min_confidence": 0.75, "orders_agree": False}
    return {**sampled, "overlong": "drop", "seed": 9, **ends, **changes}


def test_a_later_vote_has_the_seed_that_it_has_among_all(encoder: ChatEncoder) -> None:
    row, params = PAIRS[0].to_json(), params_of()
    whole = vote_requests(row, {name: params[name] for name in params if name != "voting"}, encoder)
    first = vote_requests(row, params, encoder)
    assert not isinstance(whole, Skip)
    assert not isinstance(first, Skip)
    assert [request.sampling.n for request in (*whole, *first)] == [4, 4, 3, 3]
    unread = [{"text": "?", "finished": True, "n_tokens": 1}]
    lines = [{"name": r.name, "seed": r.sampling.seed, "completions": unread * r.sampling.n} for r in first]
    later = more_votes(row, params, lines, encoder)
    assert [(r.name, r.sampling.n, r.sampling.seed) for r in later] == [
        (request.name, 1, request.sampling.seed + 3) for request in whole
    ]
    assert [list(request.prompt_ids) for request in later] == [list(request.prompt_ids) for request in whole]
    lines += [{"name": r.name, "seed": r.sampling.seed, "completions": unread} for r in later]
    assert more_votes(row, params, lines, encoder) == []


def votes_config(folder: Path, encoder: ChatEncoder, **sections: Any) -> dict[str, Any]:
    run = run_with(folder, encoder, true_judge(encoder), **sections)
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    batch = artifact(run, "data", {"batch-1.jsonl": []}).ref("batch-1.jsonl")
    return dict(cast_votes(run, 1, judge, batch).manifest.config)


def test_the_key_of_votes_names_what_ends_them_and_only_that(tmp_path: Path, encoder: ChatEncoder) -> None:
    every = votes_config(tmp_path / "all", encoder, labels={"max_tokens": 64, "voting": "all"})
    assert not every.keys() & {"voting", "min_confidence", "orders_agree"}
    needed = votes_config(tmp_path / "exact", encoder, labels={"max_tokens": 64, "min_confidence": 0.6})
    assert needed == {**every, "voting": "exact", "min_confidence": 0.6, "orders_agree": False}
    label_only = {"models": {"judge_prompt": "compact-label"}}
    one, two = (
        votes_config(tmp_path / voting / "label", encoder, labels={"max_tokens": 64, "voting": voting}, **label_only)
        for voting in ("exact", "all")
    )
    assert one == two, "it does not vote"


def test_votes_that_have_not_ended_are_no_labels(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "", labels={"max_tokens": 64})
    completions = [{"text": "<think> z </think><answer>A</answer>", "finished": True, "n_tokens": 4}]
    requests = [
        {"name": "ab", "seed": 0, "completions": completions},
        {"name": "ba", "seed": 0, "completions": completions},
    ]
    pair = PAIRS[0].pair
    line = {"row": 0, "id": pair.id, "requests": requests}
    batch = artifact(run, "data", {"batch-1.jsonl": [pair.to_json()]}).ref("batch-1.jsonl")

    def body(context: Context) -> Outcome:
        write_jsonl(context.work / "shards-3/000000.jsonl", [line])
        return Outcome(Counts(1, 1), {"shard_rows": 3})

    cast = run.find_or_make("round-1/votes", "vote", {}, {}, body, 1)
    with pytest.raises(StageError, match=rf"row '{pair.id}' has 2 of 8 votes, and the others could change its label"):
        keep_labels(run, 1, cast, batch)
