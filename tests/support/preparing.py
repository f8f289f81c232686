"""Data that is written by a test, and what the first stage makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.files import write_jsonl
from data.store.artifacts import Artifact
from tasks.model.chat import ChatEncoder
from tasks.prepare import prepare
from tests.conftest import rows_of, run_with

KINDS = ("rationale", "labeled", "unlabeled", "heldout")


Given = Mapping[str, Iterable[Mapping[str, Any]]]


def row(n: int, prompt: str | None = None, **changes: Any) -> dict[str, Any]:
    """A labeled row with a rationale; every number has a prompt and responses of its own."""
    made = {"prompt": prompt or f"Question {n}?", "response_a": f"good {n}", "response_b": f"bad {n}", "label": "A"}
    return {**made, "id": f"row-{n}", "rationale": "So A is better.", **changes}


def some(start: int, n: int) -> list[dict[str, Any]]:
    return [row(i) for i in range(start, start + n)]


WORLD = {"rationale": some(0, 3), "labeled": some(100, 20), "unlabeled": some(200, 20), "heldout": some(300, 10)}


class Prepare:
    """Runs the stage on these rows; an empty list is a kind that no source is given for."""

    def __init__(self, folder: Path, encoder: ChatEncoder) -> None:
        self.folder, self.encoder, self.n = folder, encoder, 0

    def __call__(
        self, given: Given = WORLD, rounds: Mapping[str, Any] | None = None, seed: int = 0, **data: Any
    ) -> Artifact:
        self.n += 1
        folder = self.folder / f"{self.n}"
        sources: dict[str, Any] = {}
        for kind in KINDS:
            rows = list({**WORLD, **given}[kind])
            write_jsonl(folder / f"{kind}.jsonl", rows)
            sources[kind] = [{"path": str(folder / f"{kind}.jsonl")}] if rows else []
        if "calibration" in given:
            write_jsonl(folder / "calibration.jsonl", given["calibration"])
            sources["calibration"] = [{"path": str(folder / "calibration.jsonl")}]
        rounds = rounds or {"count": 2, "pairs": 6}
        run = run_with(folder / "runs", self.encoder, lambda r, j: "", data={**sources, **data}, rounds=rounds)
        run.seed = seed
        return prepare(run)


def rows_in(data: Artifact, name: str) -> list[dict[str, Any]]:
    return rows_of(data.file(f"{name}.jsonl"))


def ids_in(data: Artifact, name: str) -> list[str]:
    return [r["id"] for r in rows_in(data, name)]
