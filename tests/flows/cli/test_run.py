"""``gram-r2 run``: what is checked before anything starts, what is started with which parameters, how it ends."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from rich.console import Console

from flows.cli.connection import Say, Server, is_elsewhere
from flows.cli.errors import InputError
from flows.cli.given import GivenRun, recipe_with
from flows.cli.run import Actions, carry_on, refuse_what_cannot_run
from flows.config.recipes import ConfigError
from tasks.run.changes import REDO
from tests.conftest import ROOT
from tests.support.answering import RUN, Answers, Moment
from tests.support.commands import gram_r2


@dataclass
class Done:
    """What was done to the server."""

    deployed: list[tuple[str, Path]] = field(default_factory=list)
    started: list[tuple[str, Mapping[str, Any], str | None]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    @property
    def actions(self) -> Actions:
        return Actions(self.deploy, self.start, self.cancelled.append)

    def deploy(self, flow: str, path: Path, say: Say) -> str:
        self.deployed.append((flow, path))
        return f"{flow}/{path.stem}"

    def start(self, deployment: str, parameters: Mapping[str, Any], queue: str | None) -> str:
        self.started.append((deployment, parameters, queue))
        return RUN


def run(
    given: GivenRun, *moments: Moment, under_way: Sequence[Mapping[str, Any]] = (), detach: bool = False
) -> tuple[int, list[str], Done, Server]:
    """The exit code, the lines that were printed, what was done, and the server. The output is no terminal."""
    answers = Answers(moments or [Moment("COMPLETED")], under_way)
    server = Server("http://127.0.0.1:4200/api", "http://127.0.0.1:4200", answers, local=True, started=True)
    server.sleep = lambda seconds: None
    console, done = Console(file=io.StringIO(), record=True, width=300), Done()
    code = carry_on(given, server, done.actions, console, detach)
    return code, console.export_text().splitlines(), done, server


def test_a_users_recipe_is_registered_and_started_with_all_that_was_checked(recipe_folder: Path) -> None:
    given = recipe_with(
        str(recipe_folder), ["labels.votes=4", 'data.heldout=[{"path": "labeled.jsonl"}]'], run_name="n16"
    )
    code, said, done, server = run(given, Moment("COMPLETED", message="93.6% after 3 rounds"))
    assert code == 0
    assert done.deployed == [("self-train", recipe_folder / "mine.toml")]
    [(deployment, parameters, queue)] = done.started
    assert (deployment, queue) == ("self-train/mine", None)
    assert parameters["run_name"] == "n16"
    assert parameters["labels"]["votes"] == 4
    assert parameters["store"] == str(recipe_folder / "runs")
    assert parameters["data"]["heldout"][0]["path"] == str(recipe_folder / "labeled.jsonl"), "as if the recipe said it"
    assert said[0] == f"self-train/mine, run 'n16': http://127.0.0.1:4200/runs/flow-run/{RUN}"
    assert said[1] == "n16: Completed after 75.0 s: 93.6% after 3 rounds"
    assert said[2] == f"results: {recipe_folder}/runs/n16"
    assert not server.keep


def test_a_built_in_recipe_is_not_registered_again_and_its_paths_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the keys of stages, which must not depend on where the command is given."""
    monkeypatch.chdir(tmp_path)
    given = recipe_with("gram/demo", [])
    _, _, done, _ = run(given)
    assert done.deployed == []
    [(deployment, parameters, _)] = done.started
    assert deployment == "gram/demo"
    assert parameters["run_name"] == "gram-demo"
    assert parameters["models"]["judge_base"] == "data/world/base-judge"
    assert given.config.models.judge_base == f"{ROOT}/data/world/base-judge"  # type: ignore[attr-defined]


def test_a_dry_run_does_not_wait_behind_runs_of_days() -> None:
    _, said, done, _ = run(recipe_with("demo", [], dry_run=True))
    [(_, parameters, queue)] = done.started
    assert (parameters["dry_run"], queue) == (True, "short")
    assert said[-1].endswith("runs/demo/plan.json")
    refused = gram_r2("run", "benchmark/demo", "--dry-run")
    assert refused.code == 2
    assert refused.err.startswith("--dry-run: runs of benchmark cannot be planned; those of self-train, gram")


@pytest.mark.parametrize(("state", "code"), [("COMPLETED", 0), ("FAILED", 1), ("CRASHED", 1), ("CANCELLED", 1)])
def test_the_exit_code_is_the_runs(state: str, code: int) -> None:
    given = recipe_with("demo", [], run_name="other")
    ended, said, _, server = run(given, Moment(), Moment(state, message="no space left"))
    assert ended == code
    assert said[1] == f"other: {state.capitalize()} after 75.0 s: no space left"
    assert ("the same command goes on from there" in said[2]) == bool(code)
    assert not server.keep, "services that were started for it are stopped"


def test_a_refusal_is_not_overcome_by_the_same_command() -> None:
    refusal = f"StageError: the run 'demo' is finished:\n  round-1/votes: will redo\n{REDO} to replace these stages"
    code, said, _, _ = run(recipe_with("demo", []), Moment("FAILED", message=refusal))
    assert code == 1
    assert (
        said[-1]
        == "nothing was replaced: --on-change redo replaces these stages, another --name makes a run beside this one"
    )
    assert not any("the same command" in line for line in said)


