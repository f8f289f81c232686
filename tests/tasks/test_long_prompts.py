"""Prompts that do not fit: who loses how much, and that nobody loses the end of an answer unfairly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Message, PreferencePair
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT
from tasks.model.chat import ChatEncoder, fair_shares
from tests.conftest import make
from tests.support.chats import long_pair

# ---- prompts that are too long -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlong", ["drop", "truncate"])
def test_a_prompt_that_fits_is_not_touched(encoder: ChatEncoder, overlong: str) -> None:
    pair = long_pair()
    whole = encoder.prompt_ids(COMPACT.render(pair))
    encoded = encoder.judge_ids(COMPACT, pair, len(whole), overlong)
    assert encoded is not None
    assert (encoded.ids, encoded.truncated) == (whole, False)


def test_a_prompt_one_token_too_long_is_dropped_or_shortened(encoder: ChatEncoder) -> None:
    pair = long_pair()
    budget = len(encoder.prompt_ids(COMPACT.render(pair))) - 1
    assert encoder.judge_ids(COMPACT, pair, budget, "drop") is None
    encoded = encoder.judge_ids(COMPACT, pair, budget, "truncate")
    assert encoded is not None
    assert (encoded.truncated, len(encoded.ids) <= budget) == (True, True)
    labeled = PreferencePair(pair, "B")
    assert encoder.prover_ids(PROVE_COMPACT, labeled, budget, "drop") is None


@pytest.mark.parametrize("budget", [140, 200, 400])
def test_a_shortened_prompt_keeps_its_template_and_both_ends_of_all_three_fields(
    encoder: ChatEncoder, budget: int
) -> None:
    encoded = encoder.judge_ids(COMPACT, long_pair(), budget, "truncate")
    assert encoded is not None
    assert encoded.truncated
    assert len(encoded.ids) <= budget
    text = encoder.tokenizer.decode(encoded.ids)
    head, tail = "<|bos|><|user|>System: Be brief.\n\nUser: ", "\nBetter?<|end|><|assistant|>"
    assert text.startswith(head)
    assert text.endswith(tail)
    question, rest = text.removeprefix(head).removesuffix(tail).split("\nA: ")
    a, b = rest.split("\nB: ")
    for field, name in ((question, "q"), (a, "left"), (b, "right")):
        begin, end = field.split(" […] ")
        assert begin.startswith(f"{name}0 {name}1")
        assert end.endswith(f"{name}79")


def test_a_shortened_prompt_uses_most_of_its_budget(encoder: ChatEncoder) -> None:
    encoded = encoder.judge_ids(COMPACT, long_pair(), 400, "truncate")
    assert encoded is not None
    assert len(encoded.ids) > 380


def test_a_shortened_prover_prompt_keeps_its_label(encoder: ChatEncoder) -> None:
    encoded = encoder.prover_ids(PROVE_COMPACT, PreferencePair(long_pair(), "B"), 200, "truncate")
    assert encoded is not None
    assert encoder.tokenizer.decode(encoded.ids).endswith("\nB is better. Why?<|end|><|assistant|>")


def test_a_short_response_is_left_whole_beside_a_long_one(encoder: ChatEncoder) -> None:
    pair = replace(long_pair(), response_b="zuvi vato")
    encoded = encoder.judge_ids(COMPACT, pair, 200, "truncate")
    assert encoded is not None
    assert "\nB: zuvi vato\nBetter?" in encoder.tokenizer.decode(encoded.ids)


def test_earlier_turns_are_never_cut(encoder: ChatEncoder) -> None:
    pair = replace(long_pair(), prompt=(Message("system", "Be brief. " * 100), Message("user", "Why?")))
    assert encoder.judge_ids(COMPACT, pair, 200, "truncate") is None


TEXT = st.text(max_size=60) | st.text(alphabet="ab\n 語🂡", max_size=120)


@given(question=TEXT, a=TEXT, b=TEXT, budget=st.integers(1, 200))
def test_a_prompt_fits_its_budget_or_there_is_none(
    encoder: ChatEncoder, question: str, a: str, b: str, budget: int
) -> None:
    pair = make(question=question, a=a, b=b)
    encoded = encoder.judge_ids(COMPACT, pair, budget, "truncate")
    whole = encoder.prompt_ids(COMPACT.render(pair))
    if encoded is None:
        assert len(whole) > budget
        return
    assert len(encoded.ids) <= budget
    assert encoded.truncated == (len(whole) > budget)
    assert encoded.ids[-4:] == whole[-4:]


def test_a_cut_does_not_break_characters(encoder: ChatEncoder) -> None:
    pair = make(question="Why?", a="🂡" * 40, b="日本語" * 40)
    for budget in range(150, 156):
        encoded = encoder.judge_ids(COMPACT, pair, budget, "truncate")
        assert encoded is not None
        assert "\ufffd" not in encoder.tokenizer.decode(encoded.ids)


# ---- fair shares ---------------------------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=6), budget=st.integers(-5, 200))
def test_shares_are_max_min_fair(lengths: list[int], budget: int) -> None:
    shares = fair_shares(lengths, budget)
    if budget < len(lengths):
        assert shares is None
        return
    assert shares is not None
    # Nobody has more than it needs, and what can be given is given.
    assert all(0 <= share <= need for share, need in zip(shares, lengths, strict=True))
    assert sum(shares) == min(budget, sum(lengths))
    # Who goes short has as much as anyone, but for one token that cannot be split.
    for share, need in zip(shares, lengths, strict=True):
        assert share == need or share >= max(shares) - 1


def test_shares_by_hand() -> None:
    assert fair_shares([10, 10, 10], 30) == [10, 10, 10]
    assert fair_shares([100, 100, 100], 30) == [10, 10, 10]
    assert fair_shares([2, 100, 100], 30) == [2, 14, 14]
    assert fair_shares([100, 2, 5], 30) == [23, 2, 5]
    assert fair_shares([0, 0, 9], 3) == [0, 0, 3]
    assert fair_shares([5, 5, 5], 2) is None
