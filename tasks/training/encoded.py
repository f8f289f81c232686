"""A training's examples as token ids on disk, mapped into memory by every process of the training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data.files import flush, hash_folder, json_line, parse_line, write_json
from data.records import canonical_json
from data.store.artifacts import SCRATCH
from prompts.catalog import JUDGE_PROMPTS
from tasks.model.chat import DATE, ChatEncoder
from tasks.training.blocks import Block, blocks_of, encode_blocks, has_size, locked, remove_others, stored_block
from tasks.training.examples import ExampleCounts, prompt_of
from tasks.training.job import DROPPED, TrainingJob

TRAIN, VALIDATION = "train.json", "validation.json"
"""Files in a training's scratch folder: its encoded sets, as `EncodedSet.write` writes them."""
_FORMAT = 1
"""Part of every key. To be raised when a change of the code changes the token ids of an example."""


@dataclass(frozen=True)
class EncodedSet:
    """Arrow files of encoded examples, in order, with their sizes in bytes; and what became of the rows they were made from."""

    files: Sequence[tuple[str, int]]
    counts: ExampleCounts

    def load(self) -> Any:
        """The examples as a `datasets.Dataset`, mapped from disk."""
        from datasets import Dataset, concatenate_datasets

        opened = {file: Dataset.from_file(file) for file in dict.fromkeys(file for file, _ in self.files)}
        return concatenate_datasets([opened[file] for file, _ in self.files])

    @classmethod
    def read(cls, path: Path) -> EncodedSet:
        """The set in a file written by `write`."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls([(file, size) for file, size in stored["files"]], ExampleCounts(**stored["counts"]))

    def write(self, path: Path, made_from: str) -> None:
        """Writes it down for the processes of a training, and for `found`."""
        write_json(path, {"made_from": made_from, "files": self.files, "counts": asdict(self.counts)})

    @classmethod
    def found(cls, path: Path, made_from: str) -> EncodedSet | None:
        """The set that an earlier attempt wrote, if it was made from the same and its files are intact."""
        if not path.exists() or json.loads(path.read_text(encoding="utf-8")).get("made_from") != made_from:
            return None
        found = cls.read(path)
        return found if all(has_size(Path(file), size) for file, size in found.files) else None


def found_sets(job: TrainingJob) -> EncodedSet | None:
    """What `encode_sets` returned in an earlier attempt or in another process, if all that it made is there."""
    scratch, sets = Path(job.out) / SCRATCH, _sets(job)
    found = {name: EncodedSet.found(scratch / name, _made_from(one)) for name, (one, _) in sets.items()}
    there = None not in found.values() and all(dropped.exists() for _, dropped in sets.values())
    return found[TRAIN] if there else None


def _sets(job: TrainingJob) -> dict[str, tuple[TrainingJob, Path]]:
    """A job for each set that is encoded, and where the examples that are dropped are listed."""
    out = Path(job.out)
    sets = {TRAIN: (job, out / DROPPED)}
    if job.validation:
        sets[VALIDATION] = (replace(job, examples=job.validation), out / "validation-dropped.jsonl")
    return sets


def encode_sets(job: TrainingJob) -> EncodedSet:
    """Encodes the examples of a training and of its validation, for `train_part`; returns the former.

    What its cache has is not encoded again, and what an earlier attempt of this training left is not even looked at.
    Examples that are dropped are written to ``dropped.jsonl`` in its folder, with their lines from 1. Raises ValueError if none
    is left.
    """
    # The pool's processes are copies of this one, which tokenizes one text at a time anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if (found := found_sets(job)) is not None:
        print(f"{_described(found.counts)}; encoded by an earlier attempt", flush=True)
        return found
    scratch, sets = Path(job.out) / SCRATCH, _sets(job)
    cache = Path(job.cache) if job.cache else scratch / "encoded"
    with locked(cache):
        encoder = ChatEncoder.load(job.base, bool(job.settings()[0].trust_remote_code), job.settings()[0].system)
        made = {name: _encode_set(one, encoder, cache, dropped) for name, (one, dropped) in sets.items()}
        remove_others(cache, {Path(file).stem for one in made.values() for file, _ in one.files})
    for name, one in made.items():
        if (length := job.packed_to()) is not None:
            one = _packed(one, length, (scratch / name).with_suffix(".arrow"))
        one.write(scratch / name, _made_from(sets[name][0]))
    return made[TRAIN]


def _made_from(job: TrainingJob) -> str:
    """What identifies a set of this job without reading its examples."""
    facts = Path(job.examples).stat()
    read = [job.examples, facts.st_size, facts.st_mtime_ns, job.base, job.role, job.reply_tokens]
    settings = [dict(job.models), dict(job.training)]
    # With the lines of dropped examples: a set without them is put together again, from blocks that stay.
    return hashlib.sha256(canonical_json([_FORMAT, "line", *read, *settings]).encode()).hexdigest()


def _described(counts: ExampleCounts) -> str:
    refused = f", {counts.refused} refused by the chat template" if counts.refused else ""
    return f"{counts.kept} examples, {counts.tokens} tokens, {counts.too_long} dropped as too long{refused}"


def _packed(encoded: EncodedSet, seq_length: int, target: Path) -> EncodedSet:
    """The examples packed as TRL's trainer would: before GPUs are claimed, and once, however often it is resumed."""
    from datasets import disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    options = {"cache_file_name": str(target), "load_from_cache_file": False}
    pack_dataset(encoded.load(), seq_length, map_kwargs=options)
    flush(target)
    return replace(encoded, files=[(str(target), target.stat().st_size)])


