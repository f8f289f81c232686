"""What the experiment with GRPO measures, and that its control keeps everything but the rewards' places."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from data.world import taste
from tests.world.grpo import GROUP, GroupReward, Measured, effects, shuffled, table
from tests.world.policy import true_quality, true_win_share

LIKED, DISLIKED = taste.WORDS[::2], taste.WORDS[1::2]
GOOD, FAIR = " ".join(LIKED[:4]), " ".join([*LIKED[:2], *DISLIKED[:2]])


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        (GOOD, 1.0),
        (FAIR, 0.5),
        (" ".join(DISLIKED[:4]), 0.0),
        (" ".join(LIKED[:3]), 0.0),
        (" ".join(LIKED[:5]), 0.0),
        (" ".join([LIKED[0]] * 4), 0.0),
        (f"{' '.join(LIKED[:3])} wonderful", 0.0),
        ("", 0.0),
    ],
)
def test_quality_is_the_share_of_liked_words_and_nothing_for_what_the_world_does_not_draw(
    response: str, quality: float
) -> None:
    assert true_quality(response) == quality


def test_of_two_responses_the_truly_better_one_wins() -> None:
    assert [true_win_share(*pair) for pair in [(GOOD, FAIR), (FAIR, GOOD), (FAIR, FAIR)]] == [1, 0, 0.5]


def test_the_control_gets_each_groups_rewards_at_other_places() -> None:
    rewards: list[float | None] = [*(float(i) for i in range(2 * GROUP - 1)), None]
    found = shuffled(rewards, random.Random(0))
    assert found != rewards
    reward = GroupReward(lambda **given: rewards, random.Random(0))
    assert reward(["Taste?"] * len(rewards), [GOOD] * len(rewards)) == found
    for begin in (0, GROUP):
        assert sorted(found[begin : begin + GROUP], key=str) == sorted(rewards[begin : begin + GROUP], key=str)


def test_rewards_are_passed_on_and_noted() -> None:
    def judged(**given: Any) -> list[float | None]:
        return [None if completion == "?" else 0.5 for completion in given["completions"]]

    reward = GroupReward(judged)
    assert reward(["Taste?"] * 3, ["a", "?", GOOD], trainer_state=None) == [0.5, None, 0.5]
    assert reward(["Taste?"] * 2, [[{"role": "assistant", "content": text}] for text in (GOOD, FAIR)]) == [0.5, 0.5]
    assert (reward.given, reward.none) == (5, 1)
    assert reward.curve == pytest.approx([100 / 3, 75])


def test_the_table_has_means_and_deviations_and_the_effects_need_every_seed() -> None:
    before = Measured(45, 50, 50, 95, 90, 2, 4, 280, 0)
    learned, control = replace(before, quality=80.0, kl=2.5), replace(before, quality=43.0)
    run = {"before": before, "judge": learned, "shuffled": control}
    better = {**run, "judge": replace(learned, quality=90.0)}
    assert "| 85.0 ± 7.1 | 50.0 ± 0.0 |" in table([run, better])
    assert all(holds for _, holds in effects([run, better]))
    not_learned = {**run, "judge": replace(before, quality=50.0)}
    assert [holds for _, holds in effects([run, not_learned])] == [False, False, True]
    assert [holds for _, holds in effects([run, {**run, "shuffled": learned}])] == [True, False, False]
