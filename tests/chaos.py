"""``make chaos KILLS=50 SEED=1``: kills a real self-training at seeded moments, resumes it, and counts what was lost.

A real Prefect server and worker, real vLLM on the CPU, the small world, short settings. At the end of every run each row
of each stage must be there once, every manifest and file sound, no process left behind, and no more tokens spent than an
undisturbed run spends, but for the rows that were in an engine when it was killed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from data.artifacts import MANIFEST, Artifact, Manifest
from data.files import read_jsonl
from data.world.__main__ import main as write_world
from flows.local import Services, local_services, start_deployment, start_server, start_worker
from tests.test_self_train import SHORT as SHORT_RUN

SHORT = SHORT_RUN | {
    "training.prover": {"learning_rate": 3e-4, "max_steps": 20, "batch_size": 12},
    "training.first_judge": {"learning_rate": 1e-3, "max_steps": 40, "batch_size": 16},
    "training.judge": {"learning_rate": 1e-3, "max_steps": 40, "batch_size": 16},
    "training.log_every": 5,
    "training.checkpoint_minutes": 0,
    "generation.shard_rows": 10,
}
_ENDING = (
    "flow killed", "flow terminated", "flow run cancelled", "engine killed", "trainer killed", "worker and flow killed",
)  # fmt: skip
_MOST_TOKENS = 1.05
_PATIENCE_S = 600.0
_DETECTED_S = 150.0
"""A run whose machine is lost is crashed by the automation within this time."""


@dataclass
class Kill:
    """One fault, where it struck, and how the run went on."""

    fault: str
    stage: str
    went_on: str = ""


@dataclass
class Checked:
    """What a finished run looks like: rows that are missing or doubled, tokens and steps against the undisturbed run."""

    lost: int
    doubled: int
    tokens: float
    steps_again: int
    problems: list[str] = field(default_factory=list)


class Chaos:
    """A server, its workers, and one run at a time that is being disturbed."""

    def __init__(self, services: Services, folder: Path, rng: random.Random) -> None:
        self.services, self.folder, self.rng = services, folder, rng
        self.flow_run = ""
        self.told: dict[str, Any] = {}

    # ---- the run ------------------------------------------------------------------------------------------------------

    def start(self, name: str, workers: int = 0) -> None:
        world = self.folder / "world"
        if not world.exists():
            write_world(["--out", str(world), "--seed", "7", "--unlabeled", "60", "--heldout", "30"])
        kinds = ("rationale", "labeled", "unlabeled", "heldout")
        sources = {f"data.{kind}": [{"path": f"{world}/{kind}.jsonl"}] for kind in kinds}
        # A store of its own: nothing may be taken over from another run.
        store = self.folder / f"store-{name}"
        overrides = {**SHORT, **sources, "generation.workers": workers}
        self.told = {"store": str(store), "run_name": name, "overrides": overrides}
        self.flow_run = start_deployment(self.services, "self-train/demo", self.told)

    @property
    def run_folder(self) -> Path:
        return Path(self.told["store"]) / self.told["run_name"]

    def state(self) -> str:
        """The state of the run, or "unknown" while the server is away."""
        try:
            answer = httpx.get(f"{self.services.ui}/api/flow_runs/{self.flow_run}", timeout=5)
            return str(answer.json()["state"]["type"])
        except (httpx.HTTPError, KeyError, ValueError):
            return "unknown"

    def ended(self) -> bool:
        return self.state() in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    def stage(self) -> str:
        """What the run is at."""
        under_way = sorted(path.name.rpartition("-")[0] for path in self.run_folder.glob(".work/*"))
        return under_way[-1].split("--")[-1] if under_way else "between stages"

    # ---- processes ----------------------------------------------------------------------------------------------------

    def flow(self) -> psutil.Process | None:
        """The process of the run's flow."""
        for process in psutil.process_iter(["cmdline"]):
            if "prefect.engine" in (process.info["cmdline"] or []):
                try:
                    if process.environ().get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == self.flow_run.replace(
                        "-", ""
                    ):
                        return process
                except psutil.Error:
                    continue
        return None

    def children(self, module: str) -> list[psutil.Process]:
        """Engine or training processes of this run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if module in line and any(self.told["store"] in part for part in line):
                found.append(process)
        return found

    # ---- faults ---------------------------------------------------------------------------------------------------------

    def faults(self) -> dict[str, Callable[[], object] | None]:
        """What can be done to the run now; None where its target is not there."""
        flow, worker = self.flow(), self.services.processes.get("worker")
        engines, trainers = self.children("tasks.generate"), self.children("tasks.trainer")
        shard_flows = [parent for engine in engines if (parent := engine.parent()) and parent != flow]
        return {
            "flow killed": flow.kill if flow else None,
            "flow terminated": (lambda: flow.send_signal(signal.SIGTERM)) if flow else None,
            "flow run cancelled": self.cancel if flow else None,
            "engine killed": self.rng.choice(engines).kill if engines else None,
            "trainer killed": trainers[0].kill if trainers else None,
            "worker killed": (lambda: self.kill_services("worker")) if worker else None,
            "worker and flow killed": (lambda: (self.kill_services("worker"), flow.kill()))
            if flow and worker
            else None,
            "server away for 20 s": lambda: self.server_away(20),
            "server away for 130 s": lambda: self.server_away(130),
            "shard worker killed": (lambda: self.kill_shard_worker(shard_flows[0])) if shard_flows else None,
        }

    def cancel(self) -> None:
        self.services.prefect("flow-run", "cancel", self.flow_run)

    def kill_services(self, *names: str) -> None:
        for name in names:
            process = self.services.processes.pop(name)
            process.kill()
            process.wait()

    def kill_shard_worker(self, shard_flow: psutil.Process) -> None:
        """A machine of the pool gpu is lost: its worker and its flow run with it."""
        worker = next(n for n, p in self.services.processes.items() if shard_flow.ppid() == p.pid)
        self.kill_services(worker)
        shard_flow.kill()

    def server_away(self, seconds: float) -> None:
        self.kill_services("server")
        time.sleep(seconds)
        start_server(self.services)

    # ---- going on ---------------------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Starts what a machine's init would start again."""
        pools = {"worker": "ctl"} | (
            {"gpu-1": "gpu", "gpu-2": "gpu"} if self.told["overrides"]["generation.workers"] else {}
        )
        for name, pool in pools.items():
            if name not in self.services.processes:
                start_worker(self.services, name, pool)

    def go_on(self, ends: bool) -> str:
        """Has the run go on after a fault, and says how. `ends` says that the fault should have ended its flow."""
        self.mend()
        deadline = time.monotonic() + _DETECTED_S
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(2.0)
            if self.state() in ("SCHEDULED", "PENDING", "unknown"):
                continue  # a worker will take it, the server will be back
            if self.flow() is None:
                time.sleep(5.0)  # the worker tells the server of it; where it was killed too, nobody does
                break
            if not ends:
                return "by itself"
        return self.start_again()

    def start_again(self) -> str:
        """As a person does who finds the run ended, or no process of it."""
        state = self.state()
        if state == "COMPLETED" or (self.flow() is not None and not self.ended()):
            return "by itself"
        if state in ("FAILED", "CRASHED") and self.rng.random() < 0.5:
            self.services.prefect("flow-run", "retry", self.flow_run)
            return f"{state.lower()}, then flow-run retry"
        self.flow_run = start_deployment(self.services, "self-train/demo", self.told)
        return f"{state.lower()}, then deployment run"

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.ended():
            time.sleep(0.5)

    def finish(self) -> None:
        """Waits for the end of the run, starting it again where it has to be."""
        deadline = time.monotonic() + _PATIENCE_S
        gone = 0.0
        while self.state() != "COMPLETED":
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run {self.told['run_name']} is {self.state()} and comes to no end")
            gone = 0.0 if self.flow() is not None else gone + 1.0
            if (self.ended() and self.state() != "COMPLETED") or (gone > 30 and self.state() == "RUNNING"):
                self.start_again()
                gone = 0.0
            time.sleep(1.0)


