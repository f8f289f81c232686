"""The first stage: sources → the rows of the run, with held-out pairs set apart and unlabeled pairs split into batches.

Files of its artifact: ``rationale.jsonl`` (D_p), ``labeled.jsonl`` (D_r), ``heldout.jsonl``, ``batch-1.jsonl`` … (D_u),
``truth.jsonl`` if unlabeled rows carry their true label, ``pretraining.jsonl``, and ``dropped.jsonl``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import IO, Any

from data.files import json_line
from data.overlap import Index, leaked
from data.records import (
    PreferencePair,
    RationalePair,
    Record,
    ResponsePair,
    flip,
    pair_key,
    parse_pair,
    prompt_key,
)
from data.seeds import derive_seed
from data.sources.ids import Ids, clash_of_ids
from data.sources.mixture import Mixture, needs_drawing
from data.sources.rows import DataError
from data.sources.sources import Dropped, Source, as_published, assign_order, read_source
from data.sources.unread import unread_columns
from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome
from tasks.overlap import index_of
from tasks.run.stage import Context, Run
from tasks.settings import DataSettings, RoundSettings

Numbered = tuple[int, Mapping[str, Any]]
"""The number of a source among those of its kind, and a row from it."""


def prepare(run: Run, sets: Sequence[Artifact] = ()) -> Artifact:
    """The stage "data". `sets` are the benchmarks whose copies are left out if the settings ask for it."""
    data, rounds = run.settings.data, run.settings.rounds
    inputs: dict[str, Input] = {
        f"{kind}-{i}": as_published(source)
        for kind in ("rationale", "labeled", "unlabeled", "pretraining", "heldout")
        for i, source in enumerate(getattr(data, kind))
    }
    config = {"data": data.model_dump(mode="json"), "rounds": rounds.model_dump(), "seed": run.seed}
    kept_out = sets if data.contamination == "drop" else ()
    inputs |= {made.manifest.name: made for made in kept_out}

    def body(context: Context) -> Outcome:
        benchmarks = index_of(context.artifact(made.manifest.name) for made in kept_out)
        return _Splitter(context, data, rounds, run.seed, benchmarks).split()

    return run.find_or_make("data", "data", config, inputs, body)


class _Splitter:
    """Reads every source once and writes each row to the one file it belongs in, or to the dropped rows."""

    def __init__(
        self, context: Context, data: DataSettings, rounds: RoundSettings, seed: int, benchmarks: Index
    ) -> None:
        self.context, self.work, self.data, self.rounds, self.seed = context, context.work, data, rounds, seed
        self.benchmarks = benchmarks
        self.better: dict[str, bool] = {}
        self.conflicting: set[str] = set()
        self.rows_in = self.kept = 0
        self.reasons: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}
        self.mixtures: dict[str, list[dict[str, Any]]] = {}
        self.heldout_prompts: set[str] = set()
        self.heldout_pairs: set[str] = set()

    def split(self) -> Outcome:
        if self.data.conflicts == "drop":
            self._find_conflicts()
        with (self.work / "dropped.jsonl").open("w", encoding="utf-8") as self.dropped:
            # Held-out pairs first: their content is kept out of everything else.
            self._write("heldout.jsonl", self._given_heldout())
            self._write("labeled.jsonl", self._mixed("labeled", self._labeled()))
            self._write("rationale.jsonl", self._mixed("rationale", self._fresh("rationale", self.data.rationale)))
            if self.data.pretraining:
                self._write("pretraining.jsonl", self._mixed("pretraining", self._fresh("pair", self.data.pretraining)))
            self._cut_batches()
        self._check()
        metrics = {"sizes": self.sizes} | ({"mixtures": self.mixtures} if self.mixtures else {})
        return Outcome(Counts(self.rows_in, self.kept, dict(sorted(self.reasons.items()))), metrics)

    def _given_heldout(self) -> Iterator[Mapping[str, Any]]:
        given = ((n, record.to_json()) for n, record in self._read("preference", self.data.heldout))
        for row in self._mixed("heldout", given):
            self._hold_out(parse_pair(row))
            yield row

    def _labeled(self) -> Iterator[Numbered]:
        """Labeled pairs; if no held-out source is given, a share of their prompts is split off on the way."""
        split_off = not self.data.heldout
        with (self.work / "heldout.jsonl").open("a", encoding="utf-8") as heldout:
            for n, record in self._read("preference", self.data.labeled):
                pair = _pair(record)
                draw = derive_seed(self.seed, "heldout", prompt_key(pair.prompt)) / 2**31
                if split_off and draw < self.data.heldout_share:
                    self._hold_out(pair)
                    heldout.write(json_line(record.to_json()))
                    self.sizes["heldout.jsonl"] += 1
                    self.kept += 1
                elif not self._overlaps(pair):
                    yield n, record.to_json()

    def _fresh(self, kind: str, sources: tuple[Source, ...]) -> Iterator[Numbered]:
        for n, record in self._read(kind, sources):
            if not self._overlaps(_pair(record)):
                yield n, record.to_json()

    def _mixed(self, kind: str, rows: Iterator[Numbered]) -> Iterator[Mapping[str, Any]]:
        """The usable rows of a kind after its sources' caps and weights are applied. The surplus is dropped and counted."""
        sources: tuple[Source, ...] = getattr(self.data, kind)
        if not needs_drawing(sources):
            yield from (row for _, row in rows)
            return
        mixture = Mixture(sources, self.seed, self.work / "mixture.tmp")
        taken = mixture.fill(rows)
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
        yield from mixture.rows(taken)

    def _cut_batches(self) -> None:
        """Unlabeled pairs in a seeded order, one batch per round. Adding rounds leaves the earlier batches unchanged."""
        pool, truth = self.work / "pool.tmp", self.work / "truth.jsonl"
        offsets: list[int] = []
        with pool.open("wb") as stream, truth.open("w", encoding="utf-8") as truths:
            for index, row in enumerate(self._mixed("unlabeled", self._unlabeled())):
                pair, label = parse_pair(row), row["label"]
                # Files that pair two models' answers always show the same one first; a seeded coin undoes that.
                if assign_order(index, self.seed) == "B":
                    pair, label = pair.swapped(), flip(label) if label else None
                offsets.append(stream.tell())
                stream.write(json_line(pair.to_json()).encode())
                if label is not None:
                    truths.write(json_line({"id": pair.id, "label": label}))
        random.Random(derive_seed(self.seed, "batches")).shuffle(offsets)
        used = 0
        with pool.open("rb") as stream:
            for i in range(1, self.rounds.count + 1):
                chosen = offsets[used : used + self.rounds.pairs]
                used += len(chosen)
                self._write(f"batch-{i}.jsonl", (_line_at(stream, offset) for offset in chosen))
        self._drop_many(len(offsets) - used, "not_needed")
        self.sizes["unlabeled"] = len(offsets)
        pool.unlink()
        if not self.data.unlabeled_truth:
            truth.unlink()

    def _unlabeled(self) -> Iterator[Numbered]:
        """Unlabeled pairs, each with its true label if those are read."""
        for n, item in self._read("pair_with_truth" if self.data.unlabeled_truth else "pair", self.data.unlabeled):
            pair, label = item if isinstance(item, tuple) else (_pair(item), None)
            if not self._overlaps(pair):
                yield n, {**pair.to_json(), "label": label}

    def _read(self, kind: str, sources: tuple[Source, ...]) -> Iterator[tuple[int, Any]]:
        """Records of one kind from all its sources, each with its source's number, without exact duplicates.

        Raises DataError if two different pairs have the same id.
        """
        seen_pairs: set[str] = set()
        ids = Ids()
        for number, source in enumerate(sources):
            unread = unread_columns(source)
            unsaid = f"; its columns {', '.join(unread)} are not read" if unread else ""
            drawn = "" if source.sample is None else f" (up to {source.sample:,} rows, drawn at random)"
            self.context.watch.log(f"reading {source.path} as {kind}{drawn}{unsaid}")
            for item in read_source(source, kind, derive_seed(self.seed, "order")):  # type: ignore[call-overload]
                self.rows_in += 1
                if isinstance(item, Dropped):
                    self._drop(item.reason, item.id, where=item.where, detail=item.detail)
                    continue
                pair = item[0] if isinstance(item, tuple) else _pair(item)
                key = pair_key(pair)
                if self._contradicts(item, key):
                    self._drop("conflicting_labels", pair.id, where=source.path)
                    continue
                if key in seen_pairs:
                    self._drop("duplicate", pair.id, where=source.path)
                    continue
                if ids.clash(pair.id, key):
                    raise DataError(clash_of_ids(source.path, pair.id, kind))
                seen_pairs.add(key)
                yield number, item

    def _contradicts(self, item: Any, key: str) -> bool:
        """Whether a labeled pair has both labels: it was read earlier with the other one, or is known to occur with both."""
        if not isinstance(item, PreferencePair | RationalePair):
            return False
        return key in self.conflicting or self.better.setdefault(key, _better(item)) != _better(item)

    def _find_conflicts(self) -> None:
        """Reads all labeled pairs in an extra pass beforehand, to find those that occur with both labels."""
        seen: dict[str, bool] = {}
        for kind in ("rationale", "labeled", "heldout"):
            for source in getattr(self.data, kind):
                for item in read_source(source, "preference", derive_seed(self.seed, "order")):
                    if isinstance(item, PreferencePair):
                        key = pair_key(item.pair)
                        if seen.setdefault(key, _better(item)) != _better(item):
                            self.conflicting.add(key)

    def _overlaps(self, pair: ResponsePair) -> bool:
        if self.data.overlap == "prompt" and prompt_key(pair.prompt) in self.heldout_prompts:
            self._drop("prompt_is_held_out", pair.id)
            return True
        if pair_key(pair) in self.heldout_pairs:
            self._drop("pair_is_held_out", pair.id)
            return True
        hit = leaked(self.benchmarks.find(pair))
        if hit is not None:
            self._drop(f"in_{hit.benchmark}", pair.id, **asdict(hit))
            return True
        return False

    def _hold_out(self, pair: ResponsePair) -> None:
        self.heldout_prompts.add(prompt_key(pair.prompt))
        self.heldout_pairs.add(pair_key(pair))

    def _write(self, name: str, rows: Iterator[Mapping[str, Any]]) -> None:
        self.sizes.setdefault(name, 0)
        with (self.work / name).open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json_line(row))
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
        for name in ("heldout.jsonl", "labeled.jsonl", *(f"{kind}.jsonl" for kind in wanted)):
            if not self.sizes[name]:
                raise DataError(
                    f"no rows are left for {name.removesuffix('.jsonl')}: {self.rows_in} rows were read in all, "
                    f"dropped {dict(self.reasons)}. Check {self.work / 'dropped.jsonl'} and the section data"
                )
        needed = (self.rounds.count - 1) * self.rounds.pairs + 1
        if self.rounds.count and self.sizes["unlabeled"] < needed:
            raise DataError(
                f"{self.rounds.count} rounds of {self.rounds.pairs} fresh unlabeled pairs need at least {needed} pairs, "
                f"but {self.sizes['unlabeled']} were found: add sources to data.unlabeled, or lower rounds.pairs or rounds.count"
            )


def _pair(record: Record) -> ResponsePair:
    return record.pair if isinstance(record, PreferencePair | RationalePair) else record


def _better(item: PreferencePair | RationalePair) -> bool:
    """Which response is preferred, whatever the display order: True if it is the one that sorts first as a string."""
    chosen, other = item.pair.response_a, item.pair.response_b
    return (chosen < other) == (item.label == "A")


def _line_at(stream: IO[bytes], offset: int) -> Mapping[str, Any]:
    import json

    stream.seek(offset)
    row: Mapping[str, Any] = json.loads(stream.readline())
    return row


def batch_of(data: Artifact, round: int) -> FileRef:
    """The fresh unlabeled pairs of a round."""
    return data.ref(f"batch-{round}.jsonl")


def truth_of(data: Artifact) -> FileRef | None:
    """The true labels of the unlabeled pairs, if the data has them."""
    return data.ref("truth.jsonl") if "truth.jsonl" in data.manifest.files else None
