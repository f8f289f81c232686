"""Wall time of a generation stage on eight engines ÷ that of one queue of rows, simulated: shards taken in turn, or dealt out.

What is assumed. An engine makes a row every 0.8 s on average (about 4,000 tokens a row on an H100 with an 8B model), in slots
that are all equally fast: one slot stands for an engine whose speed does not depend on how much it has in flight, 64 for one
whose every row takes as long however few there are. A row's time is log-normal (σ = 0.6). An engine holds up to 192 rows, in
slots or waiting. It takes its first shard 60 to 90 s after the start of the stage, or all do at once. Shards are taken from
`OpenShards`, in the order and under the rules of real engines, which ask again every second if they get none. With one
queue, the next row goes to whichever slot of whichever engine is free first; which slot gets the longest rows last is luck, so
that a ratio can be below 1.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
import statistics
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from tasks.generation.claims import OpenShards, rows_a_shard
from tasks.generation.shards import GenerationJob, Shard
from tasks.settings import GenerationSettings

ENGINES, HELD = 8, 192
ROW_S, SIGMA = 0.8, 0.6
PAUSE_S = 1.0


class InTurn:
    """Shards as the stage gives them out now, each to whichever engine asks first."""

    def __init__(self, n_rows: int, folder: str) -> None:
        shard_rows = rows_a_shard(n_rows, GenerationSettings().shard_rows)
        self.job = GenerationJob("", {}, "", n_rows, "", folder, {}, {"shard_rows": shard_rows})
        self.shards = OpenShards(self.job, ENGINES)
        self.rows_left = {shard.number: shard.n_rows for shard in self.job.shards()}
        self.rows_done = Counter[str]()

    def take(self, engine: int) -> Shard | None:
        self.shards.report(f"engine {engine}", self.rows_done[f"engine {engine}"])
        return self.shards.take(f"engine {engine}")

    def done(self, row: int, engine: int) -> None:
        self.rows_done[f"engine {engine}"] += 1
        number = row // self.job.shard_rows
        self.rows_left[number] -= 1
        if not self.rows_left[number]:  # its parent looks for these two
            shard = self.job.shard(number)
            shard.path.touch()
            shard.path.with_name(f".{shard.number:06d}.done").write_text('{"failed": 0}')


class DealtOut:
    """Every eighth shard to the same engine, as before."""

    def __init__(self, n_rows: int, shard_rows: int) -> None:
        job = GenerationJob("", {}, "", n_rows, "", "", {}, {"shard_rows": shard_rows})
        self.shards = [deque(shard for shard in job.shards() if shard.number % ENGINES == i) for i in range(ENGINES)]

    def take(self, engine: int) -> Shard | None:
        return self.shards[engine].popleft() if self.shards[engine] else None

    def done(self, row: int, engine: int) -> None: ...


def wall(seconds: Sequence[float], starts: Sequence[float], slots: int, shards: InTurn | DealtOut) -> float:
    """When the last row is done."""
    waiting: list[deque[int]] = [deque() for _ in starts]
    in_slots = [0] * len(starts)
    now, rows_left = 0.0, len(seconds)
    asks = [True] * len(starts)  # not while it pauses
    events = [(start, engine, -1) for engine, start in enumerate(starts)]  # a row is done, or the engine asks again
    while rows_left:
        now, engine, row = heapq.heappop(events)
        if row >= 0:
            in_slots[engine] -= 1
            rows_left -= 1
            shards.done(row, engine)
        else:
            asks[engine] = True
        while asks[engine] and in_slots[engine] + len(waiting[engine]) < HELD:
            shard = shards.take(engine)
            waiting[engine] += range(shard.start, shard.stop) if shard else ()
            if shard is None:
                asks[engine] = False
                heapq.heappush(events, (now + PAUSE_S, engine, -1))
        while waiting[engine] and in_slots[engine] < slots:
            in_slots[engine] += 1
            following = waiting[engine].popleft()
            heapq.heappush(events, (now + seconds[following], engine, following))
    return now


def one_queue(seconds: Sequence[float], starts: Sequence[float], slots: int) -> float:
    """When the last row is done if all slots take single rows from one queue."""
    free = [start for start in starts for _ in range(slots)]
    heapq.heapify(free)
    last = 0.0
    for row in seconds:
        last = max(last, free[0] + row)
        heapq.heapreplace(free, free[0] + row)
    return last


def drawn(n_rows: int, slots: int, seed: int) -> list[float]:
    """How long each row takes in a slot, in seconds."""
    rng = random.Random(seed)
    mean = ROW_S * slots / math.exp(SIGMA**2 / 2)
    return [mean * rng.lognormvariate(0.0, SIGMA) for _ in range(n_rows)]


def main(n_rows: int, shard_rows_before: int, draws: int) -> list[dict[str, Any]]:
    figures = []
    for slots, last in itertools.product((1, 64), (0.0, 90.0)):
        ratios = []
        for seed in range(draws):
            seconds, rng = drawn(n_rows, slots, seed), random.Random(seed)
            starts = [rng.uniform(60.0, last) if last else 0.0 for _ in range(ENGINES)]
            ideal = one_queue(seconds, starts, slots)
            with tempfile.TemporaryDirectory() as folder:
                in_turn = wall(seconds, starts, slots, InTurn(n_rows, folder))
            ratios.append((in_turn / ideal, wall(seconds, starts, slots, DealtOut(n_rows, shard_rows_before)) / ideal))
        mean = [round(statistics.mean(column), 3) for column in zip(*ratios, strict=True)]
        worst = round(max(ratio for ratio, _ in ratios), 3)
        figures.append(
            {
                "rows": n_rows,
                "slots": slots,
                "last_start_s": last,
                "in_turn": mean[0],
                "worst": worst,
                "dealt_out": mean[1],
            }
        )
    return figures


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
