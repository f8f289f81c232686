"""VLLM's servers on this machine, started for the service: one for each GPU, or one on the CPU.

Each is a process of its own that holds its GPUs, ends with this one, and is started again when it ends by itself.
``python -m tasks.reward.local TENSOR_PARALLEL OPTIONS…`` is such a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.machine import child
from tasks.machine.gpus import claim_gpus, visible_gpus
from tasks.model.device import engine_environment, resolved_dtype
from tasks.rank.opening import KnownJudge
from tasks.reward.servers import Server
from tasks.settings import GenerationSettings

MODEL = "judge"
_KEY = "VLLM_API_KEY"
_CPU_BATCH_TOKENS, _CPU_CACHE_MIB = 4096, 256
_TAIL_BYTES = 4000
_END_S, _LOOK_S = 10.0, 0.5
_WAITING = re.compile(r"^(waiting for .*)\n", re.MULTILINE)
_PAUSES_S = (1.0, 5.0, 30.0)
"""Before the first, second and any further start in a row of a server that ends before it has answered."""


def server_options(judge: KnownJudge, generation: GenerationSettings, dtype: str | None, on_gpus: bool) -> list[str]:
    """The options of vLLM's server that make it the engine of `tasks.model.vllm.VLLMEngine` for this judge."""
    resolved = resolved_dtype(dtype or judge.dtype)
    options = ["--model", judge.folder, "--served-model-name", MODEL, "--dtype", resolved]
    options += ["--max-model-len", str(judge.query.context), "--seed", "0", "--disable-uvicorn-access-log"]
    options += ["--tensor-parallel-size", str(generation.tensor_parallel)]
    cache_mib = generation.kv_cache_mib or (None if on_gpus else _CPU_CACHE_MIB)
    if cache_mib is not None:
        options += ["--kv-cache-memory-bytes", str(cache_mib << 20)]
    if on_gpus:
        options += ["--gpu-memory-utilization", str(generation.gpu_memory_share)]
        options += ["--enforce-eager"] if generation.enforce_eager else []
    else:  # as in VLLMEngine: prompts are prefilled whole
        whole = max(judge.query.context, _CPU_BATCH_TOKENS)
        options += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", str(whole)]
    if judge.query.by_label and resolved != "float32":
        options += ["--hf-overrides", json.dumps({"head_dtype": "float32"})]
    return options


