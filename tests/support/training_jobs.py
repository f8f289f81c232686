"""Trainings that tests and benchmarks ask for: in this process, or where it is about processes in a child as a run has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.files import read_jsonl, write_json, write_jsonl
from data.world import taste
from tasks.machine import child
from tasks.model.chat import ChatEncoder
from tasks.settings import ModelSettings, Optimization, Role, TrainingSettings
from tasks.training.examples import ExampleCounts, encode_example, encode_rows
from tasks.training.job import RESULT, TrainingJob
from tasks.training.objectives import training_arguments

BASE = Path("data/world/base-judge")
Row = Mapping[str, Any]


def models_for(prompt: str = "compact") -> ModelSettings:
    """The shipped judge base, in the small world's context."""
    return ModelSettings.model_validate({
        "judge_base": str(BASE), "prover_base": str(BASE), "judge_prompt": prompt, "max_tokens": 128, "dtype": "float32",
    })  # fmt: skip


MODELS = models_for()


def example_rows(n: int, seed: int = 5) -> list[dict[str, Any]]:
    """Labeled pairs of the small world, with rationales."""
    pairs = taste.draw_pairs(n, seed=seed)
    return [{**pair.to_json(), "id": f"{pair.pair.id}:ab", "rationale": taste.rationale(pair.pair)} for pair in pairs]


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
            self.models.prover_base if self.role == "prover" else self.models.judge_base,
            str(folder / "out"),
            self.models.model_dump(mode="json"),
            self.training.mechanics(),
            self.optimization.model_dump(mode="json"),
            self.reply_tokens,
            seed=3,
            label_smoothing=self.training.label_smoothing,
        )

    def encode(self, row: Row, encoder: ChatEncoder) -> tuple[list[int], list[int]]:
        """The token ids of prompt and completion of an example that fits."""
        encoded = encode_example(row, self.role, encoder, self.models, self.reply_tokens)
        assert encoded is not None
        return encoded.prompt, encoded.completion

    def features(self, folder: Path, rows: Sequence[Row], encoder: ChatEncoder) -> list[dict[str, list[int]]]:
        """What the trainer is given of these rows: token ids, and the labels of the loss."""
        return features_of(self.job(folder, rows), encoder)

    def arguments(self, folder: Path, encoder: ChatEncoder) -> Any:
        """The configuration that the trainer is given on this machine."""
        return training_arguments(self.job(folder), str(folder), encoder)

    def train(
        self, folder: Path, rows: Iterable[Row], environment: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Trains; returns the metrics, and what was logged of each step. With an `environment`, in a child that has it."""
        job = self.job(folder, rows)
        result = train_here(job) if environment is None else train_in_child(folder, job, environment=environment)
        steps = (folder / "out" / "steps.jsonl").read_text().splitlines()
        return result["metrics"], [json.loads(step) for step in steps]


def training_job(
    folder: Path,
    rows: list[dict[str, Any]],
    training: TrainingSettings,
    optimization: Optimization,
    role: Role = "judge",
    models: ModelSettings = MODELS,
) -> TrainingJob:
    """A training that starts from the shipped judge base."""
    return Setup(models, optimization, training, role).job(folder, rows)


def features_of(job: TrainingJob, encoder: ChatEncoder) -> list[dict[str, list[int]]]:
    """What the trainer is given of a job's examples that fit, encoded one after the other."""
    rows = read_jsonl(Path(job.examples))
    return [one for one in encode_rows(rows, job, encoder, job.settings()[0], ExampleCounts()) if isinstance(one, dict)]


def train_here(job: TrainingJob, job_file: Path = Path()) -> dict[str, Any]:
    """Carries the job out in this process, on one thread; returns what it reports. Several processes read `job_file`."""
    import torch

    from tasks.training.__main__ import carry_out

    torch.set_num_threads(1)
    carry_out(job, job_file)
    result: dict[str, Any] = json.loads((Path(job.out) / RESULT).read_text())
    return result


def trainer(job: TrainingJob, log_file: Path, reserve_gib: float, *_: object) -> None:
    """Stands in for a run's training processes: this one trains."""
    train_here(job)


def train_in_child(
    folder: Path,
    job: TrainingJob,
    until_step: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Carries the job out; returns what it reports. Where it is to be stopped at a step, raises KeyboardInterrupt there."""

    def progressed(label: str, facts: Mapping[str, Any]) -> None:
        if until_step is not None and facts["done"] >= until_step:
            raise KeyboardInterrupt

    write_json(folder / "job.json", asdict(job))
    environment = {"OMP_NUM_THREADS": "1"} if environment is None else environment
    command = child.Command("tasks.training", [str(folder / "job.json")], environment, "train")
    child.run_children([command], folder / "log", lambda line: None, progressed)
    result: dict[str, Any] = json.loads((Path(job.out) / RESULT).read_text())
    return result


def losses(job: TrainingJob) -> list[float]:
    """The loss of each step, where every step is logged."""
    return [json.loads(line)["loss"] for line in (Path(job.out) / "steps.jsonl").read_text().splitlines()]


def completion_logprobs(model: Any, examples: Iterable[tuple[list[int], list[int]]]) -> list[Any]:
    """Log-probabilities of the tokens of each completion in turn, in float32, with transformers alone."""
    import torch

    picked = []
    for prompt, completion in examples:
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
        logprobs_TV = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)
        picked.append(logprobs_TV.gather(-1, torch.tensor(completion)[:, None])[:, 0])
    return picked
