"""Adapting a judge: its settings, and one whole learning curve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.files import write_json, write_jsonl
from data.store.store import RunStore
from data.world import taste
from flows.adapt import learning_curve, prompt_of_judge
from flows.config.checks import problems
from flows.config.parameters import AdaptConfig
from flows.config.recipes import ConfigError, checked
from flows.plan import target_of
from tasks.adapt import Adapted, role_of
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.scalar import SCALAR
from tasks.plan.assumptions import PlanError
from tasks.report.adaptation import write_adapted
from tasks.run.stage import Run
from tasks.settings import JudgeSettings
from tests.conftest import InProcess, shown_pair
from tests.support.adapting import pairs, task
from tests.support.learning import copies
from tests.support.recording import RecordedRun
from tests.support.training_jobs import BASE, trainer

# ---- settings ---------------------------------------------------------------------------------------------------------


def recipe(**sections: Any) -> dict[str, Any]:
    """The smallest parameters of the flow."""
    return {"run_name": "r", "judge": {"path": "j"}, "task": {"pairs": [{"path": "p.jsonl"}]}, **sections}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([4, 2], "sizes must be increasing"),
        ([2, 2], "sizes must be increasing"),
        ([0, 2], "greater than or equal to 1"),
    ],
)
def test_sizes_must_grow(sizes: list[int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        task(sizes=sizes)


def test_early_stopping_needs_something_to_look_at() -> None:
    without = {"pairs": [{"path": "p.jsonl"}], "validation_share": 0}
    with pytest.raises(ConfigError, match=r"early_stopping needs a validation part: set task\.validation_share"):
        checked(recipe(task=without), AdaptConfig)
    checked(recipe(task=without, training={"optimization": {"epochs": 1}}), AdaptConfig)


def test_an_endpoint_cannot_be_adapted() -> None:
    with pytest.raises(ValueError, match="is an endpoint: only a checkpoint can be adapted"):
        prompt_of_judge(JudgeSettings(path="http://localhost:8000/v1#judge", prompt="compact"))


def test_how_a_judge_is_asked_is_read_from_its_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "prompt.json", {"name": "compact-label"})
    assert prompt_of_judge(JudgeSettings(path=str(tmp_path))) == "compact-label"
    assert prompt_of_judge(JudgeSettings(path=str(tmp_path), prompt="compact")) == "compact"


@pytest.mark.parametrize(
    ("prompt", "prover", "with_rationales", "reply_tokens", "role"),
    [
        ("compact-label", "", False, 2, "label-judge"),
        ("gram", "", False, 2, "label-judge"),
        ("gram-r2", "", True, 1024, "judge"),
        ("gram-r2", "some/prover", False, 1024, "judge"),
        (SCALAR, "", False, 2, "scalar"),
    ],
)
def test_what_each_kind_of_judge_is_adapted_with(
    prompt: str, prover: str, with_rationales: bool, reply_tokens: int, role: str
) -> None:
    given = recipe(task={"pairs": [{"path": "p.jsonl"}], "prover": prover}, training={"label_smoothing": 0.15})
    settings = checked(given, AdaptConfig).settings(prompt)
    assert bool(settings.data.rationale) == with_rationales
    assert settings.data.labeled[0].path == "p.jsonl"
    assert (settings.models.judge_base, settings.models.prover_base) == ("j", prover)
    assert settings.reply_tokens == settings.labels.max_tokens == reply_tokens
    assert settings.judge_prompt.has_rationale == (reply_tokens > 2)
    assert role_of(Run(RunStore("none", "r"), settings, 0), prompt) == role
    assert settings.training.label_smoothing == 0.15
    assert (settings.rounds.count, settings.writes_proofs()) == (0, False)


def test_proofs_that_leave_no_room_for_a_prompt_are_refused_if_there_is_a_prover() -> None:
    judge = {"path": "j", "max_tokens": 1024}
    given = recipe(
        judge=judge, task={"pairs": [{"path": "p.jsonl"}], "prover": "some/prover"}, benchmarks={"max_tokens": 60}
    )
    said = (
        r"judge\.max_tokens = 1024 leaves no room for .* of 1024 tokens: raise it, or set a smaller proofs\.max_tokens"
    )
    with pytest.raises(ConfigError, match=said):
        checked({**given, "judge": {**judge, "prompt": "compact"}}, AdaptConfig)
    with pytest.raises(ValueError, match=said):
        checked(given, AdaptConfig).check_room("compact")
    checked({**given, "proofs": {"max_tokens": 60}}, AdaptConfig).check_room("compact")
    checked(recipe(judge=judge, benchmarks={"max_tokens": 60}), AdaptConfig).check_room("compact")


def test_a_prover_beside_a_judge_that_writes_no_rationales_is_refused_before_the_run(tmp_path: Path) -> None:
    judge = Path(shutil.copytree(BASE, tmp_path / "judge"))
    write_json(judge / "prompt.json", {"name": "compact-label"})
    with_prover = {"pairs": [{"path": "p.jsonl"}], "prover": str(BASE)}
    config = checked(recipe(judge={"path": str(judge), "max_tokens": 128}, task=with_prover), AdaptConfig)
    said = f"task.prover: the judge {str(judge)!r} writes no rationales, so a prover is of no use"
    assert problems(config)["models"] == [said]
    with pytest.raises(ValueError, match="writes no rationales"):
        config.check_room(SCALAR)
    with pytest.raises(PlanError, match="writes no rationales"):
        target_of(config)


def test_a_label_can_be_learned_over_the_whole_vocabulary() -> None:
    settings = checked(recipe(training={"label_loss": "vocabulary"}), AdaptConfig).settings("gram")
    assert role_of(Run(RunStore("none", "r"), settings, 0), "gram") == "judge"


# ---- a whole learning curve ---------------------------------------------------------------------------------------------


def label_of_longer(encoder: ChatEncoder) -> FakeEngine:
    """A judge by label that is always right."""

    def logprobs(request: Request) -> Sequence[float]:
        return (-0.1, -2.0) if taste.verdict(shown_pair(encoder, request)) == "A" else (-2.0, -0.1)

    return FakeEngine(lambda request, j: "A", id_logprobs=logprobs)


@pytest.mark.train
def test_a_learning_curve(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Real trainings of a judge by label, each of them stopped early or not; a second start makes nothing again."""
    shutil.copytree(BASE, tmp_path / "judge")
    write_json(tmp_path / "judge/prompt.json", {"name": "compact-label"})
    for name, rows in (("pairs", pairs(16)), ("heldout", pairs(4, 32)), ("general", pairs(3, 33))):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    source = {name: [{"path": str(tmp_path / f"{name}.jsonl")}] for name in ("pairs", "heldout")}
    stopping = {"early_stopping": {"every": 1, "patience": 1}}
    played = {"benchmark": "preferences", "data": str(tmp_path / "general.jsonl"), "name": "general"}
    job = {
        "run_name": "adapted",
        "store": str(tmp_path),
        "judge": {"path": str(tmp_path / "judge"), "max_tokens": 128, "dtype": "float32"},
        "task": task(sizes=[2, 4], **source).model_dump(),
        "training": {"optimization": {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, **stopping}},
        "benchmarks": {"sets": [played]},
    }
    config = checked(job, AdaptConfig)
    prompt = prompt_of_judge(config.judge)
    engine = InProcess(label_of_longer(encoder), encoder)

    def started() -> tuple[RecordedRun, list[Adapted]]:
        store, settings = RunStore(tmp_path, "adapted"), config.settings(prompt)
        run = RecordedRun.of(Run(store, settings, config.seed, generator=engine, trainer=trainer), tmp_path)
        return run, learning_curve(run, config, prompt)

    run, made = started()
    assert run.forgotten == {}, "a stage reads what is not in its key"
    assert [artifact.manifest.name for artifact in run.finished_stages()] == [
        "benchmarks/general", "data", "benchmarks/held-out", "overlap", "task",
        "before/benchmark", "before/benchmark-general",
        "size-2/judge", "size-2/benchmark", "size-4/judge", "size-4/benchmark", "size-4/benchmark-general", "final",
    ]  # fmt: skip
    assert [(one.size, one.heldout.manifest.metrics["accuracy"], len(one.general)) for one in made] == [
        (0, 1.0, 1), (2, 1.0, 0), (4, 1.0, 1),
    ]  # fmt: skip
    final = run.finished_stage("export")
    assert final is not None
    assert json.loads(final.file("prompt.json").read_text())["name"] == "compact-label"
    assert final.manifest.metrics["chosen_round"] == 2, "the earlier of equals"
    assert {"report.html", "report.md"} <= {p.name for p in write_adapted(run, made).parent.iterdir()}
    for one in made[1:]:
        assert one.trained is not None
        assert one.trained.manifest.config["role"] == "label-judge"
        assert one.trained.manifest.metrics["best_step"] in (1, 2, 3, 4)
        assert one.trained.manifest.counts.kept == 2 * one.size
    asked = engine.requests
    again, _ = started()
    assert all(artifact.reused for artifact in again.finished_stages())
    assert engine.requests == asked


