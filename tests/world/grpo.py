"""``make grpo``: TRL's GRPOTrainer trains a tiny policy against a judge of the small world, through the reward service.

    python -m tests.world.grpo --seeds 3 --judge runs/demo/final

The judge alone gives the rewards; what the responses are truly worth, only the world knows, and it is measured before and
after. The control is the same training with each group's rewards shuffled, so that they say nothing about the responses.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from tests.world import policy

OUT = Path("runs/grpo")
GROUP, GROUPS, STEPS = 8, 8, 60
"""Responses to a prompt, prompts of a step, steps of the optimizer."""
LEARNING_RATE, BETA = 5e-4, 0.04
"""Chosen with the true taste as the reward. Without a KL penalty, the control forgets how to write four words."""
STRATEGY = "circular"
MEASURED = 500
START_S = 300

Reward = Callable[..., list[float | None]]
ARMS = ("before", "judge", "shuffled")
TITLES = {
    "before": "before",
    "judge": "GRPO on the judge's rewards",
    "shuffled": "GRPO on rewards shuffled in each group",
}


@dataclass(frozen=True)
class Measured:
    """What a policy's responses are like. Percent, but for words and KL.

    Each response meets one of the policy's own from before: `judged` of these pairs have a verdict, and the wins, by the judge
    and in truth, are among those.
    """

    quality: float
    wins_by_judge: float
    wins_true: float
    judged: float
    well_formed: float
    repeats: float
    """Of the responses, those that have a word twice, which the world never draws and a judge has never seen."""
    words: float
    """Words of a response."""
    vocabulary: float
    """Different words in all of the responses."""
    kl: float
    """Nats a response, from the policy as it was before."""


COLUMNS = {
    "quality": "true quality, %",
    "wins_by_judge": "wins by the judge, %",
    "wins_true": "true wins, %",
    "judged": "judged, %",
    "well_formed": "well-formed, %",
    "repeats": "with a word twice, %",
    "words": "words",
    "vocabulary": "different words",
    "kl": "KL, nats",
}


@dataclass
class GroupReward:
    """A reward function of TRL around another one; with `shuffle`, each group's rewards change places.

    It notes what it passes on, and the true quality of each batch, in percent, which nobody learns from.
    """

    reward: Reward
    shuffle: random.Random | None = None
    seconds: float = 0.0
    given: int = 0
    none: int = 0
    curve: list[float] = field(default_factory=list)
    __name__: str = field(default="judge", repr=False)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """The rewards of a batch of whole groups, one after the other."""
        begun = time.monotonic()
        rewards = self.reward(prompts=prompts, completions=completions, **columns)
        self.seconds += time.monotonic() - begun
        self.given += len(rewards)
        self.none += sum(reward is None for reward in rewards)
        self.curve.append(100 * statistics.fmean(policy.true_quality(text(completion)) for completion in completions))
        return rewards if self.shuffle is None else shuffled(rewards, self.shuffle)


def text(completion: Any) -> str:
    """The text of a completion: a string, or a list of one message."""
    return completion if isinstance(completion, str) else str(completion[0]["content"])


def shuffled(rewards: Sequence[float | None], rng: random.Random) -> list[float | None]:
    """The same rewards in each group of GROUP, at random places."""
    groups = [rewards[begin : begin + GROUP] for begin in range(0, len(rewards), GROUP)]
    return [reward for group in groups for reward in rng.sample(group, len(group))]


# ---- the reward service ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(judge: Path, log: Path) -> Iterator[str]:
    """The URL of a service with the judge, in a process of its own. Raises RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.cli.app", "serve", str(judge), "--port", str(port)]
    with log.open("w") as stream:
        service = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, service, log)
        yield url
    finally:
        service.terminate()
        service.wait(60)


def wait_until_healthy(url: str, service: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while service.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.5)
    raise RuntimeError(f"the reward service did not start, see {log}")


# ---- training and measuring ------------------------------------------------------------------------------------------


