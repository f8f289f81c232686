"""``make english``: a real model teaches itself in English, with its controls; prints the table, and whether the effects hold.

The model is SmolLM2-135M-Instruct (`tests.real.model`), the world that of ``data/english``; how the runs are made is in
`tests.support.controls`. A run ends after the round that its row is read at: most of the rise comes in round 1.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data.english.splits import SIZES, write_splits
from data.files import read_jsonl, write_jsonl
from flows.config.recipes import load_recipe
from tests.english.watch import watched
from tests.real.model import folder
from tests.support.controls import Control, World, main

ONE_ROUND = {"rounds.count": 1}


def world() -> World:
    """Self-training first; the others in the order of the table."""
    judge = load_recipe("english").training.judge.model_dump(mode="json")
    as_many_steps = {"rounds.count": 0, "training.first_judge": judge}
    direct = {**as_many_steps, "training.human_rationales": True}
    hundred = {"sizes": {"rationale": 100}}
    shown = [
        Control("self-training", "self-training"),
        Control("labeled-only", "labeled-only, as many steps", as_many_steps),
        Control("without-proofs", "pseudo-labels without proofs", {"proofs.write_for": "labeled"}),
        Control("gold", "gold labels for the same pairs", {**ONE_ROUND, "labels.source": "truth"}),
        Control("random-proof", "a random valid proof, not the best", {**ONE_ROUND, "proofs.choose": "random"}),
        Control("any-quotes", "ungrounded proofs let through", {**ONE_ROUND, "proofs.grounded_quotes": False}),
        Control("grounded-votes", "only grounded votes count", {**ONE_ROUND, "labels.grounded_votes": True}),
        Control("label-only", "label-only judge, self-trained", {**ONE_ROUND, "models.judge_prompt": "compact-label"}),
        Control("direct", "D_p and labeled pairs, no loop, as many steps", direct),
        Control("direct-100", "the same with a D_p of 100", direct, hundred),
        Control("dp-100", "self-training with a D_p of 100", ONE_ROUND, hundred),
        Control("words-apart", "words of D_p in no other pair", ONE_ROUND, {"words_apart": True}),
    ]
    further = [
        Control("final", "D_p in the final fine-tuning", {**ONE_ROUND, "training.final": judge}),
        Control("single-orders", "orders of a pair shuffled", {**ONE_ROUND, "training.pair_orders": False}),
        Control("all-layers", "all layers trained", {**ONE_ROUND, "training.trainable_layers": None}),
        Control("lora", "LoRA instead of upper layers", {**ONE_ROUND, **lora(1e-3)}),
        *(
            Control(f"noise-{percent}", f"{percent}% of the labeled pairs wrong", ONE_ROUND, {"wrong": percent / 100})
            for percent in (10, 20)
        ),
    ]
    bases = {f"models.{role}_base": str(folder()) for role in ("judge", "prover")}
    return World(
        "tests.english.controls", "english", Path("runs/english-controls"), write, shown, further, bases, threads=2
    )


def lora(learning_rate: float) -> dict[str, Any]:
    """The same trainings with adapters on all linear layers."""
    training = load_recipe("english").training
    adapter = {"r": 16, "alpha": 32}
    trainings = {
        f"training.{name}": {
            **getattr(training, name).model_dump(mode="json"),
            "learning_rate": learning_rate,
            "lora": adapter,
        }
        for name in ("prover", "first_judge", "judge")
    }
    return {"training.trainable_layers": None, **trainings}


def write(
    out: Path, seed: int, sizes: Mapping[str, int] = SIZES, words_apart: bool = False, wrong: float = 0.0
) -> None:
    """Writes the data of a seed; `wrong` is the share of labeled pairs that get the wrong label, as many A as B."""
    write_splits(out, seed, {**SIZES, **sizes}, words_apart)
    rows = list(read_jsonl(out / "labeled.jsonl"))
    n = round(wrong * len(rows))
    # Labels come in blocks of one A and one B, so that the first are as many A as B.
    for row in rows[:n]:
        row["label"] = "B" if row["label"] == "A" else "A"
    write_jsonl(out / "labeled.jsonl", rows)


def effects(made: World, seeds: Sequence[int]) -> list[tuple[str, bool]]:
    """What must hold for the world to be one in which the loop is seen to learn, in points, each with the seeds' own figures."""
    by_name = {control.name: [made.accuracies(control, seed) for seed in seeds] for control in made.shown}

    def over(name: str, at: int, other: str, at_other: int, least: float) -> tuple[str, bool]:
        gains = [a[at] - b[at_other] for a, b in zip(by_name[name], by_name[other], strict=True)]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        said = f"{name} (round {at if at >= 0 else 'last'}) − {other}: {statistics.mean(gains):+.1f} (≥ {least}; seeds: {each})"
        return said, statistics.mean(gains) >= least

    rights = [pair for seed in seeds for pair in made.label_rights(seed)]
    smallest = min(kept - all_ for all_, kept in rights)
    return [
        over("gold", 1, "self-training", 0, 8),
        over("self-training", -1, "self-training", 0, 8),
        over("self-training", -1, "labeled-only", -1, 6),
        over("self-training", -1, "without-proofs", -1, 0),
        (f"kept − all pseudo-labels right, least of all rounds: {smallest:+.1f} (> 0)", smallest > 0),
    ]


if __name__ == "__main__":
    made = world()
    main(made, __doc__, seeds=(0,), jobs=1, effects=partial(effects, made), watched=partial(watched, made))