def test_a_judge_from_the_hub_is_trained_by_its_name(
    tmp_path: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine finds it by that, wherever its cache is."""
    snapshot = tmp_path / "hub/snapshots/0f3c"
    shutil.copytree(BASE, snapshot)
    write_json(snapshot / "prompt.json", {"name": "compact-label"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(snapshot))
    for name, rows in (("pairs", pairs(4)), ("heldout", pairs(2, 32))):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    source = {name: [{"path": str(tmp_path / f"{name}.jsonl")}] for name in ("pairs", "heldout")}
    job = {
        "run_name": "adapted",
        "store": str(tmp_path),
        "judge": {"path": "me/judge", "max_tokens": 128, "dtype": "float32"},
        "task": {**task(sizes=[2], **source).model_dump(), "validation_share": 0},
        "training": {"optimization": {"max_steps": 1, "batch_size": 4}},
    }
    config = checked(job, AdaptConfig)
    engine, settings = InProcess(label_of_longer(encoder), encoder), config.settings("compact-label")
    run = Run(RunStore(tmp_path, "adapted"), settings, 0, generator=engine, trainer=copies)
    [_, adapted] = learning_curve(run, config, "compact-label")
    assert adapted.trained is not None
    assert {"hub": "me/judge", "commit": "0f3c"}.items() <= adapted.trained.manifest.inputs.items()
