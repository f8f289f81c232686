"""The recipe demo as it is shows how far its labels can be trusted: a promised precision, gates, an audit of its proofs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.store.store import RunStore
from data.world.splits import SIZES, write_splits
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.model.chat import ChatEncoder
from tasks.report.self_training import write_report
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.conftest import InProcess
from tests.support.learning import copies
from tests.support.planning import planned, sources
from tests.support.playing import world_engine


def demo_in(folder: Path, **sizes: int) -> Any:
    """The recipe, with its five files written to a folder."""
    write_splits(folder, 0, {**SIZES, **sizes})
    return with_overrides(load_recipe("demo").model_dump(), sources(folder, *SIZES))


def test_the_demo_reads_all_five_files_of_the_world_and_promises_from_one(tmp_path: Path) -> None:
    config = load_recipe("demo")
    files = {Path(source.path).stem for name in SIZES for source in getattr(config.data, name)}
    assert files == SIZES.keys()
    plan = planned(demo_in(tmp_path))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["data"].rows_in == sum(SIZES.values())
    for round in range(1, config.rounds.count + 1):
        assert stages[f"round-{round}/calibration-votes"].rows_in == SIZES["calibration"]
        assert stages[f"round-{round}/audit-proofs"].rows_in == 2 * config.proofs.audit_pairs
    assert not plan.stops


def test_its_report_shows_promise_gates_and_audit(tmp_path: Path, encoder: ChatEncoder) -> None:
    config = demo_in(tmp_path / "world", unlabeled=24, heldout=20, calibration=40)
    config = with_overrides(config.model_dump(), {"rounds.pairs": 8})
    engine = InProcess(world_engine(encoder), encoder)
    run = Run(RunStore(tmp_path / "runs", "run"), config, 0, generator=engine, trainer=copies)
    self_training(run)
    table = round_table(run)
    assert [row["gate"] for row in table] == [None, "passed", "passed", "passed"]
    assert [row["promised"] for row in table] == [None, *[config.labels.target_precision] * 3]
    assert all(row["promise_holds"] for row in table[1:])
    assert [row["proof_audit"]["pairs"] for row in table] == [20, 8, 8, 8]
    page = write_report(run).read_text(encoding="utf-8")
    for shown in (
        "Promised precision of labels, by round</h3>",
        "Does a proof prove?",
        "Round 3 passed: 100.0% of held-out",
    ):
        assert shown in page
