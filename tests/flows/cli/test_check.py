"""``gram-r2 check``: a line for each finding, good and bad, and an exit code for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.check import verdict
from flows.config.findings import Finding
from tests.conftest import ROOT
from tests.flows.cli.conftest import LABELED
from tests.support.commands import gram_r2


def lines_of(kind: str, out: str) -> list[str]:
    return [line.removeprefix(kind).strip() for line in out.splitlines() if line.startswith(f"{kind} ")]


def test_what_can_be_run_is_ok_line_by_line(recipe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = gram_r2("check", str(recipe_folder), "--set", "labels.votes=4")
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines()[0] == f"{recipe_folder / 'mine.toml'}: self-train, run 'mine'"
    assert [line.split(":")[0] for line in lines_of("ok", done.out)] == [
        "store",
        "data.rationale.0",
        "data.labeled.0",
        "data.unlabeled.0",
        "models.judge_base",
        "models.prover_base",
        "settings",
    ]
    assert f"data.labeled.0: 3 rows in {recipe_folder}/labeled.jsonl; 3 pairs can be used" in done.out
    assert f"store: {recipe_folder}/runs/mine is new" in done.out
    assert lines_of("note", done.out) == ["this machine: no GPU is visible; models run and are trained on its CPU"]
    assert done.out.splitlines()[-1] == "Nothing would stop this run."


def test_a_run_is_there_already_once_a_stage_of_it_is_done(recipe_folder: Path) -> None:
    (recipe_folder / "runs/mine/seed-0").mkdir(parents=True)  # as the recipe english keeps its data
    assert f"store: {recipe_folder}/runs/mine is new" in gram_r2("check", str(recipe_folder)).out
    (recipe_folder / "runs/mine/metrics.jsonl").write_text("")
    assert f"store: {recipe_folder}/runs/mine is there already" in gram_r2("check", str(recipe_folder)).out


def test_every_problem_is_a_line_and_the_rest_is_checked_all_the_same(recipe_folder: Path) -> None:
    (recipe_folder / "labeled.jsonl").unlink()
    (recipe_folder / "unlabeled.jsonl").write_text(json.dumps({**LABELED, "response_b": "x"}))
    done = gram_r2("check", str(recipe_folder / "mine.toml"), "--set", "models.max_tokens=513")
    assert (done.code, done.err) == (2, "")
    problems = lines_of("PROBLEM", done.out)
    assert [line.split(" ")[0] for line in problems] == [
        "data.labeled.0:",
        "data.unlabeled.0:",
        "models.max_tokens",
        "models.max_tokens",
    ]
    assert problems[1].endswith("unlabeled.jsonl; 0 pairs can be used, not 1 equal_responses")
    assert "1 row in" in problems[1]
    assert any(line.startswith("data.rationale.0: 3 rows") for line in lines_of("ok", done.out))
    assert not any(line.startswith("models.judge_base") for line in lines_of("ok", done.out))
    assert done.out.splitlines()[-1] == "4 problems would stop this run."


def test_a_malformed_row_is_a_problem(recipe_folder: Path) -> None:
    with (recipe_folder / "labeled.jsonl").open("a") as file:
        file.write('\n{"prompt": "q"}')
    done = gram_r2("check", str(recipe_folder))
    assert done.code == 2
    assert "labeled.jsonl, row 4" in lines_of("PROBLEM", done.out)[0]


def test_what_only_this_machine_lacks_is_marked(recipe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    done = gram_r2("check", str(recipe_folder), "--set", "generation.tensor_parallel=8")
    assert done.code == 2
    assert lines_of("HERE", done.out) == ["generation.tensor_parallel = 8, but 2 GPUs are visible: 0, 1"]
    assert done.out.splitlines()[-1] == (
        "1 problem would stop this run on this machine; another one may have what it lacks."
    )


def test_the_verdict_tells_the_machine_from_the_recipe() -> None:
    ok, problem, here = Finding("ok", ""), Finding("problem", ""), Finding("here", "")
    assert verdict([ok]) == "Nothing would stop this run."
    assert verdict([problem, problem]) == "2 problems would stop this run."
    assert (
        verdict([problem, here, here]) == "1 problem would stop this run on any machine, 2 problems only on this one."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no recipe 'nothing'; available: demo"),
        (["demo", "--set", "labels.votes=3"], "labels.votes: must be a multiple of 2"),
        (["demo", "--set", "labels.votes"], "'labels.votes' is not NAME=VALUE"),
        (["demo", "--set", "labels.vote=4"], "did you mean labels.votes"),
    ],
)
def test_what_is_no_run_is_said_in_one_line(arguments: list[str], message: str) -> None:
    done = gram_r2("check", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_the_demo_needs_nothing(no_server: Path) -> None:
    """The pairs of the small worlds are written where they are missing, and stay where they are there."""
    checkout = no_server
    (checkout / "data").symlink_to(ROOT / "data")
    done = gram_r2("check", "demo")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Nothing would stop this run."), done.out
    heldout = checkout / "runs/world/seed-0/heldout.jsonl"
    assert len(heldout.read_text().splitlines()) == 500
    written = heldout.stat().st_mtime_ns
    assert gram_r2("check", "demo").code == 0
    assert heldout.stat().st_mtime_ns == written
    calibration = heldout.with_name("calibration.jsonl")
    calibration.unlink()  # as in a folder that was written before the world had these pairs
    assert gram_r2("check", "demo").code == 0
    assert len(calibration.read_text().splitlines()) == 300
    gram_r2("check", "english")
    assert len((checkout / "runs/english/seed-0/heldout.jsonl").read_text().splitlines()) == 200


def test_a_recipe_of_several_seeds_has_the_pairs_of_each_written(no_server: Path) -> None:
    checkout = no_server
    (checkout / "data").symlink_to(ROOT / "data")
    done = gram_r2("check", "baselines/world", "--set", "seeds=[0, 3]")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Nothing would stop this run."), done.out
    assert sorted(path.name for path in (checkout / "runs/world").iterdir()) == ["seed-0", "seed-3"]
    assert len((checkout / "runs/world/seed-3/heldout.jsonl").read_text().splitlines()) == 500


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("demo", "self-train/demo is the deployment of a built-in recipe: use another name"),
        ("my run", "its deployment would have the file's name; run name 'my run': use 1 to 100 letters"),
    ],
)
def test_a_file_that_cannot_be_a_deployment_is_refused_before_a_server_is_needed(
    name: str, problem: str, recipe_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    mine = (recipe_folder / "mine.toml").rename(recipe_folder / f"{name}.toml")
    mine.write_text('run_name = "mine"\n' + mine.read_text())
    done = gram_r2("check", str(mine))
    assert done.code == 2
    assert [line for line in lines_of("PROBLEM", done.out) if line.startswith(f"{mine}: {problem}")], done.out
    done = gram_r2("run", str(mine))
    assert (done.code, done.err.startswith(f"{mine}: {problem}")) == (2, True)