def test_the_end_says_where_judge_and_report_are_and_what_to_do_next(
    recipe_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = recipe_folder / "runs/mine"
    (there / "final").mkdir(parents=True)
    (there / "report.html").touch()
    (there / "plan.json").touch()
    _, said, _, _ = run(recipe_with(str(recipe_folder), []))
    assert said[-4:] == [
        f"judge:   {there}/final",
        f"report:  {there}/report.html",
        f"next:    gram-r2 open {there}",
        f"         gram-r2 rank best-of-n IN.jsonl OUT.jsonl --judge {there}/final",
    ]
    monkeypatch.chdir(recipe_folder)
    _, said, _, _ = run(recipe_with(str(recipe_folder), []))
    assert said[-2:] == [
        "next:    gram-r2 open runs/mine",
        "         gram-r2 rank best-of-n IN.jsonl OUT.jsonl --judge runs/mine/final",
    ]


def test_a_detached_run_keeps_what_it_needs_and_says_how_to_look_and_stop() -> None:
    code, said, done, server = run(recipe_with("demo", []), detach=True)
    assert (code, server.keep, len(done.started)) == (0, True, 1)
    assert "`gram-r2 status demo`" in said[1]
    assert "`gram-r2 down`" in said[2]


def test_a_run_that_is_under_way_is_followed_instead_of_started_twice() -> None:
    given = recipe_with("demo", [])
    theirs = {"id": RUN, "name": "demo", "parameters": {**given.parameters, "on_change": "refuse"}, "state": {}}
    code, said, done, _ = run(given, under_way=[theirs])
    assert (code, done.started) == (0, [])
    assert said[0] == "the run 'demo' is under way already: following it"


def test_the_same_name_with_other_settings_is_refused_while_it_is_under_way() -> None:
    given = recipe_with("demo", ["labels.votes=4"])
    theirs = {"id": RUN, "name": "demo", "parameters": recipe_with("demo", []).parameters}
    with pytest.raises(InputError, match=r"under way with other settings \(labels\).*another --name"):
        run(given, under_way=[theirs])
    elsewhere = {**theirs, "parameters": {**theirs["parameters"], "store": "/other"}}
    assert len(run(given, under_way=[elsewhere])[2].started) == 1


def test_what_the_form_started_is_the_same_run_though_it_gave_fewer_parameters() -> None:
    given = recipe_with("demo", ["labels.votes=4"])
    few = {
        name: given.parameters[name]
        for name in ("models", "data", "proofs", "training", "generation", "rounds", "labels")
    }
    theirs = {"id": RUN, "name": "demo", "parameters": {**few, "overrides": {"labels.votes": 4}}}
    assert run(given, under_way=[theirs])[2].started == []


def test_only_looking_is_not_tried_again() -> None:
    """A server whose database is locked for a moment must not keep a run from being started or cancelled."""
    usual, tried = PREFECT_CLIENT_MAX_RETRIES.value(), {}
    given, answers = recipe_with("demo", []), Answers([Moment(), Moment("CANCELLED")])

    class Tried(Done):
        def start(self, deployment: str, parameters: Mapping[str, Any], queue: str | None) -> str:
            tried["start"] = PREFECT_CLIENT_MAX_RETRIES.value()
            return RUN

        @property
        def actions(self) -> Actions:
            def cancel(run_id: str) -> None:
                tried["cancel"] = PREFECT_CLIENT_MAX_RETRIES.value()

            return Actions(self.deploy, self.start, cancel)

    interrupts = iter([KeyboardInterrupt()])

    def sleep(seconds: float) -> None:
        tried["look"] = PREFECT_CLIENT_MAX_RETRIES.value()
        for interrupt in interrupts:
            raise interrupt

    server = Server("http://127.0.0.1:4200/api", "http://127.0.0.1:4200", answers, local=True, sleep=sleep)
    assert carry_on(given, server, Tried().actions, Console(file=io.StringIO()), detach=False) == 130
    assert tried == {"start": usual, "look": 0, "cancel": 3}
    assert usual > 0


# ---- before anything is started --------------------------------------------------------------------------------------------


def test_nothing_is_started_where_a_check_fails(recipe_folder: Path) -> None:
    """No server is there: the command ends before it looks for one."""
    (recipe_folder / "labeled.jsonl").unlink()
    done = gram_r2("run", str(recipe_folder))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("data.labeled.0: path")


def test_for_another_machine_only_settings_are_refused(recipe_folder: Path) -> None:
    (recipe_folder / "labeled.jsonl").unlink()
    said: list[str] = []
    refuse_what_cannot_run(recipe_with(str(recipe_folder), []), "http://gpu-1:4200/api", said.append)
    assert [line.partition(" the run: ")[2].split(":")[0] for line in said] == ["data.labeled.0"]
    wrong = recipe_with(str(recipe_folder), ["training.processes=3"])
    with pytest.raises(ConfigError, match=r"training\.judge: "):
        refuse_what_cannot_run(wrong, "http://gpu-1:4200/api", said.append)
    with pytest.raises(ConfigError, match=r"data\.labeled\.0"):
        refuse_what_cannot_run(recipe_with(str(recipe_folder), []), "http://127.0.0.1:4200/api", said.append)


def test_a_plan_is_checked_as_a_plan(recipe_folder: Path) -> None:
    (recipe_folder / "labeled.jsonl").unlink()
    refuse_what_cannot_run(recipe_with(str(recipe_folder), [], dry_run=True), None, print)


def test_which_servers_have_workers_elsewhere() -> None:
    assert not any(
        map(is_elsewhere, ("http://127.0.0.1:4200/api", "http://localhost:4200/api", "http://[::1]:4200/api"))
    )
    assert is_elsewhere("http://gpu-1:4200/api")
    assert is_elsewhere("https://api.prefect.cloud/api/accounts/a/workspaces/b")
