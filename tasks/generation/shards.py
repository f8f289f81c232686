"""Shards of a generation stage on disk: the job, which of its rows are done, and the finished lines.

A shard is a range of rows of one JSONL file. Its lines::

    {"row": 17, "id": "3f0c…", "requests": [{"name": "ab", "seed": 91, "completions":
        [{"text": "<think>…", "finished": true, "n_tokens": 212, "logprob": -81.2, "logprob_alone": -310.5}]}]}
    {"row": 18, "id": "77aa…", "dropped": "prompt_too_long"}
    {"row": 19, "id": "0b1d…", "failed": "engine_abort", "detail": "…", "answered": []}

While an engine works on rows, ``.000003.at-work`` records which: the number of a row that is alone in it, "few", or null for
as many as it has room for. If its process dies and its parent survives to notice, that becomes an entry in ``.000003.crashes``,
and the next engine takes fewer at once, in the end one by one: a row that was alone in an engine that died has failed.

``000003.jsonl`` is finished once ``.000003.done`` is beside it, which is written last and holds its hash, its number of
rows, and how many of them failed. Until then, rows are appended to ``.000003.partial`` one by one as they finish, so a
kill loses only those in the engine. A failed row is not done: the next attempt generates it again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from data.files import StoreError, flush, inside, read_jsonl, sha256_file, write_json
from data.store.artifacts import DONE

FEW = "few"
Place = tuple[Path, int]  # where a line is: its file, and where in it it begins


@dataclass(frozen=True)
class GenerationJob:
    """The input of a generation child process. `builder` is the ``module:function`` that turns a row into its requests.

    `follow` is one called as ``follow(row, params, requests, encoder)`` when all requests of a row are answered, with those as
    they will be written: it returns further requests, or none if the row is complete. `score_against` requests each
    completion's logprob after these messages alone (the denominator of Eq. 5), if the function `score_if` is true of it:
    ``score_if(row, params, name of the request, completion)``. `attempt` counts how often failed rows have been tried.
    """

    builder: str
    params: Mapping[str, Any]
    rows: str
    n_rows: int
    model: str
    out: str
    models: Mapping[str, Any]
    generation: Mapping[str, Any]
    score_against: Sequence[Mapping[str, str]] | None = None
    attempt: int = 1
    follow: str | None = None
    score_if: str | None = None

    @property
    def shard_rows(self) -> int:
        return int(self.generation["shard_rows"])

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_rows)

    @property
    def context(self) -> int:
        """Maximum tokens of prompt and reply together."""
        return int(self.models["max_tokens"])

    def relative_to(self, store: Path) -> GenerationJob:
        """The same job for another machine: its paths are relative to the store's folder."""
        rows, model, out = (str(Path(path).relative_to(store)) for path in (self.rows, self.model, self.out))
        return replace(self, rows=rows, model=model, out=out)

    def under(self, store: Path) -> GenerationJob:
        """The inverse of `relative_to`. Raises StoreError if a path leads out of the store."""
        rows, model, out = (inside(store, path) for path in (self.rows, self.model, self.out))
        return replace(self, rows=rows, model=model, out=out)

    def shard(self, number: int) -> Shard:
        return Shard(Path(self.out), number, number * self.shard_rows, min((number + 1) * self.shard_rows, self.n_rows))

    def shards(self) -> Iterator[Shard]:
        return map(self.shard, range(self.n_shards))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of a job, and the files that hold their results."""

    folder: Path
    number: int
    start: int
    stop: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:06d}.jsonl"

    @property
    def _facts(self) -> Path:
        return self.folder / f".{self.number:06d}{DONE}"

    @property
    def _partial(self) -> Path:
        return self.folder / f".{self.number:06d}.partial"

    @property
    def _at_work(self) -> Path:
        return self.folder / f".{self.number:06d}.at-work"

    @property
    def _crashes(self) -> Path:
        return self.folder / f".{self.number:06d}.crashes"

    @property
    def n_rows(self) -> int:
        return self.stop - self.start

    def mark(self, rows: int | str | None) -> None:
        """Marks rows as being in the engine: one that is alone, `FEW`, or None for as many as it has room for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{self._at_work.name}.tmp"
        temporary.write_text(json.dumps(rows))  # not flushed to disk: it is to outlive the process, not the machine
        temporary.replace(self._at_work)

    def note_death(self) -> bool:
        """Called by the parent of an engine that died: records the death if it was working here; returns whether it was."""
        if not self._at_work.exists():
            return False
        write_json(self._crashes, [*self.crashes(), json.loads(self._at_work.read_text(encoding="utf-8"))])
        self._at_work.unlink(missing_ok=True)
        return True

    def forget_work(self) -> None:
        """Removes a mark that says nothing about its rows: of an engine that was asked to stop, or was killed with its parent."""
        self._at_work.unlink(missing_ok=True)

    def crashes(self) -> list[int | str | None]:
        """The deaths of engines working on this shard: for each, what `mark` was told."""
        content = _read(self._crashes)
        notes: list[int | str | None] = json.loads(content) if content else []
        return notes

    def is_finished(self) -> bool:
        """Whether all its rows are written, undamaged, and none of them failed."""
        facts = self._read_facts()
        return facts is not None and facts["failed"] == 0 and self._is_whole(facts)

    def is_written(self, attempt: int) -> bool:
        """Whether it is finished, or this attempt at it has ended with failed rows."""
        facts = self._read_facts()
        return facts is not None and is_over(facts, attempt) and self._is_whole(facts)

    def is_committed(self, attempt: int) -> bool:
        """Like `is_written`, without reading its rows to see whether they are undamaged."""
        return is_over(self._read_facts(), attempt)

    def _is_whole(self, facts: Mapping[str, Any]) -> bool:
        try:
            return sha256_file(self.path) == str(facts["sha256"])
        except FileNotFoundError:  # it is being rewritten right now
            return False

    def attempts(self) -> int:
        """How often its rows have been tried; 0 if it was never finished."""
        return int((self._read_facts() or {"attempt": 0})["attempt"])

    def usage(self) -> tuple[int, float]:
        """Tokens and seconds of all attempts that wrote it; 0 for a shard that was adopted."""
        facts = self._read_facts() or {}
        return int(facts.get("tokens", 0)), float(facts.get("seconds", 0.0))

    def done(self) -> dict[int, Place]:
        """Where the lines are that need not be generated again, by row: all that are on disk and did not fail.

        A finished shard whose content is no longer what was written is moved aside, and a line is printed.
        """
        facts = self._read_facts()
        # Both, if killed between moving the complete file into place and writing its facts.
        files = [self.path, self._partial]
        if facts is not None and sha256_file(self.path) != facts["sha256"]:
            aside = self.path.with_name(f".{self.path.name}.damaged")  # hidden: not part of the artifact
            self.path.replace(aside)
            self._facts.unlink()
            print(f"{self.path} is damaged (its sha256 differs from the one recorded): moved to {aside.name}")
        return {
            line["row"]: (file, offset)
            for file in files
            for offset, line in _whole_lines(file)
            if "failed" not in line and not _is_unscored(line)
        }

    def appending(self) -> IO[bytes]:
        """The file to which rows are appended while the shard is in progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torn = self._partial.exists() and not self._partial.read_bytes().endswith(b"\n")
        stream = self._partial.open("ab")
        if torn:  # by a kill in the middle of a line: the next row must start on a new one
            stream.write(b"\n")
        return stream

    def finish(
        self, lines: Mapping[int, Place], failed: int, attempt: int, tokens: int = 0, seconds: float = 0.0
    ) -> None:
        """Writes all lines in row order, then the facts that mark the shard as finished.

        Those hold how many rows failed in this attempt, and the tokens and seconds of this and all earlier ones.
        """
        if sorted(lines) != list(range(self.start, self.stop)):
            raise StoreError(f"{self.path}: {len(lines)} lines for rows {self.start} to {self.stop - 1}")
        if self.is_written(attempt):  # by another engine, after this one was presumed lost
            return
        temporary = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        with temporary.open("wb") as stream, contextlib.ExitStack() as opened:
            files = {path: opened.enter_context(path.open("rb")) for path in {path for path, _ in lines.values()}}
            for row in range(self.start, self.stop):
                path, offset = lines[row]
                files[path].seek(offset)
                stream.write(files[path].readline())
        # Hash the temporary file: another engine that was presumed lost may be writing the same shard.
        sha256 = sha256_file(temporary)
        flush(temporary)
        earlier_tokens, earlier_s = self.usage()
        self._facts.unlink(missing_ok=True)  # from an attempt in which rows failed
        temporary.replace(self.path)
        used = {"tokens": earlier_tokens + tokens, "seconds": round(earlier_s + seconds, 3)}
        self._write_facts(failed, sha256, attempt=attempt, **used)
        for left in (self._partial, self._crashes, self._at_work):
            left.unlink(missing_ok=True)

    def adopt(self) -> None:
        """Marks a file that is known to be complete, as in a finished artifact, as a finished shard."""
        if self.path.exists() and not self._facts.exists():
            n_failed = sum("failed" in line for line in read_jsonl(self.path))
            self._write_facts(n_failed, sha256_file(self.path), attempt=0)

    def _write_facts(self, failed: int, sha256: str, **usage: float) -> None:
        facts = {
            "files": [self.path.name],
            "sha256": sha256,
            "rows": self.n_rows,
            "failed": failed,
            **usage,
        }
        write_json(self._facts, facts)

    def _read_facts(self) -> dict[str, Any] | None:
        content = _read(self._facts) if self.path.exists() else None
        facts: dict[str, Any] | None = json.loads(content) if content else None
        return facts


def is_over(facts: Mapping[str, Any] | None, attempt: int) -> bool:
    """Whether a shard with these facts is finished, or this attempt at it has ended with failed rows."""
    return facts is not None and bool(facts["failed"] == 0 or facts["attempt"] >= attempt)


def _read(path: Path) -> bytes | None:
    """A file's content, or None if it does not exist: another process may remove it at any moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _whole_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with where they begin. A line that a kill cut short is skipped: its row is generated again."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                yield offset, json.loads(line)
            offset += len(line)


def _is_unscored(line: Mapping[str, Any]) -> bool:
    """Whether it holds tokens still to be scored, as earlier versions wrote them before a shard was complete."""
    return any("ids" in completion for request in line.get("requests", ()) for completion in request["completions"])


def read_shards(job: GenerationJob) -> Iterator[dict[str, Any]]:
    """All lines of all shards, in row order."""
    for shard in job.shards():
        yield from read_jsonl(shard.path)


def with_rows(job: GenerationJob) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each input row with what was generated for it, streamed."""
    for row, made in zip(read_jsonl(Path(job.rows)), read_shards(job), strict=True):
        if str(row["id"]) != made["id"]:
            raise StoreError(f"row {made['row']} of {job.rows} is not the row {made['id']!r} that was generated for")
        yield row, made
