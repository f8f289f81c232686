"""Shards of a generation stage on disk: the job, which of its rows are done, and the finished lines.

A shard is a range of rows of one JSONL file. Its lines::

    {"row": 17, "id": "3f0c…", "requests": [{"name": "ab", "seed": 91, "completions":
        [{"text": "<think>…", "finished": true, "n_tokens": 212, "logprob": -81.2, "logprob_alone": -310.5}]}]}
    {"row": 18, "id": "77aa…", "dropped": "prompt_too_long"}
    {"row": 19, "id": "0b1d…", "failed": "engine_abort", "detail": "…", "answered": []}

While an engine works on rows, ``.000003.at-work`` records which; if its process dies and its parent survives to notice,
that becomes an entry in ``.000003.crashes``. A row that was alone in an engine that died has failed, and the others
continue without it.

``000003.jsonl`` is finished once ``.000003.done`` is beside it, which is written last and holds its hash, its number of
rows, and how many of them failed. Until then, rows are appended to ``.000003.partial`` one by one as they finish, so a
kill loses only those in the engine. A failed row is not done: the next attempt generates it again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from data.files import StoreError, flush, inside, json_line, read_jsonl, sha256_file, write_json
from data.store.artifacts import DONE


@dataclass(frozen=True)
class GenerationJob:
    """The input of a generation child process. `builder` is the ``module:function`` that turns a row into its requests.

    `score_against` requests each completion's logprob after these messages alone (the denominator of Eq. 5). `attempt`
    counts how often failed rows have been tried. `follow` is the ``module:function`` that is called with a row, `params`, what
    its line has under "requests" so far, and the encoder, once these are answered; it returns the row's next requests.
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

    @contextlib.contextmanager
    def in_engine(self, rows: Sequence[int]) -> Iterator[None]:
        """Marks these rows as being in the engine. A request to stop, or a failed write, is not a crash."""
        write_json(self._at_work, rows[0] if len(rows) == 1 else None)
        try:
            yield
        except (SystemExit, KeyboardInterrupt, OSError):
            self._at_work.unlink(missing_ok=True)
            raise
        # Another engine that was presumed lost may work on the same shard and have removed it.
        self._at_work.unlink(missing_ok=True)

    def note_death(self) -> bool:
        """Called by the parent of an engine that died: records the death if it was working here; returns whether it was."""
        if not self._at_work.exists():
            return False
        write_json(self._crashes, [*self.crashes(), json.loads(self._at_work.read_text(encoding="utf-8"))])
        self._at_work.unlink(missing_ok=True)
        return True

    def forget_work(self) -> None:
        """Called before an engine starts: a mark left by one that was killed with its parent says nothing about its rows."""
        self._at_work.unlink(missing_ok=True)

    def crashes(self) -> list[int | None]:
        """The deaths of engines working on this shard: for each, the row if it was alone in the engine, otherwise None."""
        content = _read(self._crashes)
        notes: list[int | None] = json.loads(content) if content else []
        return notes

    def is_finished(self) -> bool:
        """Whether all its rows are written, undamaged, and none of them failed."""
        facts = self._read_facts()
        return facts is not None and facts["failed"] == 0 and self._is_whole(facts)

    def is_written(self, attempt: int) -> bool:
        """Whether it is finished, or this attempt at it has ended with failed rows."""
        facts = self._read_facts()
        if facts is None or not self._is_whole(facts):
            return False
        return bool(facts["failed"] == 0 or facts["attempt"] >= attempt)

    def _is_whole(self, facts: Mapping[str, Any]) -> bool:
        try:
            return sha256_file(self.path) == str(facts["sha256"])
        except FileNotFoundError:  # it is being rewritten right now
            return False

    def rows_done(self) -> int:
        """How many of its rows are on disk."""
        if self._read_facts() is not None:
            return self.n_rows
        # A row that is tried again has a second line.
        return min(self.n_rows, (_read(self._partial) or b"").count(b"\n"))

    def attempts(self) -> int:
        """How often its rows have been tried; 0 if it was never finished."""
        return int((self._read_facts() or {"attempt": 0})["attempt"])

    def usage(self) -> tuple[int, float]:
        """Tokens and seconds used by the attempt that wrote it."""
        facts = self._read_facts() or {}
        return int(facts.get("tokens", 0)), float(facts.get("seconds", 0.0))

    def done(self) -> dict[int, dict[str, Any]]:
        """The lines that need not be generated again, by row: all that are on disk and did not fail.

        A finished shard whose content is no longer what was written is moved aside, and a line is printed.
        """
        facts = self._read_facts()
        lines: Iterable[dict[str, Any]] = _whole_lines(self._partial)
        if facts is None:  # killed between moving the complete file into place and writing its facts
            lines = [*_whole_lines(self.path), *lines]
        else:
            if sha256_file(self.path) == facts["sha256"]:
                lines = [*read_jsonl(self.path), *lines]
            else:
                aside = self.path.with_name(f".{self.path.name}.damaged")  # hidden: not part of the artifact
                self.path.replace(aside)
                self._facts.unlink()
                print(f"{self.path} is damaged (its sha256 differs from the one recorded): moved to {aside.name}")
        return {line["row"]: line for line in lines if "failed" not in line}

    def appending(self) -> IO[str]:
        """The file to which rows are appended while the shard is in progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torn = self._partial.exists() and not self._partial.read_bytes().endswith(b"\n")
        stream = self._partial.open("a", encoding="utf-8")
        if torn:  # by a kill in the middle of a line: the next row must start on a new one
            stream.write("\n")
        return stream

    def finish(
        self, lines: Mapping[int, Mapping[str, Any]], attempt: int, tokens: int = 0, seconds: float = 0.0
    ) -> None:
        """Writes all lines in row order, then the facts that mark the shard as finished, with its tokens and seconds."""
        if sorted(lines) != list(range(self.start, self.stop)):
            raise StoreError(f"{self.path}: {len(lines)} lines for rows {self.start} to {self.stop - 1}")
        if self.is_written(attempt):  # by another engine, after this one was presumed lost
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(json_line(lines[row]) for row in range(self.start, self.stop))
        # Hash the temporary file: another engine that was presumed lost may be writing the same shard.
        sha256 = sha256_file(temporary)
        flush(temporary)
        self._facts.unlink(missing_ok=True)  # from an attempt in which rows failed
        temporary.replace(self.path)
        self._write_facts(lines.values(), sha256, attempt=attempt, tokens=tokens, seconds=round(seconds, 3))
        self._partial.unlink(missing_ok=True)
        self._crashes.unlink(missing_ok=True)

    def adopt(self) -> None:
        """Marks a file that is known to be complete, as in a finished artifact, as a finished shard."""
        if self.path.exists() and not self._facts.exists():
            self._write_facts(read_jsonl(self.path), sha256_file(self.path), attempt=0)

    def _write_facts(self, lines: Iterable[Mapping[str, Any]], sha256: str, **usage: float) -> None:
        failed = sum("failed" in line for line in lines)
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


def _read(path: Path) -> bytes | None:
    """A file's content, or None if it does not exist: another process may remove it at any moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a partial file. A line that a kill cut short is skipped: its row is generated again."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


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
