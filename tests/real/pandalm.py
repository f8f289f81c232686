"""``make real-pandalm``: what a real model learns of real preferences, in five folds; prints a table. Hours on two CPU cores.

PandaLM's pairs with the reasons of another judge that agrees with the annotators' majority (`tests.real.self_training`); the
model is SmolLM2-135M-Instruct. The flow adapt trains two judges on each fold's pairs, for the same number of steps: one that
outputs only the label, and sees each pair in both orders; one that writes the reason first, and sees it as given, since reasons
name responses by position. The folds share no prompt. The first fold's judges also play samples of LLMBar and RM-Bench, before
and after.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.files import read_jsonl, write_jsonl
from data.records import pair_key, parse_pair
from flows.adapt import learning_curve
from flows.config.checks import check
from flows.config.parameters import AdaptConfig
from flows.running.carry_out import opened
from tasks.benchmark.bootstrap import Table, draw, intervals
from tests.real.model import real_model
from tests.real.self_training import data_folder, pandalm

STORE = Path("runs/pandalm")
FOLDS = 5
JUDGES = {"compact-label": "label", "compact": "reason and label"}
# Two examples at a time: sixteen, padded to the longest, took 1.4 times as long and four times the memory.
TRAINING = {"learning_rate": 2e-4, "max_steps": 60, "batch_size": 16, "micro_batch_size": 2}
Row = Mapping[str, Any]


def folds_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Five parts that share no prompt, of about equal numbers of prompts. Of a pair that is given twice, the first is kept."""
    distinct: dict[str, Row] = {}
    for row in rows:
        distinct.setdefault(pair_key(parse_pair(row)), row)
    prompts = sorted({str(row["prompt"]) for row in distinct.values()})
    random.Random(0).shuffle(prompts)
    place = {prompt: i % FOLDS for i, prompt in enumerate(prompts)}
    return [[row for row in distinct.values() if place[str(row["prompt"])] == fold] for fold in range(FOLDS)]


def adapted(fold: int, prompt: str, parts: Sequence[Sequence[Row]], folder: Path) -> dict[str, Path]:
    """Trains a judge on the other folds; its games on this fold before and after, and those of the benchmarks."""
    files = {"pairs": [r for i, part in enumerate(parts) if i != fold for r in part], "heldout": parts[fold]}
    for name, part in files.items():
        write_jsonl(STORE / f"data-{fold}" / f"{name}.jsonl", part)
    sets: list[dict[str, Any]] = []
    if fold == 0:
        sets = [{"benchmark": "llmbar", "limit": 100}, {"benchmark": "rm-bench", "limit": 10}]
    config = AdaptConfig.model_validate(
        {
            "run_name": f"{prompt}-{fold}",
            "store": str(STORE),
            "judge": {"path": str(real_model()), "prompt": prompt, "max_tokens": 2048, "dtype": "bfloat16"},
            "task": {
                **{name: [{"path": str(STORE / f"data-{fold}" / f"{name}.jsonl")}] for name in files},
                "sizes": [len(files["pairs"])],
                "validation_share": 0,
            },
            "training": {"trainable_layers": 15, "optimization": TRAINING},
            "benchmarks": {
                "max_tokens": 160,
                "sets": [{**one, "data": str(folder / one["benchmark"])} for one in sets],
            },
            "generation": {"kv_cache_mib": 1024},
        }
    )
    check(config)
    with opened(config, config.settings(prompt)) as run:
        before, after = learning_curve(run, config, prompt)
    return {
        "before": before.heldout.file("games.jsonl"),
        "after": after.heldout.file("games.jsonl"),
        **{set_.manifest.name: set_.file("scores.json") for one in (before, after) for set_ in one.general},
    }


# ---- the table --------------------------------------------------------------------------------------------------------


def by_longest(row: Row) -> float:
    """The share of a pair's two games that the longer response wins rightly; half if both are equally long."""
    a, b = len(row["response_a"]), len(row["response_b"])
    return 0.5 if a == b else float((a > b) == (row["label"] == "A"))


def judged(games: Sequence[Path]) -> Callable[[Row], float]:
    """The share of a pair's two games that are right; a reply without a verdict is wrong."""
    right: dict[str, list[bool]] = {}
    for game in (one for file in games for one in read_jsonl(file)):
        better = "A" if game["order"] == "chosen_first" else "B"
        right.setdefault(str(game["id"]), []).append(game["verdict"] == better)
    return lambda row: sum(right[row["id"]]) / len(right[row["id"]])


def line(name: str, rows: Sequence[Row], share: Callable[[Row], float]) -> str:
    """A line of the table: the mean over all pairs, with its bootstrap interval over prompts, in percent."""
    values = np.array([[share(row), 1.0] for row in rows])
    table = Table([str(row["prompt"]) for row in rows], values)
    drawn = draw({"all": table})
    low, high = intervals(lambda sums: {"all": sums["all"][:, 0] / sums["all"][:, 1]}, drawn)["all"]
    return f"| {name} | {100 * values[:, 0].mean():.1f} ({100 * low:.1f} to {100 * high:.1f}) |"


def lines(rows: Sequence[Row], games: Mapping[tuple[str, str], Sequence[Path]]) -> Iterator[str]:
    """The table; `games` by prompt and "before" or "after"."""
    yield f"| judge of {len(rows)} pairs | right, % (95% interval over prompts) |"
    yield "|---|---|"
    yield line("the first response (always A)", rows, lambda row: 0.5)
    yield line("the longest response", rows, by_longest)
    yield line("the shortest response", rows, lambda row: 1 - by_longest(row))
    for prompt, title in JUDGES.items():
        for when, said in (("before", "untrained"), ("after", "trained")):
            yield line(f"{title}, {said}", rows, judged(games[prompt, when]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    chosen, folder = parser.parse_args().folds, data_folder()
    rows = list(pandalm(folder / "pandalm"))
    parts = folds_of(rows)
    print(f"{len(rows)} pairs, of which {len(rows) - sum(map(len, parts))} are given again and left out", flush=True)
    games: dict[tuple[str, str], list[Path]] = {}
    for fold in chosen:
        for prompt in JUDGES:
            for when, file in adapted(fold, prompt, parts, folder).items():
                print(f"{prompt}, fold {fold}: {file}", flush=True)
                games.setdefault((prompt, when), []).append(file)
    print("\n".join(lines([row for fold in chosen for row in parts[fold]], games)))


if __name__ == "__main__":
    main()
