"""Rewards of a group: who meets whom, and what comes of it, for judges whose verdicts are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rank.tournaments import Match
from tasks.reward.groups import (
    GROUP_OF_ONE,
    NO_VERDICT,
    REFERENCE,
    STRATEGIES,
    Rewards,
    Strategy,
    cost,
    strategy,
)

Judge = Callable[[int, int], float | None]
IN_GROUP = [name for name in STRATEGIES if name != "reference"]
FIXED: list[Strategy] = ["greedy", "all-pairs", "bradley-terry"]
"""Those without chance: every seed gives the same matches."""
AT_MOST = {"knockout", "pivot"}
"""Those whose matches depend on the outcomes."""
SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 10**6)


def play(name: Strategy, n: int, judge: Judge, seed: int = 0, greedy: int = 0) -> tuple[Rewards, list[list[Match]]]:
    """The rewards, and the matches of each round."""
    rounds: list[list[Match]] = []
    playing = strategy(name, n, seed, has_reference=name == "reference", greedy=greedy)
    try:
        waiting = next(playing)
        while True:
            rounds.append(waiting)
            waiting = playing.send({(a, b): judge(a, b) for a, b in waiting})
    except StopIteration as over:
        return over.value, rounds


def perfect(quality: list[float]) -> Judge:
    """The better one wins; the reference's quality is the last of the list."""
    return lambda a, b: float(quality[a] > quality[b])


def table(n: int, seed: int, missing: float = 0.0) -> Judge:
    """Graded shares that differ for each pair, the same whichever comes first; some without a verdict."""
    draw = random.Random(seed)
    shares = {(a, b): draw.random() if draw.random() >= missing else None for a in range(-1, n) for b in range(-1, a)}

    def share(a: int, b: int) -> float | None:
        if a > b:
            return shares[a, b]
        return None if (other := shares[b, a]) is None else 1 - other

    return share


def numbers(rewards: Rewards) -> list[float]:
    assert None not in rewards.values
    return [value for value in rewards.values if value is not None]


# ---- who meets whom ---------------------------------------------------------------------------------------------------


@given(name=st.sampled_from(STRATEGIES), n=SIZES, seed=SEEDS)
def test_the_matches_are_those_that_the_cost_says_and_no_pair_meets_twice(name: Strategy, n: int, seed: int) -> None:
    rewards, rounds = play(name, n, table(n, seed), seed)
    matches = [match for some in rounds for match in some]
    assert len(rewards.values) == len(rewards.reasons) == n
    assert len({frozenset(match) for match in matches}) == len(matches)
    assert all(a != b and 0 <= a < n and (b == REFERENCE) == (name == "reference") and b < n for a, b in matches)
    assert all(rounds), "no round is empty"
    assert len(matches) <= cost(name, n) if name in AT_MOST else len(matches) == cost(name, n)


def test_the_cost_of_a_group_of_eight() -> None:
    assert {name: cost(name, 8) for name in STRATEGIES} == {
        "reference": 8,
        "greedy": 7,
        "circular": 8,
        "circular-twice": 16,
        "knockout": 28,
        "all-pairs": 28,
        "bradley-terry": 28,
        "pivot": 18,
    }
    played = {len([m for some in play("pivot", 8, table(8, seed), seed)[1] for m in some]) for seed in range(50)}
    assert played == {17, 18}, "18 where the two pivots are neighbours in the circle"


@given(n=st.integers(2, 12), seed=SEEDS)
def test_in_circles_all_meet_equally_often(n: int, seed: int) -> None:
    for name, times in (("circular", 2), ("circular-twice", 4)):
        _, [matches] = play(name, n, table(n, seed), seed)  # type: ignore[arg-type]
        met = [sum(i in match for match in matches) for i in range(n)]
        assert met == [min(times, n - 1)] * n


def test_a_circle_is_random_and_the_same_for_the_same_seed() -> None:
    circles = [play("circular", 8, table(8, 0), seed)[1] for seed in range(20)]
    assert circles[3] == play("circular", 8, table(8, 0), 3)[1]
    assert len({str(one) for one in circles}) == 20


def test_a_knockout_goes_on_with_the_winners() -> None:
    for seed in range(20):
        quality = random.Random(seed).sample(range(8), 8)
        rewards, rounds = play("knockout", 8, perfect([float(x) for x in quality]), seed)
        assert len(rounds) <= 3, "fewer if those of the final have already met"
        assert rewards.values[quality.index(7)] == 1.0
        assert rewards.values[quality.index(0)] == 0.0
        if len(rounds) == 3:
            assert all(7 in (quality[a], quality[b]) for a, b in rounds[-1]), "the best is in every final"


