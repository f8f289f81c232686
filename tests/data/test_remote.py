"""A store on a real S3 server (moto's, on the loopback): what it holds is what another machine, with an empty cache, finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data.files import StoreError
from data.store.artifacts import BEGUN, MANIFEST, STALE, Stage
from data.store.remote import is_remote
from data.store.store import RunStore
from tests.support.s3 import STAGE, must_not_run, there, writes


def test_what_is_a_url_and_what_a_folder() -> None:
    assert is_remote("s3://bucket/runs")
    assert not any(map(is_remote, ("runs", "/data/runs", "file:///data/runs", "C:/runs")))


def test_an_unknown_kind_of_store_is_named() -> None:
    with pytest.raises(ValueError, match=r"the store 'nonsense://x' cannot be opened"):
        RunStore("nonsense://x", "demo")


def test_another_machine_finds_the_stage_and_brings_only_the_files_that_it_reads(
    machine: Callable[..., RunStore],
) -> None:
    made = machine("one").run(STAGE, writes("x\n"))
    assert not made.reused
    other = machine("two")
    found = other.run(STAGE, must_not_run)
    assert (found.reused, found.content) == (True, made.content)
    assert [p.name for p in other.path.rglob("*") if p.is_file()] == [MANIFEST]
    assert found.file("labels.jsonl").read_text() == "x\n"
    assert not (found.path / "checkpoint").exists()
    assert (found.folder("checkpoint") / "weights").read_text() == "x\n" * 100
    assert found.ref("labels.jsonl").sha256 == made.ref("labels.jsonl").sha256


def test_the_manifest_is_sent_last(machine: Callable[..., RunStore], monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine("one")
    assert store.remote is not None
    sent: list[str] = []
    put = store.remote.fs.put_file
    monkeypatch.setattr(
        store.remote.fs, "put_file", lambda here, name: (sent.append(name.split("/")[-1]), put(here, name))
    )
    store.run(STAGE, writes("x\n"))
    assert (sent[0], sorted(sent[1:-1]), sent[-1]) == (BEGUN, ["labels.jsonl", "weights"], MANIFEST)


def test_a_stage_that_was_sent_by_half_is_made_again(machine: Callable[..., RunStore]) -> None:
    store = machine("one")
    store.run(STAGE, writes("x\n"))
    assert store.remote is not None
    store.remote.remove([f"demo/{STAGE.name}/{MANIFEST}"])
    assert machine("two").find(STAGE) is None
    assert not machine("two").run(STAGE, writes("x\n")).reused


def test_a_changed_key_sets_the_old_artifact_aside_and_back(machine: Callable[..., RunStore]) -> None:
    other = Stage("round-1/labels", "label", 1, {"votes": 16}, {"judge": "bb"}, round=1)
    machine("one").run(STAGE, writes("eight\n"))
    machine("two").run(other, writes("sixteen\n"))
    foreseen = machine("three").peek(STAGE)
    assert foreseen is not None
    back = machine("three").run(STAGE, must_not_run)
    assert foreseen.taken_from == back.taken_from == STALE
    assert machine("four").names_in_place() == {"round-1/labels"}
    assert back.file("labels.jsonl").read_text() == "eight\n"
    assert machine("four").run(other, must_not_run).file("labels.jsonl").read_text() == "sixteen\n"
    names = there(machine("five"))
    assert len([name for name in names if name.endswith(MANIFEST)]) == 2
    assert not [name for name in names if name.startswith(".work")]


def test_another_run_of_the_store_shares_the_stage(machine: Callable[..., RunStore]) -> None:
    machine("one", "first").run(STAGE, writes("x\n"))
    foreseen = machine("two", "second").peek(STAGE)
    assert foreseen is not None
    assert machine("two", "second").names_in_place() == set()
    shared = machine("two", "second").run(STAGE, must_not_run)
    assert foreseen.taken_from == shared.taken_from == "first"
    assert shared.manifest.reused_from == "first/round-1/labels"
    assert shared.file("labels.jsonl").read_text() == "x\n"


def test_a_machine_whose_copy_is_old_follows_the_store(machine: Callable[..., RunStore]) -> None:
    one = machine("one")
    one.run(STAGE, writes("x\n"))
    other = Stage("round-1/labels", "label", 2, {"votes": 8}, {"judge": "bb"}, round=1)
    machine("two").run(other, writes("y\n"))
    assert one.in_place("round-1/labels").file("labels.jsonl").read_text() == "y\n"  # type: ignore[union-attr]


# ---- damage ---------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_or_missing_in_the_store_is_named_and_its_stage_made_again(
    machine: Callable[..., RunStore], url: str
) -> None:
    store = machine("one")
    for damage in (b"", None):
        store.run(STAGE, writes("x\n"))
        assert store.remote is not None
        name = f"demo/{STAGE.name}/labels.jsonl"
        store.remote.remove([name]) if damage is None else store.remote.write(name, damage)
        said: list[str] = []
        again = machine(f"two-{damage!r}").run(STAGE, writes("x\n"), say=said.append)
        assert not again.reused
        what = "is missing" if damage is None else "is 0 bytes long but was written with 2"
        assert said[0].startswith(f"{url}/demo/round-1/labels/labels.jsonl {what}; round-1/labels is moved aside to")
    assert len([name for name in there(store) if name.startswith(".damaged") and name.endswith(MANIFEST)]) == 2


def test_an_altered_file_is_seen_when_it_is_brought(machine: Callable[..., RunStore]) -> None:
    store = machine("one")
    store.run(STAGE, writes("x\n"))
    assert store.remote is not None
    store.remote.write(f"demo/{STAGE.name}/labels.jsonl", b"y\n")
    other = machine("two")
    found = other.run(STAGE, must_not_run)
    with pytest.raises(StoreError, match=r"labels\.jsonl is not what was written .*start the run again to redo it"):
        found.file("labels.jsonl")
    assert not other.run(STAGE, writes("x\n")).reused


def test_a_damaged_copy_is_brought_again(machine: Callable[..., RunStore]) -> None:
    store = machine("one")
    made = store.run(STAGE, writes("x\n"))
    made.file("labels.jsonl").write_text("y\n")
    assert store.run(STAGE, must_not_run).file("labels.jsonl").read_text() == "x\n"
