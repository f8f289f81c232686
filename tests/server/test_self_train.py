"""The main job end to end: a real Prefect server and worker, real vLLM, the small world; short settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from data.files import read_jsonl
from flows.cli.connection import asking
from flows.cli.reading import FlowRun
from flows.cli.screen import accuracies, told
from flows.server.processes import Services
from tests.chaos.disturb import chaos
from tests.chaos.faults import QUICK
from tests.chaos.subject import Subject, manifests, state_of_run
from tests.conftest import SECRET, until
from tests.support.devtools import tab
from tests.support.following import state_of
from tests.support.patient import send

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine, pytest.mark.train]


@pytest.fixture
def parameters(undisturbed: Subject) -> dict[str, Any]:
    """The short run's parameters, with its store."""
    return undisturbed.job


def sent_by_form(services: Services, name: str, parameters: dict[str, Any]) -> str:
    """Starts self-train/demo as the UI's form does, with this in the field for the run's name; returns the flow run's id."""
    deployment = httpx.get(f"{services.ui}/api/deployments/name/self-train/demo").json()["id"]
    told = {"name": name, "parameters": parameters}
    answer = send("POST", f"{services.ui}/api/deployments/{deployment}/create_flow_run", told)
    return str(answer.json()["id"])


def test_a_short_run_goes_through_and_shows_itself(services: Services, undisturbed: Subject) -> None:
    run, flow_run = undisturbed.folder, undisturbed.flow_run
    lines = list(read_jsonl(run / "metrics.jsonl"))
    assert len({line["name"] for line in lines}) == len(lines)
    benchmarks = [line for line in lines if line["stage"] == "benchmark"]
    assert [line["round"] for line in benchmarks] == [0, 1, 2]
    for line in benchmarks:
        games = list(read_jsonl(run / f"round-{line['round']}" / "benchmark" / "games.jsonl"))
        assert len(games) == 60
        better = {"chosen_first": "A", "rejected_first": "B"}
        right = sum(game["verdict"] == better[game["order"]] for game in games)
        assert line["accuracy"] == pytest.approx(right / 60)
    assert {"config.json", "model.safetensors", "prompt.json", "README.md"} <= {
        p.name for p in (run / "final").iterdir()
    }
    assert not (run / ".encoded").exists(), "no training needs the encoded examples any more"
    report = (run / "report.html").read_text()
    assert "<svg" in report
    assert "Planned and actual" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
    found = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    artifacts = [artifact for artifact in found if artifact["type"]]  # Prefect's own note of the result has none
    shown = {artifact["key"]: artifact["type"] for artifact in artifacts}
    assert len(artifacts) == len(shown), "each is replaced by the next, and progress is removed"
    assert shown == {"short-summary": "markdown", "short-rounds": "table", "short-benchmarks": "table"}
    [summary] = [artifact["data"] for artifact in artifacts if artifact["key"] == "short-summary"]
    assert "## Result\n" in summary
    said = state_of(services, flow_run)
    assert said.endswith(f"; judge in {run}/final")
    assert said.startswith(f"{manifests(run)['final'].metrics['accuracy']:.1%} ")


def test_its_summary_and_table_fit_the_ui_at_1400_and_800_pixels(
    services: Services, undisturbed: Subject, tmp_path: Path
) -> None:
    of_run = {"artifacts": {"flow_run_id": {"any_": [undisturbed.flow_run]}}, "limit": 200}
    artifacts = {one["key"]: one["id"] for one in httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()}
    sizes = "(e => [e.scrollWidth, e.clientWidth])"
    with tab(tmp_path) as page:
        for key, shown in (("short-summary", "What to do next"), ("short-rounds", "held-out accuracy")):
            for width in (1400, 800):
                page.go(
                    f"{services.ui}/artifacts/artifact/{artifacts[key]}",
                    f"document.body.innerText.includes({shown!r})",
                    width,
                )
                wide = page.run(
                    f"[document.documentElement, ...document.querySelectorAll('table, pre, img')].map({sizes})"
                )
                assert len(wide) > 1
                assert all(whole <= seen + 1 for whole, seen in wide), f"{key} in {width} px: {wide}"
                tables = "[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right)"
                assert all(right <= width for right in page.run(tables))


