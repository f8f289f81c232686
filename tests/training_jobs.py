"""Trainings that tests and benchmarks ask for. Nothing else of theirs knows the functions of the trainer's child."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.files import write_json, write_jsonl
from tasks import child
from tasks.chat import ChatEncoder, Encoded
from tasks.settings import ModelSettings, Optimization, Role, TrainingSettings
from tasks.trainer import RESULT, ExampleCounts, TrainingJob, encode_example, encoded_examples, sft_arguments

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """How a training is done. The base is that of `models` for the role."""

    models: ModelSettings
    optimization: Optimization
    training: TrainingSettings = TrainingSettings(log_every=1)
    role: Role = "judge"
    reply_tokens: int = 64

    def job(self, folder: Path, rows: Iterable[Row] = ()) -> TrainingJob:
        """The job of training on these rows; its files are in `folder`, and its checkpoint will be in ``folder/out``."""
        (folder / "out").mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "examples.jsonl", rows)
        return TrainingJob(
            "test",
            self.role,
            str(folder / "examples.jsonl"),
            self.models.judge_base if self.role == "judge" else self.models.prover_base,
            str(folder / "out"),
            self.models.model_dump(mode="json"),
            self.training.model_dump(mode="json"),
            self.optimization.model_dump(mode="json"),
            self.reply_tokens,
            seed=3,
        )

    def encode(self, row: Row, encoder: ChatEncoder) -> tuple[Encoded, list[int]]:
        """The prompt and the completion's token ids of an example that fits."""
        encoded = encode_example(row, self.role, encoder, self.models, self.reply_tokens)
        assert encoded is not None
        return encoded

    def features(self, folder: Path, rows: Sequence[Row], encoder: ChatEncoder) -> list[dict[str, list[int]]]:
        """What the trainer is given of these rows: token ids, and the labels of the loss."""
        return list(encoded_examples(self.job(folder, rows), encoder, self.models, ExampleCounts()))

    def arguments(self, folder: Path) -> Any:
        """The configuration that the trainer is given on this machine."""
        job = self.job(folder)
        return sft_arguments(job, self.training, self.optimization, self.models, str(folder))

    def train(
        self, folder: Path, rows: Iterable[Row], environment: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Trains in a child process; returns the metrics, and what was logged of each step."""
        told = self.job(folder, rows)
        write_json(folder / "job.json", asdict(told))
        command = child.Command("tasks.trainer", [str(folder / "job.json")], environment or {}, "train")
        child.run_children([command], folder / "log", lambda line: None, lambda *_: None)
        result = json.loads((folder / "out" / RESULT).read_text())
        steps = (folder / "out" / "steps.jsonl").read_text().splitlines()
        return result["metrics"], [json.loads(step) for step in steps]


def completion_logprobs(model: Any, examples: Iterable[tuple[Encoded, list[int]]]) -> list[Any]:
    """Log-probabilities of the tokens of each completion in turn, in float32, with transformers alone."""
    import torch

    picked = []
    for prompt, completion in examples:
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([prompt.ids + completion])).logits[0].float()
        logprobs_TV = logits_TV[len(prompt.ids) - 1 : -1].log_softmax(-1)
        picked.append(logprobs_TV.gather(-1, torch.tensor(completion)[:, None])[:, 0])
    return picked