@pytest.mark.parametrize("share", [0.5, None])
def test_where_a_match_has_no_winner_the_earlier_of_the_draw_advances(share: float | None) -> None:
    _, rounds = play("knockout", 16, lambda a, b: share, seed=23)
    assert len(rounds[0]) == 32, "no pair is drawn twice with this seed"
    assert {i for match in rounds[1] for i in match} <= {a for a, _ in rounds[0]}


def test_one_without_a_verdict_is_no_pivot() -> None:
    for seed in range(10):
        _, [_, rest] = play("pivot", 8, lambda a, b: None if 0 in (a, b) else 0.2 + 0.6 * (a > b), seed)
        assert sum(0 in match for match in rest) <= 2


@given(n=st.integers(4, 12), seed=SEEDS)
def test_all_meet_the_best_of_the_circle(n: int, seed: int) -> None:
    judge = table(n, seed)
    _, [circle, rest] = play("pivot", n, judge, seed)
    of_circle: dict[int, float] = dict.fromkeys(range(n), 0.0)
    for a, b in circle:
        share = judge(a, b)
        assert share is not None
        of_circle[a], of_circle[b] = of_circle[a] + share, of_circle[b] + 1 - share
    best = sorted(of_circle, key=lambda i: -of_circle[i])[:2]
    met = {frozenset(match) for match in [*circle, *rest]}
    assert all(frozenset((i, pivot)) in met for i in range(n) for pivot in best if i != pivot)
    assert all(set(match) & set(best) for match in rest)


# ---- what comes of it -------------------------------------------------------------------------------------------------


@given(quality=st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True))
def test_with_a_perfect_judge_all_pairs_are_in_exact_order(quality: list[int]) -> None:
    n = len(quality)
    judge = perfect([float(x) for x in quality])
    exact = [sum(x > y for y in quality) / (n - 1) for x in quality]
    assert numbers(play("all-pairs", n, judge)[0]) == pytest.approx(exact)
    fitted = numbers(play("bradley-terry", n, judge)[0])
    assert sorted(range(n), key=lambda i: fitted[i]) == sorted(range(n), key=lambda i: quality[i])
    assert play("all-pairs", n, judge)[0].cycles == ()


def test_a_reward_is_the_mean_share_of_ones_matches() -> None:
    shares = {(0, REFERENCE): 0.9, (1, REFERENCE): 0.25, (2, REFERENCE): 0.5}
    assert play("reference", 3, lambda a, b: shares[a, b])[0].values == (0.9, 0.25, 0.5)
    of_anchor = {(0, 2): 0.9, (1, 2): 0.25}
    assert play("greedy", 3, lambda a, b: of_anchor[a, b], greedy=2)[0].values == (0.9, 0.25, 0.425)
    of_pairs = {(0, 1): 0.9, (0, 2): 0.5, (1, 2): 0.2}
    assert play("all-pairs", 3, lambda a, b: of_pairs[a, b])[0].values == (0.7, 0.15, 0.65)


