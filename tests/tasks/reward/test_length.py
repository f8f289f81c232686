"""Rewards against length: what is measured, and what is taken off."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reward.length import LengthEffect, length_controlled, length_effect

Group = tuple[list[float], list[int], list[float]]


def group(draw: random.Random, bias: float, n: int = 8) -> Group:
    """Rewards, lengths and true qualities: a doubling of the length adds `bias` to the reward, and none to the quality."""
    lengths = [round(2 ** draw.uniform(5, 9)) for _ in range(n)]
    quality = [draw.uniform(0.35, 0.65) for _ in range(n)]
    middle = np.log2(lengths).mean()
    rewards = [q + bias * float(np.log2(length) - middle) for q, length in zip(quality, lengths, strict=True)]
    return rewards, lengths, quality


def agreement(rewards: list[float | None] | None, quality: list[float]) -> float:
    assert rewards is not None
    return float(np.corrcoef(np.array(rewards, dtype=float), quality)[0, 1])


def test_the_slope_is_the_reward_of_a_doubling() -> None:
    effect = length_effect([([0.3, 0.4, 0.5], [10, 20, 40])])
    assert effect == LengthEffect(3, pytest.approx(1.0), pytest.approx(0.1))
    assert length_effect([([0.5, 0.4, 0.3], [10, 20, 40])]).correlation == pytest.approx(-1.0)


def test_prompts_with_long_answers_do_not_count() -> None:
    """In both groups the longer is worse; the second group is longer and better as a whole."""
    effect = length_effect([([0.3, 0.2], [10, 20]), ([0.9, 0.8], [1000, 2000])])
    assert (effect.correlation, effect.slope) == (pytest.approx(-1.0), pytest.approx(-0.1))


def test_responses_without_a_reward_are_left_out() -> None:
    assert length_effect([([0.3, None, 0.4], [10, 5000, 20]), ([None, 0.9], [1, 9000])]).n == 2
    assert length_controlled([0.3, 0.4, None, 0.5, 0.6], [10, 20, 5000, 40, 80]) == [
        pytest.approx(0.45),
        pytest.approx(0.45),
        None,
        pytest.approx(0.45),
        pytest.approx(0.45),
    ]


def test_where_nothing_varies_there_is_no_effect() -> None:
    assert length_effect([]) == LengthEffect(0, None, None)
    assert length_effect([([0.5], [10])]) == LengthEffect(0, None, None)
    assert length_effect([([0.3, 0.7], [10, 10])]) == LengthEffect(2, None, None)
    assert length_effect([([0.5, 0.5], [10, 20])]) == LengthEffect(2, None, 0.0)


@given(seed=st.integers(0, 10**6), bias=st.floats(-0.05, 0.05))
def test_controlled_rewards_do_not_follow_the_length(seed: int, bias: float) -> None:
    rewards, lengths, _ = group(random.Random(seed), bias)
    controlled = length_controlled(rewards, lengths)
    assert controlled is not None
    assert all(value is not None and 0 <= value <= 1 for value in controlled)
    if all(value not in (0.0, 1.0) for value in controlled):
        slope = length_effect([(controlled, lengths)]).slope
        assert slope is None or abs(slope) < 1e-9
        assert np.mean(np.array(controlled, dtype=float)) == pytest.approx(np.mean(rewards))


def test_a_judge_that_likes_length_is_corrected_and_one_that_does_not_keeps_its_rewards() -> None:
    draw = random.Random(0)
    for bias, least in ((0.1, 0.25), (0.0, -0.01)):
        groups = [group(draw, bias) for _ in range(300)]
        slope = length_effect([(rewards, lengths) for rewards, lengths, _ in groups]).slope
        assert slope == pytest.approx(bias, abs=0.01)
        before = np.mean([agreement(list(rewards), quality) for rewards, _, quality in groups])
        own = np.mean([agreement(length_controlled(rewards, lengths), quality) for rewards, lengths, quality in groups])
        of_batch = np.mean([agreement(length_controlled(r, lengths, slope), quality) for r, lengths, quality in groups])
        assert of_batch - before > least
        assert of_batch > own, "a slope that is found in a group alone takes more than the bias"


def test_a_group_too_small_for_its_own_slope_is_told() -> None:
    assert length_controlled([0.1, 0.5, 0.9], [10, 20, 40]) is None
    assert length_controlled([0.1, 0.5, 0.9, None], [10, 20, 40, 80]) is None
    assert length_controlled([0.1, 0.5, 0.9, 0.4], [10, 10, 10, 10]) is None
    assert length_controlled([0.1, 0.5], [10, 20], slope=0.2) == [pytest.approx(0.2), pytest.approx(0.4)]
    assert length_controlled([None], [10], slope=0.2) == [None]


def test_results_stay_from_0_to_1() -> None:
    assert length_controlled([0.0, 1.0], [10, 1000], slope=-0.2) == [0.0, 1.0]


def test_lengths_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rewards need as many lengths, got 1"):
        length_effect([([0.1, 0.2], [3])])
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        length_controlled([0.1, 0.2], [3, -1])
    assert length_effect([([0.1, 0.2], [0, 2])]).slope == pytest.approx(0.1), (
        "an empty response counts as one of length 1"
    )
