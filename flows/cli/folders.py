"""Run folders as they are on disk: which there are, what is done in them, and who works on them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.paths import from_home
from flows.cli.errors import InputError

_METRICS, _COMPARISON, _LEASE, _PLAN = "metrics.jsonl", "comparison.json", ".lease.json", "plan.json"
_PAGES = ("report.html", "comparison.html")
_DEEPEST = 4
_NOT_SEARCHED = ("node_modules", "__pycache__", "site-packages")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """The finished stages: name, kind (as "stage"), round, counts and metrics, in the order in which they were finished.

        Raises InputError if the file that has them is damaged.
        """
        try:
            text = (self.path / _METRICS).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        found = list(map(_stage, text.removesuffix("\n").split("\n"))) if text else []
        if None in found:
            raise InputError(
                f"{self.path / _METRICS}, line {found.index(None) + 1}: not a stage of a run; remove the file, and the next "
                "start of the run writes it again"
            )
        return [stage for stage in found if stage is not None]

    @property
    def measured(self) -> Sequence[Mapping[str, Any]]:
        """Those that measured a judge on held-out pairs."""
        return [one for one in self.stages if one["stage"] == "benchmark" and one.get("accuracy") is not None]

    @property
    def rounds(self) -> int | None:
        """The last round whose judge was measured, the final fine-tuning aside; None for a run without rounds."""
        from tasks.run.rounds import round_names

        names = round_names((one["round"], one["stage"]) for one in self.stages)
        measured = {one["round"] for one in self.measured}
        return max((round for round, name in names.items() if round in measured and name != "final"), default=None)

    @property
    def accuracy(self) -> float | None:
        return self.measured[-1]["accuracy"] if self.measured else None

    @property
    def report(self) -> Path | None:
        return next((self.path / page for page in _PAGES if (self.path / page).is_file()), None)

    @property
    def flow(self) -> str:
        """The flow that the stages tell of; "–" if they do not."""
        kinds = {str(one["stage"]) for one in self.stages}
        if (self.path / _COMPARISON).exists() or any(str(one["name"]).startswith("label-only/") for one in self.stages):
            return "baselines"
        for kind, flow in {"task": "adapt", "prove": "self-train", "vote": "self-train", "train-judge": "gram"}.items():
            if kind in kinds:
                return flow
        return "benchmark" if any(kind.startswith("benchmark-") for kind in kinds - {"benchmark-data"}) else "–"

    @property
    def holder(self) -> str | None:
        """The living process that works on the run."""
        from data.store.lease import Holder

        try:
            holder = Holder(**json.loads((self.path / _LEASE).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return None if holder.gone() else str(holder)

    @property
    def is_run(self) -> bool:
        """Whether a run was ever started or planned here."""
        return any((self.path / name).exists() for name in (_METRICS, _COMPARISON, _LEASE, _PLAN, *_PAGES))

    @property
    def state(self) -> str:
        if self.holder:
            return "running"
        if self._is_finished():
            return "finished"
        return "stopped" if self.stages else "planned"

    def _is_finished(self) -> bool:
        """As a start of the run sees it: one that is being made again is unfinished, although it has a report."""
        from data.store.run_folder import wrong_run_name
        from data.store.store import RunStore
        from tasks.run.finished import is_finished

        if not self.stages and (self.path / _COMPARISON).exists():
            return True  # it compares runs that are named after their seeds
        return wrong_run_name(self.name) is None and is_finished(RunStore(self.path.parent, self.name))

    @property
    def begun(self) -> Sequence[str]:
        """The stages in progress, or that were when the run was stopped."""
        work = sorted((self.path / ".work").glob("*/.stage.done"))
        return [marker.parent.name.rpartition("-")[0].replace("--", "/") for marker in work]

    @property
    def changed(self) -> float:
        """When something was last finished in it, in seconds since 1970."""
        files = [self.path / name for name in (_METRICS, _COMPARISON, _PLAN)]
        return max((file.stat().st_mtime for file in files if file.exists()), default=self.path.stat().st_mtime)


def _stage(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"name", "stage", "round"} <= found.keys() else None


def _has_stages(metrics: Path) -> bool:
    """Whether the file is a run's: other programs write their metrics to files of that name."""
    try:
        with metrics.open(encoding="utf-8") as stream:
            first = stream.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return not first or _stage(first) is not None


def run_folders(below: Path) -> Iterator[Path]:
    """The run folders in a folder, down to a few levels, sorted; hidden folders are not searched, nor is what is in a run."""
    root = below.resolve()
    for folder, folders, files in os.walk(root):
        path = Path(folder)
        # A plan alone is a run's if it lies where runs do: other programs have files of that name, too.
        planned = _PLAN in files and path.parent.name == "runs"
        if (
            planned
            or not {_COMPARISON, _LEASE}.isdisjoint(files)
            or (_METRICS in files and _has_stages(path / _METRICS))
        ):
            yield path
            folders.clear()
        if len(path.relative_to(root).parts) >= _DEEPEST:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_SEARCHED)


def find_run(run: str) -> RunFolder:
    """A run by its folder, by a folder that holds it, such as its recipe's, or by its name.

    A name is looked for below the current folder and, if it is not there, among the runs of the checkout. Raises InputError
    if there is no such run, or several.
    """
    from flows.config.recipes import checkout

    if (path := Path(from_home(run))).is_dir():
        return RunFolder(_run_in(path.resolve()))
    places = (Path().resolve(), checkout() / "runs")
    found = next((paths for place in places if (paths := [one for one in run_folders(place) if one.name == run])), [])
    if len(found) > 1:
        raise InputError(f"there are several runs {run!r}: give the folder of one: {', '.join(map(str, found))}")
    if not found:
        raise InputError(f"there is no run {run!r} below {' or '.join(map(str, places))}: give its folder")
    return RunFolder(found[0])


def _run_in(folder: Path) -> Path:
    """The run that a folder is or holds: that of its recipe, else the only one. The folder itself if it holds none."""
    found = list(run_folders(folder))
    if folder in found:
        return folder
    recipes = list(folder.glob("*.toml"))
    of_recipe = _run_of(recipes[0]) if len(recipes) == 1 else None
    if of_recipe is not None:
        if of_recipe.is_dir():
            return of_recipe
        found = [one for one in found if one.parent == of_recipe.parent]  # those with another --name
    if len(found) > 1:
        raise InputError(f"{folder} holds several runs: give the folder of one: {', '.join(map(str, found))}")
    return found[0] if found else of_recipe or folder


def _run_of(recipe: Path) -> Path | None:
    """Where a recipe's run is, or will be; None if the file is no recipe. Raises InputError if that is not on this machine."""
    from data.store.remote import is_remote
    from flows.config.recipes import ConfigError, find_recipe, load_run

    try:
        config = load_run(*find_recipe(str(recipe)))
    except ConfigError:  # a pyproject.toml, for instance
        return None
    store = config.store_here
    if is_remote(store):
        raise InputError(f"the run of {recipe} is at {store}/{config.run_name}, not on this machine")
    return Path(store).resolve() / str(config.run_name)