@dataclass(eq=False)
class LocalServer:
    """A server's process. Its output is in `log`."""

    number: int
    command: Sequence[str]
    server: Server
    log: Path
    process: subprocess.Popen[bytes] | None = None
    failed: int = 0
    ended: int | None = None
    restart_at: float | None = None
    begun_at: int = 0
    """Where the output of the present process begins in the log."""
    told: bool = False

    def start(self) -> None:
        """Starts the process; it ends with this one."""
        self._close()
        host, port = self.server.url.removeprefix("http://").split(":")
        # A server's engine is a process of its own anyway. Without vLLM's multiprocessing, there is one less on a CPU.
        environment = engine_environment(bool(visible_gpus()))
        with self.log.open("ab") as log:
            self.begun_at, self.told = log.tell(), False
            self.process = subprocess.Popen(
                [*self.command, "--host", host, "--port", port],
                stdin=subprocess.PIPE,  # its end tells the process that this one has ended
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C is for the service, which ends the server and what that has started.
                start_new_session=True,
                env={**os.environ, **environment, _KEY: self.server.key},
            )
        self.restart_at = None

    def _close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal to the process and all that it has started, which may outlive it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def finish(self, deadline: float) -> None:
        """Waits until the process has ended, and kills at the deadline what is left of it."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        self.end(signal.SIGKILL)
        self.process.wait()
        self._close()

    def waiting(self) -> str | None:
        """What the process says that it waits for before it loads the model, as `claim_gpus` does; None if told before."""
        if self.told:
            return None
        with self.log.open("rb") as log:
            log.seek(self.begun_at)
            found = _WAITING.search(log.read(_TAIL_BYTES).decode("utf-8", errors="replace"))
        self.told = found is not None
        return found[1] if found else None

    def last_lines(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", errors="replace")


@dataclass(eq=False)
class LocalServers:
    """Servers that are started with `opened`, and started again when one of them ends."""

    judge: KnownJudge
    generation: GenerationSettings
    count: int
    say: Callable[[str], None]
    dtype: str | None = None
    command: Sequence[str] = (sys.executable, "-m", "tasks.reward.local")
    pauses_s: Sequence[float] = _PAUSES_S
    running: list[LocalServer] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[list[Server]]:
        """Starts the servers; at the end of the block they are ended. They are not ready yet."""
        options = server_options(self.judge, self.generation, self.dtype, bool(visible_gpus()))
        command = [*self.command, str(self.generation.tensor_parallel), *options]
        with tempfile.TemporaryDirectory(prefix="gram-r2-servers-") as logs:
            self.say(f"starting {self.count} of vLLM's servers with {self.judge.folder}; their output is in {logs}")
            for number in range(self.count):
                server = Server(f"http://127.0.0.1:{_free_port()}", key=secrets.token_hex(16), model=MODEL)
                log = Path(logs) / f"server-{number}.log"
                self.running.append(LocalServer(number, command, server, log))
            keeping: asyncio.Task[None] | None = None
            try:
                for one in self.running:
                    one.start()
                keeping = asyncio.create_task(self._keep_up())
                yield [one.server for one in self.running]
            finally:
                if keeping is not None:
                    keeping.cancel()
                self._end()

    def check_start(self) -> None:
        """Raises ChildError if a server has ended before it has ever answered: it would do so again."""
        for one in self.running:
            if one.failed and not one.server.alive:
                raise child.ChildError(
                    f"vLLM's server {one.number} ended with exit code {one.ended}. Its last lines:\n{one.last_lines()}"
                )

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            for one in self.running:
                self._keep_one_up(one)

    def _keep_one_up(self, one: LocalServer) -> None:
        if one.server.alive:
            one.failed = 0
        code = one.exit_code
        if code is None:
            if not one.server.alive and (waiting := one.waiting()):
                self.say(f"vLLM's server {one.number} is {waiting}; it starts when that has ended")
            return
        if one.restart_at is None:
            one.end(signal.SIGKILL)
            one.ended = code
            pause = self.pauses_s[min(one.failed, len(self.pauses_s) - 1)]
            one.failed, one.restart_at = one.failed + 1, time.monotonic() + pause
            self.say(f"vLLM's server {one.number} ended with exit code {code}: starting it again in {pause:g} s")
        elif time.monotonic() >= one.restart_at:
            one.start()

    def _end(self) -> None:
        for one in self.running:
            one.end()
        deadline = time.monotonic() + _END_S
        for one in self.running:
            one.finish(deadline)


def default_count(generation: GenerationSettings) -> int:
    """One server for each GPU, or for as many as one model needs; one on a machine without."""
    gpus = visible_gpus()
    return max(1, len(gpus) // generation.tensor_parallel) if gpus else 1


def _free_port() -> int:
    """A port of the loopback that nothing listens on, and that the system hands to no outgoing connection."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(20_000, 32_768)))
            return int(probe.getsockname()[1])


def end_with_parent() -> None:
    """Has this process, and all that it starts, end when its standard input does, which its parent holds open.

    A parent-death signal is not enough: vLLM's engine is a process of the server's, and outlives it when it is killed.
    """
    if os.fork() == 0:
        os.read(0, 1)
        os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Runs vLLM's server in this process, on GPUs that no other process of the user's holds."""
    end_with_parent()
    locks = claim_gpus(int(sys.argv[1]))
    sys.argv = ["vllm", *sys.argv[2:]]
    # Not the command `vllm`, which asks for the version of a package of that name: that of the CPU build has another.
    from vllm.entrypoints.launchers.api_server.entry import main as serve_model

    serve_model()
    del locks


if __name__ == "__main__":
    main()