def test_its_log_is_a_story_of_a_line_a_stage(services: Services, undisturbed: Subject) -> None:
    """What engines and trainers print is in the run folder. The demo has 56 stages, and 81 lines at most."""
    of_run = {"logs": {"flow_run_id": {"any_": [undisturbed.flow_run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    lines = [line["message"] for line in httpx.post(f"{services.ui}/api/logs/filter", json=of_run).json()]
    stages = manifests(undisturbed.folder)
    assert [sum(line.startswith(f"{name}: ") for line in lines) for name in stages] == [1] * len(stages)
    assert len(lines) <= len(stages) + 25, lines
    assert not [line for line in lines if line.startswith("[")]
    assert any(line.startswith("round 1 has ended: ") for line in lines)
    assert "step 10 of" in (undisturbed.folder / "logs/prover.log").read_text()


def test_a_terminal_shows_what_the_server_knows_of_a_run(services: Services, undisturbed: Subject) -> None:
    """The answers of a real server, in place of those that tests/support/answering.py makes up."""
    with asking(services.environment["PREFECT_API_URL"]) as ask:
        look = FlowRun(ask, undisturbed.flow_run).look()
    assert (look.name, look.type, look.rounds, look.pool) == ("short", "COMPLETED", 1, "ctl")
    assert [stage.name for stage in look.stages][:2] == ["data", "benchmarks/held-out"]
    assert {stage.name for stage in look.stages} == manifests(undisturbed.folder).keys()
    assert all(stage.said and stage.type == "COMPLETED" for stage in look.stages)
    assert list(accuracies(look.stages, look.rounds)) == ["round 0", "round 1", "final"]
    assert any(line.text.startswith("round-1/benchmark: done in") for line in told(look.lines))
    assert look.seconds > 0


def test_no_secret_of_the_environment_is_written_anywhere_and_nothing_is_pickled(
    services: Services, parameters: dict[str, Any]
) -> None:
    """Looks through the run folder, and all that server and worker have kept of it: logs, database, artifacts.

    Some of the secrets are in the worker's environment, one comes from a secret block: see `conftest.services`.
    """
    run = Path(parameters["store"]) / "short"
    for folder in (run, services.home):
        for path in folder.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), f"{path} holds a secret"
    pickles = [path for path in run.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle")]
    assert pickles == []


def test_a_dry_run_only_plans(services: Services, parameters: dict[str, Any], tmp_path: Path) -> None:
    told = {**parameters, "store": str(tmp_path), "run_name": "", "dry_run": True}
    flow_run = sent_by_form(services, "dry", told)
    until(lambda: state_of_run(services, flow_run) == "COMPLETED")
    assert [path.name for path in (tmp_path / "dry").rglob("*")] == ["plan.json"]
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
    artifacts = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    [shown] = [artifact for artifact in artifacts if artifact["type"] == "markdown"]
    assert shown["key"] == "dry-plan"
    assert "| round-1/votes |" in shown["data"]
    of_run = {"flow_runs": {"id": {"any_": [flow_run]}}}
    assert httpx.post(f"{services.ui}/api/task_runs/filter", json=of_run).json() == []


def test_a_server_that_knows_nothing_of_the_run_and_a_retry_find_all_that_is_done(
    services: Services, undisturbed: Subject, tmp_path: Path
) -> None:
    """The run is removed from the server; its flow is killed as it starts, and retried as the UI's button does."""
    before = manifests(undisturbed.folder)
    send("DELETE", f"{services.ui}/api/flow_runs/{undisturbed.flow_run}")
    of_name = {"flow_runs": {"name": {"any_": ["short"]}}}
    assert httpx.post(f"{services.ui}/api/flow_runs/filter", json=of_name).json() == []

    subject = Subject(services, tmp_path, "short")
    subject.job = undisturbed.job
    subject.start()
    until(subject.flow)
    process = subject.flow()
    assert process is not None
    process.kill()
    until(lambda: subject.state() == "CRASHED")
    subject.retry()
    until(lambda: subject.state() == "COMPLETED")
    of_run = {"flow_runs": {"id": {"any_": [subject.flow_run]}}}
    stages = httpx.post(f"{services.ui}/api/task_runs/filter", json=of_run).json()
    assert {stage["name"] for stage in stages} == before.keys()
    assert {stage["state"]["name"] for stage in stages} == {"Reused"}
    assert manifests(undisturbed.folder) == before


def test_wrong_values_are_refused_before_anything_starts(services: Services, parameters: dict[str, Any]) -> None:
    """By the form; and by the run, for what only its own rules or the models' folders tell to be wrong, its name included."""
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        sent_by_form(services, "wrong", {**parameters, "labels": {"votes": 3}})
    too_long = {**parameters["overrides"], "models.max_tokens": 513}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("a name", {"run_name": ""}, "run_name: run name 'a name': use 1 to 100 letters"),
        ("wrong", {"overrides": too_long}, "models.max_tokens = 513 is more than models.judge_base"),
    ]
    for name, changed, message in wrong:
        flow_run = sent_by_form(services, name, {**parameters, "run_name": "wrong", **changed})
        until(lambda flow_run=flow_run: state_of_run(services, flow_run) == "FAILED")
        assert message in state_of(services, flow_run)
    assert not (Path(parameters["store"]) / "wrong").exists()


@pytest.mark.chaos
def test_five_kills_lose_nothing_and_do_nothing_twice(services: Services, undisturbed: Subject, tmp_path: Path) -> None:
    """One of each quick kind, in a run without the last training; `make chaos` strikes with all kinds, as often as it is told.

    That a resumed run's results are those of an undisturbed one is in tests/tasks/test_interrupted_run.py.
    """
    kills = chaos(services, tmp_path, QUICK, seed=1, undisturbed=undisturbed, changes={"training.final": None})
    assert sorted(kill.fault for kill in kills) == sorted(QUICK)
    for kill in kills:
        assert kill.checked is not None
        assert kill.checked.is_sound(), kill
