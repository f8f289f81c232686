"""The first stage: sources → the rows of the run, with held-out pairs set apart and unlabeled pairs split into batches.

Files of its artifact: ``rationale.jsonl`` (D_p), ``labeled.jsonl`` (D_r), ``heldout.jsonl``, ``batch-1.jsonl`` … (D_u),
``truth.jsonl`` if unlabeled rows carry their true label, ``calibration.jsonl`` and ``pretraining.jsonl`` if they are asked for,
``dropped.jsonl``, and ``origins.jsonl``: the file and row of a source that each usable pair was read from, also of those that no
other file lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

from data.files import json_line
from data.overlap import Index
from data.seeds import derive_seed
from data.sources.adapters import Kind
from data.sources.apart import SetApart, is_drawn, on_one_side
from data.sources.ids import Ids, clash_of_ids
from data.sources.mixture import Mixture, needs_drawing
from data.sources.pool import Pool
from data.sources.prepared import Prepared, prepared_in, with_both_labels
from data.sources.rows import DataError
from data.sources.sources import Dropped, Reading, Source, as_published, blocks_as, name_of, within_allowance
from data.sources.unread import not_read
from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome
from tasks.machine.parallel import over_blocks
from tasks.overlap import index_of
from tasks.run.stage import Context, Run
from tasks.settings import DataSettings, RoundSettings
from tasks.settings.data import SOURCES

ORIGINS = "origins.jsonl"
Numbered = tuple[int, Prepared]
"""The number of a source among those of its kind, and a pair from it."""


def prepare(run: Run, sets: Sequence[Artifact] = ()) -> Artifact:
    """The stage "data". `sets` are the benchmarks whose copies are left out if the settings ask for it."""
    data, rounds = run.settings.data, run.settings.rounds
    inputs: dict[str, Input] = {
        f"{kind}-{i}": as_published(source) for kind in SOURCES for i, source in enumerate(getattr(data, kind))
    }
    config = {"data": data.model_dump(mode="json"), "rounds": rounds.batches(), "seed": run.seed}
    kept_out = sets if data.contamination == "drop" else ()
    inputs |= {made.manifest.name: made for made in kept_out}

    def body(context: Context) -> Outcome:
        benchmarks = index_of(context.artifact(made.manifest.name) for made in kept_out) if kept_out else None
        return _Splitter(context, data, rounds, run.seed, benchmarks).split()

    return run.find_or_make("data", "data", config, inputs, body)


class _Splitter:
    """Reads every source once and writes each row to the one file it belongs in, or to the dropped rows.

    Memory: about 0.3 GB a million rows, to tell copies and ids apart; texts are held a few hundred rows at a time.
    """

    def __init__(
        self, context: Context, data: DataSettings, rounds: RoundSettings, seed: int, benchmarks: Index | None
    ) -> None:
        self.context, self.work, self.data, self.rounds, self.seed = context, context.work, data, rounds, seed
        self.benchmarks = benchmarks
        self.better: dict[int, bool] = {}
        self.conflicting: set[int] = set()
        self.labeled: set[int] = set()
        self.rows_in = self.kept = 0
        self.reasons: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}
        self.mixtures: dict[str, list[dict[str, Any]]] = {}
        self.shares = data.split_off_shares
        self.apart = {
            "heldout": SetApart("held_out", data.overlap),
            "calibration": SetApart("for_calibration", data.overlap),
        }

    def split(self) -> Outcome:
        if self.data.conflicts == "drop":  # an extra pass beforehand
            self.conflicting = with_both_labels(self._all_labeled())
        with (
            (self.work / "dropped.jsonl").open("w", encoding="utf-8") as self.dropped,
            (self.work / ORIGINS).open("wb") as self.origins,
        ):
            # Held-out pairs first: their content is kept out of everything else; then that of calibration pairs.
            self._write("heldout.jsonl", self._set_apart("heldout"))
            if self.data.calibrates:
                self._write("calibration.jsonl", self._set_apart("calibration", "heldout"))
            self._write_mixed("labeled", self._labeled())
            self._write_mixed("rationale", self._fresh("rationale", self.data.rationale))
            if self.data.pretraining:
                self._write_mixed("pretraining", self._fresh("pair", self.data.pretraining))
            self._cut_batches()
        self._check()
        metrics = {"sizes": self.sizes} | ({"mixtures": self.mixtures} if self.mixtures else {})
        return Outcome(Counts(self.rows_in, self.kept, dict(sorted(self.reasons.items()))), metrics)

    def _set_apart(self, kind: str, *kept_out_by: str) -> Iterator[bytes]:
        """The pairs of the sources that are given for this kind."""
        found = self._read("preference", getattr(self.data, kind))
        for pair in self._mixed(kind, (one for one in found if not self._is_kept_out(one[1], *kept_out_by))):
            self.apart[kind].add(pair)
            yield pair.line

    def _labeled(self) -> Iterator[Numbered]:
        """Labeled pairs, except for the shares of their prompts that are split off on the way."""
        with ExitStack() as files:
            ends = {kind: files.enter_context((self.work / f"{kind}.jsonl").open("ab")) for kind in self.shares}
            for n, pair in self._read("preference", self.data.labeled):
                kind = self._drawn_for(pair)
                if kind is None:
                    if not self._overlaps(pair):
                        yield n, pair
                elif kind == "heldout" or not self._is_kept_out(pair, "heldout"):
                    self.apart[kind].add(pair)
                    ends[kind].write(pair.line)
                    self.sizes[f"{kind}.jsonl"] += 1
                    self.kept += 1

    def _drawn_for(self, pair: Prepared) -> str | None:
        """What a labeled pair is split off for: all pairs of a prompt or, if they share one, pair by pair."""
        # Held-out pairs are drawn by prompt in any case: runs keep those that they have.
        by = {"heldout": pair.prompt, "calibration": pair.key if self.data.overlap == "pair" else pair.prompt}
        shares = self.shares.items()
        return next((kind for kind, share in shares if is_drawn(by[kind], self.seed, kind, share)), None)

    def _fresh(self, kind: Kind, sources: tuple[Source, ...]) -> Iterator[Numbered]:
        return (numbered for numbered in self._read(kind, sources) if not self._overlaps(numbered[1]))

    def _mixed(self, kind: str, pairs: Iterator[Numbered]) -> Iterator[Prepared]:
        """The usable pairs of a kind after its sources' caps and weights are applied. The surplus is dropped and counted."""
        sources: tuple[Source, ...] = getattr(self.data, kind)
        if not needs_drawing(sources):
            yield from (pair for _, pair in pairs)
            return
        mixture = Mixture(sources, self.seed, self.work / "mixture.tmp")
        taken = mixture.fill(pairs)
        for source, take in zip(sources, taken, strict=True):
            if source.weight is not None and not take.found:
                raise DataError(
                    f"{source.path}: no usable {kind} pairs, so a mixture that includes its weight would be empty; dropped "
                    f"so far: {dict(self.reasons)}. Leave the source out, or change what drops its rows"
                )
            self._drop_many(take.found - take.capped, "over_cap", where=source.path)
            self._drop_many(take.capped - take.kept, "over_weight", where=source.path)
        self.mixtures[kind] = [
            {"source": source.path, "usable": take.found, "kept": take.kept}
            for source, take in zip(sources, taken, strict=True)
        ]
        yield from mixture.pairs(taken)

    def _cut_batches(self) -> None:
        """Unlabeled pairs in a seeded order, one batch per round. Adding rounds leaves the earlier batches unchanged."""
        pool, truth = Pool(self.seed, self.work / "pool.tmp"), self.work / "truth.jsonl"
        with truth.open("w", encoding="utf-8") as truths:
            pool.fill(self._mixed("unlabeled", self._unlabeled()), truths)
        for i in range(1, self.rounds.count + 1):
            self._write(f"batch-{i}.jsonl", pool.batch(i, self.rounds.pairs))
        self._drop_many(max(0, len(pool) - self.rounds.count * self.rounds.pairs), "not_needed")
        self.sizes["unlabeled"] = len(pool)
        pool.spool.unlink()
        if not self.data.unlabeled_truth:
            truth.unlink()

    def _unlabeled(self) -> Iterator[Numbered]:
        """Unlabeled pairs, each with its true label if those are read, without those that are learned with their label."""
        kind: Kind = "pair_with_truth" if self.data.unlabeled_truth else "pair"
        for n, pair in self._fresh(kind, self.data.unlabeled):
            if pair.key in self.labeled:
                self._drop("pair_is_labeled", pair.id, where=pair.where)
            else:
                yield n, pair

    def _read(self, kind: Kind, sources: tuple[Source, ...]) -> Iterator[Numbered]:
        """Pairs of one kind from all its sources, each with its source's number, without exact duplicates.

        Raises DataError if two different pairs have the same id.
        """
        seen: set[int] = set()
        ids = Ids()
        for number, source in enumerate(sources):
            unread = not_read(source)
            unsaid = f"; not read: {unread}" if unread else ""
            drawn = "" if source.sample is None else f" (up to {source.sample:,} rows, drawn at random)"
            self.context.watch.log(f"reading {source.path} as {kind}{drawn}{unsaid}")
            for item in self._prepared(source, kind, self.benchmarks):
                self.rows_in += 1
                if isinstance(item, Dropped):
                    self._drop(item.reason, item.id, where=item.where, detail=item.detail)
                elif self._contradicts(item):
                    self._drop("conflicting_labels", item.id, where=item.where)
                elif item.key in seen:
                    self._drop("duplicate", item.id, where=item.where)
                else:
                    if ids.clash(item.id, item.key):
                        raise DataError(clash_of_ids(source.path, item.id, kind))
                    seen.add(item.key)
                    self.origins.write(item.origin)
                    yield number, item

    def _prepared(self, source: Source, kind: Kind, kept_out: Index | None) -> Iterator[Prepared | Dropped]:
        """Everything in a source, in order, prepared on all cores."""
        reading = Reading(source, kind, name_of(source), derive_seed(self.seed, "order"))
        with closing(over_blocks(partial(prepared_in, reading, kept_out), blocks_as(source, kind))) as blocks:
            items: Iterator[Prepared | Dropped] = within_allowance(chain.from_iterable(blocks), source)
            yield from items

    def _contradicts(self, pair: Prepared) -> bool:
        """Whether a labeled pair has both labels: it was read earlier with the other one, or is known to occur with both."""
        if pair.better is None:
            return False
        return pair.key in self.conflicting or self.better.setdefault(pair.key, pair.better) != pair.better

    def _all_labeled(self) -> Iterator[Prepared | Dropped]:
        for kind in ("rationale", "labeled", "heldout", "calibration"):
            for source in getattr(self.data, kind):
                yield from self._prepared(source, "preference", None)

    def _overlaps(self, pair: Prepared) -> bool:
        if self._is_kept_out(pair, *self.apart):
            return True
        if pair.hit is not None:
            self._drop(f"in_{pair.hit.benchmark}", pair.id, where=pair.where, **asdict(pair.hit))
        return pair.hit is not None

    def _is_kept_out(self, pair: Prepared, *kinds: str) -> bool:
        """Whether it is too much like a pair that is set apart; then it is dropped."""
        reason = next((reason for kind in kinds if (reason := self.apart[kind].keeps_out(pair))), None)
        if reason is None and kinds == ("heldout",) and self._drawn_for(pair) == "heldout":
            reason = "prompt_is_held_out"  # or will be, when the labeled pairs are read
        if reason is not None:
            self._drop(reason, pair.id, where=pair.where)
        return reason is not None

    def _write_mixed(self, kind: str, pairs: Iterator[Numbered]) -> None:
        self._write(f"{kind}.jsonl", map(self._learned, self._mixed(kind, pairs)))

    def _learned(self, pair: Prepared) -> bytes:
        """The line of a pair; if it has a label, it is no fresh pair for a round."""
        if pair.better is not None:
            self.labeled.add(pair.key)
        return pair.line

    def _write(self, name: str, lines: Iterator[bytes]) -> None:
        self.sizes.setdefault(name, 0)
        with (self.work / name).open("wb") as stream:
            for line in lines:
                stream.write(line)
                self.sizes[name] += 1
                self.kept += 1

    def _drop(self, reason: str, identity: str | None, **facts: object) -> None:
        self.reasons[reason] += 1
        self.dropped.write(json_line({"id": identity, "reason": reason, **facts}))

    def _drop_many(self, n: int, reason: str, **facts: object) -> None:
        if n:
            self.reasons[reason] += n
            self.dropped.write(json_line({"id": None, "reason": reason, "rows": n, **facts}))

    def _check(self) -> None:
        wanted = [kind for kind in ("rationale", "pretraining") if getattr(self.data, kind)]
        wanted += ["calibration"] * self.data.calibrates
        for kind in ("heldout", "labeled", *wanted):
            if not self.sizes[f"{kind}.jsonl"]:
                hint = on_one_side(self.work) if "heldout" in self.shares and kind in ("heldout", "labeled") else ""
                raise DataError(
                    f"no rows are left for {kind}: {self.rows_in} rows were read in all, dropped {dict(self.reasons)}. "
                    f"Check {self.work / 'dropped.jsonl'} and the section data{hint}"
                )
        needed = (self.rounds.count - 1) * self.rounds.pairs + 1
        if self.rounds.count and self.sizes["unlabeled"] < needed:
            n = self.reasons["pair_is_labeled"]
            besides = f" besides {n} that are labeled pairs too" if n else ""
            raise DataError(
                f"{self.rounds.count} rounds of {self.rounds.pairs} fresh unlabeled pairs need at least {needed} pairs, but "
                f"{self.sizes['unlabeled']} were found{besides}: add sources to data.unlabeled, or lower rounds.pairs or "
                "rounds.count"
            )


def batch_of(data: Artifact, round: int) -> FileRef:
    """The fresh unlabeled pairs of a round."""
    return data.ref(f"batch-{round}.jsonl")


def truth_of(data: Artifact) -> FileRef | None:
    """The true labels of the unlabeled pairs, if the data has them."""
    return data.ref("truth.jsonl") if "truth.jsonl" in data.manifest.files else None


def calibration_of(data: Artifact) -> FileRef:
    """The labeled pairs that no model is trained on, and that are not held out."""
    return data.ref("calibration.jsonl")
