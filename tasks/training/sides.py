"""The order in which examples are trained so that both orders of a pair stand side by side in a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import read_jsonl
from tasks.settings import Role
from tasks.training.job import DROPPED, TrainingJob

TWO_ORDERS: tuple[Role, ...] = ("judge", "label-judge")
"""The roles whose examples are a pair in one order; a pair is two of them."""


@dataclass
class SideBySide:
    """A sampler: in each epoch another order of the examples, the same for the same seed, in which twos are never parted.

    `twos` are the positions of both orders of a pair; `ones`, of which only one order is there, follow each other two by two.
    With an even batch size, then, both orders of a pair are in the same batch, however it is split.
    """

    twos: Sequence[tuple[int, int]]
    ones: Sequence[int]
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return 2 * len(self.twos) + len(self.ones)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        ones = rng.sample(self.ones, len(self.ones))
        places = [*self.twos, *zip(ones[::2], ones[1::2], strict=False)]
        rng.shuffle(places)
        yield from chain.from_iterable(places)
        yield from ones[len(ones) // 2 * 2 :]  # at most one, at the end, where it parts no others


def keep_orders_together(trainer: Any, job: TrainingJob) -> None:
    """Has a trainer of this job's examples take both orders of a pair one after the other."""
    sides = side_by_side(Path(job.examples), Path(job.out) / DROPPED, job.seed)
    if len(sides) != len(trainer.train_dataset):
        raise ValueError(
            f"{job.examples} has {len(sides):,} examples without those in {DROPPED}, but {len(trainer.train_dataset):,} are "
            "trained on: the file has changed since they were encoded; start the training again"
        )

    from transformers import TrainerCallback

    class Epochs(TrainerCallback):  # type: ignore[misc]
        # Not by `set_epoch`: where one of several processes passes over what was trained before a stop, accelerate does not
        # reach a sampler that is not its own.
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            sides.epoch = int(state.epoch or 0)

    trainer._get_train_sampler = lambda dataset=None: sides
    trainer.add_callback(Epochs())


def side_by_side(examples: Path, dropped: Path, seed: int) -> SideBySide:
    """The order for the examples of a file, without those listed as dropped: what is left of their pairs stands alone."""
    # By their lines: labeled pairs and those with a rationale may have the same ids.
    left_out = {row["line"] for row in read_jsonl(dropped)}
    known = (_pair(row) for line, row in enumerate(read_jsonl(examples), start=1) if line not in left_out)
    twos, ones = list[tuple[int, int]](), list[int]()
    last: tuple[Any, str] | None = None
    for place, (pair, order) in enumerate(known):
        if pair is not None and last is not None and last[0] == pair and last[1] != order:
            twos.append((ones.pop(), place))
            last = None
        else:
            ones.append(place)
            last = (pair, order)
    return SideBySide(twos, ones, seed)


def _pair(row: Mapping[str, Any]) -> tuple[tuple[Any, ...] | None, str]:
    """What both orders of a pair have in common, and the order."""
    origin = row.get("origin") or {}
    if "pair" not in origin:
        return None, ""
    return (origin["pair"], origin.get("round"), origin.get("repeat")), origin["order"]
