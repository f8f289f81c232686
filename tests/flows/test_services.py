"""The record of background services: what is in it is stopped, and nothing else that has got its number."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.server import local
from flows.server.local import in_use, release, stop_services
from flows.server.processes import Services, environment_of, free_port, wait_for_server
from tests.conftest import until

FAMILY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).wait()"


@pytest.fixture
def family() -> Iterator[psutil.Process]:
    """A process in a group of its own, as a service is, with a child."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True) as started:
        process = psutil.Process(started.pid)
        until(process.children, 20)
        yield process
        for one in [*process.children(), process] if process.is_running() else []:
            one.kill()


def record(home: Path, process: psutil.Process, off_s: float = 0) -> Path:
    known = {"pid": process.pid, "started": process.create_time() - off_s}
    (home / "services.json").write_text(json.dumps({"port": 1, "processes": {"server": known}}))
    return home / "services.json"


def test_what_is_recorded_is_stopped_with_its_children(family: psutil.Process, tmp_path: Path) -> None:
    file, [child] = record(tmp_path, family), family.children()
    assert stop_services(tmp_path)
    assert not family.is_running()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
    assert not file.exists()
    assert not stop_services(tmp_path)


def test_a_process_that_has_taken_over_a_number_is_left_alone(family: psutil.Process, tmp_path: Path) -> None:
    file = record(tmp_path, family, off_s=60)
    assert not stop_services(tmp_path)
    assert family.is_running()
    assert not file.exists()


def test_a_record_of_what_has_ended_is_no_obstacle(tmp_path: Path) -> None:
    with psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        record(tmp_path, ended)
    assert not stop_services(tmp_path)
    assert not stop_services(tmp_path / "never")


def test_a_server_gets_the_port_that_it_had(tmp_path: Path) -> None:
    """Workers that have outlived it look for it there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


# ---- several commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("under_way", [[], ["self-train/demo"]])
@pytest.mark.parametrize("used", [False, True])
def test_services_that_someone_uses_are_not_stopped(
    under_way: list[str], used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    stopped: list[Path] = []
    monkeypatch.setattr(local, "under_way", lambda: list(under_way))
    monkeypatch.setattr(local, "stop_services", stopped.append)
    with in_use(tmp_path) as users, contextlib.ExitStack() as others:
        if used:
            others.enter_context(in_use(tmp_path))
        release(Services(tmp_path, 1, environment_of(tmp_path, 1)), users, said.append)
    kept_for = [*(["another command"] if used else []), *under_way]
    assert stopped == ([] if kept_for else [tmp_path])
    [line] = said
    assert (f"go on, for {', '.join(kept_for)};" in line) is bool(kept_for)


def test_a_command_that_begins_while_services_are_stopped_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()

    def begin() -> None:
        with in_use(tmp_path):
            began.set()

    thread = threading.Thread(target=begin)

    def stop(home: Path) -> None:
        thread.start()
        assert not began.wait(0.3)

    monkeypatch.setattr(local, "under_way", lambda: [])
    monkeypatch.setattr(local, "stop_services", stop)
    with in_use(tmp_path) as users:
        release(Services(tmp_path, 1, environment_of(tmp_path, 1)), users, lambda line: None)
    thread.join(20)
    assert began.is_set()


# ---- a server that does not start -------------------------------------------------------------------------------------

ANSWERS = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", PORT), Health).serve_forever()
"""


def test_another_programs_answer_at_the_port_is_not_the_servers(tmp_path: Path) -> None:
    port = free_port(0)
    (tmp_path / "server.log").write_text("Starting\nPort is already in use.\n\n")
    with (
        psutil.Popen([sys.executable, "-c", ANSWERS.replace("PORT", str(port))]) as other,
        psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server,
    ):
        started = Services(tmp_path, port, {}, {"server": other})
        wait_for_server(started)
        started.processes["server"] = server
        threading.Timer(1.5, server.kill).start()
        with pytest.raises(RuntimeError, match=r"did not start: Port is already in use\.; its log is "):
            wait_for_server(started)
        other.kill()
