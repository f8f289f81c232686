"""Servers that the reward service starts by itself: their options, and that they are started again and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.machine.child import ChildError
from tasks.model.judging import JudgeQuery
from tasks.rank.opening import KnownJudge
from tasks.reward.local import LocalServers, server_options
from tasks.reward.servers import Servers
from tasks.settings import GenerationSettings

JUDGE = KnownJudge("runs/demo/final", "/models/judge", JudgeQuery("compact", 60, 128), "bfloat16")
LABELS = KnownJudge("runs/demo/final", "/models/judge", JudgeQuery("compact-label", 60, 128), "bfloat16")
HEALTHY = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): ...
if "alone" not in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def until(what: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)


def started(script: str, said: list[str], count: int = 1) -> LocalServers:
    command = (sys.executable, "-c", script)
    return LocalServers(JUDGE, GenerationSettings(), count, said.append, command=command, pauses_s=(0.1,))


def test_a_server_is_the_engine_that_a_judge_has_in_one_process() -> None:
    on_cpu = " ".join(server_options(JUDGE, GenerationSettings(), None, on_gpus=False))
    assert "/models/judge --served-model-name judge --dtype bfloat16 --max-model-len 128" in on_cpu
    assert "--enforce-eager --no-enable-chunked-prefill --max-num-batched-tokens 4096" in on_cpu
    assert "--kv-cache-memory-bytes 268435456" in on_cpu
    on_gpus = " ".join(server_options(JUDGE, GenerationSettings(tensor_parallel=2), "float32", on_gpus=True))
    assert "--dtype float32" in on_gpus
    assert "--tensor-parallel-size 2 --gpu-memory-utilization 0.9" in on_gpus
    assert "chunked" not in on_gpus
    assert "head_dtype" not in on_gpus
    assert '{"head_dtype": "float32"}' in server_options(LABELS, GenerationSettings(), None, on_gpus=True)


def test_a_server_that_is_killed_is_started_again_and_none_is_left_behind() -> None:
    said: list[str] = []

    async def scenario() -> None:
        local = started(HEALTHY, said)
        async with local.opened() as [server], Servers([server]).opened():
            await until(lambda: server.alive)
            [one] = local.running
            assert one.process is not None
            first = psutil.Process(one.process.pid)
            [helper] = first.children()
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: one.process is not None and one.process.pid != first.pid)
            assert said[1:] == ["vLLM's server 0 ended with exit code -9: starting it again in 0.1 s"]
            await until(lambda: server.alive)
            assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
            second = psutil.Process(one.process.pid)
            children = [second, *second.children()]
        assert not [left for left in children if left.is_running() and left.status() != psutil.STATUS_ZOMBIE]

    run(scenario())


def test_a_server_and_what_it_has_started_end_with_the_service(tmp_path: Path) -> None:
    """However that ends: here by kill −9."""
    server = f"""
import os, subprocess, sys, time
from tasks.reward.local import end_with_parent
end_with_parent()
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{helper.pid}}")
time.sleep(60)
"""
    how = "stdin=subprocess.PIPE, start_new_session=True"
    service = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {server!r}], {how}).wait()"
    running = subprocess.Popen([sys.executable, "-c", service])

    async def scenario() -> None:
        await until(lambda: (tmp_path / "pids").is_file() and (tmp_path / "pids").read_text())
        both = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
        running.kill()
        running.wait()
        await until(lambda: not [one for one in both if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])

    run(scenario())


def test_a_server_that_never_comes_up_says_why() -> None:
    local = started("import sys; print('no such model'); sys.exit(3)", [])

    async def come_up() -> None:
        async with local.opened():
            while True:
                local.check_start()
                await asyncio.sleep(0.05)

    with pytest.raises(ChildError, match=r"server 0 ended with exit code 3\. Its last lines:\nno such model"):
        run(come_up())


def test_a_server_that_waits_for_a_gpu_says_so_and_who_holds_it() -> None:
    """Where the user sees it: the output of a server is in a temporary folder."""
    said: list[str] = []
    waits = "import time; print('a warning\\nwaiting for GPU 0, held by process 7', flush=True); time.sleep(60)"

    async def scenario() -> None:
        async with started(waits, said).opened():
            await until(lambda: len(said) > 1)
            await asyncio.sleep(1.1)

    run(scenario())
    assert said[1:] == ["vLLM's server 0 is waiting for GPU 0, held by process 7; it starts when that has ended"]
