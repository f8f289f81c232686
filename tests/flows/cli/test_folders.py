"""Which runs there are on disk, how one is found, and in what state it is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from data.store.lease import Lease, LocalFile
from flows.cli.errors import InputError
from flows.cli.folders import RunFolder, find_run, run_folders
from tests.support.commands import gram_r2
from tests.support.run_folders import STAGES, make_run, stage


def test_runs_are_found_below_the_current_folder_but_not_inside_runs(store: Path) -> None:
    make_run(store / "mine/runs/deep", *STAGES)
    make_run(store / "runs/done/round-1/no", *STAGES)
    make_run(store / ".hidden/runs/no", *STAGES)
    make_run(store / "a/b/c/d/e/no", *STAGES)
    (store / "terraform").mkdir()
    (store / "terraform/plan.json").touch()
    assert [path.relative_to(store).as_posix() for path in run_folders(Path())] == [
        "mine/runs/deep",
        "runs/done",
        "runs/only",
        "runs/stopped",
    ]


def test_metrics_of_another_program_are_no_run(store: Path) -> None:
    for name, text in (("trainer", '{"loss": 1.0, "step": 1}\n'), ("text", "not json\n"), ("bytes", "\udcff\n")):
        (store / name).mkdir()
        (store / name / "metrics.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    assert {"trainer", "text", "bytes"}.isdisjoint(path.name for path in run_folders(store))


def test_damaged_metrics_are_named(store: Path) -> None:
    (store / "cut").mkdir()
    (store / "cut" / "metrics.jsonl").write_text('{"name": "data", "stage": "data", "round": null}\n{"name": "pro')
    with pytest.raises(InputError, match=r"cut/metrics\.jsonl, line 2: not a stage of a run"):
        _ = find_run(str(store / "cut")).stages


def test_a_run_is_known_by_its_stages(store: Path) -> None:
    done, stopped, only = (RunFolder(store / "runs" / name) for name in ("done", "stopped", "only"))
    assert (done.flow, done.state, done.rounds, done.accuracy) == ("self-train", "finished", 1, 0.936)
    assert (stopped.flow, stopped.state, stopped.rounds, stopped.accuracy) == ("self-train", "stopped", None, None)
    assert stopped.begun == ["round-0/judge"]
    assert (only.flow, only.state) == ("–", "planned")
    flows = {
        "adapt": [stage("task", "task"), stage("size-8/judge", "train-judge")],
        "gram": [stage("round-0/judge", "train-judge", 0)],
        "baselines": [stage("label-only/benchmark", "benchmark")],
        "benchmark": [stage("benchmarks/ppe", "benchmark-data"), stage("benchmark-ppe", "benchmark-ppe")],
    }
    for flow, stages in flows.items():
        assert RunFolder(make_run(store / "runs" / flow, *stages)).flow == flow


def test_the_final_fine_tuning_is_no_round(store: Path) -> None:
    stages = [
        stage(f"round-{i}/{kind}", kind, i, accuracy=0.9)
        for i in range(3)
        for kind in ("select", "train-judge", "benchmark")
    ]
    final = [stage("round-3/judge", "train-judge", 3), stage("round-3/benchmark", "benchmark", 3, accuracy=0.9)]
    assert RunFolder(make_run(store / "runs" / "tuned", *stages, *final)).rounds == 2


def test_a_run_that_is_made_again_is_unfinished_although_it_has_a_report(store: Path) -> None:
    done = store / "runs/done"
    (done / "finished.json").write_text('{"prover": "the key that it had"}')
    assert RunFolder(done).state == "stopped"
    made_again = make_run(store / "runs/a name that no run has", *STAGES)
    (made_again / "finished.json").write_text("{}")
    assert RunFolder(made_again).state == "stopped"


def test_a_comparison_of_seeds_is_finished_once_it_is_written(store: Path) -> None:
    (store / "runs/sides").mkdir()
    (store / "runs/sides/comparison.json").write_text("{}")
    assert RunFolder(store / "runs/sides").state == "finished"


def test_a_run_that_a_living_process_holds_is_running(store: Path) -> None:
    lease = Lease(LocalFile(store / "runs/stopped/.lease.json"), "the run")
    folder = RunFolder(store / "runs/stopped")
    assert folder.state == "running"
    assert folder.holder is not None
    assert folder.holder.startswith(f"process {os.getpid()} on {socket.gethostname()}")
    lease.release()
    assert folder.state == "stopped"


def test_a_run_is_found_by_folder_or_by_a_name_that_is_not_ambiguous(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_run("runs/done").name == find_run("done").name == "done"
    with pytest.raises(InputError, match=r"there is no run 'none' below .* or .*/checkout/runs: give its folder"):
        find_run("none")
    for there in ("checkout/runs/ours", "checkout/runs/done"):
        make_run(store / there, *STAGES)
    (store / "empty").mkdir()
    monkeypatch.chdir(store / "empty")
    assert find_run("ours").path == find_run("done").path.with_name("ours") == store / "checkout/runs/ours"
    monkeypatch.chdir(store / "runs")
    assert find_run("done").path == store / "runs/done", "the nearer one"
    monkeypatch.chdir(store)
    (store / "checkout/runs/done/metrics.jsonl").unlink()
    make_run(store / "mine/runs/done", *STAGES)
    with pytest.raises(InputError, match=r"several runs 'done'.*mine/runs/done, .*/runs/done"):
        find_run("done")


def test_a_folder_with_a_recipe_leads_to_its_run(recipe_folder: Path, no_server: Path) -> None:
    """As `gram-r2 init my-run/` and `gram-r2 run my-run/` leave it."""
    mine = recipe_folder / "runs/mine"
    assert find_run(str(recipe_folder)).path == mine, "where it will be"
    named = make_run(recipe_folder / "runs/named", *STAGES)
    assert find_run(str(recipe_folder)).path == named, "one with another --name"
    make_run(recipe_folder / "other/runs/x", *STAGES)
    assert find_run(str(recipe_folder)).path == named, "what other recipes have made is not its run"
    make_run(mine, *STAGES)
    (mine / "report.html").touch()
    (mine / "finished.json").write_text("{}")
    assert find_run(str(recipe_folder)).path == mine
    assert find_run(str(mine)).path == mine
    assert (
        gram_r2("open", str(recipe_folder), env={"DISPLAY": "", "WAYLAND_DISPLAY": ""}).out == f"{mine}/report.html\n"
    )
    assert f"mine: finished; 5 stages are done, in {mine}" in gram_r2("status", str(recipe_folder)).out
    recipe = recipe_folder / "mine.toml"
    recipe.write_text('store = "s3://bucket/runs"\n' + recipe.read_text())
    with pytest.raises(InputError, match=r"the run of .*mine\.toml is at s3://bucket/runs/mine, not on this machine"):
        find_run(str(recipe_folder))


def test_a_folder_without_a_recipe_leads_to_the_only_run_in_it(store: Path) -> None:
    make_run(store / "one/runs/gram-one", *STAGES)
    (store / "one/pyproject.toml").write_text("[project]\nname = 'one'\n")
    assert find_run("one").path == store / "one/runs/gram-one"
    assert find_run("runs/done/").path == store / "runs/done"
    with pytest.raises(
        InputError, match=r"/runs holds several runs: give the folder of one: .*/done, .*/only, .*/stopped"
    ):
        find_run("runs")
    (store / "hand/final").mkdir(parents=True)
    assert find_run("hand").path == store / "hand", "a run of which only the judge is left"


def test_the_run_of_a_recipe_is_where_its_variables_say(recipe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_folder / "mine.toml"
    recipe.write_text('store = "${SCRATCH}/runs"\n' + recipe.read_text())
    make_run(recipe_folder / "big/runs/mine", *STAGES)
    monkeypatch.setenv("SCRATCH", str(recipe_folder / "big"))
    assert find_run(str(recipe_folder)).path == recipe_folder / "big/runs/mine"
    monkeypatch.delenv("SCRATCH")
    for command in ("status", "open", "check"):
        done = gram_r2(command, str(recipe_folder))
        assert (done.code, "the environment variable SCRATCH is not set" in done.out + done.err) == (2, True), command


@pytest.mark.parametrize("command", ["check", "status", "open", "list", "trace", "init"])
def test_a_user_who_is_not_known_is_refused(command: str) -> None:
    done = gram_r2(command, "~no-such-user/x", *(["0ce1e346"] if command == "trace" else []))
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "there is no user 'no-such-user' on this machine" in done.err
