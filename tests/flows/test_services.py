"""The record of background services: what is in it is stopped, and nothing else that has got its number."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.server.local import stop_services
from flows.server.processes import free_port
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
