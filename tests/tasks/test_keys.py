"""A setting that changes what a stage makes changes its key: what was made with another value is not taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.store.store import RunStore
from tasks.label import keep_labels
from tasks.model.chat import ChatEncoder
from tasks.prove import select_proofs
from tasks.run.stage import Run
from tasks.train import train_judge
from tasks.training_set import human_examples
from tasks.trust.audit_proofs import prove_claims
from tasks.trust.threshold import choose_thresholds
from tests.conftest import artifact, run_with, settings_with
from tests.support.training_jobs import example_rows
from tests.tasks.test_mechanics import BASE, pretend

ONE_STEP = {"learning_rate": 1e-5, "max_steps": 1, "batch_size": 4}
BASE_MODEL = {"judge_base": BASE, "dtype": "float32"}


class Asked(Exception):
    """Ends a stage before it is made; its argument is the stage's key."""


def key_of(run: Run, kind: str, go_through: Callable[[], object]) -> str:
    """The key under which a stage of this kind is looked for."""

    def stop(stage: Any) -> None:
        if stage.kind == kind:
            raise Asked(stage.key)

    run.before_making = stop
    with pytest.raises(Asked) as found:
        go_through()
    return str(found.value)


def key_of_training(folder: Path, seed: int = 4, **sections: dict[str, Any]) -> str:
    models = {**BASE_MODEL, **sections.get("models", {})}
    training = {"first_judge": ONE_STEP, **sections.get("training", {})}
    run = Run(RunStore(folder, "run"), settings_with(models=models, training=training), seed, trainer=pretend)
    examples = artifact(run, "examples", {"examples.jsonl": example_rows(4)})
    return key_of(run, "train-judge", lambda: train_judge(run, 0, examples))


@pytest.mark.parametrize(
    "changed",
    [
        {"training": {"first_judge": {**ONE_STEP, "learning_rate": 2e-5}}},
        {"training": {"first_judge": {**ONE_STEP, "lora": {"r": 8}}}},
        {"training": {"trainable_layers": 1}},
        {"training": {"pair_orders": True}},
        {"training": {"attention": "eager"}},
        {"models": {"system": "Be brief."}},
        {"models": {"max_tokens": 777}},
        {"seed": 5},
    ],
)
def test_of_a_training(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert key_of_training(tmp_path, **changed) != key_of_training(tmp_path)


def test_of_a_label_judges_training(tmp_path: Path) -> None:
    models = {"judge_prompt": "compact-label"}
    keys = {
        key_of_training(tmp_path, models=models, training={"label_loss": "labels", "label_smoothing": smoothing})
        for smoothing in (0.1, 0.2)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("voting", ["all", "exact"])
@pytest.mark.parametrize(
    "changed", [{"orders_agree": True}, {"grounded_votes": True}, {"min_confidence": 0.6}, {"max_one_sided": 0.9}]
)
def test_of_labels(tmp_path: Path, encoder: ChatEncoder, changed: dict[str, Any], voting: str) -> None:
    def key(**labels: Any) -> str:
        run = run_with(tmp_path, encoder, lambda request, j: "", labels={"voting": voting, **labels})
        votes = artifact(run, "votes", {"rows.jsonl": []})
        batch = artifact(run, "data", {"batch.jsonl": []}).ref("batch.jsonl")
        return key_of(run, "label", lambda: keep_labels(run, 1, votes, batch))

    assert key(**changed) != key()


@pytest.mark.parametrize(
    "changed",
    [
        {"target_confidence": 0.9},
        {"target_precision": 0.9},
        {"grounded_votes": True},
        {"orders_agree": True},
        {"if_infeasible": "strictest"},
        {"thresholds": (0.9, 0.5)},
    ],
)
def test_of_a_threshold(tmp_path: Path, encoder: ChatEncoder, changed: dict[str, Any]) -> None:
    def key(**labels: Any) -> str:
        asked = {"target_precision": 0.95, **labels}
        run = run_with(tmp_path, encoder, lambda request, j: "", labels=asked, data={"calibration_share": 0.1})
        votes, data = artifact(run, "votes", {"rows.jsonl": []}), artifact(run, "data", {"c.jsonl": [], "b.jsonl": []})
        return key_of(
            run, "threshold", lambda: choose_thresholds(run, 1, votes, data.ref("c.jsonl"), data.ref("b.jsonl"))
        )

    assert key(**changed) != key()


@pytest.mark.parametrize(
    "changed",
    [
        {"min_score": -0.5},
        {"max_rationale_tokens": 40},
        {"both_orders": False},
        {"grounded_quotes": False},
        {"choose": "random"},
    ],
)
def test_of_selected_proofs(tmp_path: Path, encoder: ChatEncoder, changed: dict[str, Any]) -> None:
    def key(**proofs: Any) -> str:
        run = run_with(tmp_path, encoder, lambda request, j: "", proofs=proofs)
        made = artifact(run, "proofs", {"rows.jsonl": []})
        labeled = artifact(run, "data", {"labeled.jsonl": []}).ref("labeled.jsonl")
        return key_of(run, "select", lambda: select_proofs(run, 1, made, labeled))

    assert key(**changed) != key()


def test_of_proofs_chosen_at_random(tmp_path: Path, encoder: ChatEncoder) -> None:
    def key(seed: int) -> str:
        run = run_with(tmp_path, encoder, lambda request, j: "", proofs={"choose": "random"})
        run.seed = seed
        made = artifact(run, "proofs", {"rows.jsonl": []})
        labeled = artifact(run, "data", {"labeled.jsonl": []}).ref("labeled.jsonl")
        return key_of(run, "select", lambda: select_proofs(run, 1, made, labeled))

    assert key(1) != key(2)


def test_of_examples_with_human_rationales(tmp_path: Path, encoder: ChatEncoder) -> None:
    def key(prompt: str) -> str:
        run = run_with(tmp_path, encoder, lambda request, j: "", models={**BASE_MODEL, "judge_prompt": prompt})
        data = artifact(run, "data", {"rationale.jsonl": []})
        return key_of(run, "human-examples", lambda: human_examples(run, data))

    assert key("compact") != key("gram-r2")


def test_of_proofs_that_are_audited(tmp_path: Path, encoder: ChatEncoder) -> None:
    def key(**proofs: Any) -> str:
        run = run_with(tmp_path, encoder, lambda request, j: "", proofs={"audit_pairs": 5, **proofs})
        prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
        claims = artifact(run, "claims", {"claims.jsonl": []}).ref("claims.jsonl")
        return key_of(run, "audit-proofs", lambda: prove_claims(run, 1, prover, claims))

    assert len({key(), key(max_rationale_tokens=40), key(both_orders=False), key(k=7)}) == 4


# ---- what a judge is trained from -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("round", "start"), [(0, "base"), (1, "base"), (1, "previous")])
def test_a_rounds_judge_starts_from_the_base_or_the_judge_before(tmp_path: Path, round: int, start: str) -> None:
    training = {"judge_start": start, "first_judge": ONE_STEP, "judge": {**ONE_STEP, "max_steps": 7}}
    run = Run(RunStore(tmp_path, "run"), settings_with(models=BASE_MODEL, training=training), seed=4, trainer=pretend)
    examples = artifact(run, "examples", {"examples.jsonl": example_rows(4)})
    previous = artifact(run, "previous", {"checkpoint/weights.jsonl": []})
    made = train_judge(run, round, examples, None, previous if round else None).manifest
    assert (made.inputs.get("base") == previous.content) == (start == "previous")
    assert made.config["optimization"]["max_steps"] == (7 if round else 1), "the first judge has its own steps"
