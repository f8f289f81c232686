"""A world's runs and their controls: every run on every seed, in one store, and the table of their accuracies.

Every run goes through the product's own stages in one store, so stages that controls share run once. A seed determines the data
and everything random in the run.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import read_jsonl
from flows.config.checks import check
from flows.config.recipes import load_recipe, with_overrides
from flows.running.carry_out import opened
from flows.self_train import self_training
from tasks.report.self_training import write_metrics
from tasks.run.finished import FINISHED, mark_finished


@dataclass(frozen=True)
class Control:
    """One row of the table: what differs from self-training in the settings, and in how the data are written."""

    name: str
    title: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """Where controls are run. `shown` are the rows of the table, self-training first; `further` are run only if named.

    `write` writes the data of a seed into a folder; `module` is the one that `main` is called from, for child processes.
    """

    module: str
    recipe: str
    store: Path
    write: Callable[..., object]
    shown: Sequence[Control]
    further: Sequence[Control] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    def run_name(self, control: Control, seed: int) -> str:
        return f"seed-{seed}--{control.name}"

    def metrics(self, control: Control, seed: int) -> list[dict[str, Any]]:
        """What the run's stages measured, in order; empty if it has not come to any."""
        path = self.store / self.run_name(control, seed) / "metrics.jsonl"
        return list(read_jsonl(path)) if path.exists() else []

    def accuracies(self, control: Control, seed: int) -> list[float]:
        """Accuracy in percent of each round of a run."""
        lines = self.metrics(control, seed)
        return [round(100 * line["accuracy"], 2) for line in lines if line["stage"] == "benchmark"]

    def ended(self, control: Control, seed: int) -> bool:
        """Whether a run came to its end when it was last started."""
        return (self.store / self.run_name(control, seed) / FINISHED).exists()

    def label_rights(self, seed: int) -> list[tuple[float, float]]:
        """Percent of pseudo-labels right in each round of self-training: (all, kept)."""
        lines = self.metrics(self.shown[0], seed)
        return [(100 * line["all_right"], 100 * line["kept_right"]) for line in lines if line["stage"] == "audit"]


def run_one(world: World, control: Control, seed: int) -> None:
    """Executes one run to its end. Raises ConfigError for settings that cannot work."""
    folder = world.store / f"data-{seed}{f'--{control.name}' if control.data else ''}"
    world.write(folder, seed, **control.data)
    kinds = ["rationale", "labeled", "unlabeled", "heldout"]
    if control.overrides.get("labels.target_precision") is not None:
        kinds.append("calibration")
    sources = {f"data.{kind}": [{"path": f"{folder}/{kind}.jsonl"}] for kind in kinds}
    recipe = load_recipe(world.recipe, store=str(world.store), run_name=world.run_name(control, seed), seed=seed)
    changes = {**world.overrides, **sources, **control.overrides}
    config = with_overrides(recipe.model_dump(mode="json"), changes)
    check(config)
    with opened(config, config) as run:
        self_training(run)
        write_metrics(run, ended=True)
        mark_finished(run)


def run_seed(world: World, seed: int, names: Sequence[str]) -> None:
    """Controls of one seed, one after the other, each in its own process, whose output goes to a log in the store."""
    for control in (one for one in [*world.shown, *world.further] if one.name in names):
        name = world.run_name(control, seed)
        log = world.store / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        (world.store / name / FINISHED).unlink(missing_ok=True)
        print(f"{name} …", flush=True)
        with log.open("w") as stream:
            command = [sys.executable, "-m", world.module, "--one", control.name, "--seeds", str(seed)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(world.threads)}
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False, env=environment)
        said = world.accuracies(control, seed) if not done.returncode else f"failed, see {log}"
        print(f"{name}: {said}", flush=True)


def mean_sd(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def table(world: World, seeds: Sequence[int]) -> str:
    """Accuracy of each run after each round: empty for a round that a run does not have, a dash for one that failed on a seed."""
    n_rounds = load_recipe(world.recipe).rounds.count
    head = "| run | " + " | ".join(f"round {i}" for i in range(n_rounds + 1)) + " |"
    lines = [head, "|---" * (n_rounds + 2) + "|"]
    for control in world.shown:
        runs = [world.accuracies(control, seed) for seed in seeds]
        if control.overrides.get("rounds.count") == 0:
            # Every round would retrain from base on the same examples, so one measurement stands for all.
            columns = ["", _column(runs, 0), *["the same"] * (n_rounds - 1)]
        else:
            columns = [_column(runs, i) for i in range(control.overrides.get("rounds.count", n_rounds) + 1)]
        columns += [""] * (n_rounds + 1 - len(columns))
        lines.append(f"| {control.title} | " + " | ".join(columns) + " |")
    rights = [world.label_rights(seed) for seed in seeds]
    for i, name in enumerate(("all", "kept")):
        per_round = [_column([[one[i] for one in seed] for seed in rights], r) for r in range(n_rounds)]
        lines.append(f"| *pseudo-labels right, {name}* |  | " + " | ".join(per_round) + " |")
    return "\n".join(lines)


def _column(runs: Sequence[Sequence[float]], i: int) -> str:
    return mean_sd([run[i] for run in runs]) if all(len(run) > i for run in runs) else "–"


def main(
    world: World,
    description: str | None,
    seeds: Sequence[int],
    jobs: int,
    effects: Callable[[Sequence[int]], list[tuple[str, bool]]],
    watched: Callable[[Sequence[int]], str] = lambda seeds: "",
) -> None:
    """The command line of a world's controls: runs them, then prints the table, what `watched` shows, and the effects."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    known = {control.name: control for control in [*world.shown, *world.further]}
    parser.add_argument(
        "--only", nargs="+", choices=known, default=[control.name for control in world.shown], metavar="NAME",
        help=f"the runs to make, of {', '.join(known)} (default: those of the table)",
    )  # fmt: skip
    parser.add_argument("--one", choices=known, metavar="NAME", help="make one run in this process")
    parser.add_argument("--jobs", type=int, default=jobs, help=f"seeds to run in parallel (default: {jobs})")
    arguments = parser.parse_args()
    if arguments.one:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        run_one(world, known[arguments.one], arguments.seeds[0])
        return
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda seed: run_seed(world, seed, arguments.only), arguments.seeds))
    whole = {control.name for control in world.shown} <= set(arguments.only)
    if whole:
        print("\n" + table(world, arguments.seeds) + "\n" + watched(arguments.seeds))
    runs = {
        world.run_name(known[name], seed): world.ended(known[name], seed)
        for name in arguments.only
        for seed in arguments.seeds
    }
    if failed := [name for name, ended in runs.items() if not ended]:
        sys.exit(f"not ended, see their logs in {world.store}: {', '.join(failed)}")
    if whole:
        held = effects(arguments.seeds)
        for text, holds in held:
            print(f"{'holds' if holds else 'FAILS'}  {text}")
        sys.exit(0 if all(holds for _, holds in held) else 1)
