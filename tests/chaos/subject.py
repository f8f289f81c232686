"""The run that is being disturbed: how it is started, what state it is in, and which processes belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from data.store.artifacts import MANIFEST, Artifact, Manifest
from flows.server.processes import Services, start_worker
from tests.support.following import start_deployment
from tests.support.patient import send
from tests.support.short_run import short_run

LOG_EVERY = 5
_LONGER = {
    "training.prover": {"learning_rate": 3e-4, "max_steps": 20, "batch_size": 12},
    "training.first_judge": {"learning_rate": 1e-3, "max_steps": 40, "batch_size": 16},
    "training.judge": {"learning_rate": 1e-3, "max_steps": 40, "batch_size": 16},
    "training.log_every": LOG_EVERY,
    "training.checkpoint_minutes": 0,
    "generation.shard_rows": 10,
}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_client = httpx.Client(timeout=5)
"""Kept open: a state is asked for several times a second, and each new client reads all certificates of the system."""
_POOLS = {"worker": "ctl", "gpu-1": "gpu", "gpu-2": "gpu", "train-1": "train"}


class Subject:
    """One short self-training on the small world; spread over the pools gpu and train if `spread` is set.

    `changes` are further overrides.
    """

    deployment = "self-train/demo"

    def __init__(
        self, services: Services, folder: Path, name: str, spread: bool = False, changes: Mapping[str, Any] = {}
    ) -> None:
        self.services, self.name, self.spread = services, name, spread
        where = {"generation.workers": 2, "training.in_pool": True} if spread else {}
        # Its own store: nothing may be reused from another run.
        store = folder / f"store-{name}"
        self.job: dict[str, Any] = {
            "store": str(store),
            "run_name": name,
            "overrides": {**short_run(folder / "world"), **_LONGER, **where, **changes},
        }
        self.folder = store / name
        self.flow_run = ""
        self.found: dict[str, Manifest] = {}
        """The stages that had been finished when the run was last started."""

    def start(self) -> None:
        self.mend()
        self.found = manifests(self.folder)
        self.flow_run = start_deployment(self.services, self.deployment, self.job)

    def retry(self) -> None:
        self.found = manifests(self.folder)
        self.services.prefect("flow-run", "retry", self.flow_run)

    def cancel(self) -> None:
        """As the UI's button does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        send("POST", f"{self.services.ui}/api/flow_runs/{self.flow_run}/set_state", {"state": state})

    def mend(self) -> None:
        """Starts the workers that are missing, as a machine's init would."""
        for name, pool in _POOLS.items():
            if name not in self.services.processes and (pool == "ctl" or self.spread):
                start_worker(self.services, name, pool)

    def state(self, flow_run: str = "") -> str:
        """The state of the run, or of another one; "unknown" while the server is away."""
        return state_of_run(self.services, flow_run or self.flow_run)

    def ended(self) -> bool:
        return self.state() in ENDED

    def stage(self) -> str:
        """The stage that the run is at."""
        under_way = sorted(path.name.rpartition("-")[0] for path in self.folder.glob(".work/*"))
        return under_way[-1].split("--")[-1] if under_way else "between stages"

    def flow(self) -> psutil.Process | None:
        """The process of the run's flow."""
        return next((p for p in _processes("prefect.engine") if flow_run_of(p) == self.flow_run), None)

    def children(self, module: str) -> list[psutil.Process]:
        """The run's processes of a module, such as tasks.generation.worker, wherever they were started from."""
        store = str(self.job["store"])
        return [p for p in _processes(module) if any(store in part for part in p.info["cmdline"])]

    def parts(self, module: str) -> list[psutil.Process]:
        """The flow runs on other workers that have such processes."""
        if not self.spread:
            return []
        parents = (child.parent() for child in self.children(module))
        return [parent for parent in parents if parent is not None and flow_run_of(parent)]


def state_of_run(services: Services, flow_run: str) -> str:
    """The type of a flow run's state; "unknown" while the server is away."""
    try:
        return str(_client.get(f"{services.ui}/api/flow_runs/{flow_run}").json()["state"]["type"])
    except (httpx.HTTPError, KeyError, ValueError):
        return "unknown"


def artifacts(run: Path) -> Iterator[Artifact]:
    """What a run's stages have made, as it is on disk."""
    for path in sorted(run.rglob(MANIFEST)):
        if not any(part.startswith(".") for part in path.relative_to(run).parts):
            yield Artifact(path.parent, Manifest.load(path))


def manifests(run: Path) -> dict[str, Manifest]:
    """The manifests of a run's finished stages by their names."""
    return {artifact.manifest.name: artifact.manifest for artifact in artifacts(run)}


def flow_run_of(process: psutil.Process) -> str:
    """The id of the flow run that a process executes."""
    try:
        return process.environ().get("PREFECT__FLOW_RUN_ID", "")
    except psutil.Error:
        return ""


def _processes(module: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        if module in (process.info["cmdline"] or []):
            yield process
