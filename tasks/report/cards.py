"""The pairs that a report shows in full, with their filters, and how much of them fits on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tasks.report.heldout import WRONG, wrong_pairs
from tasks.report.samples import SAMPLES, Row, sample_pairs
from tasks.run.stage import Run

FITS = ((None, SAMPLES), (4000, SAMPLES), (1500, SAMPLES), (1500, 8), (800, 4), (400, 2), (400, 0))
"""(characters of each text, pairs of each round) in the order tried until the page is small enough; None is the whole text."""


@dataclass(frozen=True)
class Card:
    """A pair with everything that happened to it. `keys` are those of the filters that show it; the `first` one is open."""

    name: str
    pair: Row
    heldout: bool
    tone: str
    keys: tuple[str, ...]
    reason: str = ""
    first: bool = False


@dataclass(frozen=True)
class Filter:
    """A choice of cards: a title, or a reason to drop pairs."""

    key: str
    title: str
    n: int
    reason: str = ""


@dataclass(frozen=True)
class Pairs:
    """What there is to show: pairs of the batches by round, and held-out pairs that the best judge got wrong, of how many."""

    batches: Sequence[tuple[str, Sequence[Row]]]
    judge: str
    wrong: Sequence[Row]
    n_wrong: int


def pairs_of(run: Run, table: Sequence[Row], best: Row | None) -> Pairs:
    """The samples of each round in `table`, and of the `best` one's held-out pairs."""
    batches = [(row["name"], pairs) for row in table if (pairs := sample_pairs(run, row["round"]))]
    wrong, n_wrong = wrong_pairs(run, best["round"]) if best else ([], 0)
    return Pairs(batches, best["name"] if best else "", wrong, n_wrong)


def cards_of(pairs: Pairs, most: int) -> tuple[list[Card], list[Filter]]:
    """The cards, held-out pairs first, with up to `most` of each group; and the filters that show at least one of them."""
    found = [Card(pairs.judge, pair, True, "dropped", ("heldout",)) for pair in pairs.wrong[:most]]
    found += [_card(name, pair) for name, batch in pairs.batches for pair in batch[:most]]
    reasons = Counter(card.reason for card in found if card.reason)
    numbered = {name: f"reason-{i}" for i, (name, _) in enumerate(reasons.most_common())}
    cards = [
        replace(card, keys=(*card.keys, *([numbered[card.reason]] if card.reason else [])), first=i == 0)
        for i, card in enumerate(found)
    ]
    return cards, [one for one in _filters(cards, numbered) if one.n]


def _card(name: str, pair: Row) -> Card:
    reason = pair["fate"].partition(": ")[2]
    kept_wrong = pair["kept"] and pair["truth"] is not None and pair["truth"] != pair["label"]
    keys = ["kept" if pair["kept"] else "dropped" if reason else "open", *(["wrong"] if kept_wrong else [])]
    return Card(name, pair, False, "kept" if pair["kept"] else "dropped", tuple(keys), reason)


def _filters(cards: Sequence[Card], numbered: dict[str, str]) -> Iterator[Filter]:
    n = Counter(key for card in cards for key in card.keys)
    yield Filter("all", "all", len(cards))
    yield Filter("heldout", "wrong on held-out pairs", n["heldout"])
    yield Filter("wrong", "kept with a wrong label", n["wrong"])
    yield Filter("kept", "kept", n["kept"])
    yield Filter("dropped", "dropped", n["dropped"])
    for reason, key in numbered.items():
        yield Filter(key, "", n[key], reason)


def said_of(pairs: Pairs, longest: int | None, most: int, place: str) -> str:
    """Which pairs are shown and what is left out; `place` has all of it."""
    said = []
    if pairs.wrong:
        shown = min(len(pairs.wrong), most)
        judge = (
            "the judge after the final fine-tuning" if pairs.judge == "final" else f"the judge of round {pairs.judge}"
        )
        said.append(f"{shown} of {pairs.n_wrong:,} held-out pairs that {judge} got wrong in at least one order.")
    if pairs.batches:
        drawn = "pairs drawn at random, with a seed derived from the run's, from each round's unlabeled batch"
        said.append(f"{min(max(len(batch) for _, batch in pairs.batches), most)} {drawn}.")
    if longest is not None:
        said.append(f"To keep the page small, texts over {longest:,} characters are cut in the middle, as marked")
        said[-1] += f", and {most} pairs of each group are shown." if most < max(SAMPLES, WRONG) else "."
    said.append(f"All sampled pairs, whole: {place}.")
    return " ".join(said)
