"""The stage "overlap": which training rows overlap with a benchmark; see `data.overlap` for what is compared and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from data.files import Lines, json_line, line_blocks
from data.overlap import NEAR, SHORTEST, Hit, Index, N
from data.records import parse_pair
from data.store.artifacts import Artifact, Counts, Input, Outcome
from tasks.benchmark.sets import read_set
from tasks.machine.parallel import over_blocks
from tasks.run.stage import Context, Run


def index_of(sets: Iterable[Artifact]) -> Index:
    """The index over finished stages "benchmarks/NAME"."""
    return Index({made.manifest.name.removeprefix("benchmarks/"): read_set(made) for made in sets})


def report_overlap(run: Run, data: Artifact, sets: Sequence[Artifact]) -> Artifact:
    """The stage "overlap": lists each training row that overlaps with a benchmark in ``hits.jsonl``, and counts them.

    Rows dropped by `data.contamination` = "drop" are no longer in the data; only the remaining overlap is reported.
    """
    names = [name for name in data.manifest.files if _is_training(name)]
    inputs: dict[str, Input] = {made.manifest.name: made for made in sets}
    inputs |= {name: data.ref(name) for name in names}

    def body(context: Context) -> Outcome:
        index = index_of(context.artifact(made.manifest.name) for made in sets)
        blocks = ((name, lines) for name in names for lines in line_blocks(context.file(name)))
        n_rows = 0
        rows: dict[str, Counter[str]] = {}
        items: dict[str, set[str]] = {}
        with (context.work / "hits.jsonl").open("w", encoding="utf-8") as stream:
            for n, name, found_in in over_blocks(partial(_hits_in, index), blocks):
                n_rows += n
                for identity, hits in found_in:
                    for hit in hits:
                        stream.write(json_line({"file": name, "id": identity, **asdict(hit)}))
                        items.setdefault(f"{hit.benchmark} {hit.kind}", set()).add(hit.item)
                    for benchmark, kind in {(hit.benchmark, hit.kind) for hit in hits}:
                        rows.setdefault(benchmark, Counter())[kind] += 1
        found = {name: dict(counted) for name, counted in sorted(rows.items())}
        metrics: dict[str, Any] = {
            "training_rows": found,
            "items": {name: len(ids) for name, ids in sorted(items.items())},
        }
        for name, counted in found.items():
            counts = ", ".join(f"{n} {kind}" for kind, n in counted.items())
            context.watch.log(f"overlap with {name}: {counts} (training rows; see hits.jsonl)")
        return Outcome(Counts(n_rows, n_rows), metrics)

    return run.find_or_make("overlap", "overlap", {"n": N, "near": NEAR, "shortest": SHORTEST}, inputs, body)


def _hits_in(index: Index, block: tuple[str, Lines]) -> tuple[int, str, list[tuple[str, list[Hit]]]]:
    """How many rows of a file there are in a block, the file's name, and the hits of each row that has some."""
    name, lines = block
    found = [(row["id"], index.find(parse_pair(row))) for row in lines.rows()]
    return len(found), name, [(identity, hits) for identity, hits in found if hits]


def _is_training(name: str) -> bool:
    return name in ("rationale.jsonl", "labeled.jsonl", "pretraining.jsonl") or name.startswith("batch-")
