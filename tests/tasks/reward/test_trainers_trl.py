"""trainers.py as a reward function of TRL; tests/engine/test_reward_in_trl.py has TRL's own code call it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasks.reward import trainers
from tasks.reward.length import length_effect
from tasks.reward.trainers import AsyncJudgeReward, Group, JudgeReward, RewardError, Scored, figures_of
from tests.conftest import free_port
from tests.support.rewarding import by_length, rewarding

PROMPTS = ["Why?", "Why?", "How?", "How?"]
COMPLETIONS = ["one", "three", "a", "bc"]

each_reward = pytest.mark.parametrize("reward", [JudgeReward, AsyncJudgeReward])


def called(reward: Any, prompts: Any, completions: Any, **columns: Any) -> Any:
    rewards = reward(prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts), **columns)
    return asyncio.run(rewards) if asyncio.iscoroutine(rewards) else rewards


def messages(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    trainers._warn_once.cache_clear()


@each_reward
def test_each_prompt_is_a_group_of_its_own(reward: type[JudgeReward]) -> None:
    with rewarding() as served:
        assert called(reward(), PROMPTS, COMPLETIONS) == [0.03, 0.05, 0.01, 0.02]
    assert sorted((body["prompt"], body["responses"]) for body in served.seen) == [
        ("How?", ["a", "bc"]),
        ("Why?", ["one", "three"]),
    ]


@each_reward
def test_conversations_are_sent_as_messages(reward: type[JudgeReward]) -> None:
    with rewarding() as served:
        completions = [messages(text, "assistant") for text in COMPLETIONS[:2]]
        assert called(reward(), [messages("Why?")] * 2, completions) == [0.03, 0.05]
    assert served.seen[0]["messages"] == messages("Why?")


def test_a_prompt_that_is_passed_twice_is_one_group() -> None:
    """As OnlineDPO does: all prompts, then all of them again."""
    with rewarding() as served:
        assert called(JudgeReward(), ["Why?", "How?"] * 2, ["one", "a", "three", "bc"]) == [0.03, 0.01, 0.05, 0.02]
    assert len(served.seen) == 2


def test_a_column_holds_the_references() -> None:
    with rewarding() as served:
        columns = {"reference": ["R", "R", messages("S", "assistant"), messages("S", "assistant")]}
        called(JudgeReward(), PROMPTS, COMPLETIONS, **columns)
        called(JudgeReward(), ["Why?"], ["one"], reference=["R"])
        called(JudgeReward(), PROMPTS[:2], COMPLETIONS[:2], reference=["", None])
        called(JudgeReward(), PROMPTS[:2], COMPLETIONS[:2], reference=["T", "U"])
    assert sorted(body.get("reference", "") for body in served.seen) == ["", "R", "R", "S", "T", "U"]


@each_reward
def test_a_response_without_a_verdict_has_no_reward(reward: type[JudgeReward]) -> None:
    with rewarding():
        assert called(reward(), PROMPTS, ["one", "?", "?", "?"]) == [0.03, None, None, None]


@each_reward
def test_beside_other_reward_functions_a_missing_reward_is_its_group_s_mean(reward: type[JudgeReward]) -> None:
    """TRL sums them, and takes None for 0; a group that is None throughout is moved as a whole."""
    gone = f"http://127.0.0.1:{free_port()}"
    with rewarding():
        beside = reward(beside_others=True)
        assert called(beside, PROMPTS, ["one", "?", "?", "?"]) == [0.03, 0.03, None, None]
        assert called(beside, ["Why?"] * 3, ["one", "?", "three"]) == [0.03, 0.04, 0.05]
    away = reward(gone, deadline_s=0.1, timeout_s=0.2, beside_others=True)
    assert called(away, PROMPTS, COMPLETIONS) == [None] * 4


@each_reward
def test_without_a_service_no_response_has_a_reward(reward: type[JudgeReward]) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    assert called(reward(gone, deadline_s=0.1, timeout_s=0.2), PROMPTS, COMPLETIONS) == [None] * 4


def test_a_trainer_that_takes_none_for_0_gets_the_mean_or_an_error() -> None:
    with rewarding():
        assert called(JudgeReward(fill=True), PROMPTS, ["one", "?", "a", "?"]) == [0.03, 0.03, 0.01, 0.01]
        with pytest.raises(RewardError, match="no_verdict"):
            called(JudgeReward(fill=True), PROMPTS, ["one", "?", "?", "?"])
    with pytest.raises(RewardError, match=r"within 0\.2 s"):
        called(
            JudgeReward(f"http://127.0.0.1:{free_port()}", deadline_s=0.1, timeout_s=0.2, fill=True), *[["a"] * 2] * 2
        )


def test_a_request_that_the_service_refuses_stops_the_training() -> None:
    with (
        rewarding(lambda _: (422, {"detail": "no strategy 'best'"})),
        pytest.raises(RewardError, match="no strategy 'best'"),
    ):
        called(JudgeReward(strategy="best"), PROMPTS, COMPLETIONS)


def test_responses_without_another_to_be_compared_with() -> None:
    with rewarding():
        with pytest.raises(ValueError, match="multiple of num_generations"):
            called(JudgeReward(), ["Why?", "How?"], ["one", "a"])
        assert called(JudgeReward(), ["Why?", "Why?", "How?"], ["one", "three", "a"]) == [0.03, 0.05, None]
        assert called(JudgeReward(), [], []) == []


def test_groups_that_are_judged_in_pieces_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with rewarding():
        called(JudgeReward(), PROMPTS, COMPLETIONS)
        called(JudgeReward(), ["Why?"] * 3 + ["How?"], COMPLETIONS, reference=["", "", "", "R"])
        assert caplog.text == ""
        for _ in range(2):
            called(JudgeReward(), ["Why?"] * 3 + ["How?"], COMPLETIONS)
    assert [one.message[:44] for one in caplog.records] == ["the groups of a batch differ in size: each p"]


def test_what_a_batch_cost_is_logged() -> None:
    metrics, extra = {}, {}
    with rewarding():
        called(
            JudgeReward(), PROMPTS, ["one", "?", "a", "bc"], log_metric=metrics.__setitem__, log_extra=extra.__setitem__
        )
    assert metrics.pop("gram_r2/length_correlation") == pytest.approx(1)
    assert metrics == {
        "gram_r2/without_reward": 0.25,
        "gram_r2/group_size": 2,
        "gram_r2/comparisons": 4,
        "gram_r2/tokens": 14,
    }
    assert extra == {"gram_r2_reason": ["", "no_verdict", "", ""]}


def test_the_length_is_looked_at_within_groups_as_the_service_does() -> None:
    """Between them it says nothing: here the prompt with the longer answers has the lower rewards."""
    groups = [
        Group("Why?", None, [0, 1, 2], ["aa", "aaaa", "aaaaaa"]),
        Group("How?", None, [3, 4, 5], ["b" * 100, "b" * 200, "b" * 150]),
    ]
    rewards: list[list[float | None]] = [[0.6, 0.9, 0.7], [0.1, 0.3, None]]
    scored = [Scored(values, [None] * 3) for values in rewards]
    effect = length_effect(
        [(values, [len(one) for one in group.responses]) for values, group in zip(rewards, groups, strict=True)]
    )
    assert figures_of(groups, scored)["length_correlation"] == pytest.approx(effect.correlation)
    assert effect.correlation is not None
    assert effect.correlation > 0.5
    for nothing in ([], [Scored([None] * 3, ["deadline"] * 3)] * 2, [Scored([0.5] * 3, [None] * 3)] * 2):
        assert "length_correlation" not in figures_of(groups if nothing else [], nothing)


def test_the_stand_in_has_no_reward_for_one_response() -> None:
    assert by_length({"responses": ["one"]})[1]["reasons"] == ["group_of_one"]
