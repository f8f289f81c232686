"""Which engine makes which shard: each is given the next free one when it has room for more, so that all end together.

The process that started the engines gives out the shards (`OpenShards`); an engine asks it for them (`given`). An engine
that dies leaves its unfinished shards to its successor, or to the others once they have nothing else to do.

Where several machines share a stage (`SharedShards`), a shard is first claimed in the store: ``.000003.claim`` beside it is a
lease, renewed while its holder lives, see `data.store.lease`, and released once the store has the finished shard. The claims
of a lost machine run out after a minute, and others take its shards. If it was not lost after all, a shard is made twice,
with the same seeds, and written once.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from data.store.artifacts import DONE
from data.store.lease import TTL_S, Lease, LeaseError, LocalFile, RemoteFile
from data.store.store import RunStore
from tasks.generation.shards import GenerationJob, Shard, is_over
from tasks.machine import child

_SHARES = 256
_FEWEST_ROWS = 8
"""So that eight engines end together: see ``tests/benchmarks/claims.py``. Smaller shards would only be more files."""
_QUESTION = "the next shard"
_PAUSE_S = 1.0
_LOOK_EVERY_S = 2.0
_START_S = 300.0
"""How long engines are expected to start: a share of the work is left for each that has not shown up by then."""
_TRY_AGAIN_S = TTL_S / 4
"""How often a claim of another machine is looked at, in case it has run out."""


def rows_a_shard(n_rows: int, most: int) -> int:
    """How many of a stage's rows go into one shard: `most`, or fewer in a small stage, for its engines to end together too."""
    return min(most, max(_FEWEST_ROWS, n_rows // _SHARES))


class OpenShards:
    """The shards of a job that are not written yet, given out in order, each to one engine at a time.

    `engines` is how many engines share them: as many as were asked for, unless there are fewer shards.
    """

    def __init__(self, job: GenerationJob, engines: int) -> None:
        """Reads the finished shards, to see whether they still are what was written."""
        self.job = job
        # With the engine that died on it, if one did.
        self._free = {shard.number: "" for shard in job.shards() if self._is_open(shard)}
        self.engines = max(1, min(engines, len(self._free)))
        self._given: defaultdict[str, set[int]] = defaultdict(set)
        self._asked: set[str] = set()
        self._began = time.monotonic()
        self._rows_left = sum(job.shard(number).n_rows for number in self._free)
        # Of the engines that are running: rows that they reported, and rows of the shards that they finished.
        self._reported: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()

    @property
    def rows_open(self) -> int:
        """How many rows of unfinished shards the running engines have done."""
        return sum(map(self._rows_open, self._reported))

    def _rows_open(self, engine: str) -> int:
        return max(0, self._reported[engine] - self._finished[engine])

    @property
    def rows_done(self) -> int:
        """How many of the job's rows are done, those of unfinished shards included."""
        return min(self.job.n_rows, self.job.n_rows - self._rows_left + self.rows_open)

    def take(self, engine: str) -> Shard | None:
        """The next free shard, which is this engine's from now on; None if it gets none at the moment.

        What it has to do is not more than its share of what is left: the first to start would take all of a short job.
        """
        self._note_finished(engine)
        self._look()
        self._asked.add(engine)
        held = sum(self.job.shard(number).n_rows for number in self._given[engine])
        todo, left = held - self._rows_open(engine), self.job.n_rows - self.rows_done
        for number in sorted(self._free, key=lambda n: (self._turn(engine, n), n)):
            shard = self.job.shard(number)
            if held and (todo + shard.n_rows) * self._n_sharing() > left:
                return None
            if self._claim(number):
                del self._free[number]
                self._given[engine].add(number)
                shard.forget_work()
                return shard
        return None

    def answer(self, engine: str) -> dict[str, Any]:
        """The answer to an engine's question for `given`: the number of its next shard, or whether to wait for one."""
        shard = self.take(engine)
        others = any(shards for name, shards in self._given.items() if name != engine)
        return {"shard": None if shard is None else shard.number, "wait": bool(self._free) or others}

    def are_written(self) -> bool:
        """Whether nothing is left to do, as far as engines have said by asking for more."""
        return not self._free and not any(self._given.values())

    def report(self, engine: str, rows: int) -> None:
        """Notes how many rows this engine has done since it was started, those that it found done included."""
        self._note_finished(engine)
        self._reported[engine] = rows

    def died(self, engine: str) -> bool:
        """Takes back an engine's unfinished shards; returns whether it died while it was working on any of them."""
        self._note_finished(engine)
        unfinished = self._given.pop(engine, set())
        self._free |= dict.fromkeys(unfinished, engine)
        del self._reported[engine], self._finished[engine]
        return any([self.job.shard(number).note_death() for number in unfinished])

    def _note_finished(self, engine: str) -> None:
        for number in [n for n in self._given[engine] if self.job.shard(n).is_committed(self.job.attempt)]:
            self._given[engine].remove(number)
            self._finished[engine] += self.job.shard(number).n_rows
            self._rows_left -= self.job.shard(number).n_rows

    def _turn(self, engine: str, number: int) -> int:
        """Which free shards an engine takes first: those on which it died itself, so that no other one dies on them too."""
        return {engine: 0, "": 1}.get(self._free[number], 2)

    def _n_sharing(self) -> int:
        """How many engines share what is left."""
        return self.engines if time.monotonic() - self._began < _START_S else self._n_seen()

    def _n_seen(self) -> int:
        return len(self._asked)

    def _is_open(self, shard: Shard) -> bool:
        return not shard.is_written(self.job.attempt)

    def _look(self) -> None:
        """Learns what others have done meanwhile; on one machine, there are no others."""

    def _claim(self, number: int) -> bool:
        """Claims a free shard; False if another machine has it, or the stage has ended."""
        return True


class SharedShards(OpenShards):
    """The same for one of the machines that share a job: each of its engines' shards is claimed in the store.

    Close it in the end, or others wait a minute for what this machine leaves unfinished.
    """

    def __init__(self, job: GenerationJob, store: RunStore, say: Callable[[str], None]) -> None:
        super().__init__(job, int(job.generation["workers"]))
        self.store, self.say = store, say
        self._folder = Path(job.out).relative_to(store.root).as_posix()
        self._leases: dict[int, Lease] = {}
        self._claimed: set[int] = set()
        self._tried: dict[int, float] = {}
        self._read: dict[int, str] = {}
        self._look_again = 0.0

    def keep_rows(self) -> None:
        """Uploads the rows of unfinished shards, if the store is remote, for whoever follows this machine if it is lost."""
        for number in chain(*self._given.values()):
            with suppress(FileNotFoundError):  # it has no rows yet, or is being finished
                self.store.share(self._partial_of(number))

    def close(self) -> None:
        """Gives up all claims of this process."""
        while self._leases:
            self._leases.popitem()[1].release()

    def _is_open(self, shard: Shard) -> bool:
        # By its facts alone: not every machine should read all that the others have written.
        return not shard.is_committed(self.job.attempt)

    def _n_seen(self) -> int:
        # Of each other engine, nothing but its claims is seen: at least one.
        return min(self.engines, 1 + len(self._claimed))

    def _turn(self, engine: str, number: int) -> int:
        return 3 if number in self._claimed else super()._turn(engine, number)

    def _look(self) -> None:
        """Leaves out what any machine has written by now, and releases the claims on it."""
        if time.monotonic() < self._look_again:  # a claim shows whether it is still free
            return
        self._look_again = time.monotonic() + _LOOK_EVERY_S
        names = self._names()
        for number in self._written(names):
            if self._free.pop(number, None) is not None:
                self._rows_left -= self.job.shard(number).n_rows
            if number in self._leases:
                self._leases.pop(number).release()
        self._claimed = {n for n in self._free if _claim_of(n) in names and n not in self._leases}

    def _names(self) -> Mapping[str, str]:
        """The files beside the shards in the store, each with a value that changes when it is rewritten there."""
        if self.store.remote is not None:
            return self.store.remote.versions(self._folder)
        with suppress(FileNotFoundError):
            return {path.name: "" for path in Path(self.job.out).iterdir()}
        return {}

    def _written(self, names: Mapping[str, str]) -> set[int]:
        """Of the shards that are free or claimed by this process, those that are in the store."""
        there = {n: names[_marker_of(n)] for n in {*self._free, *self._leases} if _marker_of(n) in names}
        if self.store.remote is None:
            return {number for number in there if self.job.shard(number).is_committed(self.job.attempt)}
        paths = {n: f"{self._folder}/{_marker_of(n)}" for n, version in there.items() if self._read.get(n) != version}
        found = self.store.remote.read_all(paths.values())
        read = {number: json.loads(found[path]) for number, path in paths.items() if path in found}
        self._read |= {number: there[number] for number in read}
        return {number for number, facts in read.items() if is_over(facts, self.job.attempt)}

    def _claim(self, number: int) -> bool:
        if number in self._leases:  # the engine that had it has died
            return True
        if number in self._claimed:
            if time.monotonic() - self._tried.get(number, -_TRY_AGAIN_S) < _TRY_AGAIN_S:
                return False
            self._tried[number] = time.monotonic()
        name = f"{self._folder}/{_claim_of(number)}"
        remote, work = self.store.remote, Path(self.job.out).parent
        if not self.store.is_under_way(work):  # all is written: a run that starts late must not begin again
            self._free.clear()
            return False
        try:
            if remote is None:
                Path(self.job.out).mkdir(exist_ok=True)
            file = LocalFile(self.store.root / name) if remote is None else RemoteFile(remote, name)
            self._leases[number] = Lease(file, f"shard {number} of {self._folder}", say=self.say)
        except LeaseError:
            return False
        except FileNotFoundError:  # the stage has ended this very moment
            self._free.clear()
            return False
        # What it holds of an earlier attempt; or all of it, if another machine has finished it since the last look.
        marker = f"{Path(self.job.out).name}/{_marker_of(number)}"
        self.store.refresh(work, lambda part: part == marker)
        shard = self.job.shard(number)
        if not (shard.path.exists() or self._partial_of(number).exists()):
            self.store.bring(self._partial_of(number))  # of a machine that was lost
        return self._is_open(shard)

    def _partial_of(self, number: int) -> Path:
        return Path(self.job.out) / f".{number:06d}.partial"


def _marker_of(number: int) -> str:
    return f".{number:06d}{DONE}"


def _claim_of(number: int) -> str:
    return f".{number:06d}.claim"


def given(job: GenerationJob) -> Iterator[Shard]:
    """In an engine's process: the shards that its parent gives it, until there is nothing left for it to do.

    Waits while it is given none: more may come, of its own share or because another engine is lost.
    """
    while True:
        answer = child.ask(_QUESTION)
        if answer["shard"] is not None:
            yield job.shard(answer["shard"])
        elif answer["wait"]:
            time.sleep(_PAUSE_S)
        else:
            return
