"""What the checks of a run find, good and bad, one line each: for whoever wants to read it before the run is started."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.records import ResponsePair
from data.sources.ids import find_clash
from data.sources.rows import SourceError, count_rows
from data.sources.sources import Dropped, Kind, Source, read_source, source_files
from data.store.remote import is_remote
from flows.config.checks import THIS_MACHINE, models_of, nearest, problems, sources_of
from flows.config.every_run import RunParameters
from flows.config.parameters import BenchmarkConfig, GramConfig
from tasks.machine.gpus import visible_gpus
from tasks.model.endpoint import is_endpoint
from tasks.model.folder import longest_context
from tasks.model.location import model_folder
from tasks.plan.show import size
from tasks.settings import Settings

_FIRST_ROWS = 200
_COUNTED_BYTES = 500e6


@dataclass(frozen=True)
class Finding:
    """One line. A `problem` stops the run; `here` does so on this machine only; a `note` does not."""

    kind: Literal["ok", "note", "problem", "here"]
    line: str

    @property
    def stops(self) -> bool:
        return self.kind in ("problem", "here")


def findings(config: RunParameters) -> Iterator[Finding]:
    """Everything that is checked before a run, in the order store, data, models, settings, this machine."""
    found = problems(config)
    yield from _about_store(config, found["store"])
    yield from _about_data(config, found["data"])
    yield from _about_models(config, found["models"])
    yield from _about_settings(config, found["settings"])
    yield from (Finding("here", line) for line in found[THIS_MACHINE])
    if not found[THIS_MACHINE]:
        yield _about_this_machine()


def _about_store(config: RunParameters, wrong: Sequence[str]) -> Iterator[Finding]:
    yield from (Finding("problem", line) for line in wrong)
    if wrong:
        return
    store = config.store_here
    if is_remote(store):
        yield Finding("note", f"store: {store}/{config.run_name} is at a URL: it is first opened by the run")
        return
    folder = Path(store).resolve() / config.run_name
    free = size(shutil.disk_usage(nearest(folder)).free)
    begun = (folder / "metrics.jsonl").exists()  # the folder alone may hold the run's data, as that of `english`
    state = "is there already, and the run will go on from what is done in it" if begun else "is new"
    yield Finding("ok", f"store: {folder} {state}; {free} are free on its disk")


# ---- data -----------------------------------------------------------------------------------------------------------------


def _about_data(config: RunParameters, wrong: Sequence[str]) -> Iterator[Finding]:
    yield from (Finding("problem", line) for line in wrong)
    seen = set()
    read: dict[tuple[str, Kind], list[tuple[str, list[ResponsePair]]]] = {}
    for name, kind, source in sources_of(config):
        if (known := (kind, source.model_dump_json())) in seen or _is_named(name, wrong):
            continue
        seen.add(known)
        about, pairs = _about_source(name, kind, source)
        yield about
        if source.sample is None:  # of a sample, other rows are read
            read.setdefault((name.rpartition(".")[0], kind), []).append((source.path, pairs))
    for (part, kind), sources in read.items():
        if clash := find_clash(sources, kind):
            yield Finding("problem", f"{part}: {clash}")
    for i, one in enumerate(getattr(getattr(config, "benchmarks", None), "sets", ())):
        if not _is_named(f"benchmarks.sets.{i}.data", wrong):
            yield Finding("ok", f"benchmarks.sets.{i}: {one.label}, {one.data}")


def _is_named(setting: str, lines: Sequence[str]) -> bool:
    return any(line.startswith(f"{setting}:") for line in lines)


def _about_source(name: str, kind: Kind, source: Source) -> tuple[Finding, list[ResponsePair]]:
    """How many rows a source has, and how many of its first rows' pairs can be used; and these pairs."""
    where = source.path or str(source.dataset)
    if source.hub_name is not None:
        return Finding("note", f"{name}: {where} is on the hub: its rows are first read by the run"), []
    try:
        rows = _number_of_rows(source)
        first = source.model_copy(update={"limit": min(_FIRST_ROWS, source.limit or _FIRST_ROWS), "sample": None})
        items: list[Any] = list(read_source(first, kind, seed=0))
    except (SourceError, OSError) as error:
        return Finding("problem", f"{name}: {error}"), []
    dropped = Counter(str(item.reason) for item in items if isinstance(item, Dropped))
    pairs = [item if kind == "pair" else item.pair for item in items if not isinstance(item, Dropped)]
    used = len(pairs)
    reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
    part = isinstance(rows, str) or rows > (first.limit or 0)
    of = f"of the pairs in the first {first.limit:,} rows, " if part else ""
    counted = rows if isinstance(rows, str) else f"{rows:,} row{'' if rows == 1 else 's'}"
    said = f"{name}: {counted} in {where}; {of}{used:,} pairs can be used" + (f", not {reasons}" if reasons else "")
    return Finding("ok" if used else "note" if part else "problem", said), pairs


def _number_of_rows(source: Source) -> int | str:
    """The rows of its files or, where counting would take long, their size."""
    files = source_files(source)
    n_bytes = sum(Path(file).stat().st_size for file in files)
    counted = all(file.lower().endswith((".parquet", ".arrow")) for file in files) or n_bytes <= _COUNTED_BYTES
    return sum(map(count_rows, files)) if counted else f"{size(n_bytes)} (rows not counted)"


# ---- models, settings, this machine ----------------------------------------------------------------------------------------


def _about_models(config: RunParameters, wrong: Sequence[str]) -> Iterator[Finding]:
    yield from (Finding("problem", line) for line in wrong)
    about: Mapping[str, str] = {name: model for name, model, _, _ in models_of(config)}
    for name, model, context, models in models_of(config):
        if _is_named(name, wrong) or any(line.startswith(f"{context} =") and f"{name} =" in line for line in wrong):
            continue
        if is_endpoint(about[name]):
            yield Finding("ok", f"{name}: {model} answers")
            continue
        longest = longest_context(model_folder(model, weights=False))
        reads = f", reads up to {longest:,} tokens" if longest is not None else ""
        yield Finding("ok", f"{name}: {model}{reads}; {context} = {models.max_tokens:,}")


def _about_settings(config: RunParameters, wrong: Sequence[str]) -> Iterator[Finding]:
    yield from (Finding("problem", line) for line in wrong)
    if not wrong:
        yield Finding("ok", "settings: every value is valid, and they fit together")
    yield from (Finding("note", line) for line in _cautions(config))


def _cautions(config: RunParameters) -> list[str]:
    if isinstance(config, BenchmarkConfig | GramConfig):
        return config.settings().warnings()
    # The settings of an adaptation depend on the prompt that its judge was trained with.
    return config.warnings() if isinstance(config, Settings) else []


def _about_this_machine() -> Finding:
    gpus = visible_gpus()
    if gpus:
        return Finding(
            "ok", f"{THIS_MACHINE}: {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} visible: {', '.join(gpus)}"
        )
    return Finding("note", f"{THIS_MACHINE}: no GPU is visible; models run and are trained on its CPU")
