"""One training on several machines: on each, torch's elastic launcher starts its processes and connects them with the others'.

They meet at the first machine. Once the examples are encoded, it writes where, to ``scratch.tmp/rendezvous.json``::

    {"attempt": 2, "host": "10.0.0.4", "port": 41733, "processes": 8}

A process that fails, or a machine that is lost, ends all processes of the training; the run that waits for it starts them
again, and they go on from the last checkpoint. Where a machine vanishes and the others notice nothing, torch's launcher starts
their processes again when its replacement has come.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from data.files import write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.machine.gpus import claim_gpus
from tasks.training.job import RESULT, TrainingJob

RENDEZVOUS = "rendezvous.json"
_JOIN_S = 3600
"""How long a machine waits for the others: a worker of theirs may be busy, or a lost machine be found out only in minutes."""
_LOOK_EVERY_S = 1.0
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Rendezvous:
    """Where the machines of a training meet, and how many processes each is to have."""

    attempt: int
    host: str
    port: int
    processes: int

    @classmethod
    def read(cls, path: Path) -> Rendezvous | None:
        """What the first machine wrote last; None if it has not yet."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None

    @classmethod
    def announce(cls, path: Path, processes: int) -> Rendezvous:
        """Writes down a new one, at a free port of this machine."""
        before = cls.read(path)
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        made = cls(before.attempt + 1 if before else 1, address(), port, processes)
        write_json(path, asdict(made))
        return made

    def is_open(self) -> bool:
        """Whether the first machine is there: it may have been lost since it wrote this."""
        try:
            with socket.create_connection((self.host, self.port), timeout=_ANSWER_S):
                return True
        except OSError:
            return False


def address() -> str:
    """This machine's address for the others: of the network interface that NCCL or gloo is to use, else of its default route."""
    interfaces = psutil.net_if_addrs()
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        for one in interfaces.get(os.environ.get(variable, ""), []):
            if one.family == socket.AF_INET:
                return str(one.address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # any address outside; nothing is sent
        except OSError:
            return socket.getfqdn()
        return str(probe.getsockname()[0])


def train_on_node(job: TrainingJob, job_file: Path, processes: int) -> None:
    """Trains in `processes` processes of this machine, together with the other machines; returns when the result is written.

    Raises ChildError if a process fails, or if others could not be met.
    """
    path = Path(job.out) / SCRATCH / RENDEZVOUS
    locks: list[IO[str]] = []
    if job.node == 0:
        locks = claim_gpus(processes)
        _launch(job, job_file, Rendezvous.announce(path, processes))
        return
    while (met := open_rendezvous(path, Path(job.out) / RESULT)) is not None:
        if met.processes != processes:
            raise ValueError(
                f"this machine would train in {processes} processes, the first one in {met.processes}: use machines with the "
                "same number of GPUs, or set training.processes"
            )
        locks = locks or claim_gpus(processes)
        if _launch(job, job_file, met):
            break
        print(f"attempt {met.attempt} of the first machine has ended; waiting for the next", flush=True)
    del locks


def open_rendezvous(path: Path, result: Path) -> Rendezvous | None:
    """Waits for the first machine; None if the training has its result by then."""
    announced = False
    while not result.exists():
        found = Rendezvous.read(path)
        if found is not None and found.is_open():
            return found
        if not announced:
            print("waiting for the first machine of the training", flush=True)
            announced = True
        time.sleep(_LOOK_EVERY_S)
    return None


def _launch(job: TrainingJob, job_file: Path, met: Rendezvous) -> bool:
    """Runs this machine's processes to their end; False if the first machine has closed the rendezvous, or was lost."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousTimeoutError,
    )
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    nodes = job.settings()[1].nodes
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=met.processes,
        run_id=f"{Path(job.out).name}-{met.attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{met.host}:{met.port}",
        rdzv_configs={"is_host": job.node == 0, "join_timeout": _JOIN_S},
        max_restarts=0,  # a failure that comes again would be repeated on all machines
        local_addr=address(),
        logs_specs=DefaultLogsSpecs(os.devnull),  # their output is this process's own
    )
    os.environ[child.PARENT] = str(os.getpid())
    # torch 2.13: with the launcher's store, the address of the processes' own is told in the first round only, and a machine
    # that replaces another waits for it in vain.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    try:
        elastic_launch(config, sys.executable)("-m", "tasks.training.rank", str(job_file))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        raise child.ChildError(
            f"process {rank} of the training {how}. If it only lost the connection, the cause is in another machine's log"
        ) from None
    except RendezvousTimeoutError:
        raise child.ChildError(
            f"not all {nodes} machines of the training came within {_JOIN_S // 60} minutes: training.nodes = {nodes} needs as "
            "many free workers in the pool train"
        ) from None
    except (RendezvousClosedError, RendezvousConnectionError) as error:
        if job.node == 0:
            raise child.ChildError(
                f"the machines of the training did not meet ({error!r}): see the others' logs"
            ) from None
        return False
    return True
