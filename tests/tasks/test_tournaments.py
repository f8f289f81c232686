"""Who meets whom, and what comes of it, for judges whose order is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rank.tournaments import Best, Match, Ranking, best_of, bradley_terry, find_cycles, ranking

STRENGTHS = st.lists(st.integers(0, 1000), min_size=1, max_size=17, unique=True)


def play(
    tournament: Generator[list[Match], Any, Any], share: Callable[[int, int], float]
) -> tuple[Any, list[list[Match]]]:
    """The result, and the matches of each round."""
    rounds: list[list[Match]] = []
    try:
        waiting = next(tournament)
        while True:
            rounds.append(waiting)
            waiting = tournament.send({(a, b): share(a, b) for a, b in waiting})
    except StopIteration as over:
        return over.value, rounds


def stronger(strengths: list[int]) -> Callable[[int, int], float]:
    return lambda a, b: float(strengths[a] > strengths[b])


@given(strengths=STRENGTHS)
def test_a_knockout_finds_the_best_in_n_minus_1_matches(strengths: list[int]) -> None:
    n = len(strengths)
    best, rounds = play(best_of(n, "knockout"), stronger(strengths))
    assert best == Best(strengths.index(max(strengths)), n - 1, math.ceil(math.log2(n)))
    assert sum(map(len, rounds)) == n - 1
    assert len(rounds) == math.ceil(math.log2(n))


@given(strengths=STRENGTHS)
def test_a_linear_search_keeps_the_champion(strengths: list[int]) -> None:
    best, rounds = play(best_of(len(strengths), "linear"), stronger(strengths))
    assert (best.index, best.matches) == (strengths.index(max(strengths)), len(strengths) - 1)
    assert [len(matches) for matches in rounds] == [1] * (len(strengths) - 1)


def test_eight_responses_meet_in_three_rounds() -> None:
    _, rounds = play(best_of(8, "knockout"), lambda a, b: 1.0)
    assert rounds == [[(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 2), (4, 6)], [(0, 4)]]


def test_a_tie_is_told_and_the_first_in_the_list_goes_on() -> None:
    best, _ = play(best_of(4, "knockout"), lambda a, b: 0.5 if (a, b) == (2, 3) else 0.0)
    assert (best.index, best.ties) == (2, ((2, 3),))


@given(strengths=STRENGTHS, method=st.sampled_from(["round-robin", "repeated-best"]))
def test_a_ranking_puts_all_in_order(strengths: list[int], method: Any) -> None:
    n = len(strengths)
    ranked, rounds = play(ranking(n, method), stronger(strengths))
    assert list(ranked.order) == sorted(range(n), key=lambda i: -strengths[i])
    assert (ranked.ties, ranked.cycles, ranked.equal) == ((), (), ())
    played = [match for matches in rounds for match in matches]
    assert len({frozenset(match) for match in played}) == len(played) == ranked.matches  # nobody meets twice
    if method == "round-robin":
        assert (ranked.matches, ranked.rounds) == (n * (n - 1) // 2, int(n > 1))
        assert list(np.argsort([-s for s in ranked.strengths or ()])) == list(ranked.order)
    else:
        assert ranked.matches <= n * (n - 1) // 2


def test_a_cycle_is_told() -> None:
    """0 beats 1, 1 beats 2, 2 beats 0, and all three beat 3."""
    beats = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.0}
    ranked, _ = play(ranking(4, "round-robin"), lambda a, b: beats.get((a, b), 1.0))
    assert (ranked.order, ranked.cycles, ranked.equal) == ((0, 1, 2, 3), ((0, 1, 2),), ((0, 1, 2),))
    assert ranked.wins == (2.0, 2.0, 2.0, 0.0)


def test_a_judge_that_cannot_decide_gives_no_order_and_says_so() -> None:
    ranked, _ = play(ranking(3, "round-robin"), lambda a, b: 0.5)
    assert ranked.ties == ((0, 1), (0, 2), (1, 2))
    assert (ranked.equal, ranked.cycles) == (((0, 1, 2),), ())
    assert ranked.strengths == pytest.approx((0.0, 0.0, 0.0))
    again, _ = play(ranking(3, "repeated-best"), lambda a, b: 0.5)
    assert (again.order, again.ties) == ((0, 1, 2), ((0, 1), (0, 2), (1, 2)))


def test_one_response_needs_no_match() -> None:
    assert play(best_of(1, "linear"), stronger([1])) == (Best(0, 0, 0), [])
    ranked, rounds = play(ranking(1, "round-robin"), stronger([1]))
    assert isinstance(ranked, Ranking)
    assert (ranked.order, rounds) == ((0,), [])


@given(seed=st.integers(0, 10**6))
def test_cycles_are_the_groups_that_reach_one_another(seed: int) -> None:
    rng = random.Random(seed)
    n = rng.randrange(1, 7)
    won = np.zeros((n, n))
    for a in range(n):
        for b in range(a):
            won[a, b] = rng.choice((0.0, 0.5, 1.0))
            won[b, a] = 1 - won[a, b]

    def reaches(a: int, b: int) -> bool:
        seen, todo = set(), [a]
        while todo:
            i = todo.pop()
            following = [j for j in range(n) if won[i, j] > 0.5 and j not in seen]
            seen |= set(following)
            todo += following
        return b in seen

    grouped = {i for group in find_cycles(won) for i in group}
    assert grouped == {i for i in range(n) if reaches(i, i)}
    for group in find_cycles(won):
        assert all(reaches(a, b) for a in group for b in group)


def test_strengths_give_back_the_odds_of_the_wins() -> None:
    """Two that have met often: log odds of 0.75, less what a tenth of a win on both sides takes from one match."""
    won = np.array([[0.0, 0.75], [0.25, 0.0]])
    first, second = bradley_terry(won)
    assert first - second == pytest.approx(math.log(0.85 / 0.35), abs=1e-6)
    assert first + second == pytest.approx(0.0)


def test_strengths_of_a_transitive_table_are_recovered() -> None:
    truth = np.array([1.0, 0.3, -0.2, -1.1])
    p = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    np.fill_diagonal(p, 0.0)
    found = np.array(bradley_terry(p * 10_000))
    assert found == pytest.approx(truth - truth.mean(), abs=1e-3)
