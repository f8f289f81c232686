"""``gram-r2 list``, ``status`` and ``open``: what they say of run folders, and of runs that a server has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from data.store.lease import Lease, LocalFile
from flows.cli.connection import Server
from flows.cli.errors import InputError
from flows.cli.folders import RunFolder, find_run, run_folders
from flows.cli.listing import ago, has_display, rows_of, show_report
from flows.cli.status import about_run, about_services
from tests.support.answering import RUN, Answers, Moment
from tests.support.commands import gram_r2

NOW = 1_800_000_000.0


def stage(name: str, kind: str, round: int | None = None, **metrics: Any) -> dict[str, Any]:
    return {"name": name, "stage": kind, "round": round, "seconds": 12.0, "rows_in": 160, "kept": 150, **metrics}


STAGES = [
    stage("data", "data"),
    stage("round-0/proofs", "prove", 0),
    stage("round-0/benchmark", "benchmark", 0, accuracy=0.769),
    stage("round-1/benchmark", "benchmark", 1, accuracy=0.936),
    stage("round-1/benchmark-ppe", "benchmark-ppe", 1, accuracy=0.5),
]


def make_run(folder: Path, *stages: dict[str, Any], hours_ago: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in stages))
    os.utime(folder / "metrics.jsonl", (NOW - 3600 * hours_ago,) * 2)
    return folder


@pytest.fixture
def store(tmp_path: Path, no_server: Path) -> Path:
    """The current folder, with a store in it: a finished run, a stopped one, and a plan."""
    make_run(tmp_path / "runs/done", *STAGES, hours_ago=30)
    (tmp_path / "runs/done/report.html").touch()
    stopped = make_run(tmp_path / "runs/stopped", *STAGES[:2], hours_ago=2)
    (stopped / ".work/round-0--judge-12ab12ab12ab12ab").mkdir(parents=True)
    (stopped / ".work/round-0--judge-12ab12ab12ab12ab/.stage.done").touch()
    (tmp_path / "runs/only").mkdir()
    (tmp_path / "runs/only/plan.json").write_text("{}")
    os.utime(tmp_path / "runs/only/plan.json", (NOW, NOW))
    return tmp_path


def server(answers: Answers) -> Server:
    return Server("http://127.0.0.1:4200/api", "http://127.0.0.1:4200", answers, local=True)


# ---- folders --------------------------------------------------------------------------------------------------------------


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


def test_a_run_that_is_under_way_is_found_by_its_recipes_folder(recipe_folder: Path, no_server: Path) -> None:
    make_run(recipe_folder / "runs/mine", *STAGES)
    running = {**UNDER_WAY, "name": "calm-owl", "parameters": {"run_name": "mine"}}
    said = list(about_run(str(recipe_folder), server(Answers([Moment(tasks=[FIRST])], under_way=[running]))))
    assert said[-1] == f"http://127.0.0.1:4200/runs/flow-run/{RUN}"


# ---- list -----------------------------------------------------------------------------------------------------------------


def test_the_list_has_a_line_for_each_run_the_latest_last(store: Path) -> None:
    rows = list(rows_of([RunFolder(path) for path in run_folders(store)], None, NOW))
    assert rows == [
        ("done", "self-train", "finished", "1", "93.6%", "1 d ago", "runs/done"),
        ("stopped", "self-train", "stopped", "–", "–", "2 h ago", "runs/stopped"),
        ("only", "–", "planned", "–", "–", "just now", "runs/only"),
    ]
    assert ago(180) == "3 min ago"


def test_the_list_knows_what_the_server_works_on(store: Path) -> None:
    running = {
        "id": "1",
        "name": "x",
        "state": {"name": "Running"},
        "parameters": {"run_name": "stopped", "store": "runs"},
    }
    new = {"id": "2", "name": "new", "state": {"name": "Late"}, "parameters": {"store": "/shared"}}
    part = {"id": "3", "name": "part", "state": {"name": "Running"}, "parameters": {"store": "runs", "job": {}}}
    answers = Answers([Moment()], under_way=[running, new, part])
    rows = list(rows_of([RunFolder(store / "runs/stopped")], server(answers), NOW))
    assert [(row[0], row[2], row[-1]) for row in rows] == [
        ("stopped", "running", "runs/stopped"),
        ("new", "late", "/shared/new"),
    ]


def test_the_command_prints_a_table_also_into_a_pipe(store: Path) -> None:
    done = gram_r2("list")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["run", "flow", "state", "rounds", "accuracy", "changed", "folder"]
    assert lines[1].split()[:5] == ["done", "self-train", "finished", "1", "93.6%"]
    long = "a-name-of-" + 60 * "x"
    shutil.copytree(next(path for path in store.rglob("done") if path.is_dir()), store / "runs" / long)
    assert f" {long}" in gram_r2("list").out.replace("/", " "), "nothing is cut off"
    (store / "empty").mkdir()
    assert gram_r2("list", "empty").out == f"no runs below {store}/empty: `gram-r2 run demo` makes one\n"
    assert gram_r2("list", "none").err == "none is not a folder: give one that holds runs\n"


# ---- status ---------------------------------------------------------------------------------------------------------------

VOTES = ("round-1/votes", "RUNNING", "", (45.0, "round-1/votes: 540 of 1,200, 30.1/s, 22 s left"))
FIRST = ("round-0/benchmark", "COMPLETED", "round-0/benchmark: done in 18.3 s; 500 in, 500 kept; accuracy 76.9%", None)
UNDER_WAY = {
    "id": RUN,
    "name": "demo",
    "state": {"name": "Running"},
    "parameters": {"run_name": "demo", "store": "runs"},
}


class WithPools(Answers):
    """Also answers which work pools there are."""

    def __call__(self, path: str, body: Any = None) -> Any:
        return [{"name": "ctl"}, {"name": "gpu"}] if path == "/work_pools/filter" else super().__call__(path, body)


def test_the_status_of_a_folder_names_its_stages_and_where_it_stands(store: Path) -> None:
    done = gram_r2("status", "stopped")
    assert done.code == 0
    assert done.out.splitlines() == [
        "data: 12.0 s; 160 in, 150 kept",
        "round-0/proofs: 12.0 s; 160 in, 150 kept",
        f"stopped: stopped; 2 stages are done, in {store}/runs/stopped",
        "  begun: round-0/judge",
    ]
    assert f"  report: {store}/runs/done/report.html" in gram_r2("status", "done").out
    missing = gram_r2("status", "none")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "No run of that name is under way" in missing.err


def test_the_status_of_a_run_under_way_is_the_servers() -> None:
    said = list(about_run("runs/demo", server(Answers([Moment(tasks=[FIRST, VOTES])], under_way=[UNDER_WAY]))))
    assert said == [
        "round-0/benchmark: done in 18.3 s; 500 in, 500 kept; accuracy 76.9%",
        "demo: running, 75.0 s",
        "  round-1/votes: 45%, 540 of 1,200, 30.1/s, 22 s left",
        "  accuracy: round 0 76.9%",
        f"http://127.0.0.1:4200/runs/flow-run/{RUN}",
    ]


def test_the_status_of_everything_names_server_workers_and_runs(store: Path) -> None:
    said = list(about_services(server(WithPools([Moment(tasks=[VOTES])], under_way=[UNDER_WAY]))))
    assert said[:4] == [
        "Prefect server: http://127.0.0.1:4200",
        "work pool ctl: workers worker-0",
        "work pool gpu: workers worker-0",
        "demo: running, 75.0 s",
    ]
    idle = list(about_services(server(WithPools([Moment(workers=0)]))))
    assert idle[1:] == [
        "work pool ctl: no worker is listening",
        "work pool gpu: no worker is listening",
        "no run is under way",
    ]
    done = gram_r2("status")
    assert done.code == 0
    assert done.out.startswith("no Prefect server runs on this machine: `gram-r2 ui` starts one")


# ---- open -----------------------------------------------------------------------------------------------------------------


def test_a_report_is_opened_and_its_path_printed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []
    show_report(RunFolder(store / "runs/done"), opened.append)
    assert opened == [f"file://{store}/runs/done/report.html"]
    show_report(RunFolder(store / "runs/done"), None)
    assert capsys.readouterr().out == f"{store}/runs/done/report.html\n" * 2
    with pytest.raises(InputError, match=r"has no report yet: it is written when the run ends \(2 stages are done\)"):
        show_report(RunFolder(store / "runs/stopped"), opened.append)


def test_without_a_display_nothing_is_opened(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    began = time.monotonic()
    assert gram_r2("open", "done").out == f"{store}/runs/done/report.html\n"
    assert time.monotonic() - began < 5
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_display()
