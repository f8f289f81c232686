"""Stages for tests of a store on an S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data.files import write_json
from data.store.artifacts import DONE, Counts, Outcome, Stage
from data.store.store import RunStore

STAGE = Stage("round-1/labels", "label", 1, {"votes": 8}, {"judge": "bb"}, round=1)


def writes(text: str) -> Callable[[Path], Outcome]:
    def body(work: Path) -> Outcome:
        (work / "checkpoint").mkdir(parents=True, exist_ok=True)
        (work / "labels.jsonl").write_text(text)
        (work / "checkpoint/weights").write_text(text * 100)
        return Outcome(Counts(1, 1))

    return body


def must_not_run(work: Path) -> Outcome:
    raise AssertionError(f"the body ran again in {work}")


def there(store: RunStore) -> set[str]:
    assert store.remote is not None
    return set(store.remote.sizes(store.run_name))


def checkpoint(store: RunStore, step: int) -> Path:
    folder = store.work_dir(STAGE) / f"scratch.tmp/trainer/checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text("1")
    write_json(folder / f"all{DONE}", {"files": {"optimizer.pt": 1}})
    return folder
