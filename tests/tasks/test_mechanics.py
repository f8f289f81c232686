"""How trainings are run: what the switches take, what is refused, and which of them a training's key depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.files import write_json
from data.store.store import RunStore
from tasks.run.stage import Run
from tasks.settings import Mechanics, TrainingSettings
from tasks.train import train_judge
from tasks.training.job import RESULT, TrainingJob
from tests.conftest import ROOT, artifact, settings_with
from tests.support.training_jobs import example_rows

BASE = str(ROOT / "data/world/base-judge")


@pytest.mark.parametrize(
    ("given", "taken", "share"),
    [
        (True, True, 1.0),
        ("all", True, 1.0),
        (1, True, 1.0),
        (False, False, 0.0),
        ("off", False, 0.0),
        (0, False, 0.0),
        ("selective", "selective", 1.0),
        (0.5, 0.5, 0.5),
        (0.33, 0.33, 0.33),
    ],
)
def test_what_is_computed_again(given: Any, taken: Any, share: float) -> None:
    mechanics = Mechanics(gradient_checkpointing=given)
    assert (mechanics.gradient_checkpointing, type(mechanics.gradient_checkpointing)) == (taken, type(taken))
    assert mechanics.recomputed_share == share
    assert Mechanics.model_validate(mechanics.model_dump(mode="json")) == mechanics


@pytest.mark.parametrize(
    "given",
    [{"attention": f"kernels-community/{name}"} for name in ("flash-attn3", "flash-attn2@v1.2:flash_attn_varlen_func")]
    + [{"attention": name} for name in ("auto", "eager", "sdpa", "flex_attention", "flash_attention_3")]
    + [{"packing": True, "attention": name} for name in ("auto", "sdpa", "flash_attention_2", "kernels-community/flash-attn3")],
)  # fmt: skip
def test_attentions_that_transformers_takes(given: dict[str, Any]) -> None:
    assert Mechanics.model_validate(given).attention == given["attention"]


@pytest.mark.parametrize(
    "name", ["", "flash", "someone/flash-attn3", "kernels-community/", "kernels-community/a/b", "a b"]
)
def test_other_attentions_are_refused(name: str) -> None:
    with pytest.raises(
        ValidationError, match=r"is no attention that is known: auto, eager, sdpa, .*kernels-community/"
    ):
        Mechanics(attention=name)


def test_the_length_of_packed_sequences() -> None:
    assert Mechanics().packed_to(100) is None
    assert Mechanics(packing=True).packed_to(100) == 100
    assert Mechanics(packing=True, pack_tokens=400).packed_to(100) == 400
    with pytest.raises(ValueError, match=r"pack_tokens = 400 is less than the context of 401 tokens, and would cut"):
        Mechanics(packing=True, pack_tokens=400).packed_to(401)


def test_switches_that_are_off_are_in_no_key(tmp_path: Path) -> None:
    """Those that change results, if only by rounding, are; how much is computed again changes nothing."""
    default = key(tmp_path)
    assert not {"pack_tokens", "compile", "liger_kernels"} & TrainingSettings().model_dump().keys()
    for same in ({"gradient_checkpointing": "selective"}, {"gradient_checkpointing": 0.5}, {"compile": False}):
        assert key(tmp_path, **same) == default
    packed = key(tmp_path, packing=True)
    others = [key(tmp_path, compile=True), key(tmp_path, liger_kernels=True)]
    others += [packed, key(tmp_path, packing=True, pack_tokens=4096), key(tmp_path, packing=True, pack_tokens=8192)]
    assert len({default, *others}) == 6


def key(tmp_path: Path, **training: Any) -> str:
    """The key of a judge's training with these settings, which is not done."""
    settings = settings_with(models={"judge_base": BASE, "dtype": "float32"}, training=training)
    run = Run(RunStore(tmp_path, "run"), settings, seed=4, trainer=pretend)
    return train_judge(run, 0, artifact(run, "examples", {"examples.jsonl": example_rows(4)})).manifest.key


def pretend(job: TrainingJob, *_: object) -> None:
    counts = {"rows_in": 4, "kept": 4, "dropped": {}}
    write_json(Path(job.out) / RESULT, {"files": [], "counts": counts, "metrics": {}})
