"""trainers.py as OpenRLHF, slime, ms-swift and verl call it; test_trainers_packages.py has the packages' own code call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.reward.trainers import RewardError, SwiftReward, VerlRewardManager, compute_score, reward_func, slime_reward
from tests.conftest import free_port
from tests.support.rewarding import rewarding

ASKED = [{"role": "user", "content": "Why?"}]


# ---- OpenRLHF -----------------------------------------------------------------------------------------------------------


def test_openrlhf_is_answered_by_the_endpoint_that_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key, which OpenRLHF itself does not send."""
    monkeypatch.setenv("GRAM_R2_API_KEY", "k")
    answer = {"rewards": [0.5], "scores": [0.5], "extra_logs": {"judge_tokens": [9.0]}}
    with rewarding(lambda _: (200, answer)) as served:
        assert reward_func(["Why? one"], ["Why? "], [{"reference": "R"}], more=1) == answer
    assert served.heads == [("/get_reward", "Bearer k")]
    assert {**served.seen[0], "deadline_s": 0} == {
        "query": ["Why? one"],
        "prompts": ["Why? "],
        "labels": [{"reference": "R"}],
        "deadline_s": 0,
    }


# ---- slime --------------------------------------------------------------------------------------------------------------


def sample(response: str, label: Any = None, metadata: Any = None, prompt: Any = "Why?") -> Any:
    return SimpleNamespace(prompt=prompt, response=response, label=label, metadata=metadata)


def slime(samples: Any, group_rm: bool = False) -> Any:
    return asyncio.run(slime_reward(SimpleNamespace(group_rm=group_rm), samples))


def test_slime_s_group_is_one_request() -> None:
    with rewarding() as served:
        asked = {"metadata": {"messages": ASKED}, "prompt": "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"}
        group = [sample(text + "<|im_end|>", **asked) for text in ("one", "?", "three")]
        assert slime(group, group_rm=True) == [0.03, 0.04, 0.05]
    assert [body["messages"] for body in served.seen] == [ASKED]
    assert served.seen[0]["responses"] == ["one", "?", "three"]


def test_slime_s_samples_are_compared_with_their_references() -> None:
    with rewarding() as served:
        assert slime(sample("one", "R")) == 0.03
        assert slime([sample("one", "R"), sample("three", None, {"reference": "S"})]) == [0.03, 0.05]
        with pytest.raises(ValueError, match="compared with a reference response"):
            slime(sample("one"))
        with pytest.raises(TypeError, match="several samples"):
            slime([[sample("one")], [sample("two")]], group_rm=True)
        with pytest.raises(ValueError, match=r"it has '<\|im_start\|>'.*metadata or label"):
            slime([sample("one", prompt="<|im_start|>user\nWhy?"), sample("two")], group_rm=True)
    assert sorted(body["reference"] for body in served.seen) == ["R", "R", "S"]


def test_slime_s_prompt_may_be_about_special_tokens() -> None:
    prompt = "Explain the difference between <s> and </s>"
    with rewarding() as served:
        assert slime([sample(f"{text}[|endofturn|]", prompt=prompt) for text in ("one", "E[|X|]")], group_rm=True)
    assert (served.seen[0]["prompt"], served.seen[0]["responses"]) == (prompt, ["one", "E[|X|]"])


# ---- ms-swift -----------------------------------------------------------------------------------------------------------


def test_ms_swift_gets_numbers_only() -> None:
    rows = [[*ASKED, {"role": "assistant", "content": text}] for text in ("one", "?", "three")]
    with rewarding() as served:
        reward = SwiftReward(args=None)
        assert reward([row[-1]["content"] for row in rows], messages=rows, prompt_id=[1, 1, 1]) == [0.03, 0.04, 0.05]
        with pytest.raises(RewardError, match="no_verdict"):
            reward(["?", "?"], messages=[rows[1], rows[1]])
    assert served.seen[0]["messages"] == ASKED


# ---- verl ---------------------------------------------------------------------------------------------------------------


def scored(ground_truth: Any = "R", extra_info: Any = None, **reward_kwargs: Any) -> dict[str, float]:
    made = compute_score("set", "one", ground_truth, extra_info, **reward_kwargs)
    return asyncio.run(made)


def test_verl_s_response_is_compared_with_its_reference() -> None:
    with rewarding() as served:
        found = scored(extra_info={"prompt": "Why?", "num_turns": 2}, votes=3, reward_router_address=None)
        assert found == {"score": 0.03, "tokens": 7.0}
        scored(extra_info={"messages": ASKED, "reference": "S"})
        with pytest.raises(ValueError, match="passes no prompt"):
            scored()
        with pytest.raises(ValueError, match="compared with a reference response"):
            scored(None, {"prompt": "Why?"})
        with pytest.raises(ValueError, match="strategy 'knockout'"):
            scored(extra_info={"prompt": "Why?"}, strategy="knockout")
    assert [(body["reference"], body.get("votes")) for body in served.seen] == [("R", 3), ("S", None)]


class Section(SimpleNamespace):
    """A section of verl's configuration."""

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


def config(
    n: int = 2,
    workers: int = 1,
    batch: int = 4,
    val_n: int = 2,
    val_batch: int | None = None,
    test_freq: int = -1,
    **settings: Any,
) -> Section:
    rollout = Section(n=n, val_kwargs=Section(n=val_n))
    return Section(
        reward=Section(num_workers=workers, reward_kwargs=settings),
        actor_rollout_ref=Section(rollout=rollout),
        data=Section(train_batch_size=batch, val_batch_size=val_batch),
        trainer=Section(test_freq=test_freq, val_before_train=False),
    )