def _encode_set(job: TrainingJob, encoder: ChatEncoder, cache: Path, dropped: Path) -> EncodedSet:
    """Encodes the blocks of a set that the cache does not have."""
    blocks = list(blocks_of(Path(job.examples), encoding_of(job, encoder)))
    missing = {block.key: block for block in blocks if stored_block(cache, block.key) is None}
    if missing:
        encode_blocks(job, encoder, list(missing.values()), cache)
    counts, files = ExampleCounts(), list[tuple[str, int]]()
    stored = {block.key: stored_block(cache, block.key) for block in blocks}
    aside = list[tuple[Block, list[tuple[int, str]]]]()
    for block in blocks:
        known = stored[block.key]
        assert known is not None
        counts.add(known.counts)
        aside.append((block, known.dropped))
        if known.counts.kept:
            files.append((str(cache / f"{block.key}.arrow"), known.bytes))
    _write_dropped(Path(job.examples), aside, dropped)
    if not files:
        refused = (
            f"; {counts.refused} have turns that the chat template of {job.base} refuses" if counts.refused else ""
        )
        raise ValueError(
            f"no example of {job.examples} fits models.max_tokens = {job.settings()[0].max_tokens}{refused}"
        )
    print(_described(counts), flush=True)
    return EncodedSet(files, counts)


def encoding_of(job: TrainingJob, encoder: ChatEncoder) -> str:
    """All that the token ids of an example depend on besides the example."""
    models, _, _ = job.settings()
    with TemporaryDirectory() as folder:  # as it was loaded: with the chat template that has the system turn
        encoder.tokenizer.save_pretrained(folder)
        tokenizer = hash_folder(Path(folder))
    return canonical_json(
        {
            "format": _FORMAT,
            "role": job.role,
            "prompt": prompt_of(job.role, JUDGE_PROMPTS[models.judge_prompt])[1],
            "context": models.max_tokens,
            "overlong": models.overlong,
            "reply_tokens": job.reply_tokens,
            "system": models.system,
            "date": DATE,
            "tokenizer": tokenizer,
            "software": {package: version(package) for package in ("transformers", "tokenizers")},
        }
    )


def _write_dropped(examples: Path, blocks: Iterable[tuple[Block, list[tuple[int, str]]]], dropped: Path) -> None:
    """Lists the examples that are dropped: of those in the cache, only the places and reasons are known."""
    with examples.open("rb") as lines, dropped.open("w", encoding="utf-8") as stream:
        for block, known in blocks:
            lines.seek(block.start)
            reasons = dict(known)
            for i, line in enumerate(islice(lines, max(reasons, default=-1) + 1)):
                if i in reasons:
                    number = block.first + i
                    row = parse_line(line, examples, number)
                    facts = {"id": row["id"], "line": number, "reason": reasons[i], "origin": row.get("origin")}
                    stream.write(json_line(facts))
