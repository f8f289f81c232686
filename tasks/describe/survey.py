"""What a source holds: one pass over its rows that counts everything a run would count."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from data.records import Label, RecordError, ResponsePair, flip, pair_key
from data.sources.adapters import Candidate, Kind, Unusable
from data.sources.formats.candidate import Truth
from data.sources.ids import Ids
from data.sources.rows import RawRow
from data.sources.sources import (
    Source,
    assign_order,
    candidates_in,
    identity_of,
    placed_rationale,
    problem_of,
    read_rows,
    unusable_as,
)
from data.sources.unread import COLUMN_ROWS, read_in
from prompts.judge import JudgePrompt
from tasks.describe.columns import Columns

EXAMPLES = 2
NO_TEXT = "no text argues for the label"
TEXTS = ("prompt", "response", "judge's whole prompt")


@dataclass
class Found:
    """How often something was found, and where it was found first."""

    n: int = 0
    where: str = ""
    detail: str = ""

    def add(self, where: str, detail: str = "") -> None:
        if not self.n:
            self.where, self.detail = where, detail
        self.n += 1


@dataclass(frozen=True)
class Example:
    """A usable pair as a run shows it: with positions drawn for responses that have none."""

    where: str
    pair: ResponsePair
    label: Label | None
    rationale: str | None


@dataclass
class Survey:
    """The counts. `usable` is by kind of source; `labels` are as in the file, before positions are drawn."""

    rows: int = 0
    pairs: int = 0
    columns: Columns = field(default_factory=Columns)
    dropped: dict[str, Found] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    usable: Counter[str] = field(default_factory=Counter)
    duplicates: Found = field(default_factory=Found)
    conflicts: Found = field(default_factory=Found)
    same_ids: Found = field(default_factory=Found)
    no_rationale: Found = field(default_factory=Found)
    out_of_shape: Found = field(default_factory=Found)
    lengths: dict[str, array[int]] = field(default_factory=lambda: {name: array("q") for name in TEXTS})
    tokens: dict[str, array[int]] = field(default_factory=lambda: {name: array("q") for name in TEXTS})
    without_places: int = 0
    several_turns: int = 0
    system_turns: int = 0
    examples: list[Example] = field(default_factory=list)


Tokens = Callable[[list[str]], list[int]]
"""The number of tokens of each text."""


def survey(source: Source, prompt: JudgePrompt, tokens: Tokens | None = None) -> Survey:
    """Reads a source to its end. A malformed row is counted, not an error. Raises SourceError for a truncated file."""
    reading = _Reading(source, prompt, tokens)
    for index, raw in enumerate(read_rows(source)):
        reading.add(raw, index)
    reading.count_tokens()
    return reading.found


class _Reading:
    def __init__(self, source: Source, prompt: JudgePrompt, tokens: Tokens | None) -> None:
        self.source, self.prompt, self.tokens = source, prompt, tokens
        self.found = Survey()
        self.seen: set[str] = set()
        self.better: dict[str, bool] = {}
        self.ids = Ids()
        self.waiting: list[tuple[str, str]] = []

    def add(self, raw: RawRow, index: int) -> None:
        self.found.rows += 1
        if self.found.columns.rows < COLUMN_ROWS:
            self.found.columns.add(raw.value, read_in(raw, self.source))
        try:
            candidates = candidates_in(raw, self.source, "pair_with_truth")
        except RecordError as error:
            self.found.pairs += 1
            self._drop("malformed", raw, problem_of(error))
            return
        rationales, problem = self._rationales(raw, len(candidates))
        for place, candidate, rationale in zip(count(), candidates, rationales):
            self.found.pairs += 1
            unusable = self._unusable(candidate)
            if unusable is not None:
                self._drop(unusable[0], raw, unusable[1])
            elif isinstance(candidate, Candidate):
                self.found.without_places += not candidate.positioned
                example = self._example(raw, candidate, rationale, assign_order(index + place, seed=0))
                self._add_pair(example, candidate.truth, problem)

    def _rationales(self, raw: RawRow, n: int) -> tuple[list[str | None], str]:
        """The rationale of each candidate of a row, and why it is missing: the pair is usable without one."""
        if not self.source.has_rationales:
            return [None] * n, ""
        try:
            reasoned = candidates_in(raw, self.source, "rationale")
        except RecordError as error:
            return [None] * n, problem_of(error)
        texts: list[str | None] = []
        problem = NO_TEXT
        for candidate in reasoned:
            unusable = self._unusable(candidate, "rationale")
            texts.append(
                (candidate.rationale or "").strip() if isinstance(candidate, Candidate) and not unusable else None
            )
            if unusable is not None and unusable[0] == "rationale_by_position":
                problem = unusable[1]
        return texts, problem

    def _unusable(self, candidate: Candidate | Unusable, kind: Kind = "pair") -> tuple[str, str] | None:
        if isinstance(candidate, Unusable):
            return candidate.reason, candidate.detail
        return unusable_as(candidate, kind, self.source.max_chars)

    def _drop(self, reason: str, raw: RawRow, detail: str) -> None:
        self.found.dropped.setdefault(reason, Found()).add(raw.where, detail)

    def _example(self, raw: RawRow, candidate: Candidate, rationale: str | None, order: Label) -> Example:
        pair = ResponsePair(identity_of(candidate, self.source), candidate.prompt, *candidate.responses)
        label = None if candidate.truth == "tie" else candidate.truth
        if order == "B" and not candidate.positioned:
            pair, label = pair.swapped(), flip(label) if label else None
        return Example(raw.where, pair, label, placed_rationale(rationale, candidate, label))

    def _add_pair(self, shown: Example, truth: Truth, problem: str) -> None:
        found, pair = self.found, shown.pair
        found.labels[truth or "none"] += 1
        self._measure(pair)
        found.several_turns += any(turn.role == "assistant" for turn in pair.prompt)
        found.system_turns += any(turn.role == "system" for turn in pair.prompt)
        first_label = self._compare(shown)
        if shown.label is not None and self.source.has_rationales:
            if shown.rationale is None:
                found.no_rationale.add(shown.where, problem)
            else:
                found.usable["rationale"] += first_label
                wrong = self.prompt.check_rationale(shown.rationale, shown.label) if self.prompt.has_rationale else None
                if wrong is not None:
                    found.out_of_shape.add(shown.where, wrong)
        if len(found.examples) < EXAMPLES:
            found.examples.append(shown)

    def _compare(self, shown: Example) -> bool:
        """Counts a pair as new, duplicate or conflicting; returns whether it is the first labeled pair with its content."""
        key = pair_key(shown.pair)
        new = key not in self.seen
        self.seen.add(key)
        self.found.usable["pair"] += new
        if new and self.ids.clash(shown.pair.id, key):
            self.found.same_ids.add(shown.where, f"the id {shown.pair.id!r} stands for another pair already")
        first, same = False, True
        if shown.label is not None:
            better = (shown.pair.response_a < shown.pair.response_b) == (shown.label == "A")
            first = key not in self.better
            same = self.better.setdefault(key, better) == better
            self.found.usable["preference"] += first
        if not same:
            self.found.conflicts.add(shown.where)
        elif not new:
            self.found.duplicates.add(shown.where)
        return first

    def _measure(self, pair: ResponsePair) -> None:
        prompt = "\n".join(turn.content for turn in pair.prompt)
        judged = self.prompt.render(pair)[0].content
        texts = [("prompt", prompt), ("response", pair.response_a), ("response", pair.response_b), (TEXTS[2], judged)]
        for name, text in texts:
            self.found.lengths[name].append(len(text))
        if self.tokens is not None:
            self.waiting += texts
            if len(self.waiting) >= 1024:
                self.count_tokens()

    def count_tokens(self) -> None:
        if self.tokens is not None and self.waiting:
            for (name, _), n in zip(self.waiting, self.tokens([text for _, text in self.waiting]), strict=True):
                self.found.tokens[name].append(n)
        self.waiting = []
