"""Artifacts and their keys: what is finished, what is made again, what is shared, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.files import StoreError, sha256_file
from data.store.artifacts import MANIFEST, STALE, Artifact, Outcome, Stage
from data.store.store import RunStore
from tests.support.stages import STAGE, must_not_run, writes

# ---- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        replace(STAGE, kind="vote"),
        replace(STAGE, version=2),
        replace(STAGE, config={**STAGE.config, "votes": 16}),
        replace(STAGE, config={**STAGE.config, "extra": None}),
        replace(STAGE, inputs={**STAGE.inputs, "batch": "ab"}),
        replace(STAGE, inputs={"batch": "bb", "judge": "aa"}),
    ],
)
def test_the_key_depends_on_kind_version_config_and_inputs(changed: Stage) -> None:
    assert changed.key != STAGE.key


@pytest.mark.parametrize(
    "same",
    [
        replace(STAGE, name="round-9/labels"),
        replace(STAGE, round=9),
        replace(STAGE, config={"prompt": "compact", "votes": 8}),
    ],
)
def test_the_key_does_not_depend_on_name_round_or_the_order_of_settings(same: Stage) -> None:
    assert same.key == STAGE.key


def test_the_key_is_the_same_with_every_release() -> None:
    """A change here makes every finished stage of every user stale."""
    assert STAGE.key == "a8efeacdcc03ab0f345e7d2ae06dc8da46edb6296926a3dc96c30d1a5ce3b792"


# ---- made once -------------------------------------------------------------------------------------------------------


def test_a_finished_stage_is_found_and_its_body_does_not_run_again(store: RunStore) -> None:
    made = store.run(STAGE, writes("x\n"))
    found = RunStore(store.root, "demo").run(STAGE, must_not_run)
    assert (made.reused, found.reused) == (False, True)
    assert found.manifest == made.manifest
    assert found.path == store.path / "round-1/labels"
    assert found.manifest.reused_from is None


def test_the_manifest_describes_what_was_made(store: RunStore) -> None:
    made = store.run(STAGE, writes("x\n"), {"torch": "2"})
    manifest = json.loads((made.path / MANIFEST).read_text())
    assert manifest["key"] == STAGE.key
    assert manifest["counts"] == {"rows_in": 3, "kept": 2, "dropped": {"tie": 1}, "failed": {}}
    assert manifest["files"] == {"labels.jsonl": {"sha256": sha256_file(made.path / "labels.jsonl"), "bytes": 2}}
    assert manifest["software"] == {"torch": "2"}
    assert made.ref("labels.jsonl").sha256 == manifest["files"]["labels.jsonl"]["sha256"]


def test_the_content_hash_is_of_the_files_alone(store: RunStore) -> None:
    made = store.run(STAGE, writes("x\n"))
    same = store.run(replace(STAGE, name="other", version=2), writes("x\n"))
    different = store.run(replace(STAGE, name="third", version=3), writes("y\n"))
    assert made.content == same.content != different.content


def test_a_file_that_the_manifest_does_not_list_is_refused(store: RunStore) -> None:
    with pytest.raises(StoreError, match=r"has no file 'games\.jsonl'; it has labels\.jsonl"):
        store.run(STAGE, writes("x\n")).file("games.jsonl")


def test_a_folder_without_a_manifest_is_no_artifact(store: RunStore) -> None:
    (store.path / STAGE.name).mkdir(parents=True)
    (store.path / STAGE.name / "labels.jsonl").write_text("half")
    assert store.find(STAGE) is None
    made = store.run(STAGE, writes("whole\n"))
    assert made.file("labels.jsonl").read_text() == "whole\n"


def test_after_a_crash_the_next_call_gets_the_same_folder_and_finishes(store: RunStore) -> None:
    def crashes(work: Path) -> Outcome:
        (work / "shard-0.jsonl").write_text("done before the crash\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(STAGE, crashes)
    assert not (store.path / STAGE.name).exists()
    assert store.find(STAGE) is None

    def finishes(work: Path) -> Outcome:
        assert (work / "shard-0.jsonl").read_text() == "done before the crash\n"
        return writes("x\n")(work)

    made = RunStore(store.root, "demo").run(STAGE, finishes)
    assert set(made.manifest.files) == {"shard-0.jsonl", "labels.jsonl"}
    assert not store.work_dir(STAGE).exists()


def test_a_stage_that_was_damaged_between_its_end_and_its_move_is_made_again(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            store.run(STAGE, writes("whole"))
    [file] = [path for path in store.work_dir(STAGE).rglob("*") if path.is_file() and path.read_text() == "whole"]
    file.write_text("cut")
    assert not store.run(STAGE, writes("whole")).damage()


def test_another_key_does_not_get_the_folder_of_a_crash(store: RunStore) -> None:
    def crashes(work: Path) -> Outcome:
        (work / "shard-0.jsonl").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(STAGE, crashes)
    assert set(store.run(replace(STAGE, version=2), writes("x\n")).manifest.files) == {"labels.jsonl"}


def test_a_kill_while_the_manifest_is_written_does_not_change_the_content(tmp_path: Path) -> None:
    store, other = RunStore(tmp_path / "one", "demo"), RunStore(tmp_path / "two", "demo")
    undisturbed = other.run(STAGE, writes("x\n"))

    def killed_at_commit(work: Path) -> Outcome:
        writes("x\n")(work)
        (work / f".{MANIFEST}.4711.tmp").write_text('{"started": 1700000000.5}')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(STAGE, killed_at_commit)
    assert store.run(STAGE, writes("x\n")).content == undisturbed.content


# ---- set aside and taken back --------------------------------------------------------------------------------------------


def test_a_changed_key_sets_the_old_artifact_aside_and_switching_back_takes_it_back(store: RunStore) -> None:
    other = replace(STAGE, config={**STAGE.config, "votes": 16})
    store.run(STAGE, writes("eight\n"))
    assert store.run(other, writes("sixteen\n")).file("labels.jsonl").read_text() == "sixteen\n"
    foreseen = store.peek(STAGE)
    assert foreseen is not None
    back = store.run(STAGE, must_not_run)
    assert foreseen.taken_from == back.taken_from == STALE
    assert (back.reused, back.file("labels.jsonl").read_text()) == (True, "eight\n")
    assert store.run(STAGE, must_not_run).taken_from == "", "it stands in its place again"
    again = store.run(other, must_not_run)
    assert again.file("labels.jsonl").read_text() == "sixteen\n"
    assert again.path == store.path / STAGE.name


def test_a_crash_under_a_changed_key_leaves_the_old_artifact_in_its_place(store: RunStore) -> None:
    def crashes(work: Path) -> Outcome:
        raise KeyboardInterrupt

    store.run(STAGE, writes("eight\n"))
    with pytest.raises(KeyboardInterrupt):
        store.run(replace(STAGE, version=2), crashes)
    assert store.run(STAGE, must_not_run).file("labels.jsonl").read_text() == "eight\n"


# ---- shared across runs ---------------------------------------------------------------------------------------------------


def share(root: Path) -> tuple[Artifact, Artifact]:
    first = RunStore(root, "first").run(STAGE, writes("x\n"))
    second = RunStore(root, "second").run(replace(STAGE, name="round-2/labels", round=2), must_not_run)
    return first, second


def test_another_run_links_the_files_and_says_where_they_are_from(tmp_path: Path) -> None:
    first, second = share(tmp_path)
    assert second.reused
    assert second.path == tmp_path / "second/round-2/labels"
    assert (second.path / "labels.jsonl").stat().st_ino == (first.path / "labels.jsonl").stat().st_ino
    assert second.content == first.content
    manifest = second.manifest
    assert (manifest.reused_from, manifest.name, manifest.round) == ("first/round-1/labels", "round-2/labels", 2)
    assert json.loads((second.path / MANIFEST).read_text())["reused_from"] == "first/round-1/labels"


def test_sharing_leaves_the_manifest_of_the_first_run_alone(tmp_path: Path) -> None:
    first, _ = share(tmp_path)
    assert RunStore(tmp_path, "first").run(STAGE, must_not_run).manifest == first.manifest


def test_a_stage_under_way_in_another_run_is_not_shared(tmp_path: Path) -> None:
    def crashes(work: Path) -> Outcome:
        writes("half\n")(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunStore(tmp_path, "first").run(STAGE, crashes)
    made = RunStore(tmp_path, "second").run(STAGE, writes("whole\n"))
    assert (made.reused, made.file("labels.jsonl").read_text()) == (False, "whole\n")


def test_another_store_shares_nothing(tmp_path: Path) -> None:
    RunStore(tmp_path / "one", "demo").run(STAGE, writes("x\n"))
    assert RunStore(tmp_path / "two", "demo").find(STAGE) is None


def test_a_damaged_artifact_of_another_run_is_not_shared(tmp_path: Path) -> None:
    RunStore(tmp_path, "first").run(STAGE, writes("x\n")).file("labels.jsonl").unlink()
    assert not RunStore(tmp_path, "second").run(STAGE, writes("x\n")).reused


def test_what_is_damaged_is_not_replaced_by_an_earlier_version_with_the_same_key(store: RunStore) -> None:
    """As one whose failed rows were retried: the version with the failures was set aside, under the same key."""
    store.run(STAGE, writes("one row failed\n"))
    store.run(STAGE, writes("all rows\n"), take_up_again=lambda manifest: True)
    (store.path / STAGE.name / "labels.jsonl").unlink()

    def crashes(work: Path) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(STAGE, crashes)
    made = store.run(STAGE, writes("all rows\n"))
    assert (made.reused, made.file("labels.jsonl").read_text()) == (False, "all rows\n")


def test_what_is_damaged_is_replaced_by_the_same_content_of_another_run(tmp_path: Path) -> None:
    share(tmp_path)
    other = RunStore(tmp_path, "third")
    other.run(STAGE, must_not_run)
    file = other.path / STAGE.name / "labels.jsonl"
    file.unlink()  # the others have links of their own to its content
    made = other.run(STAGE, must_not_run)
    assert (made.taken_from, file.read_text()) == ("first", "x\n")
