"""Child processes for training and generation: they cannot outlive their parent, and their crashes become one clear error.

A child prints plain lines (they go to the run's log and to a file) and messages of its progress, which start with its own
mark and end their line. To some of these it waits for an answer, see `ask`. Errors go the same way as what is printed, so
that a message may follow the beginning of another line, such as a bar that is still growing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PARENT = "GRAM_R2_PARENT_PID"
MARK = "GRAM_R2_PROGRESS_MARK"
"""What a child's messages start with: it differs from child to child, so that no text that a model writes is taken for one."""
QUESTION = "question"
_GRACE_S = 5.0
_TAIL_LINES = 40


class ChildError(RuntimeError):
    """A child process that failed: what it was, how it ended, and its last lines of output."""


@dataclass(frozen=True)
class Command:
    """A child to start: ``python -m module arguments``, with variables added to its environment."""

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    label: str
    asks: bool = False
    """Whether it waits for answers, see `ask`."""


def _fail(label: str, error: ChildError) -> bool:
    raise error


def run_children(
    commands: Sequence[Command],
    log_file: Path,
    on_line: Callable[[str], None],
    on_progress: Callable[[str, dict[str, Any]], Any],
    on_failure: Callable[[str, ChildError], bool] = _fail,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Runs the commands in parallel and waits for all. The first that fails ends the others and raises ChildError.

    `on_line` gets every plain line, `on_progress` every message of progress with the label of its child, and returns the answer
    if the child asked. `on_failure` may return instead of raising its error: the others go on, and the failed child is started
    again if it returned True. Once `enough` is true, children that do not end by themselves within seconds are ended. Whatever
    ends this function early (an exception in a callback, a signal turned into one) ends the children first.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    # The parent-death signal is tied to the thread that starts the child: this thread stays here until all have ended.
    with log_file.open("a", encoding="utf-8") as log:
        outputs: list[_Output] = []
        try:
            outputs.extend(_start(command) for command in commands)
            for output in _pump(outputs, log, on_line, on_progress, enough):
                if (error := _failure(output, log.name)) is not None and on_failure(output.command.label, error):
                    outputs.append(_start(output.command))
        finally:
            _end([output.process for output in outputs])


def _start(command: Command) -> _Output:
    mark = f"\x1e{uuid.uuid4().hex} "
    # No new session or process group: cancelling the flow's process group ends the child too.
    process = subprocess.Popen(
        [sys.executable, "-m", command.module, *command.arguments],
        bufsize=0,
        stdin=subprocess.PIPE if command.asks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **command.environment, PARENT: str(os.getpid()), MARK: mark, "PYTHONUNBUFFERED": "1"},
    )
    return _Output(command, process, mark)


@dataclass
class _Output:
    """The output of one running child: its unfinished line, and its last finished ones."""

    command: Command
    process: subprocess.Popen[bytes]
    mark: str
    unfinished: bytes = b""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def read_lines(self) -> list[str] | None:
        """The lines that have arrived, or None at the end of the output."""
        data = os.read(self.fileno(), 1 << 16)
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        return [text for line in lines if (text := _text(line))] if data else None

    def last_line(self) -> list[str]:
        """The text after the last line break, at the end of the output."""
        text, self.unfinished = _text(self.unfinished), b""
        return [text] if text else []

    def answer(self, value: Any) -> None:
        """Answers the child's question."""
        assert self.process.stdin is not None, f"{self.command.label} asks, but its command does not say so"
        with contextlib.suppress(BrokenPipeError):  # it has died since
            self.process.stdin.write(json.dumps(value).encode() + b"\n")

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


def _text(line: bytes) -> str:
    text = line.decode("utf-8", errors="replace").rstrip("\r")
    return text if text.strip() else ""


def _pump(
    outputs: Sequence[_Output],
    log: IO[str],
    on_line: Callable[[str], None],
    on_progress: Callable[[str, dict[str, Any]], Any],
    enough: Callable[[], bool],
) -> Iterator[_Output]:
    """Passes on what the children say; yields each child that has ended. More children may be added to `outputs` meanwhile."""
    selector = selectors.DefaultSelector()
    closed: set[int] = set()
    deadline = float("inf")
    while running := [output for output in outputs if id(output) not in closed]:
        if enough():
            deadline = min(deadline, time.monotonic() + _GRACE_S)
        if time.monotonic() > deadline:
            return
        for output in running:
            if output.fileno() not in selector.get_map():
                selector.register(output.fileno(), selectors.EVENT_READ, output)
        ready = [key.data for key, _ in selector.select(timeout=1.0)]
        # A grandchild can hold the pipe open after the child has ended: an ended child with nothing to read is done.
        quiet = [key.data for key in selector.get_map().values() if key.data not in ready]
        ended = [output for output in quiet if output.process.poll() is not None]
        for output in [*ready, *ended]:
            lines = output.read_lines() if output in ready else None
            for line in output.last_line() if lines is None else lines:
                _pass_on(output, line, log, on_line, on_progress)
            if lines is None:
                selector.unregister(output.fileno())
                closed.add(id(output))
                yield output


def _pass_on(
    output: _Output,
    line: str,
    log: IO[str],
    on_line: Callable[[str], None],
    on_progress: Callable[[str, dict[str, Any]], Any],
) -> None:
    text, marked, message = line.partition(output.mark)
    if text.strip():
        log.write(text + "\n")
        log.flush()
        output.tail.append(text)
        on_line(f"[{output.command.label}] {text}")
    if marked:
        facts, end = json.JSONDecoder().raw_decode(message)
        answer = on_progress(output.command.label, facts)
        if QUESTION in facts:
            output.answer(answer)
        _pass_on(output, message[end:], log, on_line, on_progress)


def _failure(output: _Output, log: str) -> ChildError | None:
    """How an ended child failed; None if it did not."""
    code = output.process.wait()
    if code == 0:
        return None
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    tail = "\n".join(output.tail)
    return ChildError(f"{output.command.label} {how}{hint}. Its log: {log}. Its last lines:\n{tail}")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    running = [process for process in processes if process.poll() is None]
    with undisturbed() if running else contextlib.nullcontext():
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in running:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    for process in processes:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores SIGTERM while this process finishes a cleanup that must not be left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- inside the child -----------------------------------------------------------------------------------------------


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends, and exits at once if that has already happened."""
    parent = int(os.environ[PARENT])
    pr_set_pdeathsig = 1
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


def expect_many_objects() -> None:
    """Has the garbage collector look less often: it spends a second, of nine, on what vLLM's and TRL's imports leave for good."""
    gc.set_threshold(10_000, 50, 100)


def report_progress(**facts: Any) -> None:
    """Sends a message of its progress to the parent."""
    # In one piece: other threads may print too.
    print(f"{os.environ.get(MARK, '')}{json.dumps(facts)}\n", end="", flush=True)


def ask(question: str) -> Any:
    """Asks the parent, which must have started this process with `Command.asks`, and waits for its answer.

    For one thread at a time.
    """
    report_progress(**{QUESTION: question})
    answer = sys.stdin.readline()
    if not answer:
        raise ConnectionError("the parent process is gone")
    return json.loads(answer)


def peak_memory_mib() -> float:
    """The most memory that this process has held so far, or the largest of the processes that it has waited for."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    # Not its own ru_maxrss, which begins with the size of the process that started it.
    own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return round(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024, 1)
