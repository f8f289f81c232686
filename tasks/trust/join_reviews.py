"""What people have said about a run's pairs joins its data, at the next start after an import.

Files of the artifact: those of the stage "data", with the reviewed pairs added to ``labeled.jsonl`` or ``calibration.jsonl`` and
taken out of the batches, and ``dropped.jsonl``. Pairs that nobody reviewed stay where they were: a batch without reviewed pairs
is the same as before. The other files are, too: the prover and a pre-trained judge are not made again for reviews.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from data.files import Lines, json_line, line_blocks, link_file, read_jsonl
from data.records import PreferencePair, ResponsePair, pair_key, parse_pair, prompt_key
from data.sources.sources import Source, as_published, read_source
from data.store.artifacts import Artifact, Counts, Input, Outcome, StageError
from tasks.machine.parallel import over_blocks
from tasks.run.stage import Context, Run
from tasks.trust.review_files import Destination, ReviewError, reviewed_source

_ORDER: tuple[Destination, ...] = ("calibration", "labeled")
"""Calibration first: a pair that shares its prompt with one of those is not learned from either."""


def join_reviews(run: Run, data: Artifact) -> Artifact:
    """The stage "reviewed-data": the run's data with its reviewed pairs. Without any, `data` itself: there is no such stage."""
    found = {into: reviewed_source(run.store, into) for into in _ORDER} if run.settings.data.reviews else {}
    sources = {into: source for into, source in found.items() if source is not None}
    if not sources:
        return data
    by_prompt = run.settings.data.overlap == "prompt"

    def body(context: Context) -> Outcome:
        return _Joining(context, by_prompt).join(sources)

    inputs: dict[str, Input] = {
        "data": data,
        **{f"reviewed-{into}": as_published(one) for into, one in sources.items()},
    }
    return run.find_or_make("reviewed-data", "reviewed-data", {"by_prompt": by_prompt}, inputs, body)


@dataclass
class _Apart:
    """Pairs, and prompts, that do not belong into a file, each with the reason."""

    pairs: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)

    def reason(self, pair: ResponsePair) -> str | None:
        """Why a pair does not belong there; None if it does."""
        found = self.pairs.get(pair_key(pair)) if self.pairs else None
        return found or (self.prompts.get(prompt_key(pair.prompt)) if self.prompts else None)


class _Joining:
    """Reads the reviewed pairs into memory, then passes on the labeled pairs and the batches, a block at a time.

    `withheld` is what reviewed pairs must not be, `moved` what labeled pairs and batches must not have any more.
    """

    def __init__(self, context: Context, by_prompt: bool) -> None:
        self.context, self.data, self.by_prompt = context, context.artifact("data"), by_prompt
        self.files = [name for name in self.data.manifest.files if name != "dropped.jsonl"]
        self.sizes: dict[str, int] = dict(self.data.manifest.metrics["sizes"])
        self.withheld, self.moved = _Apart(), _Apart()
        self.rows_in = self.kept = 0
        self.reasons: Counter[str] = Counter()

    def join(self, sources: Mapping[Destination, Source]) -> Outcome:
        self._withhold("heldout.jsonl", "held_out")
        self._withhold("calibration.jsonl", "for_calibration")
        with (self.context.work / "dropped.jsonl").open("w", encoding="utf-8") as self.dropped:
            joining = {into: self._usable(into, source) for into, source in sources.items()}
            for name in self.files:
                self._pass_on(name)
            for into, pairs in joining.items():
                self._append(f"{into}.jsonl", pairs)
        if not self.sizes["labeled.jsonl"]:
            raise StageError(
                f"no labeled pairs are left, because of the reviewed calibration pairs: {dict(self.reasons)}"
            )
        joined = {into: len(pairs) for into, pairs in joining.items()}
        metrics = {**self.data.manifest.metrics, "sizes": self.sizes, "reviewed": joined}
        return Outcome(Counts(self.rows_in, self.kept, dict(sorted(self.reasons.items()))), metrics)

    def _withhold(self, name: str, kind: str) -> None:
        for row in read_jsonl(self.data.file(name)) if name in self.files else ():
            self._set_apart(self.withheld, parse_pair(row), kind)

    def _usable(self, into: Destination, source: Source) -> list[PreferencePair]:
        """The reviewed pairs of a kind, without those that must not be there."""
        found, learned = [], _Apart()
        if into == "calibration" and "rationale.jsonl" in self.files:
            # Those are learned from as they were: the prover is not trained again for a review.
            for row in read_jsonl(self.data.file("rationale.jsonl")):
                self._set_apart(learned, parse_pair(row), "learned_with_rationale")
        for record in read_source(source, "preference", seed=0):
            if not isinstance(record, PreferencePair):
                raise ReviewError(f"{record.where}: {record.reason} ({record.detail}); import the answers again")
            self.rows_in += 1
            if reason := self.withheld.reason(record.pair) or learned.reason(record.pair):
                self._drop(record.to_json(), reason)
                continue
            found.append(record)
        for record in found:
            if into == "calibration":
                self._set_apart(self.withheld, record.pair, "for_calibration")
                self._set_apart(self.moved, record.pair, "for_calibration")
            else:
                self.moved.pairs[pair_key(record.pair)] = "reviewed"
        return found

    def _set_apart(self, apart: _Apart, pair: ResponsePair, kind: str) -> None:
        apart.pairs[pair_key(pair)] = f"pair_is_{kind}"
        if self.by_prompt:
            apart.prompts.setdefault(prompt_key(pair.prompt), f"prompt_is_{kind}")

    def _pass_on(self, name: str) -> None:
        """A file of the data: labeled pairs and batches without what is elsewhere now, any other as it is."""
        file, target = self.data.file(name), self.context.work / name
        if name != "labeled.jsonl" and not name.startswith("batch-"):
            # What may be added to must not be a link to the file of the data.
            shutil.copyfile(file, target) if name == "calibration.jsonl" else link_file(file, target)
            return
        self.sizes[name] = 0
        with target.open("wb") as stream:
            for kept, dropped in over_blocks(partial(_without, self.moved), line_blocks(file)):
                stream.writelines(kept)
                self.sizes[name] += len(kept)
                self.rows_in += len(kept) + len(dropped)
                self.kept += len(kept)
                for row, reason in dropped:
                    self._drop(row, reason)

    def _append(self, name: str, pairs: Sequence[PreferencePair]) -> None:
        """Adds pairs to a file.

        A user's own ids are unique only within a kind of file: a pair whose id is taken there gets one from its content.
        """
        file = self.context.work / name
        taken = {row["id"] for row in read_jsonl(file)} if name in self.files else set()
        with file.open("ab" if name in self.files else "wb") as stream:
            for pair in pairs:
                row = pair.to_json()
                if row["id"] in taken:
                    row["id"] = pair_key(pair.pair)
                stream.write(json_line(row).encode())
        self.sizes[name] = self.sizes.get(name, 0) + len(pairs)
        self.kept += len(pairs)

    def _drop(self, row: Mapping[str, Any], reason: str) -> None:
        self.reasons[reason] += 1
        self.dropped.write(json_line({**row, "reason": reason}))


def _without(apart: _Apart, lines: Lines) -> tuple[list[bytes], list[tuple[dict[str, Any], str]]]:
    """The lines of the rows that belong there, and the other rows with the reason."""
    kept, dropped = [], []
    for row in lines.rows():
        reason = apart.reason(parse_pair(row))
        if reason is None:
            kept.append(json_line(row).encode())
        else:
            dropped.append((row, reason))
    return kept, dropped
