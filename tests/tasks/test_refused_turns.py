"""Rows whose turns a chat template refuses, as Gemma's and Mistral's do: dropped one by one, never the end of a training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl
from data.store.artifacts import SCRATCH
from tasks.settings import Optimization, TrainingSettings
from tasks.training.encoded import TRAIN, EncodedSet, encode_sets
from tasks.training.job import RESULT, TrainingJob
from tasks.training.rank import finish
from tests.support.families import chat_template
from tests.support.training_jobs import BASE, example_rows, training_job


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "Taste?"} for role in roles]


@pytest.fixture
def base(tmp_path: Path) -> str:
    """The world's base judge with Gemma's template, which takes no system turn, and turns that alternate."""
    folder = Path(shutil.copytree(BASE, tmp_path / "gemma"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = chat_template("gemma").replace("<end_of_turn>", "<|end|>")
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return str(folder)


def scalar_job(folder: Path, rows: list[dict[str, Any]], base: str) -> TrainingJob:
    job = training_job(folder, rows, TrainingSettings(), Optimization(max_steps=1), "scalar")
    return replace(job, base=base, cache=str(folder / "cache"))


def test_they_are_dropped_and_counted_apart(tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = example_rows(6)
    rows[1] = {**rows[1], "prompt": turns("system", "user")}
    rows[2] = {**rows[2], "response_a": "boze " * 200}
    rows[4] = {**rows[4], "prompt": turns("user", "user")}
    job = scalar_job(tmp_path, rows, base)
    counts = encode_sets(job).counts
    assert (counts.rows_in, counts.kept) == (6, 3)
    assert len(EncodedSet.read(Path(job.out) / SCRATCH / TRAIN).load()) == 3
    assert "3 examples" in (said := capsys.readouterr().out)
    assert "1 dropped as too long, 2 refused by the chat template" in said
    reasons = {1: "refused_by_template", 2: "too_long", 4: "refused_by_template"}
    dropped = list(read_jsonl(Path(job.out) / "dropped.jsonl"))
    assert [(one["id"], one["reason"]) for one in dropped] == [(rows[i]["id"], reason) for i, reason in reasons.items()]

    again = scalar_job(tmp_path / "again", rows, base)
    assert encode_sets(replace(again, cache=job.cache)).counts == counts, "the cache tells the same"
    assert (Path(again.out) / "dropped.jsonl").read_bytes() == (Path(job.out) / "dropped.jsonl").read_bytes()

    finish(job, {})
    written = json.loads((Path(job.out) / RESULT).read_text())["counts"]
    assert written == {"rows_in": 6, "kept": 3, "dropped": {"too_long": 1, "refused_by_template": 2}}


def test_if_it_refuses_all_of_them_that_is_said(tmp_path: Path, base: str) -> None:
    rows = [{**row, "prompt": turns("system", "user")} for row in example_rows(3)]
    with pytest.raises(ValueError, match=r"no example of .*; 3 have turns that the chat template of .*gemma refuses"):
        encode_sets(scalar_job(tmp_path, rows, base))