class Ids(list[int]):
    """Token ids; as many are real as the mask says."""

    shape = (4,)

    def __getitem__(self, index: Any) -> Any:
        return Ids(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def sum(self) -> int:
        return sum(self)


def rollout(text: str, uid: str = "u", reference: str | None = None) -> list[Any]:
    """A sample of verl: ids are characters, the last two are padding."""
    ids, mask = Ids([*map(ord, text), 0, 0]), Ids([1] * len(text) + [0, 0])
    ids.shape = (len(ids),)  # type: ignore[misc]
    columns = {"raw_prompt": ASKED, "uid": uid, "extra_info": {"reference": reference}}
    return [SimpleNamespace(batch={"responses": ids, "attention_mask": mask}, non_tensor_batch=columns)]


def decode(ids: list[int], skip_special_tokens: bool) -> str:
    assert skip_special_tokens
    return "".join(map(chr, ids))


def managed(
    samples: list[list[Any]], made: Section | None = None, then: Callable[[Any], Any] | None = None
) -> list[Any]:
    async def run() -> list[Any]:
        manager = VerlRewardManager(made or config(), SimpleNamespace(decode=decode), None, reward_router_address=None)
        tasks = [asyncio.create_task(manager.run_single(one)) for one in samples]
        if then:
            await asyncio.sleep(0.05)
            then(tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not manager.groups
        return results

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_verl_s_samples_wait_for_their_group() -> None:
    samples = [rollout("one", "u"), rollout("a", "v"), rollout("three", "u"), rollout("?", "v")]
    with rewarding() as served:
        found = managed(samples)
    assert found == [
        {"reward_score": x, "reward_extra_info": {"score": x, "filled": filled}}
        for x, filled in ((0.03, 0.0), (0.01, 0.0), (0.05, 0.0), (0.01, 1.0))
    ]
    assert sorted(body["responses"] for body in served.seen) == [["a", "?"], ["one", "three"]]
    assert served.seen[0]["messages"] == ASKED


def test_verl_s_sample_with_a_reference_does_not_wait() -> None:
    with rewarding() as served:
        assert managed([rollout("one", reference="R")])[0]["reward_score"] == 0.03
        managed([rollout("one")], config(strategy="reference", workers=8))
    assert [(body.get("reference"), body.get("strategy")) for body in served.seen] == [("R", None), (None, "reference")]


def test_a_group_of_verl_that_stays_incomplete_is_judged_as_it_is() -> None:
    with rewarding():
        found = managed([rollout("one"), rollout("three")], config(n=3, val_n=3, group_wait_s=0.1))
        assert [one["reward_score"] for one in found] == [0.03, 0.05]
        (failed,) = managed([rollout("one")], config(group_wait_s=0.1))
    assert isinstance(failed, RewardError)
    assert "group_of_one" in str(failed)


def test_every_sample_of_a_group_of_verl_hears_of_a_failure() -> None:
    began = time.monotonic()
    gone = config(url=f"http://127.0.0.1:{free_port()}", deadline_s=0.1, timeout_s=0.2)
    found = managed([rollout("one"), rollout("three")], gone)
    assert [type(one).__name__ for one in found] == ["RewardUnavailable"] * 2
    assert time.monotonic() - began < 5


def test_who_cancels_the_last_sample_of_a_group_does_not_cancel_the_others() -> None:
    def slowly(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.2)
        return 200, {"rewards": [0.1, 0.2], "reasons": [None, None]}

    with rewarding(slowly):
        first, last = managed([rollout("one"), rollout("three")], then=lambda tasks: tasks[-1].cancel())
    assert first["reward_score"] == 0.1
    assert isinstance(last, asyncio.CancelledError)


def test_a_group_of_verl_that_is_judged_does_not_close_the_next_one_of_its_uid() -> None:
    async def run() -> None:
        manager = VerlRewardManager(config(), SimpleNamespace(decode=decode))

        async def begin(text: str) -> asyncio.Task[Any]:
            task = asyncio.create_task(manager.run_single(rollout(text)))
            await asyncio.sleep(0)
            return task

        tasks = [await begin("one")]
        group = manager.groups["u"]
        tasks += [await begin("three"), await begin("a")]
        manager._close("u", ASKED, group)  # as its timer does
        await asyncio.gather(*tasks, await begin("bc"))

    with rewarding() as served:
        asyncio.run(asyncio.wait_for(run(), 20))
    assert sorted(body["responses"] for body in served.seen) == [["a", "bc"], ["one", "three"]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 8}, r"set reward\.num_workers=1"),
        ({"val_n": 1, "test_freq": 5}, r"val_kwargs\.n=2"),
        ({"batch": 501}, "a batch of 1,002 responses is more"),
        ({"test_freq": 5}, r"set data\.val_batch_size=500 or less, or validate nothing: trainer\.test_freq=-1"),
        ({"test_freq": 5, "val_batch": 501}, r"data\.val_batch_size=501; null is the whole set"),
    ],
)
def test_settings_of_verl_with_which_groups_do_not_meet_are_refused(settings: dict[str, Any], said: str) -> None:
    with rewarding():
        with pytest.raises(ValueError, match=said):
            VerlRewardManager(config(**settings), None)
        VerlRewardManager(config(**settings, strategy="reference"), None)
        VerlRewardManager(config(test_freq=5, val_batch=500), None)
