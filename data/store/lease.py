"""Who is working on a run: a lease in the store, renewed while its holder is alive, so that only one process writes a run.

The parts of a run that several machines share out among themselves are leased in the same way, see `tasks.generation.claims`.

The file, next to the run's stages::

    {"token": "5f…", "host": "gpu-3", "pid": 4711, "since": "2026-10-01 09:30:00", "renewed": 1790847000.2, "ttl_s": 60,
     "process": "…"}

It is taken over at once if its process on this machine is dead, and after `ttl_s` without renewal if its machine is gone;
the clocks of machines that share a store must agree to within a few seconds. A holder that was presumed dead (its machine
slept) finds another token in the file and stops before it commits anything.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import psutil

from data.files import StoreError, write_text
from data.store.remote import AWAY_S, Remote

TTL_S = AWAY_S
_RENEWALS = 4
"""Renewals within the time to live: some may fail before the lease is lost."""
_SETTLE_S = 1.0


class LeaseError(StoreError):
    """A run that another process is working on, or that was taken over from this process."""


@dataclass(frozen=True)
class Holder:
    """The process that holds the lease, as recorded in the file."""

    token: str
    host: str
    pid: int
    since: str
    renewed: float
    ttl_s: float
    process: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def gone(self) -> str | None:
        """Why this holder counts as gone, or None if it must be assumed alive."""
        if self.process == _process(self.pid):
            return None
        if self.process.split("/")[0] == _machine():
            return "its process is dead"
        silent = time.time() - self.renewed
        return f"it has not renewed its lease for {silent:.0f} s" if silent > self.ttl_s else None


_UNREADABLE = Holder("", "an unknown machine", 0, "an unknown time", 0.0, 0.0, "unreadable")


class LeaseFile(Protocol):
    """Where a lease is written; each operation is atomic."""

    def read(self) -> bytes | None: ...

    def create(self, content: bytes) -> bool:
        """Writes it if there is none yet, and returns whether it did."""
        ...

    def write(self, content: bytes) -> None: ...

    def remove(self) -> None: ...


@dataclass(frozen=True)
class LocalFile:
    """A lease in an existing folder on this machine, or in one that several machines share."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def create(self, content: bytes) -> bool:
        # An existing file is always complete: it is written under another name and linked, which fails if there is one.
        temporary = self.path.with_name(f".{uuid.uuid4().hex}.tmp")
        temporary.write_bytes(content)
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return (
                self.read() == content
            )  # over NFS, a link that was made although the answer was lost is asked for again
        except OSError:  # a file system without hard links
            return self._create_in_place(content)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _create_in_place(self, content: bytes) -> bool:
        """Creates the file before its content, which others wait for, see `Lease`."""
        try:
            with self.path.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            return False
        return self.read() == content  # who has waited in vain has replaced it

    def write(self, content: bytes) -> None:
        write_text(self.path, content.decode())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFile:
    """A lease in a store at a URL."""

    remote: Remote
    name: str

    def __str__(self) -> str:
        return f"{self.remote.url}/{self.name}"

    def read(self) -> bytes | None:
        return self.remote.read(self.name)

    def create(self, content: bytes) -> bool:
        return self.remote.write(self.name, content, new=True)

    def write(self, content: bytes) -> None:
        self.remote.write(self.name, content)

    def remove(self) -> None:
        self.remote.remove([self.name])


class Lease:
    """The right to write to one run, or to a part of one, held until `release` or the end of this process."""

    def __init__(
        self, file: LeaseFile, what: str, ttl_s: float = TTL_S, say: Callable[[str], None] | None = None
    ) -> None:
        """Takes the lease on `what`. Raises LeaseError, naming the holder, if another process has it."""
        self.file, self.what, self.ttl_s = file, what, ttl_s
        self.say = say or logging.getLogger("gram_r2").warning
        if isinstance(file, RemoteFile):
            file.remote.say = self.say  # also of what is read and written by its holder
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self.holder = Holder(
            uuid.uuid4().hex, socket.gethostname(), os.getpid(), since, time.time(), ttl_s, _process(os.getpid())
        )
        self._lost: str | None = None
        self._ended = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseError if this process no longer holds the lease. Reads the file: call it before a commit."""
        found = self._read()
        if self._lost is None and (found is None or found.token != self.holder.token):
            self._lost = f"it is held by {found}" if found else f"{self.file} is gone"
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Like `check`, but based on the last renewal: call it as often as you like."""
        if self._lost is not None:
            raise LeaseError(f"{self.what} was taken over from this process: {self._lost}")

    def release(self) -> None:
        """Releases the lease if it is still held."""
        self._ended.set()
        self._thread.join()
        found = self._read()
        if found is not None and found.token == self.holder.token:
            self.file.remove()

    def _take(self) -> None:
        while not self.file.create(self._content()):
            found = self._read()
            if found == _UNREADABLE:
                time.sleep(_SETTLE_S)  # it may be about to be written
                found = self._read()
            if found is None:
                continue  # released in the meantime
            gone = found.gone()
            if gone is None:
                raise LeaseError(
                    f"{self.what} is being worked on by {found}: wait for it, cancel it, or use another run_name"
                )
            self.say(f"taking over {self.what} from {found}: {gone}")
            self.file.write(self._content())
            time.sleep(_SETTLE_S)  # another process may have done the same: the last one to write has it
            found = self._read()
            if found is not None and found.token == self.holder.token:
                return

    def _keep(self) -> None:
        heard = time.monotonic()
        while not self._ended.wait(self.ttl_s / _RENEWALS):
            try:
                self.check()
                self.file.write(self._content())
                heard = time.monotonic()
            except LeaseError as error:
                self.say(str(error))
                return
            except Exception as error:  # the store is unavailable for a while; what it raises depends on its type
                if time.monotonic() - heard > self.ttl_s:
                    self._lost = f"it could not be renewed for {self.ttl_s:.0f} s ({error})"
                    return

    def _content(self) -> bytes:
        return json.dumps({**asdict(self.holder), "renewed": time.time()}).encode()

    def _read(self) -> Holder | None:
        content = self.file.read()
        if content is None:
            return None
        try:
            return Holder(**json.loads(content))
        except (ValueError, TypeError):  # a machine lost power while writing
            return _UNREADABLE


def _machine() -> str:
    """Identifies this machine, its current boot, and this PID namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time()}"


def _started(process: psutil.Process) -> str:
    """When a process started, on a clock that nobody can set: ticks since the machine was booted."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[19]
    except OSError:  # not Linux
        return str(process.create_time())


def _process(pid: int) -> str:
    """Identifies a running process, even against a later one with the same PID. Empty if there is none."""
    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return "" if dead else f"{_machine()}/{pid}/{_started(process)}"
    except psutil.NoSuchProcess:
        return ""
