"""``gram-r2 plan``: what cannot be planned is said in one line; the plans themselves are tested in tests/tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import gram_r2


def refusal(*arguments: str) -> str:
    done = gram_r2("plan", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    return done.err


def test_a_model_that_is_not_there_is_refused_with_what_to_do() -> None:
    text = refusal("demo", "--set", "models.prover_base=../no/such/folder")
    assert "is neither a local folder (relative paths start in " in text
    assert "--stand-in ../no/such/folder=FOLDER" in text
    absolute = refusal("demo", "--set", "models.prover_base=/no/such/folder")
    assert "'/no/such/folder' is neither a local folder nor a name" in absolute
    assert "the model 'README.md' is a file: give the folder" in refusal("demo", "--set", "models.judge_base=README.md")
    judge = refusal("adapt/demo", "--set", "judge.path=../no/such/folder")
    assert "--stand-in ../no/such/folder=FOLDER" in judge
    assert "judge.prompt" not in judge


def test_data_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    sources = json.dumps([{"path": f"{tmp_path}/none.jsonl"}])
    text = refusal("demo", "--set", f"data.rationale={sources}")
    assert "there is no such file" in text
    assert "--data-stand-in rationale=FILE" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmeo"], "there is no recipe 'dmeo'"),
        (["demo", "--set", "labels.vote=8"], "labels.vote: no such setting; did you mean labels.votes"),
        (["demo", "--set", "labels.votes"], "'labels.votes' is not NAME=VALUE"),
        (["demo", "--assume", "kept=0.5"], "invalid assumption: kept: no such assumption; did you mean kept_labels or"),
        (["demo", "--stand-in", "org/x=."], "no model of this recipe is called org/x"),
        (["demo", "--stand-in", "data/world/base-judge=tests"], "has no config.json: pass a model folder"),
        (
            ["demo", "--data-stand-in", "label=x.jsonl"],
            "no data is called label: a stand-in can replace one of rationale",
        ),
        (["demo", "--like", "tests"], "tests has no metrics.jsonl: pass a run folder"),
        (["demo", "--rates", "none.toml"], "none.toml cannot be read as TOML"),
        (["benchmark/demo"], "recipes of benchmark cannot be planned; those of self-train, gram, baselines, adapt can"),
        (["adapt/demo", "--set", "judge.path=http://host/v1#m"], "is an endpoint: only a checkpoint can be adapted"),
        (["adapt/demo", "--stand-in", "runs/gram-demo/final=data/world/base-judge"], "Set the prompt to one of"),
        (["adapt/nothing"], "there is no recipe 'nothing' of adapt; available: demo"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


def test_a_file_that_is_no_recipe_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("votes = \n")
    assert refusal(str(tmp_path / "mine.toml")) == f"{tmp_path}/mine.toml, line 1: is not TOML (Invalid value)\n"
