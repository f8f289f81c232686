"""``gram-r2 ui``, ``up``, ``down``, ``deploy``, ``undeploy`` where there is no server, or only one that is named."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.cli.connection import Server, asking, connected_if_running, lost_service
from flows.cli.errors import command
from flows.cli.server import say_that_it_goes_on
from flows.server.processes import Services, bring_up
from tests.conftest import free_port
from tests.support.answering import Answers, Moment
from tests.support.commands import gram_r2


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"true" if self.path == "/api/health" else b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers that it is healthy."""
    with HTTPServer(("127.0.0.1", 0), _Healthy) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http.server_address[1]
        http.shutdown()


def test_a_named_server_that_does_not_answer_is_said_in_one_line(no_server: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        for words in (["up"], ["ui"]):
            done = gram_r2(*words)
            assert (done.code, done.err.count("\n")) == (2, 1)
            assert done.err.startswith(f"no Prefect server answers at PREFECT_API_URL = {url} (")
        assert gram_r2("status").out == f"no Prefect server answers at PREFECT_API_URL = {url}\n"
        done = gram_r2("undeploy", "self-train/mine")
        assert (done.code, done.err) == (2, f"no Prefect server answers at PREFECT_API_URL = {url}\n")


def test_the_ui_of_a_named_server_is_where_it_is(no_server: Path, port: int) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        done = gram_r2("ui")
    assert done.code == 0
    assert done.out.splitlines() == [f"the UI is at http://127.0.0.1:{port}", "it is the server of PREFECT_API_URL"]


def test_recorded_services_are_found_only_if_they_answer(no_server: Path, port: int) -> None:
    with connected_if_running() as server:
        assert server is None
    record = no_server / ".prefect/services.json"
    record.parent.mkdir()
    for recorded, there in ((free_port(), False), (port, True)):
        record.write_text(json.dumps({"port": recorded, "processes": {}}))
        with connected_if_running() as server:
            assert (server is not None) == there
    assert server is not None
    assert (server.ui, server.local) == (f"http://127.0.0.1:{port}", True)


def test_meanwhile_it_is_the_server_of_child_processes_too(no_server: Path, port: int) -> None:
    with asking(f"http://127.0.0.1:{port}/api") as ask:
        assert ask("/health") is True
        assert os.environ["PREFECT_API_URL"] == f"http://127.0.0.1:{port}/api" == PREFECT_API_URL.value()
    assert "PREFECT_API_URL" not in os.environ


def test_without_a_server_nothing_is_stopped_or_removed(no_server: Path) -> None:
    assert gram_r2("down").out == "no Prefect server runs on this machine\n"
    done = gram_r2("undeploy", "self-train/mine")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no Prefect server runs on this machine: set PREFECT_API_URL" in done.err


def test_a_server_that_outlives_the_command_that_started_it_is_said_so() -> None:
    said: list[str] = []
    server = Server("http://127.0.0.1:4200/api", "http://127.0.0.1:4200", Answers([Moment()]), local=True)
    say_that_it_goes_on(server, said.append)
    assert said == []
    say_that_it_goes_on(replace(server, started=True), said.append)
    assert "http://127.0.0.1:4200; `gram-r2 down` stops" in said[0]
    assert said[1].endswith("export PREFECT_API_URL=http://127.0.0.1:4200/api")


def test_what_a_new_server_got_is_said_if_wanted(tmp_path: Path) -> None:
    class Full(Services):
        def bring_up(self) -> str:
            return "work pool ctl: created\nleft out: mine.toml: wrong\n"

    for with_created, lines in ((False, 1), (True, 2)):
        said: list[str] = []
        bring_up(Full(tmp_path, 1, {}), said.append, with_created)
        assert said == ["work pool ctl: created", "left out: mine.toml: wrong"][-lines:]


def test_a_recipe_that_is_not_there_is_said_before_a_server_is_looked_for(no_server: Path) -> None:
    done = gram_r2("deploy", "demo", "nothing")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("there is no recipe 'nothing'")


def test_a_server_that_fails_for_long_is_said_in_one_line() -> None:
    request = httpx.Request("POST", "http://127.0.0.1:4200/api/deployments/")
    locked = httpx.HTTPStatusError(
        "Server error '503'\nMore", request=request, response=httpx.Response(503, request=request)
    )

    @command
    def fails() -> None:
        raise locked

    app = typer.Typer()
    app.command()(fails)
    done = CliRunner().invoke(app, [])
    assert (done.exit_code, done.stderr) == (1, "the server: Server error '503'\n")


def test_what_a_run_needs_and_has_died_is_named_with_its_log(tmp_path: Path) -> None:
    ended = psutil.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = psutil.Process()
    running = Services(tmp_path, 1, {}, {"server": alive, "worker": alive, "worker-short": ended})
    assert lost_service(running) is None
    running.processes["worker"] = ended
    said = lost_service(running)
    assert said is not None
    assert said.startswith(f"the Prefect worker of this machine has exited; its log is {tmp_path}/worker.log")
