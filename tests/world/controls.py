"""``make world``: the loop and its controls on the small world, on several seeds; prints mean ± sd and the effects.

Every run goes through the product's own stages in one store, so stages that controls share run once. A seed
determines the data and everything random in the run; the base models are the shipped ones.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import read_jsonl
from data.world.splits import write_splits
from flows.config.recipes import load_recipe, with_overrides
from flows.running.carry_out import opened
from flows.self_train import self_training

STORE = Path("runs/controls")


@dataclass(frozen=True)
class Control:
    """One row of the table: what differs from self-training."""

    name: str
    title: str
    overrides: Mapping[str, Any]


def controls() -> list[Control]:
    """Self-training first; the others in the order of the table."""
    judge = load_recipe("demo").training.judge.model_dump(mode="json")
    return [
        Control("self-training", "self-training", {}),
        Control("labeled-only", "labeled-only, as many steps", {"rounds.count": 0, "training.first_judge": judge}),
        Control("without-proofs", "pseudo-labels without proofs", {"proofs.write_for": "labeled"}),
        Control("gold", "gold labels for the same pairs", {"labels.source": "truth"}),
        Control("label-only", "label-only judge, self-trained", {"models.judge_prompt": "compact-label"}),
        Control("random-proof", "a random valid proof, not the best", {"proofs.choose": "random"}),
    ]


def further_controls() -> list[Control]:
    """Runs that are not in the table: only those that are named are made."""
    # Steps and batches are those of self-training, so as many tokens are trained on half the proofs, twice as often.
    return [Control("one-order", "one order of each pair, as many trained tokens", {"proofs.orders": "one"})]


def run_one(control: Control, seed: int) -> None:
    """Executes one run to its end."""
    folder = STORE / f"data-{seed}"
    write_splits(folder, seed)
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    sources = {f"data.{kind}": [{"path": f"{folder}/{kind}.jsonl"}] for kind in kinds}
    recipe = load_recipe("demo", store=str(STORE), run_name=run_name(control, seed), seed=seed)
    config = with_overrides(recipe.model_dump(mode="json"), {**sources, **control.overrides})
    with opened(config, config) as run:
        self_training(run)


def run_name(control: Control, seed: int) -> str:
    return f"seed-{seed}--{control.name}"


def run_seed(seed: int, names: Sequence[str]) -> None:
    """All controls of one seed, one after the other, each in its own process, whose output goes to a log in the store."""
    for control in [*controls(), *further_controls()]:
        if control.name not in names:
            continue
        log = STORE / f"{run_name(control, seed)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"{run_name(control, seed)} …", flush=True)
        with log.open("w") as stream:
            command = [sys.executable, "-m", "tests.world.controls", "--one", control.name, "--seeds", str(seed)]
            done = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        print(
            f"{run_name(control, seed)}: {accuracies(control, seed) if not done.returncode else f'failed, see {log}'}",
            flush=True,
        )


def accuracies(control: Control, seed: int) -> list[float]:
    """Accuracy in percent of each round of a run."""
    lines = read_jsonl(STORE / run_name(control, seed) / "metrics.jsonl")
    return [round(100 * line["accuracy"], 2) for line in lines if line["stage"] == "benchmark"]


def label_rights(seed: int) -> list[tuple[float, float]]:
    """Percent of pseudo-labels right in each round of self-training: (all, kept)."""
    lines = read_jsonl(STORE / run_name(controls()[0], seed) / "metrics.jsonl")
    return [(100 * line["all_right"], 100 * line["kept_right"]) for line in lines if line["stage"] == "audit"]


def mean_sd(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def table(seeds: Sequence[int]) -> str:
    """The table of the README."""
    n_rounds = load_recipe("demo").rounds.count
    head = "| run | " + " | ".join(f"round {i}" for i in range(n_rounds + 1)) + " |"
    lines = [head, "|---" * (n_rounds + 2) + "|"]
    for control in controls():
        runs = [accuracies(control, seed) for seed in seeds]
        columns = [mean_sd(column) for column in zip(*runs, strict=True)]
        if control.name == "labeled-only":
            # Every round would retrain from base on the same examples, so one measurement stands for all.
            columns = ["", *columns, *["the same"] * (n_rounds - 1)]
        lines.append(f"| {control.title} | " + " | ".join(columns) + " |")
    rights = [label_rights(seed) for seed in seeds]
    for i, name in enumerate(("all", "kept")):
        per_round = [mean_sd([seed[r][i] for seed in rights]) for r in range(n_rounds)]
        lines.append(f"| *pseudo-labels right, {name}* |  | " + " | ".join(per_round) + " |")
    return "\n".join(lines)


def effects(seeds: Sequence[int]) -> list[tuple[str, bool]]:
    """The five required effects, each with its numbers and whether it holds."""
    by_name = {control.name: [accuracies(control, seed) for seed in seeds] for control in controls()}
    last = {name: [run[-1] for run in runs] for name, runs in by_name.items()}
    gains = [run[-1] - run[0] for run in by_name["self-training"]]
    mean = statistics.mean
    sd = statistics.stdev(last["self-training"]) if len(seeds) > 1 else 0.0
    over_labeled = mean(last["self-training"]) - mean(last["labeled-only"])
    over_bare = mean(last["self-training"]) - mean(last["without-proofs"])
    gold = mean(last["gold"]) - mean(last["self-training"])
    rights = [pair for seed in seeds for pair in label_rights(seed)]
    smallest = min(kept - all_ for all_, kept in rights)
    return [
        (
            f"1. last round − round 0: mean {mean(gains):+.1f} (≥ 8), least {min(gains):+.1f} (> 4)",
            mean(gains) >= 8 and min(gains) > 4,
        ),
        (f"2. last round − labeled-only: {over_labeled:+.1f} (≥ 8)", over_labeled >= 8),
        (f"3. last round − without proofs: {over_bare:+.1f} (≥ 0)", over_bare >= 0),
        (f"4. gold − self-training: {gold:+.1f} (≥ −2 sd = {-2 * sd:.1f})", gold >= -2 * sd),
        (f"5. kept − all pseudo-labels right, least of all rounds: {smallest:+.1f} (> 0)", smallest > 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[control.name for control in controls()])
    parser.add_argument("--one", help="run one control in this process")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="seeds to run in parallel (number of CPUs)"
    )
    arguments = parser.parse_args()
    if arguments.one:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        known = {control.name: control for control in [*controls(), *further_controls()]}
        run_one(known[arguments.one], arguments.seeds[0])
        return
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda seed: run_seed(seed, arguments.only), arguments.seeds))
    if {control.name for control in controls()} <= set(arguments.only):
        held = effects(arguments.seeds)
        print("\n" + table(arguments.seeds) + "\n")
        for text, holds in held:
            print(f"{'holds' if holds else 'FAILS'}  {text}")
        sys.exit(0 if all(holds for _, holds in held) else 1)


if __name__ == "__main__":
    main()
