"""The training examples nearest to a pair that a judge was measured on, by the words that they share.

Words are those of `data.overlap`. Runs of 13 of them, by which it finds copies, hardly ever occur in two different pairs, so
nearness counts runs of 1 and of 3: the share of the judged pair's runs that an example has, each weighted by
log((2 + n) / (1 + m)) for m of n examples that have it, so that what all have hardly counts. Whether the two also share a run
of 13 words is said beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from data.benchmarks.items import CHOSEN_ORDERS, Benchmark, Item
from data.files import Lines, line_blocks
from data.overlap import Index, Kind, words_of
from data.records import flip, parse_pair
from data.store.artifacts import Artifact
from tasks.machine.parallel import over_blocks
from tasks.trust.finding import NoSuchPairError
from tasks.trust.judgments import is_wrong, judgments_on
from tasks.trust.rows_by_id import Row
from tasks.trust.stages import ITEMS, Stages

TrainingSet = tuple[Artifact, str]
_KINDS: Sequence[Kind] = ("exact", "near", "passage")
WordRun = str | tuple[str, str, str]
"""A word, which makes pairs of few words comparable, or three in a row, which tell a phrase from a topic."""


@dataclass(frozen=True)
class Nearest:
    """The training examples of the judge that made `judgment`, the most similar first.

    `searched` are its training sets, `examples` the pairs in them.
    """

    judgment: Row
    searched: list[str]
    examples: int
    nearest: list[Row] = field(default_factory=list)

    def to_json(self) -> Row:
        return asdict(self)


def nearest_to(stages: Stages, identity: str, most: int) -> Nearest:
    """Up to `most` examples nearest to a judged pair: of the run's last judge that was wrong on it, or else of its last one.

    Raises NoSuchPairError if no judge of the run was measured on it, or if the judge's training sets are not in the run folder.
    """
    judgments = [one for one in judgments_on(stages, identity) if one["judge"] is not None]
    known = {one.manifest.name: one for one in stages.all}
    wanted = [one for one in judgments if is_wrong(one)] or judgments
    if not wanted:
        raise NoSuchPairError(f"no judge of this run was measured on {identity!r}: there is no judgment to look behind")
    judgment = wanted[-1]
    sets = list(_training_sets(stages, known[judgment["judge"]]))
    if not sets:
        raise NoSuchPairError(f"the training set of the judge of {judgment['stage']} is not in the run folder")
    played = stages.read(known[judgment["stage"]], "items")
    row = stages.row(played, ITEMS, identity) if played is not None else None
    assert row is not None, "its games were read by it"
    return _search(stages, Item.from_json(row), judgment, sets, most)


def _training_sets(stages: Stages, judge: Artifact) -> Iterator[TrainingSet]:
    """The files of examples that a judge has learned from, and the judges before it from which it went on."""
    read = stages.file_read(judge, "examples")
    if read is not None:
        yield read
    base = stages.read(judge, "base")
    if base is not None and base.manifest.kind != "pretrain":  # which learned no label
        yield from _training_sets(stages, base)


def _search(stages: Stages, item: Item, judgment: Row, sets: Sequence[TrainingSet], most: int) -> Nearest:
    asked = {run: i for i, run in enumerate(_runs_in(_texts(item)))}
    shared: list[tuple[int, str, bytes]] = []
    seen: set[str] = set()
    counted = np.zeros(len(asked), dtype=np.int64)
    for which, (stage, name) in enumerate(sets):
        stages.say(f"comparing with the examples of {stage.manifest.name}")
        for found in over_blocks(partial(_shared_in, asked), line_blocks(stage.file(name))):
            for pair, example, places in found:
                if pair not in seen:
                    seen.add(pair)
                    counted[np.frombuffer(places, dtype=np.uint32)] += 1
                    shared.append((which, example, places))
    weights = np.log((2 + len(shared)) / (1 + counted))
    scores = [float(weights[np.frombuffer(places, dtype=np.uint32)].sum()) for _, _, places in shared]
    best = sorted(range(len(shared)), key=lambda i: (-scores[i], i))[:most]
    index = Index({"judged": Benchmark("judged", CHOSEN_ORDERS, (item.group,), (item,))})
    nearest = [
        _example(stages, sets[shared[i][0]], shared[i][1], scores[i] / float(weights.sum()), index)
        for i in best
        if scores[i] > 0
    ]
    return Nearest(judgment, [stage.manifest.name for stage, _ in sets], len(shared), nearest)


def _texts(item: Item) -> list[str]:
    return ["\n".join(message.content for message in item.prompt), *item.responses]


def _runs_in(texts: Iterable[str]) -> set[WordRun]:
    runs: set[WordRun] = set()
    for text in texts:
        words = words_of(text)
        runs.update(words)
        runs.update(zip(words, words[1:], words[2:], strict=False))
    return runs


def _shared_in(asked: Mapping[WordRun, int], lines: Lines) -> list[tuple[str, str, bytes]]:
    """Of each pair in some lines: its id, that of its first example, and the numbers of the `asked` runs it has, as uint32."""
    found: list[tuple[str, str, bytes]] = []
    for row in lines.rows():
        pair = _pair_of(row)
        if (row.get("origin") or {}).get("repeat") or (found and found[-1][0] == pair):
            continue  # the same texts once more
        prompt = "\n".join(message["content"] for message in row["prompt"])
        runs = _runs_in((prompt, row["response_a"], row["response_b"]))
        places = np.array([asked[run] for run in runs if run in asked], dtype=np.uint32)
        found.append((pair, str(row["id"]), places.tobytes()))
    return found


def _pair_of(row: Row) -> str:
    return str((row.get("origin") or {}).get("pair", row["id"]))


def _example(stages: Stages, of: TrainingSet, identity: str, similarity: float, index: Index) -> Row:
    """An example, with the label of its pair in the order in which the data lists it."""
    rows = [row for _, row in stages.rows(*of, identity)]
    row, origin = rows[0], rows[0].get("origin") or {}
    kinds = Counter(hit.kind for hit in index.find(parse_pair(row)))
    swapped = origin.get("order") == "ba"
    first, second = ("response_b", "response_a") if swapped else ("response_a", "response_b")
    return {
        "id": _pair_of(row),
        "similarity": round(similarity, 4),
        "overlap": next((kind for kind in _KINDS if kinds[kind]), None),
        "label": flip(row["label"]) if swapped else row["label"],
        "label_from": _origin_of(origin),
        "confidence": origin.get("confidence"),
        "times": len(rows),
        "training_set": of[0].manifest.name,
        "prompt": row["prompt"],
        "response_a": row[first],
        "response_b": row[second],
    }


def _origin_of(origin: dict[str, Any]) -> str:
    round = origin.get("round")
    if origin.get("proof") == "human":
        return "human"
    return f"pseudo of round {round}" if round else "labeled"
