"""An algorithm of two rounds whose stages note that they are made, for tests of what a changed setting replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.files import write_jsonl
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from tasks.run.stage import Context, Run

made: list[str] = []


def stage(run: Run, name: str, config: dict[str, Any], *inputs: Artifact, failed: int = 0) -> Artifact:
    def body(context: Context) -> Outcome:
        made.append(name)
        write_jsonl(context.work / "rows.jsonl", [{"of": name, **config, "from": [i.content for i in inputs]}])
        return Outcome(Counts(10, 10 - failed, {}, {"engine_abort": failed} if failed else {}), {"attempts": 2})

    return run.find_or_make(name, name.split("/")[-1], config, {i.manifest.kind: i for i in inputs}, body)


def algorithm(run: Run) -> None:
    """Two rounds, each of votes on the judge so far, labels, and a judge; and a part that nothing else reads."""
    votes, learning_rate = run.settings.labels.votes, run.settings.training.judge.learning_rate
    data = stage(run, "data", {"share": run.settings.data.heldout_share})
    judge = stage(run, "round-0/judge", {}, data)
    stage(run, "samples", {}, data)
    for i in (1, 2):
        cast = stage(run, f"round-{i}/votes", {"votes": votes, "prompt": {"digest": "ab" * 32}}, judge, failed=run.seed)
        labels = stage(run, f"round-{i}/labels", {"min_confidence": run.settings.labels.min_confidence}, cast)
        judge = stage(run, f"round-{i}/judge", {"learning_rate": learning_rate}, labels)


FOLLOW = ["round-1/votes", "round-1/labels", "round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"]


def keys(folder: Path) -> dict[str, str]:
    """What stands in place in the run "demo"."""
    store = RunStore(folder, "demo")
    found = {name: store.in_place(name) for name in store.names_in_place()}
    return {name: one.manifest.key for name, one in found.items() if one is not None}
