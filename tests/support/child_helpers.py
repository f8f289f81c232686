"""Small programs that test_child.py starts as children: ``python -m tests.support.child_helpers WHAT …``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from tasks.label import vote_requests
from tasks.machine import child, gpus
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.requests import Skip


def say(*texts: str) -> None:
    """Lines, and progress of 1 of 2 and 2 of 2."""
    for text in texts:
        print(text, flush=True)
    child.report_progress(done=1, total=2)
    child.report_progress(done=2, total=2)


def ask() -> None:
    """Asks for numbers until there are no more."""
    while (told := child.ask("a number"))["number"] is not None:
        print(f"{told['asker']} has number {told['number']}", flush=True)


def ask_within_a_line() -> None:
    """Asks while a bar is growing, whose line no line break ends."""
    print("50%|███", end="", file=sys.stderr, flush=True)
    told = child.ask("a number")
    print(f" has number {told['number']}", flush=True)


def say_after_a_message() -> None:
    """Writes on after a message without beginning another line."""
    os.write(sys.stdout.fileno(), f'before{os.environ[child.MARK]}{{"done": 1}} after\n'.encode())


def repeat_a_mark() -> None:
    """Prints what looks like progress, as a model may that has read the log of a run."""
    print('\x1eprogress {"done": 9}')
    print('\x1e0123456789abcdef0123456789abcdef {"question": "a number"}')
    print("\x1e")


def fail_once(mark: str) -> None:
    """Fails, unless it has done so before."""
    if not Path(mark).exists():
        Path(mark).touch()
        sys.exit(3)
    print("lives", flush=True)


def fail(code: str, n_lines: str = "3") -> None:
    for i in range(int(n_lines)):
        print(f"line {i}")
    print("ValueError: what went wrong", file=sys.stderr, flush=True)
    sys.exit(int(code))


def deadly_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """Votes as `tasks.label` asks for them; a row whose id ends in "7" asks for what kills the engine's process."""
    made = vote_requests(row, params, encoder)
    if isinstance(made, Skip) or not str(row["id"]).endswith("7"):
        return made
    return [replace(request, prompt_ids=_Deadly(request.prompt_ids)) for request in made]


class _Deadly(tuple[int, ...]):
    """A prompt that ends the process as soon as the engine looks at it."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        os._exit(9)


def kill_itself(name: str) -> None:
    print("still here", flush=True)
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(60)


def wait(pid_file: str) -> None:
    """Says who it is and waits to be ended."""
    child.die_with_parent()
    Path(pid_file).write_text(str(os.getpid()))
    print("waiting", flush=True)
    time.sleep(60)


def wait_stubbornly(pid_file: str) -> None:
    """Like `wait`, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait(pid_file)


def parent(folder: str) -> None:
    """Runs a child that waits."""
    command = child.Command("tests.support.child_helpers", ["wait", f"{folder}/child.pid"], {}, "waiting")
    child.run_children([command], Path(folder) / "parent.log", lambda line: None, lambda label, facts: None)


def orphan() -> None:
    """Is told of a parent that is not its own."""
    os.environ["GRAM_R2_PARENT_PID"] = "1"
    child.die_with_parent()
    print("lives on", flush=True)


def hold_gpus(visible: str, wanted: str) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    locks = gpus.claim_gpus(int(wanted))
    print(f"has {os.environ['CUDA_VISIBLE_DEVICES']}", flush=True)
    sys.stdin.readline()
    for lock in locks:
        lock.close()


def leave_grandchild(pid_file: str, code: str, last: str) -> None:
    """Ends while a process of its own still holds its output; `last` is what it writes last, without a line break."""
    process = subprocess.Popen(["sleep", "60"])
    Path(pid_file).write_text(str(process.pid))
    print("the child ends", flush=True)
    print(last, end="", flush=True)
    sys.exit(int(code))


def hold_memory(own_mib: str, grandchilds_mib: str = "0") -> None:
    """Holds memory, and so does a process of its own that it waits for; reports the peak."""
    if int(grandchilds_mib):
        subprocess.run([sys.executable, "-c", f"held = bytearray({grandchilds_mib} << 20)"], check=True)
    held = bytearray(int(own_mib) << 20)
    child.report_progress(done=len(held), memory_mib=child.peak_memory_mib())


def odd_output() -> None:
    """A long line, bytes that are not UTF-8, a carriage return, blank lines, and no line break at the end."""
    sys.stdout.buffer.write(
        b"x" * 1_000_000 + "é".encode() + b"\n" + b"\xff\xfe broken\n\n  \n" + b"bar\r\n" + b"the end"
    )
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