@given(name=st.sampled_from(STRATEGIES), n=SIZES, seed=SEEDS, missing=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_rewards_are_from_0_to_1_or_there_is_a_reason(name: Strategy, n: int, seed: int, missing: float) -> None:
    judge = table(n, seed, missing)
    rewards, rounds = play(name, n, judge, seed)
    judged = {i for some in rounds for a, b in some if judge(a, b) is not None for i in (a, b)}
    for i, (value, reason) in enumerate(zip(rewards.values, rewards.reasons, strict=True)):
        assert (value is not None) == (i in judged)
        assert value is None or 0 <= value <= 1
        assert reason == (None if value is not None else NO_VERDICT if rounds else GROUP_OF_ONE)


@given(name=st.sampled_from(STRATEGIES), n=SIZES, seed=SEEDS)
def test_a_judge_with_its_labels_swapped_mirrors_the_rewards(name: Strategy, n: int, seed: int) -> None:
    if name in AT_MOST:  # other winners meet others
        return
    judge = table(n, seed, 0.2)

    def swapped(a: int, b: int) -> float | None:
        return None if (share := judge(a, b)) is None else 1 - share

    as_given, mirrored = (play(name, n, one, seed)[0].values for one in (judge, swapped))
    for one, other in zip(as_given, mirrored, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or one == pytest.approx(1 - other, abs=1e-6)


@given(name=st.sampled_from(FIXED), n=SIZES, seed=SEEDS)
def test_rewards_do_not_depend_on_the_order_of_the_group(name: Strategy, n: int, seed: int) -> None:
    judge = table(n, seed, 0.2)
    order = random.Random(seed).sample(range(n), n)
    as_given = play(name, n, judge)[0]
    permuted = play(name, n, lambda a, b: judge(order[a], order[b]), greedy=order.index(0))[0]
    for place, i in enumerate(order):
        assert permuted.values[place] == pytest.approx(as_given.values[i], abs=1e-6)


@given(n=st.integers(2, 10), seed=SEEDS)
def test_with_all_verdicts_bradley_terry_is_all_pairs_with_a_prior(n: int, seed: int) -> None:
    """A tenth of a win on both sides of every match: the fitted probabilities add up to the wins, prior and all."""
    shares, fitted = (numbers(play(name, n, table(n, seed))[0]) for name in ("all-pairs", "bradley-terry"))
    assert fitted == pytest.approx([(share + 0.1) / 1.2 for share in shares], abs=1e-6)


def test_without_a_verdict_bradley_terry_knows_how_strong_the_others_were() -> None:
    """0 and 1 are equally good, and each lacks a verdict: 0's against the weakest, 1's against the strongest."""
    strengths = [0.0, 0.0, 2.0, -2.0]
    missing = [{0, 3}, {1, 2}]

    def judge(a: int, b: int) -> float | None:
        return None if {a, b} in missing else 1 / (1 + math.exp(strengths[b] - strengths[a]))

    by_share, fitted = (numbers(play(name, 4, judge)[0]) for name in ("all-pairs", "bradley-terry"))
    assert by_share[1] - by_share[0] > 0.35
    assert abs(fitted[1] - fitted[0]) < 0.12


def test_responses_that_no_verdict_links_are_compared_within_their_own_part() -> None:
    linked = {(0, 1): 1.0, (2, 3): 1.0}
    rewards, _ = play("bradley-terry", 5, lambda a, b: linked.get((a, b)))
    assert rewards.values == (pytest.approx(1.1 / 1.2), pytest.approx(0.1 / 1.2)) * 2 + (None,)
    assert rewards.reasons == (None, None, None, None, NO_VERDICT)


def test_a_cycle_is_told() -> None:
    """Each beats its next in the circle."""
    for seed in range(5):
        rewards, _ = play("circular", 4, lambda a, b: 0.8, seed)
        assert rewards.cycles == ((0, 1, 2, 3),)
        assert rewards.values == (0.5,) * 4
    beats = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.0}
    assert play("all-pairs", 4, lambda a, b: beats.get((a, b), 1.0))[0].cycles == ((0, 1, 2),)
    assert play("all-pairs", 4, lambda a, b: None if (a, b) == (0, 2) else 1.0)[0].cycles == ()


def test_advancing_without_a_verdict_gives_nothing() -> None:
    rewards, rounds = play("knockout", 2, lambda a, b: None)
    assert (rewards.values, len(rounds)) == ((None, None), 1)
    rewards, rounds = play("knockout", 8, lambda a, b: None if 0 in (a, b) else float(a > b))
    assert rewards.values[0] is None
    assert rewards.reasons[0] == NO_VERDICT
    assert rewards.values[7] == 1.0


# ---- groups of one, and mistakes --------------------------------------------------------------------------------------


def test_a_group_of_one_has_a_reward_against_a_reference_only() -> None:
    assert play("reference", 1, lambda a, b: 0.7)[0] == Rewards((0.7,), (), (None,))
    assert play("reference", 1, lambda a, b: None)[0] == Rewards((None,), (), (NO_VERDICT,))
    for name in IN_GROUP:
        assert play(name, 1, lambda a, b: 0.7) == (Rewards((None,), (), (GROUP_OF_ONE,)), [])


def test_mistakes_are_told_before_anything_is_played() -> None:
    with pytest.raises(ValueError, match="no strategy 'best'; use one of reference, greedy"):
        strategy("best", 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no strategy 'best'"):
        cost("best", 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'reference' compares with a reference response: give one"):
        strategy("reference", 4)
    with pytest.raises(ValueError, match="'circular' has no use for a reference"):
        strategy("circular", 4, has_reference=True)
    with pytest.raises(ValueError, match="at least one response, got 0"):
        strategy("circular", 0)
    with pytest.raises(ValueError, match="one of the 4 responses, got 4"):
        strategy("greedy", 4, greedy=4)


@pytest.mark.parametrize("share", [1.5, -0.1, math.nan])
def test_a_number_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 1, got"):
        play("circular", 3, lambda a, b: share)


def test_a_match_that_was_not_answered_is_refused() -> None:
    playing = strategy("circular", 3)
    next(playing)
    with pytest.raises(KeyError):
        playing.send({})
