"""Blocks of encoded examples in a cache on disk, made by a pool of processes.

An examples file is cut into blocks of lines from one source: the selected pairs of a round, the human rationales, or a
repetition of either. A block is kept under a hash of its lines and of all that encoding reads, so that a round encodes
only what the rounds before it did not have:

    <key>.arrow     the token ids of the examples that are kept, in order
    <key>.json      written last: the size of the other file, the counts, and which lines were dropped, and why
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from data.files import flush, parse_line, write_json
from tasks.machine.parallel import in_order
from tasks.model.chat import ChatEncoder
from tasks.training.examples import ExampleCounts, encode_rows
from tasks.training.job import TrainingJob

BLOCK_ROWS = 16_384
"""All files of a set are open during a training: this keeps them below 1,000 for ten million examples."""
_CHUNK_ROWS = 256
"""Lines that a process is given at once: half a second of work for examples of 2K tokens."""


@dataclass(frozen=True)
class Block:
    """Consecutive lines of an examples file: where the first begins, in bytes, its number from 1, and how many they are."""

    key: str
    start: int
    first: int
    rows: int


@dataclass(frozen=True)
class Stored:
    """What is known of a block in the cache; `dropped` holds places among its lines, from 0, with the reason."""

    bytes: int
    counts: ExampleCounts
    dropped: list[tuple[int, str]]


def blocks_of(examples: Path, encoding: str) -> Iterator[Block]:
    """The blocks of an examples file; `encoding` identifies all that the token ids depend on besides the lines."""
    start, first, end, rows, source = 0, 1, 0, 0, None
    digest = hashlib.sha256()
    with examples.open("rb") as lines:
        for line in lines:
            content, origin = _content(line)
            if rows and (origin != source or rows == BLOCK_ROWS):
                yield Block(digest.hexdigest(), start, first, rows)
                start, first, rows = end, first + rows, 0
            if not rows:
                source, digest = origin, hashlib.sha256(encoding.encode())
            digest.update(b"\n" + content)
            end += len(line)
            rows += 1
    if rows:
        yield Block(digest.hexdigest(), start, first, rows)


def _content(line: bytes) -> tuple[bytes, tuple[Any, Any] | None]:
    """A line without its origin, which is not encoded; and what tells its source from others: the round, the repetition.

    The line is not parsed, as that takes several times as long as hashing it: the origin is written last.
    """
    content, found, origin = line.rstrip(b"\n").rpartition(b', "origin": ')
    with contextlib.suppress(ValueError):  # another key follows, or it is nested: then the line is taken whole
        facts = json.loads(origin[:-1]) if found and origin.endswith(b"}") else None
        if isinstance(facts, dict):
            return content, (facts.get("round"), facts.get("repeat"))
    return line.rstrip(b"\n"), None


# ---- the cache ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Holds a cache for this process: a second training waits for what the first encodes, and removes nothing of it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks: then both encode
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def stored_block(cache: Path, key: str) -> Stored | None:
    """What the cache has of a block; None if that is nothing, or not the whole block."""
    try:
        facts = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        stored = Stored(facts["bytes"], ExampleCounts(**facts["counts"]), facts["dropped"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return stored if facts.get("key") == key and has_size(cache / f"{key}.arrow", stored.bytes) else None


def remove_others(cache: Path, used: Iterable[str]) -> None:
    """Removes the blocks without these keys, which no later round can need, and files that were never finished."""
    keys = set(used)
    for file in cache.iterdir():
        if file.name != ".lock" and (file.stem not in keys or file.suffix == ".tmp"):
            file.unlink(missing_ok=True)


def encode_blocks(job: TrainingJob, encoder: ChatEncoder, blocks: Sequence[Block], cache: Path) -> None:
    """Adds blocks of a job's examples to the cache, each complete or not at all."""
    rows = sum(block.rows for block in blocks)
    print(f"encoding {rows} rows", flush=True)
    encode = partial(_encode_chunk, job, encoder)
    with in_order(encode, _chunks(Path(job.examples), blocks), -(-rows // _CHUNK_ROWS)) as parts:
        for block in blocks:
            _write_block(cache, block.key, islice(parts, -(-block.rows // _CHUNK_ROWS)), _schema(job))


def _write_block(cache: Path, key: str, parts: Iterable[_Part], schema: Any) -> None:
    """Writes a block to a temporary file, then renames it: what is cut short by a kill is never taken for a block."""
    import pyarrow as pa

    counts, dropped = ExampleCounts(), list[tuple[int, str]]()
    temporary, file = cache / f"{key}.{uuid4().hex}.tmp", cache / f"{key}.arrow"
    with temporary.open("wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for part in parts:
            writer.write_batch(part.batch)
            dropped += [(counts.rows_in + i, reason) for i, reason in part.dropped]
            counts.add(part.counts)
    flush(temporary)
    temporary.replace(file)
    facts = {"key": key, "bytes": file.stat().st_size, "counts": asdict(counts), "dropped": dropped}
    write_json(cache / f"{key}.json", facts)


# ---- in the processes of the pool --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chunk:
    """Consecutive lines, of which the first has this number."""

    first: int
    lines: list[bytes]


@dataclass(frozen=True)
class _Part:
    """The examples of a chunk that are kept, as a pyarrow batch; `dropped` holds places among its lines, with the reason."""

    batch: Any
    counts: ExampleCounts
    dropped: list[tuple[int, str]]


def _chunks(examples: Path, blocks: Iterable[Block]) -> Iterator[_Chunk]:
    with examples.open("rb") as lines:
        for block in blocks:
            lines.seek(block.start)
            for first in range(0, block.rows, _CHUNK_ROWS):
                n = min(_CHUNK_ROWS, block.rows - first)
                yield _Chunk(block.first + first, [lines.readline() for _ in range(n)])


def _schema(job: TrainingJob) -> Any:
    import pyarrow as pa

    names = ("chosen_ids", "rejected_ids") if job.role == "scalar" else ("input_ids", "labels")
    return pa.schema([(name, pa.list_(pa.int32())) for name in names])


def _encode_chunk(job: TrainingJob, encoder: ChatEncoder, chunk: _Chunk) -> _Part:
    import pyarrow as pa

    counts, schema = ExampleCounts(), _schema(job)
    rows = (parse_line(line, Path(job.examples), chunk.first + i) for i, line in enumerate(chunk.lines))
    encoded = list(encode_rows(rows, job, encoder, job.settings()[0], counts))
    kept = [features for features in encoded if isinstance(features, dict)]
    # Column by column: `from_pylist` takes ten times as long, a quarter of what tokenizing takes.
    columns = [pa.array([features[one.name] for features in kept], one.type) for one in schema]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return _Part(batch, counts, [(i, reason) for i, reason in enumerate(encoded) if isinstance(reason, str)])
