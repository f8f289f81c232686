"""Which GPUs there are, and which process holds each: one process per GPU, across a user's runs on a machine.

GPUs are numbered as nvidia-smi numbers them, by their place on the bus. CUDA's own default is the fastest first: on a
machine with different cards, a lock would then name another card than the one that is used.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_PAUSE_S = 1.0


def enough_gpus(wanted: int) -> list[str]:
    """The visible GPUs; empty on a machine without GPUs. Raises ValueError if there are some, but fewer than wanted."""
    gpus = visible_gpus()
    if gpus and len(gpus) < wanted:
        raise ValueError(f"{wanted} GPUs are needed, but only {len(gpus)} are visible: {', '.join(gpus)}")
    return gpus


def claim_gpus(wanted: int) -> list[IO[str]]:
    """Waits until this many of the visible GPUs are free, and holds them until this process ends.

    From then on, only these are visible to this process, which must not have used CUDA before. On a machine without GPUs,
    none are claimed. Keep the returned
    files open: they are OS file locks, which the kernel releases when this process ends, however it ends. Raises
    ValueError if fewer GPUs are visible than wanted.
    """
    gpus, names = enough_gpus(wanted), _gpu_ids()
    if not gpus:
        return []
    announced = False
    while True:
        held: dict[str, IO[str]] = {}
        taken: list[str] = []
        for gpu in gpus:
            if len(held) < wanted:
                lock, holder = _try_lock(_id_of(gpu, names))
                if lock is not None:
                    held[gpu] = lock
                else:
                    taken.append(f"GPU {gpu}, held by process {holder}")
        if len(held) == wanted:
            os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(held)}
            return list(held.values())
        for lock in held.values():  # waiting while holding some would block others that do the same
            lock.close()
        if not announced:
            print(f"waiting for {', '.join(taken)}", flush=True)
            announced = True
        time.sleep(_PAUSE_S * (0.5 + random.random()))


def _try_lock(name: str) -> tuple[IO[str] | None, str]:
    """The lock of a GPU, named after its id; or None, and the process that holds it."""
    # Not in TMPDIR, which can differ between the jobs of one user: they would not see each other's locks.
    folder = Path("/tmp") / f"gram-r2-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    stream = (folder / f"gpu-{name}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        stream.close()
        return None, holder
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream, ""


def _id_of(gpu: str, ids: Mapping[str, str]) -> str:
    """The id of a GPU that is given by index, or by its id or the beginning of it, as CUDA allows."""
    return ids.get(gpu) or next((one for one in ids.values() if one.startswith(gpu)), gpu)


def _gpu_ids() -> dict[str, str]:
    """The id of each GPU by its index, as reported by nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return {}
    if listed.returncode:
        # Continuing without GPUs would redo their work on the CPU, in another dtype.
        raise RuntimeError(f"nvidia-smi is installed but fails: {listed.stdout}{listed.stderr}")
    pairs = (line.split(",") for line in listed.stdout.splitlines() if "," in line)
    return {index.strip(): uuid.strip() for index, uuid in pairs}


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by index, without loading torch. Empty on a machine without one."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    return list(_gpu_ids())
