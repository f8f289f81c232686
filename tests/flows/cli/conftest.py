"""A recipe of the user's, in a folder of its own, and run folders on a machine without a server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.run_folders import NOW, STAGES, make_run

RECIPE = f"""
[models]
judge_base = "{ROOT}/data/world/base-judge"
prover_base = "{ROOT}/data/world/base-prover"
judge_prompt = "compact"
max_tokens = 128

[proofs]
max_tokens = 64

[labels]
max_tokens = 64

[data]
rationale = [{{ path = "rationale.jsonl" }}]
labeled = [{{ path = "labeled.jsonl" }}]
unlabeled = [{{ path = "unlabeled.jsonl" }}]
"""
LABELED = {"prompt": "q", "response_a": "x", "response_b": "y", "label": "A"}
ROWS = {
    "rationale": {**LABELED, "rationale": "x is longer"},
    "labeled": LABELED,
    "unlabeled": {**LABELED, "label": None},
}


@pytest.fixture
def recipe_folder(tmp_path: Path) -> Path:
    """A user's recipe with three rows in each of its files."""
    (tmp_path / "mine.toml").write_text(RECIPE)
    for name, row in ROWS.items():
        rows = [json.dumps({**row, "prompt": f"q{i}"}) for i in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no Prefect server is named or recorded, with an empty current folder; returns the checkout."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "prefect.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("GRAM_R2_HOME", str(checkout))
    return checkout


@pytest.fixture
def store(tmp_path: Path, no_server: Path) -> Path:
    """The current folder, with a store in it: a finished run, a stopped one, and a plan."""
    make_run(tmp_path / "runs/done", *STAGES, hours_ago=30)
    (tmp_path / "runs/done/report.html").touch()
    (tmp_path / "runs/done/finished.json").write_text("{}")
    stopped = make_run(tmp_path / "runs/stopped", *STAGES[:2], hours_ago=2)
    (stopped / ".work/round-0--judge-12ab12ab12ab12ab").mkdir(parents=True)
    (stopped / ".work/round-0--judge-12ab12ab12ab12ab/.stage.done").touch()
    (tmp_path / "runs/only").mkdir()
    (tmp_path / "runs/only/plan.json").write_text("{}")
    os.utime(tmp_path / "runs/only/plan.json", (NOW, NOW))
    return tmp_path
