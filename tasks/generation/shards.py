"""Shards of a generation stage on disk: what a job asks for, which rows are done, and the finished lines.

A shard is a range of rows of one JSONL file. Its lines::

    {"row": 17, "id": "3f0c…", "requests": [{"name": "ab", "seed": 91, "completions":
        [{"text": "<think>…", "finished": true, "n_tokens": 212, "logprob": -81.2, "logprob_alone": -310.5}]}]}
    {"row": 18, "id": "77aa…", "dropped": "prompt_too_long"}
    {"row": 19, "id": "0b1d…", "failed": "engine_abort", "detail": "…", "answered": []}

While an engine is at work on rows, ``.000003.at-work`` says on which; where its process dies and its parent lives to see
it, that becomes a line of ``.000003.crashes``. A row that was alone in an engine that died has failed, and the others go
on without it.

``000003.jsonl`` is finished when ``.000003.done`` stands beside it, written last: its hash, its rows, and how many of
them failed. Until then the rows that are done are appended one by one to ``.000003.partial``, so that a kill loses only
those that are in the engine. A failed row is not done: the next attempt asks for it again.
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
    """What a generation child is told. `builder` is ``module:function``, which turns a row into its requests.

    `score_against` asks for each completion's logprob behind these messages alone (the denominator of Eq. 5). `attempt`
    counts how often rows that failed have been tried.
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

    @property
    def shard_rows(self) -> int:
        return int(self.generation["shard_rows"])

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_rows)

    @property
    def context(self) -> int:
        """Tokens that prompt and reply may have together."""
        return int(self.models["max_tokens"])

    def relative_to(self, store: Path) -> GenerationJob:
        """The same job for another machine: its paths as seen from the folder of the store."""
        rows, model, out = (str(Path(path).relative_to(store)) for path in (self.rows, self.model, self.out))
        return replace(self, rows=rows, model=model, out=out)

    def under(self, store: Path) -> GenerationJob:
        """The opposite of `relative_to`. Raises StoreError where a path leads out of the store."""
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
    """Rows `start` to `stop` of a job, and the files that hold what was made for them."""

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
        """Around an engine's work on these rows. Who is asked to stop, or cannot write, has not crashed."""
        write_json(self._at_work, rows[0] if len(rows) == 1 else None)
        try:
            yield
        except (SystemExit, KeyboardInterrupt, OSError):
            self._at_work.unlink(missing_ok=True)
            raise
        # Another engine, taken for lost, may be at the same shard and have removed it.
        self._at_work.unlink(missing_ok=True)

    def note_death(self) -> bool:
        """Notes that the engine has died, if it was at work here; says whether it was. For its parent to call."""
        if not self._at_work.exists():
            return False
        write_json(self._crashes, [*self.crashes(), json.loads(self._at_work.read_text(encoding="utf-8"))])
        self._at_work.unlink(missing_ok=True)
        return True

    def forget_work(self) -> None:
        """Before an engine is started: what one left whose parent was killed with it says nothing of its rows."""
        self._at_work.unlink(missing_ok=True)

    def crashes(self) -> list[int | None]:
        """The deaths of engines at work on this shard: each the row that was alone in it, or None where there were more."""
        content = _read(self._crashes)
        notes: list[int | None] = json.loads(content) if content else []
        return notes

    def is_finished(self) -> bool:
        """Whether all its rows are written, undamaged, and none of them has failed."""
        facts = self._read_facts()
        return facts is not None and facts["failed"] == 0 and self._is_whole(facts)

    def is_written(self, attempt: int) -> bool:
        """Whether it is finished, or this attempt at it has come to its end with rows that failed."""
        facts = self._read_facts()
        if facts is None or not self._is_whole(facts):
            return False
        return bool(facts["failed"] == 0 or facts["attempt"] >= attempt)

    def _is_whole(self, facts: Mapping[str, Any]) -> bool:
        try:
            return sha256_file(self.path) == str(facts["sha256"])
        except FileNotFoundError:  # it is being made again in this moment
            return False

    def rows_done(self) -> int:
        """How many of its rows are on disk."""
        if self._read_facts() is not None:
            return self.n_rows
        return (_read(self._partial) or b"").count(b"\n")

    def attempts(self) -> int:
        """How often its rows have been tried; 0 for one that was never finished."""
        return int((self._read_facts() or {"attempt": 0})["attempt"])

    def usage(self) -> tuple[int, float]:
        """Tokens and seconds that the attempt which wrote it has taken."""
        facts = self._read_facts() or {}
        return int(facts.get("tokens", 0)), float(facts.get("seconds", 0.0))

    def done(self) -> dict[int, dict[str, Any]]:
        """The lines that need not be made again, by row: all that are on disk and did not fail.

        A finished shard whose content is not what was written is moved aside, with a line that says so.
        """
        facts = self._read_facts()
        lines: Iterable[dict[str, Any]] = _whole_lines(self._partial)
        if facts is None:  # a kill has come between the file, which is put there whole, and its facts
            lines = [*_whole_lines(self.path), *lines]
        else:
            if sha256_file(self.path) == facts["sha256"]:
                lines = [*read_jsonl(self.path), *lines]
            else:
                aside = self.path.with_name(f".{self.path.name}.damaged")  # a note: no part of the artifact
                self.path.replace(aside)
                self._facts.unlink()
                print(f"{self.path} is damaged (its sha256 is not the one that was written): moved to {aside.name}")
        return {line["row"]: line for line in lines if "failed" not in line}

    def appending(self) -> IO[str]:
        """The file to which rows are appended while the shard is under way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torn = self._partial.exists() and not self._partial.read_bytes().endswith(b"\n")
        stream = self._partial.open("a", encoding="utf-8")
        if torn:  # by a kill in the middle of a line: what follows must start on one of its own
            stream.write("\n")
        return stream

    def finish(
        self, lines: Mapping[int, Mapping[str, Any]], attempt: int, tokens: int = 0, seconds: float = 0.0
    ) -> None:
        """Writes all lines in the order of the rows, then the facts that make the shard finished, with what it took."""
        if sorted(lines) != list(range(self.start, self.stop)):
            raise StoreError(f"{self.path}: {len(lines)} lines for the rows {self.start} to {self.stop - 1}")
        if self.is_written(attempt):  # by another engine, when this one was taken for lost
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(json_line(lines[row]) for row in range(self.start, self.stop))
        # Of what was written here: another engine, taken for lost, may be writing the same shard.
        sha256 = sha256_file(temporary)
        flush(temporary)
        self._facts.unlink(missing_ok=True)  # of an attempt in which rows had failed
        temporary.replace(self.path)
        self._write_facts(lines.values(), sha256, attempt=attempt, tokens=tokens, seconds=round(seconds, 3))
        self._partial.unlink(missing_ok=True)
        self._crashes.unlink(missing_ok=True)

    def adopt(self) -> None:
        """Takes a file that is known to be whole, as one of a finished artifact, for a finished shard."""
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
    """A file's content, or None where there is none: another process may remove it at any moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a partial file. A line that a kill cut short is left out: its row is made again."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def read_shards(job: GenerationJob) -> Iterator[dict[str, Any]]:
    """All lines of all shards in the order of the rows."""
    for shard in job.shards():
        yield from read_jsonl(shard.path)


def with_rows(job: GenerationJob) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each input row with what was generated for it, streamed."""
    for row, made in zip(read_jsonl(Path(job.rows)), read_shards(job), strict=True):
        if str(row["id"]) != made["id"]:
            raise StoreError(f"row {made['row']} of {job.rows} is not the one that was generated for, {made['id']!r}")
        yield row, made