# ---- checking -----------------------------------------------------------------------------------------------------------


def artifacts(run: Path) -> Iterator[Artifact]:
    for path in sorted(run.rglob(MANIFEST)):
        if not any(part.startswith(".") for part in path.relative_to(run).parts):
            yield Artifact(path.parent, Manifest.load(path))


def spent(run: Path) -> tuple[int, int, int]:
    """Tokens of all shards that were ever finished, rows that were made, and steps that were logged twice, by the logs."""
    tokens = rows = 0
    again = 0
    for log in run.glob("logs/*.log"):
        text = log.read_text(encoding="utf-8", errors="replace")
        for made, n in re.findall(r"shard \d+: (\d+) rows made, \d+ there, (\d+) tokens", text):
            rows, tokens = rows + int(made), tokens + int(n)
        steps = Counter(re.findall(r"^step (\d+) of", text, re.MULTILINE))
        again += sum(n - 1 for n in steps.values()) * int(SHORT["training.log_every"])  # type: ignore[call-overload]
    return tokens, rows, again


def check(chaos: Chaos, undisturbed: tuple[int, int] | None) -> Checked:
    """Looks at every row, file and process of a run that has ended."""
    run = chaos.run_folder
    problems = []
    lost = doubled = n_rows = 0
    for artifact in artifacts(run):
        problems += [f"{artifact.path / name} {what}" for name, what in artifact.damage().items()]
        made = [line["row"] for shard in sorted(artifact.path.glob("shards-*/*.jsonl")) for line in read_jsonl(shard)]
        if artifact.manifest.kind in ("vote", "prove", "benchmark"):
            n_rows += artifact.manifest.counts.rows_in
            lost += len(set(range(artifact.manifest.counts.rows_in)) - set(made))
            doubled += len(made) - len(set(made))
            if artifact.manifest.counts.failed:
                problems.append(f"{artifact.manifest.name}: {artifact.manifest.counts.failed} failed")
    names = [line["name"] for line in read_jsonl(run / "metrics.jsonl")]
    problems += [f"metrics.jsonl has {name} twice" for name, n in Counter(names).items() if n > 1]
    left = [p.pid for module in ("tasks.generate", "tasks.trainer") for p in chaos.children(module)]
    problems += [f"process {pid} is left" for pid in left]
    tokens, rows, again = spent(run)
    doubled += max(0, rows - n_rows)
    if undisturbed and tokens > _MOST_TOKENS * undisturbed[0]:
        problems.append(f"{tokens} tokens in finished shards, {undisturbed[0]} in the undisturbed run")
    return Checked(lost, doubled, tokens / undisturbed[0] if undisturbed else 1.0, again, problems)


