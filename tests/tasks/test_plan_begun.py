"""A run that has begun plans itself, and its report holds the plan against what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.records import ResponsePair
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from flows.plan import write_plan
from flows.self_train import self_training
from tasks.benchmark.sets import prepare_heldout
from tasks.plan.begun import BackgroundPlanner, plan_begun, planning_job
from tasks.plan.compare import FIGURES, compared, planned_table
from tasks.plan.facts import HELD_OUT
from tasks.plan.plan import PLAN, Plan
from tasks.plan.sample import sample_run
from tasks.prepare import prepare
from tasks.report.self_training import write_report
from tasks.run.changes import announce
from tasks.run.stage import Context, Run
from tests.conftest import make
from tests.support.planning import demo, planned

# ---- a dry run, and a run that has begun -----------------------------------------------------------------------------------


def test_a_dry_run_leaves_its_plan_and_nothing_else(world: Path, tmp_path: Path) -> None:
    plan, path = write_plan(demo(world, store=str(tmp_path), run_name="dry", dry_run=True))
    left = [file for file in (tmp_path / "dry").rglob("*") if file.is_file()]
    assert left == [tmp_path / "dry" / PLAN]
    assert path == str(left[0])
    assert Plan.from_json(json.loads(left[0].read_text())) == plan


def test_a_finished_run_keeps_its_plan(world: Path, tmp_path: Path) -> None:
    kept = tmp_path / "done/plan.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    (tmp_path / "done/finished.json").write_text("{}")
    plan, path = write_plan(demo(world, store=str(tmp_path), run_name="done", dry_run=True))
    assert (plan.run_name, path, kept.read_text()) == ("done", None, "{}")


def begun(world: Path, store: Path, **overrides: Any) -> tuple[Run, list[str]]:
    """A run that stops when its data is there, with what it then plans; and what it says."""
    config = demo(world, store=str(store), **overrides)
    said: list[str] = []
    run = Run(RunStore(config.store, config.run_name), config, config.seed)

    def plan(run: Run, data: Artifact, sets: Any) -> None:
        beside = BackgroundPlanner(said.append)
        beside.begin(run, data, sets)
        if beside.ident is not None:
            said.append("planning")
            beside.join()
        raise EOFError

    run.on_data = plan
    with pytest.raises(EOFError):
        self_training(run)
    return run, said


def test_a_run_plans_itself_once_from_its_own_rows(world: Path, tmp_path: Path) -> None:
    run, said = begun(world, tmp_path)
    assert said == ["planning"]
    path = run.store.path / PLAN
    plan = Plan.from_json(json.loads(path.read_text()))
    assert [(stage.rows_in, stage.rows_out) for stage in plan.stages[:2]] == [(982, 982), (12, 12)]
    before = planned(demo(world))
    for one, other in zip(before.stages, plan.stages, strict=True):
        assert other.place == one.place
        assert (other.rows_in, other.rows_out) == pytest.approx((one.rows_in, one.rows_out))
        assert other.generated_tokens == pytest.approx(one.generated_tokens, rel=0.02)
    written = path.stat().st_mtime_ns
    assert begun(world, tmp_path)[1] == [], "a resumed run has its plan"
    assert path.stat().st_mtime_ns == written


def test_a_run_that_cannot_be_planned_goes_on(world: Path, tmp_path: Path) -> None:
    """A plan of other settings is not its own: it tries."""
    write_plan(demo(world, store=str(tmp_path)))
    _, said = begun(world, tmp_path, **{"models.judge_base": "../no/such/model"})
    assert said[0] == "planning"
    assert "this run has no plan: planning failed" in said[1]
    assert "neither a local folder" in said[1]


def test_a_dry_run_is_the_plan_of_the_run(world: Path, tmp_path: Path) -> None:
    _, path = write_plan(demo(world, store=str(tmp_path), dry_run=True))
    planned = Path(path).read_text()
    assert begun(world, tmp_path)[1] == []
    assert Path(path).read_text() == planned


def test_a_rehearsal_plans_nothing(world: Path, tmp_path: Path) -> None:
    config = demo(world, store=str(tmp_path))
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    prepare_heldout(run, prepare(run))
    run.on_data = lambda run, data, sets: pytest.fail("a rehearsal has no data to plan for")
    announce(run, self_training, "redo", pytest.fail)


# ---- planned and actual ------------------------------------------------------------------------------------------------------


def finished(run: Run, name: str, kind: str, counts: Counts, metrics: Mapping[str, Any], n_bytes: int) -> None:
    def body(context: Context) -> Outcome:
        (context.work / "file").write_bytes(b"x" * n_bytes)
        return Outcome(counts, metrics)

    run.find_or_make(name, kind, {}, {}, body, 1)


@pytest.fixture
def judged(world: Path, tmp_path: Path) -> Run:
    """A planned run that has gone through the votes of a round, and through the proofs but not their selection."""
    config = demo(world, store=str(tmp_path), **{"labels.voting": "all"})
    write_plan(config)
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    generated = {"prompt_tokens": 6900, "tokens_generated": 22_800, "tokens_per_s": 11_400.0, "engines": 1}
    finished(run, "round-1/votes", "vote", Counts(150, 150), generated, 1000)
    finished(run, "round-1/labels", "test", Counts(150, 108, {"tie": 42}), {}, 24)
    finished(run, "round-1/proofs", "prove", Counts(108, 108), generated, 1)
    trained = {"tokens": 100, "epochs": 2.5, "train_seconds": 12.0, "processes": 2}
    finished(run, "round-1/training-set", "training-set", Counts(240, 240), {}, 1)
    finished(run, "round-1/judge", "train-judge", Counts(240, 230, {"too_long": 10}), trained, 1)
    return run


def test_planned_is_held_against_actual_for_what_is_finished(judged: Run) -> None:
    table = dict(compared(judged))
    assert list(table) == ["round-1/votes", "round-1/judge"]
    plan = {
        stage.place.name: stage for stage in Plan.from_json(json.loads((judged.store.path / PLAN).read_text())).stages
    }
    votes = plan["round-1/votes"]
    assert table["round-1/votes"] == [
        (90, 108),
        (6900, 6900),
        (votes.generated_tokens, 22_800),
        (votes.gpu_seconds, pytest.approx(2.0)),
        (votes.disk_bytes, 1024),
    ]
    judge = [actual for _, actual in table["round-1/judge"]]
    assert judge == [230, 0, 250.0, 24.0, 2], "12 s of two GPUs"


def test_the_report_shows_planned_and_actual(judged: Run) -> None:
    row = planned_table(judged)[0]
    assert row["name"] == "round-1/votes"
    assert [row["figures"][0], row["figures"][1]] == [("90", "108", "1.20"), ("6,900", "6,900", "1.00")]
    assert [figure[2] for figure in row["figures"]][2] == "0.50"
    page = write_report(judged).read_text(encoding="utf-8")
    assert "<summary>Planned and actual</summary>" in page
    shown = '108<br><span class="soft">90 × 1.20</span>'
    assert f'<th scope="row">round-1/votes</th><td class="n">{shown}</td>' in page
    for title, _ in FIGURES:
        assert title in page


def test_figures_that_a_run_did_not_record_are_left_open(world: Path, tmp_path: Path) -> None:
    config = demo(world, store=str(tmp_path), **{"labels.voting": "all"})
    write_plan(config)
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    finished(run, "round-1/votes", "vote", Counts(150, 150), {"tokens_generated": 0, "tokens_per_s": None}, 5)
    finished(run, "round-1/labels", "label", Counts(150, 150), {}, 5)
    [row] = planned_table(run)
    assert row["figures"][1][1:] == ("–", "–")
    assert row["figures"][3][1:] == ("–", "–")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stages": [{}]}'])
def test_a_report_is_written_with_a_broken_plan_or_none(judged: Run, content: str) -> None:
    (judged.store.path / PLAN).write_text(content)
    assert planned_table(judged) == []
    assert "Planned and actual" not in write_report(judged).read_text(encoding="utf-8")
    (judged.store.path / PLAN).unlink()
    assert planned_table(judged) == []


def test_rows_of_a_run_are_sampled_from_all_of_its_files(tmp_path: Path) -> None:
    """Ten rows that grow: every second one of them is taken, also where a file has one more."""
    pairs = [make(f"p{i}", a="a " * (i + 1)).to_json() for i in range(11)]
    write_jsonl(tmp_path / "rows.jsonl", pairs)
    sample = sample_run({"unlabeled": str(tmp_path / "rows.jsonl")}, {"unlabeled": 33}, [], 5)
    rows = sample.weighted("unlabeled")
    assert [row.id for _, row in rows if isinstance(row, ResponsePair)] == ["p0", "p2", "p4", "p6", "p8", "p10"]
    assert sum(weight for weight, _ in rows) == pytest.approx(33)


def test_a_plan_of_a_run_takes_all_rounds_from_its_first_batch(world: Path, tmp_path: Path) -> None:
    write_plan(demo(world, store=str(tmp_path)))
    run, _ = begun(world, tmp_path)
    data, heldout = (run.finished_stage(kind) for kind in ("data", "benchmark-data"))
    assert data is not None
    assert heldout is not None
    job = planning_job(run, data, [heldout])
    assert job.sizes == {"rationale": 12, "labeled": 20, "unlabeled": 450}
    assert [one["label"] for one in job.sets] == [HELD_OUT]
    assert [stage.rows_in for stage in plan_begun(job).stages if stage.place.kind == "vote"] == [150] * 3