def train(folder: Path, out: Path, reward: Reward, seed: int, steps: int) -> Any:
    """The policy of a folder after GRPO with a reward function of TRL."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    # TRL names every response without a reward; here they are counted.
    logging.getLogger("trl").setLevel(logging.ERROR)
    prompts = [policy.PROMPTS[i % len(policy.PROMPTS)] for i in range(GROUPS * steps)]
    config = GRPOConfig(
        output_dir=str(out), use_cpu=True, bf16=False, model_init_kwargs={"dtype": "float32"}, seed=seed,
        per_device_train_batch_size=GROUP * GROUPS, num_generations=GROUP, max_steps=steps, shuffle_dataset=False,
        max_completion_length=policy.MAX_NEW_TOKENS, learning_rate=LEARNING_RATE, lr_scheduler_type="constant", beta=BETA,
        gradient_checkpointing=False, save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=str(folder),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in prompts]),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


def measure(model: Any, before: Any, tokenizer: Any, judge: Reward, seed: int) -> Measured:
    """Measures a policy on MEASURED responses, each beside one of the policy `before` to the same prompt."""
    prompts = [policy.PROMPTS[i % len(policy.PROMPTS)] for i in range(MEASURED)]
    responses = policy.sample(model, tokenizer, prompts, seed)
    others = policy.sample(before, tokenizer, prompts, seed + 1)
    wins = judge(prompts=prompts, completions=responses, reference=others)
    true_wins = map(policy.true_win_share, responses, others)
    judged = [pair for pair in zip(wins, true_wins, strict=True) if pair[0] is not None]
    by_judge, by_taste = zip(*judged, strict=True)
    kl = [policy.log_probabilities(one, tokenizer, prompts, responses).mean().item() for one in (model, before)]
    return Measured(
        quality=100 * statistics.fmean(map(policy.true_quality, responses)),
        wins_by_judge=100 * statistics.fmean(by_judge),
        wins_true=100 * statistics.fmean(by_taste),
        judged=100 * len(judged) / MEASURED,
        well_formed=100 * statistics.fmean(map(policy.is_well_formed, responses)),
        repeats=100 * statistics.fmean(map(policy.repeats_a_word, responses)),
        words=statistics.fmean(len(response.split()) for response in responses),
        vocabulary=len({word for response in responses for word in response.split()}),
        kl=kl[0] - kl[1],
    )


def run_seed(seed: int, url: str, steps: int) -> dict[str, Measured]:
    """One policy before, after GRPO, and after GRPO on shuffled rewards. Prints and writes each as soon as it is known."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from tasks.reward.trainers import JudgeReward

    folder = OUT / f"seed-{seed}"
    begun = time.monotonic()
    policy.write_policy(folder / "policy", seed)
    print(f"seed {seed}, supervised: {time.monotonic() - begun:.0f} s", flush=True)
    before = LlamaForCausalLM.from_pretrained(folder / "policy")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "policy")
    against = JudgeReward(url=url, strategy="reference")
    found: dict[str, Measured] = {}
    curves: dict[str, list[float]] = {}
    for arm in ARMS:
        begun = time.monotonic()
        rng = random.Random(seed) if arm == "shuffled" else None
        reward = GroupReward(JudgeReward(url=url, strategy=STRATEGY), rng)
        model = before if arm == "before" else train(folder / "policy", folder / arm, reward, seed, steps)
        seconds = time.monotonic() - begun
        found[arm], curves[arm] = measure(model, before, tokenizer, against, 1000 + seed), reward.curve
        cost = f"{seconds:.0f} s, {reward.seconds:.0f} of them for {reward.given} rewards, {reward.none} of them none"
        print(f"seed {seed}, {arm}: {said(found[arm])}; {cost}", flush=True)
    measured = {arm: {**asdict(found[arm]), "curve": curves[arm]} for arm in ARMS}
    (folder / "measured.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return found


def said(one: Measured) -> str:
    return ", ".join(f"{title} {getattr(one, name):.1f}" for name, title in COLUMNS.items())


# ---- the table -------------------------------------------------------------------------------------------------------


def table(runs: Sequence[dict[str, Measured]]) -> str:
    """Mean ± sd over the seeds, one line a policy."""
    lines = [f"| policy | {' | '.join(COLUMNS.values())} |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for arm in ARMS:
        columns = [[getattr(run[arm], one.name) for run in runs] for one in fields(Measured)]
        cells = [f"{statistics.fmean(column):.1f}{deviation(column)}" for column in columns]
        lines.append(f"| {TITLES[arm]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def deviation(values: Sequence[float]) -> str:
    return f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""


def effects(runs: Sequence[dict[str, Measured]]) -> list[tuple[str, bool]]:
    """What must hold on every seed, each with its numbers and whether it does."""
    rises = [run["judge"].quality - run["before"].quality for run in runs]
    leads = [run["judge"].quality - run["shuffled"].quality for run in runs]
    moved = [run["shuffled"].quality - run["before"].quality for run in runs]
    return [
        (f"true quality rises: mean {statistics.fmean(rises):+.1f}, least {min(rises):+.1f} (≥ 10)", min(rises) >= 10),
        (
            f"over shuffled rewards: mean {statistics.fmean(leads):+.1f}, least {min(leads):+.1f} (≥ 10)",
            min(leads) >= 10,
        ),
        (f"shuffled rewards do not raise it: most {max(moved):+.1f} (< 5)", max(moved) < 5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.world.grpo", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--judge", type=Path, default=Path("runs/demo/final"), help="a judge of the world")
    parser.add_argument("--url", help="a reward service that runs already with such a judge")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of GRPO (default: {STEPS})")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads of the policy (default: 1)")
    arguments = parser.parse_args()
    if not arguments.url and not (arguments.judge / "config.json").is_file():
        parser.error(f"there is no judge in {arguments.judge}: make demo trains one, or give --judge")
    torch.set_num_threads(arguments.threads)
    disable_progress_bar()
    OUT.mkdir(parents=True, exist_ok=True)
    service = contextlib.nullcontext(arguments.url) if arguments.url else serving(arguments.judge, OUT / "service.log")
    with service as url:
        runs = [run_seed(seed, url, arguments.steps) for seed in range(arguments.seeds)]
    print("\n" + table(runs) + "\n")
    held = effects(runs)
    for text, holds in held:
        print(f"{'holds' if holds else 'FAILS'}  {text}")
    sys.exit(0 if all(holds for _, holds in held) else 1)


if __name__ == "__main__":
    main()
