"""What a store refuses: damage, manifests that it does not know, names, and paths that lead out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.files import StoreError, hash_folder, read_jsonl, write_json, write_jsonl
from data.store.artifacts import MANIFEST, Counts, Outcome
from data.store.store import RunStore
from tests.support.stages import STAGE, must_not_run, writes

# ---- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "dropped", "failed"), [(2, {}, {}), (3, {"tie": 1}, {}), (2, {"tie": 1}, {"oom": 1})])
def test_counts_that_do_not_reconcile_raise(kept: int, dropped: dict[str, int], failed: dict[str, int]) -> None:
    accounted = kept + sum(dropped.values()) + sum(failed.values())
    with pytest.raises(StoreError, match=f"rows do not reconcile: 3 in, {accounted} accounted for"):
        Counts(3, kept, dropped, failed)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("cut", "is 4 bytes long but was written with 11"),
        ("removed", "is missing"),
        ("altered", "is not what was written (its sha256 differs)"),
    ],
)
def test_a_damaged_artifact_is_named_moved_aside_and_made_again(store: RunStore, damage: str, what: str) -> None:
    made = store.run(STAGE, writes("0123456789\n"))
    file = made.file("labels.jsonl")
    {
        "cut": lambda: file.write_text("0123"),
        "removed": file.unlink,
        "altered": lambda: file.write_text("9123456789\n"),
    }[damage]()
    said: list[str] = []
    again = store.run(STAGE, writes("0123456789\n"), say=said.append)
    assert (again.reused, again.content) == (False, made.content)
    [line] = said
    [aside] = (store.path / ".damaged").iterdir()
    assert line == f"{file} {what}; round-1/labels is moved aside to {aside} and redone"
    assert (aside / MANIFEST).exists()
    assert store.run(STAGE, must_not_run).reused


def test_shards_that_are_good_are_taken_over_from_a_damaged_artifact(store: RunStore) -> None:
    def body(work: Path) -> Outcome:
        found = sorted(path.name for path in work.rglob("*.jsonl"))
        for i in range(3):
            (work / "shards-2").mkdir(exist_ok=True)
            (work / f"shards-2/{i}.jsonl").write_text(f"{i}\n")
        return Outcome(Counts(0, 0), {"found": found})

    made = store.run(STAGE, body)
    assert made.manifest.metrics["found"] == []
    made.file("shards-2/1.jsonl").write_text("7\n")
    again = store.run(STAGE, body)
    assert again.manifest.metrics["found"] == ["0.jsonl", "2.jsonl"]
    assert again.content == made.content


def test_a_manifest_that_names_files_outside_its_folder_is_refused(store: RunStore) -> None:
    made = store.run(STAGE, writes("x\n"))
    raw = json.loads((made.path / MANIFEST).read_text())
    for name in ("../../../etc/passwd", "/etc/passwd"):
        write_json(made.path / MANIFEST, {**raw, "files": {name: {"sha256": "", "bytes": 1}}})
        with pytest.raises(StoreError, match=r"names files outside its folder: \['.*passwd'\]"):
            store.run(STAGE, must_not_run)


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "..", "-x", "a b", "a\n", "é", "x" * 101, "/abs"])
def test_a_bad_run_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="use 1 to 100 letters, digits, dots"):
        RunStore(tmp_path, name)


@pytest.mark.parametrize("name", ["demo", "llama-3.1-8b", "2026_10", "x" * 100])
def test_a_plain_run_name_is_taken(tmp_path: Path, name: str) -> None:
    assert RunStore(tmp_path, name).path == tmp_path / name


def test_a_newer_manifest_is_refused_with_its_version(store: RunStore) -> None:
    made = store.run(STAGE, writes("x\n"), {"gram-r2": "9.0"})
    raw = json.loads((made.path / MANIFEST).read_text())
    write_json(made.path / MANIFEST, {**raw, "format": 2, "a new field": 1})
    with pytest.raises(
        StoreError, match=r"manifest\.json: manifest format 2, this software reads 1.*'gram-r2': '9\.0'"
    ):
        store.run(STAGE, must_not_run)


# ---- files -----------------------------------------------------------------------------------------------------------------


def test_text_with_other_line_separators_comes_back_from_jsonl(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u2029c\x85d\re\r\nf\x0bg\x0ch\x1ci 🂡 \\n"}, {"text": ""}]
    assert write_jsonl(tmp_path / "rows.jsonl", rows) == 2
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(StoreError, match=r"rows\.jsonl, line 2: not JSON"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_not_a_number_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_jsonl(tmp_path / "rows.jsonl", [{"score": float("nan")}])


def test_the_hash_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("1")
    first = hash_folder(tmp_path / "model")
    assert hash_folder(tmp_path / "model") == first
    (tmp_path / "model/weights").write_text("2")
    second = hash_folder(tmp_path / "model")
    (tmp_path / "model/weights").rename(tmp_path / "model/weights.bin")
    assert len({first, second, hash_folder(tmp_path / "model")}) == 3
