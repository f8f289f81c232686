"""The output file of `tasks.rank.files`: which rows are in it, and what it was made with.

Beside OUT.jsonl is OUT.jsonl.run.json, with the judge and every setting that the rows depend on. Each row of OUT has
``of``, the hash of the prompt and responses that it is the result for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import StoreError, read_jsonl, write_json, write_jsonl
from data.records import content_id
from tasks.model.location import local_folder

Row = dict[str, Any]


class OutputError(ValueError):
    """An output file that cannot be continued: why, and what to do."""


def hash_of(row: Mapping[str, Any]) -> str:
    """Identifies the prompt and responses that a result is for."""
    return content_id(row["prompt"], row["responses"])


def fingerprint(judge: str) -> str:
    """Identifies a checkpoint at its path by the names, sizes and times of its files; a hub name or URL is returned as it is."""
    folder = local_folder(judge)
    if not folder.is_dir():
        return judge
    stats = ((file.relative_to(folder).as_posix(), file.stat()) for file in sorted(folder.rglob("*")) if file.is_file())
    return content_id([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


@contextlib.contextmanager
def held(output: Path) -> Iterator[None]:
    """Locks an output for this process. Raises OutputError if another process holds it, or it cannot be written."""
    if output.is_dir():
        raise OutputError(f"{output} is a folder: give the file to write")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock = output.with_name(f".{output.name}.lock").open("w")
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror}): give a file in a folder of yours") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{output}: another process is writing it") from error
        yield


def check_same(output: Path, facts: Mapping[str, Any]) -> None:
    """Raises OutputError if OUT was not written by this command, or was started with another judge or other settings."""
    beside = _beside(output)
    if not output.exists():
        return
    if not beside.exists():
        raise OutputError(f"{output} exists but was not written by this command: use another file")
    before = _made_with(beside)
    names = [*facts, *(name for name in before if name not in facts)]
    pairs = [(name, before.get(name), facts.get(name)) for name in names]
    changed = [f"{name} {then!r} → {now!r}" for name, then, now in pairs if then != now]
    if changed:
        raise OutputError(
            f"{output} was started with another judge or other settings ({', '.join(changed)}): use another file, or "
            f"remove it and {beside}"
        )


def _made_with(beside: Path) -> dict[str, Any]:
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OutputError(f"{beside} is damaged, so it is not known what its rows were made with: use another file")
    return found


def begin(output: Path, facts: Mapping[str, Any]) -> None:
    """Records beside OUT what it is made with, before its first row is written."""
    write_json(_beside(output), dict(facts))


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.run.json")


def rows_done(output: Path, wanted: Sequence[Row]) -> set[str]:
    """The ids of the wanted rows whose results are in OUT. A line that a kill cut short, and rows that failed, are removed.

    Raises OutputError for a line that is not a result, and for a result for another prompt or other responses.
    """
    if not output.exists():
        return set()
    _cut_unfinished_line(output)
    try:
        lines = list(read_jsonl(output))
    except StoreError as error:
        raise OutputError(f"{error}: remove the line, or use another file") from error
    hashes = {row["id"]: hash_of(row) for row in wanted}
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict) or "id" not in line or "of" not in line:
            raise OutputError(f"{output}, line {number}: not a result of this command: use another file")
        if line["id"] in hashes and hashes[line["id"]] != line["of"]:
            raise OutputError(
                f"{output}, line {number}: the result for {line['id']!r} is for a different prompt or responses than the "
                "input has now: use another file"
            )
    whole = [line for line in lines if not line.get("failed")]
    if len(whole) < len(lines):
        temporary = output.with_name(f".{output.name}.tmp")
        write_jsonl(temporary, whole)
        temporary.replace(output)
    return {line["id"] for line in whole}


def _cut_unfinished_line(output: Path) -> None:
    """Works on bytes: a kill can cut a character in two."""
    content = output.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(output, content.rfind(b"\n") + 1)
