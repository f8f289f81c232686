"""``make world``: the loop and its controls on the small world, on several seeds; prints mean ± sd and the effects.

The base models are the shipped ones; how the runs are made is in `tests.support.controls`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.files import read_jsonl, write_jsonl
from data.world.splits import write_splits
from flows.config.recipes import load_recipe
from tests.support.controls import Control, World, main
from tests.support.learning import POISONED
from tests.support.short_run import FIXED_THRESHOLD

BARE = {"proofs.write_for": "labeled"}
STRICTEST = {"labels.if_infeasible": "strictest"}
POISON = {"poisoned": True}


def world() -> World:
    """Self-training first; the others in the order of the table."""
    judge = load_recipe("demo").training.judge.model_dump(mode="json")
    shown = [
        Control("self-training", "self-training"),
        Control("labeled-only", "labeled-only, as many steps", {"rounds.count": 0, "training.first_judge": judge}),
        Control("without-proofs", "pseudo-labels without proofs", BARE),
        Control("gold", "gold labels for the same pairs", {"labels.source": "truth"}),
        Control("label-only", "label-only judge, self-trained", {"models.judge_prompt": "compact-label"}),
        Control("random-proof", "a random valid proof, not the best", {"proofs.choose": "random"}),
    ]
    # Steps and batches are those of self-training, so as many tokens are trained on half the proofs, twice as often.
    further = [
        Control("one-order", "one order of each pair, as many trained tokens", {"proofs.orders": "one"}),
        Control("pair-orders", "both orders of a pair in one batch", {"training.pair_orders": True}),
        Control("memory", "labels with memory of earlier votes", {"labels.memory": 0.5, "labels.voting": "all"}),
        Control("target", "labels right with a promised 90%", {**STRICTEST, "labels.target_precision": 0.9}),
        Control("target-95", "labels right with a promised 95%", {**STRICTEST, "labels.target_precision": 0.95}),
        Control("bare-rollback", "pseudo-labels without proofs, rollback", {**BARE, "rounds.gate": "rollback"}),
        Control("poisoned", "poisoned labels", {"labels.source": "truth"}, POISON),
        Control("rollback", "poisoned labels, rollback", {"labels.source": "truth", "rounds.gate": "rollback"}, POISON),
    ]
    return World("tests.world.controls", "demo", Path("runs/controls"), write, shown, further, FIXED_THRESHOLD)


def write(out: Path, seed: int, poisoned: bool = False) -> None:
    """Writes the data of a seed. `poisoned` labels of unlabeled pairs are wrong wherever a pair has a word of one class."""
    write_splits(out, seed)
    if poisoned:
        rows = list(read_jsonl(out / "unlabeled.jsonl"))
        for row in rows:
            if POISONED.intersection(f"{row['response_a']} {row['response_b']}".split()):
                row["label"] = "B" if row["label"] == "A" else "A"
        write_jsonl(out / "unlabeled.jsonl", rows)


def effects(made: World, seeds: Sequence[int]) -> list[tuple[str, bool]]:
    """The five required effects, each with its numbers and whether it holds."""
    by_name = {control.name: [made.accuracies(control, seed) for seed in seeds] for control in made.shown}
    last = {name: [run[-1] for run in runs] for name, runs in by_name.items()}
    gains = [run[-1] - run[0] for run in by_name["self-training"]]
    mean = statistics.mean
    sd = statistics.stdev(last["self-training"]) if len(seeds) > 1 else 0.0
    over_labeled = mean(last["self-training"]) - mean(last["labeled-only"])
    over_bare = mean(last["self-training"]) - mean(last["without-proofs"])
    gold = mean(last["gold"]) - mean(last["self-training"])
    rights = [pair for seed in seeds for pair in made.label_rights(seed)]
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


if __name__ == "__main__":
    made = world()
    main(made, __doc__, seeds=(0, 1, 2), jobs=os.cpu_count() or 1, effects=partial(effects, made))
