"""The stages "benchmark-data": each benchmark as its authors publish it → ``items.jsonl``, used in every round.

``benchmark.json`` next to it holds everything else: the name, the orders, the groups, and what is missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.benchmarks import preferences
from data.benchmarks.catalog import load, path_of
from data.benchmarks.draw import draw
from data.benchmarks.items import Benchmark, Item, Notice
from data.files import read_jsonl, write_json, write_jsonl
from data.sources.rows import SourceError
from data.sources.sources import Source, as_published, read_rows
from data.sources.unread import COLUMN_ROWS, read_in
from data.store.artifacts import Artifact, Counts, Outcome
from tasks.run.stage import Context, Run
from tasks.settings import BenchmarkSet
from tasks.settings.wording import in_one_line

ITEMS, FACTS = "items.jsonl", "benchmark.json"
HELD_OUT = "held-out"


def load_set(chosen: BenchmarkSet, notice: Notice | None = None) -> Benchmark:
    """A configured benchmark. Raises SourceError if the data is not what its authors publish, or the limit too low for it.

    `notice` is called with each row, of a preference set only the first ones, and the columns that are read from it.
    """
    if chosen.benchmark == preferences.NAME:
        whole = preferences.load(chosen.source)
        if notice is not None:
            for row in islice(read_rows(chosen.source), COLUMN_ROWS):
                if isinstance(row.value, Mapping):
                    notice(row.value, read_in(row, chosen.source))
    else:
        whole = load(chosen.benchmark, chosen.data, chosen.split, notice=notice)
    return whole if chosen.limit is None else draw(whole, chosen.limit, chosen.seed)


def prepare_set(run: Run, chosen: BenchmarkSet) -> Artifact:
    """A configured benchmark as a stage; see `load_set`."""
    config = chosen.model_dump(mode="json", exclude={"name"})
    inputs = {"data": as_published(Source(path=path_of(chosen.benchmark, chosen.data)))}

    def body(context: Context) -> Outcome:
        return write_set(context.work, load_set(chosen))

    return run.find_or_make(f"benchmarks/{chosen.label}", "benchmark-data", config, inputs, body)


def prepare_heldout(run: Run, data: Artifact) -> Artifact:
    """The run's held-out pairs as a benchmark."""

    def body(context: Context) -> Outcome:
        return write_set(context.work, preferences.of_rows(read_jsonl(context.file("heldout"))))

    inputs = {"heldout": data.ref("heldout.jsonl")}
    return run.find_or_make(f"benchmarks/{HELD_OUT}", "benchmark-data", {}, inputs, body)


def write_set(folder: Path, benchmark: Benchmark) -> Outcome:
    """Writes a benchmark's two files."""
    write_jsonl(folder / ITEMS, (item.to_json() for item in benchmark.items))
    facts: dict[str, Any] = {
        "name": benchmark.name,
        "orders": benchmark.orders,
        "groups": benchmark.groups,
        "lacks": benchmark.lacks,
        "dropped": dict(benchmark.dropped),
        **({"drawn_from": dict(benchmark.drawn_from)} if benchmark.drawn_from else {}),
    }
    write_json(folder / FACTS, facts)
    dropped = dict(benchmark.dropped)
    sizes = Counter(item.group for item in benchmark.items)
    counts = Counts(len(benchmark.items) + sum(dropped.values()), len(benchmark.items), dropped)
    candidates = min(len(item.responses) for item in benchmark.items)
    metrics = {"groups": dict(sizes), "lacks": list(benchmark.lacks), "candidates": candidates}
    return Outcome(counts, {"benchmark": benchmark.name, **metrics})


def read_set(artifact: Artifact) -> Benchmark:
    """The benchmark of a finished stage."""
    facts = json.loads(artifact.file(FACTS).read_text(encoding="utf-8"))
    items = tuple(Item.from_json(row) for row in read_jsonl(artifact.file(ITEMS)))
    orders = (facts["orders"][0], facts["orders"][1])
    return Benchmark(
        facts["name"],
        orders,
        tuple(facts["groups"]),
        items,
        tuple(facts["lacks"]),
        facts["dropped"],
        facts.get("drawn_from", {}),
    )


def chosen(options: Mapping[str, Any]) -> BenchmarkSet:
    """The benchmark of a command's options, checked as in a recipe; ``columns`` is JSON. Raises SourceError."""
    given = {name: options[name] for name in BenchmarkSet.model_fields if options.get(name) is not None}
    try:
        given |= {"columns": json.loads(given["columns"])} if "columns" in given else {}
        return BenchmarkSet.model_validate(given)
    except ValidationError as error:
        raise SourceError(in_one_line(BenchmarkSet, error)) from error
    except ValueError as error:
        raise SourceError(f"--columns: is not JSON ({error})") from error
