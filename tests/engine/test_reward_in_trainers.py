"""trainers.py in verl, OpenRLHF and ms-swift: the packages' own code that calls rewards, in so far as it runs without GPUs.

Their requirements contradict ours and one another's (transformers, trl, ray), so that they are in no extra. ``make
test-trainers`` installs them, without their requirements, into a folder of their own, which GRAM_R2_TRAINERS then names; the
tests are skipped without it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.reward import trainers
from tests.support.reward_service import reward_service
from tests.support.rewarding import rewarding
from tests.support.vllm_server import StandIn

FILE = str(Path(trainers.__file__))
PAGE = Path(FILE).with_name("README.md")
ASKED = [{"role": "user", "content": "Why?"}]

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]  # of packages that are not ours


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    if folder := os.environ.get("GRAM_R2_TRAINERS"):
        monkeypatch.syspath_prepend(folder)


def flags_of(word: str, url: str = "") -> list[str]:
    """The flags of the page's command that has this word; they name our file, and the service at this URL."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (command,) = (block for language, block in blocks if not language and word in block)
    named = command.replace("trainers.py", FILE).replace("http://127.0.0.1:8100", url)
    return shlex.split(named.replace("\\\n", " "))


def needs(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed; see the top of {Path(__file__).name}")


# ---- verl ---------------------------------------------------------------------------------------------------------------


def verl_rewards(
    tokenizer: Any, overrides: list[str], samples: list[tuple[str, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What a reward worker of verl gives a batch of responses, each with its columns, under verl's configuration."""
    needs("verl")
    import numpy as np
    import torch
    from hydra import compose, initialize_config_module
    from verl import DataProto
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker, migrate_legacy_reward_impl
    from verl.trainer.ppo.reward import load_reward_manager

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = migrate_legacy_reward_impl(compose("ppo_trainer", overrides=overrides))
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text, _ in samples]
    width = max(map(len, ids))
    padded = torch.tensor([[*one, *[tokenizer.pad_token_id] * (width - len(one))] for one in ids])
    mask = torch.tensor([[1, *[1] * len(one), *[0] * (width - len(one))] for one in ids])
    tensors = {"prompts": torch.ones(len(ids), 1, dtype=torch.long), "responses": padded, "attention_mask": mask}
    columns: dict[str, Any] = {name: np.empty(len(ids), dtype=object) for name in samples[0][1]}
    for i, (_, given) in enumerate(samples):
        for name, value in given.items():
            columns[name][i] = value

    async def run() -> list[dict[str, Any]]:
        worker = object.__new__(RewardLoopWorker)
        worker.config = config
        worker.reward_manager = load_reward_manager(
            config, tokenizer, reward_router_address=None, reward_model_tokenizer=None
        )
        found: list[dict[str, Any]] = await worker.compute_score_batch(
            DataProto.from_dict(tensors, non_tensors=columns)
        )
        return found

    return asyncio.run(run())


def row(uid: str = "u", **extra_info: Any) -> dict[str, Any]:
    """The columns of a sample as verl's data set and trainer make them."""
    ground = {"style": "model", "ground_truth": "a reference"}
    return {"data_source": "set", "reward_model": ground, "extra_info": extra_info, "uid": uid, "raw_prompt": ASKED}


def test_verl_calls_compute_score(tokenizer: Any) -> None:
    with rewarding() as served:
        flags = [*flags_of("compute_score", served.url)[3:], "+reward.custom_reward_function.reward_kwargs.votes=2"]
        samples = [("one", row(messages=ASKED)), ("three", row(messages=ASKED, reference="R"))]
        found = verl_rewards(tokenizer, flags, samples)
    assert [one["reward_score"] for one in found] == [0.03, 0.05]
    assert [set(one["reward_extra_info"]) for one in found] == [{"score", "tokens"}] * 2
    assert sorted((body["reference"], body["votes"]) for body in served.seen) == [("R", 2), ("a reference", 2)]


def test_verl_s_samples_meet_in_our_reward_manager(tokenizer: Any) -> None:
    with rewarding() as served:
        samples = [("one", row("u")), ("a", row("v")), ("three", row("u")), ("?", row("v"))]
        twos = [f"actor_rollout_ref.rollout.{name}=2" for name in ("n", "val_kwargs.n")]
        found = verl_rewards(tokenizer, [*flags_of("VerlRewardManager", served.url)[3:], *twos], samples)
    assert [one["reward_score"] for one in found] == [0.03, 0.01, 0.05, 0.01]
    assert sorted(body["responses"] for body in served.seen) == [["a", "?"], ["one", "three"]]
    assert {body["strategy"] for body in served.seen} == {"circular-twice"}
    assert served.seen[0]["messages"] == ASKED


def test_verl_puts_the_rewards_of_our_manager_on_the_last_token() -> None:
    needs("verl")
    import torch
    from verl import DataProto

    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    tensors = {"prompts": torch.ones(2, 1), "responses": torch.ones(2, 3), "attention_mask": mask}
    scores = trainers.VerlRewardManager.assemble_rm_scores(DataProto.from_dict(tensors), [0.5, 0.25])
    assert scores.tolist() == [[0, 0.5, 0], [0, 0, 0.25]]


# ---- OpenRLHF -----------------------------------------------------------------------------------------------------------


def openrlhf_sample(tokenizer: Any, url: str, label: Any) -> Any:
    """What OpenRLHF makes of one generated response, " zuvi", with the reward that it has asked for."""
    needs("openrlhf")
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    prompt = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    reply = tokenizer(" zuvi", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]

    class Engine:
        async def generate(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(outputs=[SimpleNamespace(token_ids=reply, finish_reason="stop", logprobs=None)])

    sampling = SimpleNamespace(max_tokens=8, logprobs=None)
    done = SingleTurnAgentExecutor(url).execute(prompt, label, sampling, 512, tokenizer, Engine())
    return SamplesGenerator._process_response_into_experience(object(), asyncio.run(done), max_len=512)


def test_openrlhf_has_the_flags_of_the_page() -> None:
    needs("openrlhf")
    import openrlhf

    source = (Path(openrlhf.__path__[0]) / "cli" / "train_ppo_ray.py").read_text(encoding="utf-8")
    flags = [word for word in flags_of("openrlhf.cli.train_ppo_ray") if word.startswith("--")]
    assert len(flags) == 5
    assert [one for one in flags if f'"{one}"' not in source] == []


def test_openrlhf_calls_the_file(tokenizer: Any) -> None:
    with rewarding(
        lambda body: (200, {"rewards": [0.25], "scores": [0.25], "extra_logs": {"tokens": [7.0]}})
    ) as served:
        made = openrlhf_sample(tokenizer, FILE, {"reference": "R", "messages": ASKED})
    assert (made.rewards.tolist(), made.scores.tolist()) == ([[0.25]], [[0.25]])
    assert made.info["tokens"].tolist() == [[7.0]]
    assert served.seen[0]["labels"] == [{"reference": "R", "messages": ASKED}]
    assert served.seen[0]["query"] == [served.seen[0]["prompts"][0] + " zuvi<|end|>"]


def test_openrlhf_calls_the_service_by_itself(tokenizer: Any, encoder: ChatEncoder) -> None:
    """To this judge, what is later in the alphabet is better."""
    with reward_service(StandIn(encoder)) as url:
        for reference, reward in (("boze", 1.0), ("zuzu", 0.0)):
            made = openrlhf_sample(tokenizer, f"{url}/get_reward", {"reference": f" {reference}", "messages": ASKED})
            assert (made.rewards.tolist(), made.scores.tolist()) == ([[reward]], [[reward]])
            assert made.info["response_characters"].tolist() == [[5.0]]


# ---- ms-swift -----------------------------------------------------------------------------------------------------------


def test_ms_swift_finds_the_reward_by_its_name(tmp_path: Path) -> None:
    needs("swift")
    import torch
    from swift.rewards import orms
    from swift.rl_core.data import GRPOSample
    from swift.rl_core.grpo_algorithm import compute_rewards_per_func
    from swift.utils.utils import import_external_file

    copied = tmp_path / "trainers.py"
    copied.write_text(Path(FILE).read_text(encoding="utf-8"), encoding="utf-8")
    import_external_file(str(copied))
    rows = [{"messages": [*ASKED, {"role": "assistant", "content": text}]} for text in ("one", "?", "three")]
    with rewarding() as served:
        samples = [GRPOSample.from_row(one) for one in rows]
        found = compute_rewards_per_func(samples, [orms["gram_r2"](args=None)], None, torch.device("cpu"))
    assert found.flatten().tolist() == pytest.approx([0.03, 0.04, 0.05])
    assert (served.seen[0]["messages"], len(served.seen)) == (ASKED, 1)
