"""Encoded examples: made once for all rounds, the same as one by one, and never what is torn or made from something else."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from data.store.artifacts import SCRATCH
from tasks.model.chat import ChatEncoder
from tasks.settings import Optimization, Role, TrainingSettings
from tasks.training.blocks import BLOCK_ROWS, blocks_of
from tasks.training.encoded import TRAIN, VALIDATION, EncodedSet, encode_sets, encoding_of
from tasks.training.examples import ExampleCounts, encode_rows
from tasks.training.job import TrainingJob
from tests.support.training_jobs import BASE, example_rows, features_of, models_for, training_job

ONE = Optimization(max_steps=1)
Rows = list[dict[str, Any]]


def of_round(rows: Rows, round: int | None, **more: Any) -> Rows:
    return [{**row, "origin": {"pair": row["id"], "round": round, "proof": 0, **more}} for row in rows]


def too_long(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "response_a": "boze " * 200}


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """Of 600 examples of round 0, two of them too long: three pieces of work for the pool."""
    rows = of_round(example_rows(600), 0)
    rows[1], rows[300] = too_long(rows[1]), too_long(rows[300])
    return a_job(tmp_path, "first", rows)


def a_job(folder: Path, name: str, rows: Rows, role: Role = "judge") -> TrainingJob:
    """A training with the cache of its run."""
    made = training_job(folder / name, rows, TrainingSettings(), ONE, role)
    return replace(made, cache=str(folder / "cache"))


def loaded(job: TrainingJob, name: str = TRAIN) -> list[dict[str, list[int]]]:
    """What the processes of the training read."""
    return list(EncodedSet.read(Path(job.out) / SCRATCH / name).load())


def encoded_rows(capsys: pytest.CaptureFixture[str]) -> int:
    """How many rows were encoded since the last call."""
    lines = capsys.readouterr().out.splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("encoding "))


# ---- what is made --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["judge", "prover", "label-judge", "pretrained", "scalar"])
def test_a_set_has_what_encoding_row_by_row_gives_in_order(role: Role, tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = of_round(example_rows(40), 0)
    rows[7] = too_long(rows[7])
    job = a_job(tmp_path, "one", rows, role)
    counts = ExampleCounts()
    expected = [one for one in encode_rows(rows, job, encoder, models_for(), counts) if isinstance(one, dict)]
    assert encode_sets(job).counts == counts
    assert loaded(job) == expected
    assert (counts.rows_in, len(expected)) == (40, 39)


def test_a_pool_of_processes_makes_the_same(job: TrainingJob, encoder: ChatEncoder) -> None:
    counts = encode_sets(job).counts
    assert loaded(job) == features_of(job, encoder)
    assert (counts.rows_in, counts.too_long) == (600, 2)
    dropped = [json.loads(line) for line in (Path(job.out) / "dropped.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in Path(job.examples).read_text().splitlines()]
    assert dropped == [
        {"id": rows[i]["id"], "line": i + 1, "reason": "too_long", "origin": rows[i]["origin"]} for i in (1, 300)
    ]


def test_token_ids_and_labels_take_four_bytes_each(job: TrainingJob) -> None:
    encode_sets(job)
    types = EncodedSet.read(Path(job.out) / SCRATCH / TRAIN).load().data.schema
    assert [str(types.field(name).type.value_type) for name in ("input_ids", "labels")] == ["int32", "int32"]


@pytest.mark.parametrize("length", [None, 300])
def test_packed_examples_are_each_in_one_sequence(job: TrainingJob, encoder: ChatEncoder, length: int | None) -> None:
    packed = replace(job, training={**job.training, "packing": True, "pack_tokens": length})
    most = length or 128
    counts = encode_sets(packed).counts
    sequences = loaded(packed)
    assert sum(len(one["input_ids"]) for one in sequences) == counts.tokens
    assert all(len(one["input_ids"]) == sum(one["seq_lengths"]) <= most for one in sequences)
    assert max(len(one["input_ids"]) for one in sequences) > most - 64, "examples have fewer tokens than that"
    parts = []
    for one in sequences:
        for i, n in enumerate(one["seq_lengths"]):
            end = sum(one["seq_lengths"][: i + 1])
            parts.append(one["input_ids"][end - n : end])
    assert sorted(parts) == sorted(one["input_ids"] for one in features_of(job, encoder))


def test_a_set_of_which_nothing_fits_is_an_error(tmp_path: Path) -> None:
    job = a_job(tmp_path, "one", [too_long(row) for row in example_rows(2)])
    with pytest.raises(ValueError, match=r"no example of .*examples.jsonl fits models.max_tokens = 128"):
        encode_sets(job)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    job = a_job(tmp_path, "one", example_rows(3))
    lines = Path(job.examples).read_text().splitlines()
    Path(job.examples).write_text("\n".join([*lines[:2], lines[2][:-5]]) + "\n")
    with pytest.raises(StoreError, match=r"examples.jsonl, line 3: not JSON"):
        encode_sets(job)


# ---- what is not made again ------------------------------------------------------------------------------------------------


def test_a_round_encodes_only_what_earlier_rounds_did_not_have(
    job: TrainingJob, tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor are repeated examples encoded again, which differ in their origin."""
    encode_sets(job)
    assert encoded_rows(capsys) == 600
    first = [json.loads(line) for line in Path(job.examples).read_text().splitlines()]
    human, second = of_round(example_rows(20, seed=7), None), of_round(example_rows(30, seed=8), 1)
    repeated = [{**row, "origin": {**row["origin"], "repeat": 1}} for row in [*first, *human]]
    later = a_job(tmp_path, "second", [*first, *human, *second, *repeated])
    counts = encode_sets(later).counts
    assert encoded_rows(capsys) == 50
    assert (counts.rows_in, counts.too_long) == (1270, 4)
    assert loaded(later) == features_of(later, encoder)
    dropped = (Path(later.out) / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["origin"].get("repeat") for line in dropped] == [None, None, 1, 1]