# ---- the whole ------------------------------------------------------------------------------------------------------------


def disturb(chaos: Chaos, name: str, wanted: list[str], per_run: int) -> list[Kill]:
    """One run with up to `per_run` of the wanted faults, taken from the list as their targets are there."""
    kills: list[Kill] = []
    chaos.start(name, workers=2 if "shard worker killed" in wanted[:per_run] else 0)
    chaos.mend()
    while len(kills) < per_run and wanted and not chaos.ended():
        chaos.wait(chaos.rng.uniform(2.0, 20.0))
        deadline = time.monotonic() + 60
        while not chaos.ended() and time.monotonic() < deadline:
            possible = chaos.faults()
            fault = next((f for f in wanted if possible.get(f)), None)
            if fault is not None:
                kill = Kill(fault, chaos.stage())
                act = possible[fault]
                assert act is not None
                try:
                    act()
                except psutil.NoSuchProcess:
                    continue  # it ended in this moment
                wanted.remove(fault)
                kill.went_on = chaos.go_on(ends=fault in _ENDING)
                kills.append(kill)
                print(f"{name}: {kill.fault} at {kill.stage}; went on: {kill.went_on}", flush=True)
                break
            time.sleep(0.2)
    chaos.finish()
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-run", type=int, default=5)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="gram-r2-chaos-"))
    print(f"the runs are in {folder}", flush=True)
    kills: list[tuple[Kill, Checked]] = []
    with local_services(folder / "prefect") as services:
        chaos = Chaos(services, folder, rng)
        chaos.start("undisturbed")
        chaos.finish()
        tokens, rows, _ = spent(chaos.run_folder)
        first = check(chaos, None)
        print(f"undisturbed: {rows} rows, {tokens} tokens, {first}", flush=True)
        assert not first.problems
        kinds = [fault for fault in chaos.faults()]
        wanted = [kinds[i % len(kinds)] for i in range(arguments.kills)]
        rng.shuffle(wanted)
        runs = 0
        while wanted:
            runs += 1
            done = disturb(chaos, f"run-{runs}", wanted, min(arguments.per_run, len(wanted)))
            checked = check(chaos, (tokens, rows))
            print(f"run-{runs}: {len(done)} kills, {checked}", flush=True)
            kills += [(kill, checked) for kill in done]
    print(table(kills))
    bad = [checked for _, checked in kills if checked.problems or checked.lost or checked.doubled]
    (folder / "kills.json").write_text(json.dumps([[vars(kill), vars(checked)] for kill, checked in kills], indent=1))
    sys.exit(1 if bad else 0)


def table(kills: list[tuple[Kill, Checked]]) -> str:
    """Fault × stage: how often, and what the runs that it struck lost, doubled, and spent."""
    rows = ["| fault | stage | times | rows lost | rows doubled | tokens ÷ undisturbed | steps trained again |"]
    rows.append("|---|---|---|---|---|---|---|")
    for fault, stage in sorted({(kill.fault, kill.stage) for kill, _ in kills}):
        struck = [checked for kill, checked in kills if (kill.fault, kill.stage) == (fault, stage)]
        worst = max(checked.tokens for checked in struck)
        figures = (len(struck), max(c.lost for c in struck), max(c.doubled for c in struck))
        again = max(c.steps_again for c in struck)
        rows.append(f"| {fault} | {stage} | {' | '.join(map(str, figures))} | {worst:.3f} | {again} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
