"""``gram-r2 list``, ``status`` and ``open``: what they say of run folders, and of runs that a server has."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from flows.cli.connection import Server
from flows.cli.errors import InputError
from flows.cli.folders import RunFolder, run_folders
from flows.cli.listing import ago, has_display, rows_of, show_report
from flows.cli.status import about_run, about_services
from tests.support.answering import RUN, Answers, Moment
from tests.support.commands import gram_r2
from tests.support.run_folders import NOW, STAGES, make_run, stage


def server(answers: Answers) -> Server:
    return Server("http://127.0.0.1:4200/api", "http://127.0.0.1:4200", answers, local=True)


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


def test_a_folder_that_holds_no_run_has_no_status(recipe_folder: Path, no_server: Path) -> None:
    (recipe_folder / "pairs").mkdir()
    with pytest.raises(InputError, match=rf"^there is no run in {recipe_folder}/pairs$"):
        list(about_run(str(recipe_folder / "pairs"), None))
    with pytest.raises(InputError, match=r"^the run 'mine' has not been started: .*/runs/mine is not there yet$"):
        list(about_run(str(recipe_folder), None))


def test_the_status_of_a_folder_says_of_how_many_items_an_estimate_is(store: Path) -> None:
    played = stage("benchmark-ppe", "benchmark-ppe", accuracy=0.5, drawn={"items": 20, "of": 1327})
    lines = list(about_run(str(make_run(store / "runs" / "drawn", played)), None))
    assert lines[0].endswith("; accuracy 50.0% on 20 of 1,327 items")


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


def test_a_run_that_is_under_way_is_found_by_its_recipes_folder(recipe_folder: Path, no_server: Path) -> None:
    make_run(recipe_folder / "runs/mine", *STAGES)
    running = {**UNDER_WAY, "name": "calm-owl", "parameters": {"run_name": "mine"}}
    said = list(about_run(str(recipe_folder), server(Answers([Moment(tasks=[FIRST])], under_way=[running]))))
    assert said[-1] == f"http://127.0.0.1:4200/runs/flow-run/{RUN}"


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


def test_a_run_of_the_flow_benchmark_has_scores_instead_of_a_page(store: Path) -> None:
    make_run(
        store / "runs/measured", stage("benchmarks/ppe", "benchmark-data"), stage("benchmark-ppe", "benchmark-ppe")
    )
    done = gram_r2("open", "measured")
    assert done.code == 2
    assert "a run of the flow benchmark has no page; its scores: `gram-r2 status " in done.err.replace("\n", " ")