def test_what_a_later_round_cannot_need_is_removed(job: TrainingJob, tmp_path: Path) -> None:
    encode_sets(job)
    before = {file.name for file in (tmp_path / "cache").iterdir()}
    (tmp_path / "cache" / "0123.4567.tmp").write_text("of a process that was killed")
    encode_sets(a_job(tmp_path, "second", of_round(example_rows(30, seed=8), 1)))
    after = {file.name for file in (tmp_path / "cache").iterdir()}
    assert before & after == {".lock"}
    assert len(after) == 3
    encode_sets(job)
    assert {file.name for file in (tmp_path / "cache").iterdir()} == before


def test_a_training_that_goes_on_does_not_encode(
    job: TrainingJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not even load the tokenizer, or read the examples. If anything is missing, it starts over."""
    shutil.copytree(BASE, tmp_path / "base")
    write_jsonl(tmp_path / "validation.jsonl", of_round(example_rows(5, seed=9), None))
    job = replace(job, base=str(tmp_path / "base"), validation=str(tmp_path / "validation.jsonl"))
    made = encode_sets(job)
    assert encoded_rows(capsys) == 605
    assert len(loaded(job, VALIDATION)) == 5
    shutil.move(tmp_path / "base", tmp_path / "away")
    assert encode_sets(job).counts == made.counts
    assert "598 examples" in capsys.readouterr().out
    shutil.move(tmp_path / "away", tmp_path / "base")
    for lost in (Path(made.files[0][0]), Path(job.out) / "dropped.jsonl", Path(job.out) / SCRATCH / VALIDATION):
        lost.unlink()
        assert encode_sets(job).counts == made.counts
        assert encoded_rows(capsys) == (600 if lost.suffix == ".arrow" else 0)
        assert lost.exists()


def test_other_examples_in_the_same_file_are_encoded(job: TrainingJob, encoder: ChatEncoder) -> None:
    encode_sets(job)
    write_jsonl(Path(job.examples), of_round(example_rows(3, seed=8), 0))
    assert encode_sets(job).counts.rows_in == 3
    assert loaded(job) == features_of(job, encoder)


@pytest.mark.parametrize("torn", [".arrow", ".json", "no .json"])
def test_a_block_that_is_not_whole_is_made_again(
    torn: str, job: TrainingJob, tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_sets(job)
    [block] = (tmp_path / "cache").glob(f"*{torn.removeprefix('no ')}")
    if torn == "no .json":
        block.unlink()
    else:
        block.write_bytes(block.read_bytes()[:-100])
    capsys.readouterr()
    again = replace(job, out=str(tmp_path / "again"))
    Path(again.out).mkdir()
    encode_sets(again)
    assert encoded_rows(capsys) == 600
    assert loaded(again) == features_of(job, encoder)


# ---- what a key holds ------------------------------------------------------------------------------------------------------


def test_all_that_encoding_reads_is_in_the_key(job: TrainingJob, tmp_path: Path) -> None:
    def encoding(**changes: Any) -> str:
        changed = replace(job, **{name: value for name, value in changes.items() if name in asdict(job)})
        models = {name: value for name, value in changes.items() if name not in asdict(job)}
        changed = replace(changed, models={**changed.models, **models})
        settings = changed.settings()[0]
        return encoding_of(changed, ChatEncoder.load(changed.base, system=settings.system))

    shutil.copytree(BASE, tmp_path / "base")
    assert encoding(base=str(tmp_path / "base")) == encoding(), "the same tokenizer at another place"
    config = json.loads((tmp_path / "base/tokenizer_config.json").read_text())
    changed = {**config, "chat_template": config["chat_template"] + " "}
    (tmp_path / "base/tokenizer_config.json").write_text(json.dumps(changed))
    found = [
        encoding(),
        encoding(base=str(tmp_path / "base")),
        encoding(role="prover"),
        encoding(role="scalar"),
        encoding(reply_tokens=65),
        encoding(judge_prompt="compact-label"),
        encoding(max_tokens=127),
        encoding(overlong="truncate"),
        encoding(system="Be fair."),
    ]
    assert len(set(found)) == len(found)


def test_blocks_end_where_a_source_ends(tmp_path: Path) -> None:
    rows = example_rows(5)
    sources = [of_round(rows, 0), of_round(rows, None), of_round(rows, 1), of_round(rows, 0, repeat=1)]
    write_jsonl(tmp_path / "e.jsonl", [row for source in sources for row in source])
    blocks = list(blocks_of(tmp_path / "e.jsonl", "x"))
    assert [(block.first, block.rows) for block in blocks] == [(1, 5), (6, 5), (11, 5), (16, 5)]
    assert len({block.key for block in blocks}) == 1, "the same lines, whatever their origin"
    lines = (tmp_path / "e.jsonl").read_bytes()
    assert [lines[: block.start].count(b"\n") for block in blocks] == [0, 5, 10, 15]
    assert {block.key for block in blocks}.isdisjoint(block.key for block in blocks_of(tmp_path / "e.jsonl", "y"))


def test_every_other_change_of_a_line_changes_the_key(tmp_path: Path) -> None:
    row = of_round(example_rows(1), 0)[0]
    first = {name: value for name, value in row.items() if name != "rationale"} | {"rationale": row["rationale"]}
    rows = [row, {**row, "rationale": "No."}, {**row, "label": "B" if row["label"] == "A" else "A"}, first]
    keys = []
    for one in rows:  # the last has its origin in the middle of the line
        write_jsonl(tmp_path / "e.jsonl", [one])
        keys += [block.key for block in blocks_of(tmp_path / "e.jsonl", "x")]
    assert len(set(keys)) == 4


def test_long_sources_are_cut_into_blocks(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text("{}\n" * (BLOCK_ROWS + 2))
    assert [(block.first, block.rows) for block in blocks_of(tmp_path / "e.jsonl", "x")] == [
        (1, BLOCK_ROWS),
        (BLOCK_ROWS + 1, 2),
    ]
