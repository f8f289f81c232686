"""trainers.py in TRL: the code of the trainers themselves that calls reward functions, and what they make of the rewards."""

from __future__ import annotations

import asyncio
import atexit
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.reward.trainers import AsyncJudgeReward, JudgeReward
from tests.support.rewarding import rewarding

pytestmark = [
    pytest.mark.train,
    # vLLM, which TRL imports here and does not start.
    pytest.mark.filterwarnings("ignore:TRL currently supports vLLM versions:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]

PROMPTS = ["Why?", "Why?", "How?", "How?"]

each_reward = pytest.mark.parametrize("reward", [JudgeReward, AsyncJudgeReward])


@pytest.fixture(autouse=True)
def _ready(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import PartialState

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    PartialState()  # TRL's logging asks for it


def trainer_of(kind: Any, reward: Any, loop: Any = None) -> Any:
    """A trainer with what its code that calls reward functions reads, and without a model."""
    made = object.__new__(kind)
    made.__dict__.update(
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, is_main_process=True),
        reward_funcs=[reward],
        reward_processing_classes=[None],
        reward_func_names=["judge"],
        reward_weights=None,
        environments=None,
        state=SimpleNamespace(global_step=0),
        model=SimpleNamespace(training=True),
        _pending_metrics=defaultdict(list),
        _pending_extra_logs=defaultdict(list),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _step=0,
        async_loop=loop,
        args=SimpleNamespace(report_to=[]),
    )
    return made


@each_reward
@pytest.mark.parametrize("name", ["GRPOTrainer", "RLOOTrainer"])
def test_trl_gives_a_batch_its_rewards(name: str, reward: type[JudgeReward]) -> None:
    import torch
    import trl
    from trl.trainer.utils import shutdown_event_loop_in_daemon, start_event_loop_in_daemon

    thread, loop, ready = start_event_loop_in_daemon(name="rewards")
    ready.wait()
    try:
        with rewarding() as served:
            trainer = trainer_of(getattr(trl, name), reward(), loop)
            inputs = [{"prompt": prompt, "reference": "R"} for prompt in PROMPTS]
            found = trainer._calculate_rewards(inputs, PROMPTS, ["one", "?", "a", "bc"], [[1]] * 4)
    finally:
        shutdown_event_loop_in_daemon(thread, loop)
        loop.close()
    assert torch.equal(found.isnan(), torch.tensor([[False], [True], [False], [False]]))
    assert found.nan_to_num(9).flatten().tolist() == pytest.approx([0.03, 9, 0.01, 0.02])
    assert {body["reference"] for body in served.seen} == {"R"}
    assert trainer._pending_extra_logs["gram_r2_reason"] == ["", "no_verdict", "", ""]
    assert trainer._pending_metrics["gram_r2/without_reward"] == [0.25]


def test_online_dpo_gets_no_zero() -> None:
    """TRL sums None as 0 there."""
    from trl.experimental.online_dpo import OnlineDPOTrainer

    with rewarding():
        trainer = trainer_of(OnlineDPOTrainer, JudgeReward(fill=True))
        found = trainer._calculate_rewards_from_functions(["Why?", "How?"] * 2, ["one", "a", "three", "?"], [[1]] * 4)
    assert found.tolist() == pytest.approx([0.03, 0.01, 0.05, 0.01])


@each_reward
def test_async_grpo_scores_a_group(reward: type[JudgeReward]) -> None:
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    group = SimpleNamespace(
        prompts=["Why?"] * 3,
        completions=["one", "?", "three"],
        completions_ids=[[1]] * 3,
        reward_kwargs={},
        env_rewards=[None] * 3,
        rollout_rewards=[None] * 3,
        tool_call_counts=[0] * 3,
        tool_failure_counts=[0] * 3,
        completions_sequences=[[]] * 3,
        model_version=0,
        group_id=0,
    )
    loop = object.__new__(_AsyncRolloutLoop)
    loop.__dict__.update(reward_func_names=["judge"], _env_reward_types=[], _provides_rollout_reward=False)
    with rewarding() as served:
        loop.reward_funcs = [reward()]
        assert asyncio.run(loop._score_group(group)) == []
    assert served.seen[0]["responses"] == ["one", "?", "three"]


@pytest.mark.parametrize("beside_others", [False, True])
def test_a_step_of_grpo_leaves_out_what_has_no_reward(tmp_path: Path, tokenizer: Any, beside_others: bool) -> None:
    """A whole trainer, which samples groups of four; the service has no verdict on the second response of each group.

    Once with another reward function beside the judge, whose rewards TRL sums with ours.
    """
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        assert len(body["responses"]) == 4
        return 200, {"rewards": [0.0, None, 0.5, 1.0], "reasons": [None, "no_verdict", None, None]}

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
    settings = {"max_steps": 1, "num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 4}
    with rewarding(answer) as served:
        trainer = GRPOTrainer(
            model,
            [AsyncJudgeReward(beside_others=beside_others), *([alike] if beside_others else [])],
            GRPOConfig(str(tmp_path), report_to=[], use_cpu=True, logging_steps=1, save_strategy="no", **settings),
            train_dataset=Dataset.from_dict({"prompt": ["Why?", "How?"]}),
            processing_class=tokenizer,
        )
        trainer.train()
        shutdown(trainer)
    assert sorted(body["prompt"] for body in served.seen) == ["How?", "Why?"]
    logged = trainer.state.log_history[0]
    assert logged["rewards/AsyncJudgeReward/mean"] == pytest.approx(0.5)
    assert logged["gram_r2/without_reward"] == 0.25
    most = 1.2 if beside_others else 1  # the standard deviation is that of four rewards there, and of three here
    assert [round(one, 1) for one in sorted(trainer._logs["advantages"])] == [-most, -most, 0, 0, 0, 0, most, most]


def alike(completions: list[Any], **_: Any) -> list[float]:
    return [1.0] * len(completions)


def shutdown(trainer: Any) -> None:
    """The loop of a trainer's asynchronous rewards, which would live as long as the process."""
    from trl.trainer.utils import shutdown_event_loop_in_daemon

    atexit.unregister(shutdown_event_loop_in_daemon)
    shutdown_event_loop_in_daemon(trainer.async_loop_thread, trainer.async_loop)
    trainer.async_loop.close()
