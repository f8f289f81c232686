"""A run's exported judge, as it is found and as its card describes it on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import ModelCard

from data.store.artifacts import Artifact, Counts, Input
from tasks.export import export
from tasks.hub.card import hub_card
from tasks.hub.exported import PushError, find_exported
from tasks.hub.upload import repository_of
from tasks.run.stage import Run
from tests.support.written_run import fake_run, put

PLAYED = {"games": 40, "accuracy": 0.625, "benchmark": "rm-bench"}


Judges = list[tuple[int, Artifact, Artifact]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Judges]:
    run, judges = fake_run(tmp_path_factory.mktemp("whole"))
    export(run, judges)
    return run, judges


@pytest.fixture
def run(whole: tuple[Run, Judges], tmp_path: Path) -> Path:
    """A copy of the run folder, whose store holds nothing else."""
    return Path(shutil.copytree(whole[0].store.path, tmp_path / "runs" / "hand"))


# ---- found ---------------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_its_folder_and_its_export(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run / "final", tmp_path / "copied")
    assert find_exported(run).final.path == run / "final"
    assert find_exported(f"{run}/").final.path == run / "final"
    assert find_exported(copied).final.path == copied


def test_a_run_without_a_finished_export(run: Path) -> None:
    (run / "final" / "manifest.json").unlink()
    with pytest.raises(PushError, match=r"the export of .*/hand is not finished .*: start the run again"):
        find_exported(run)
    (run / "final").rename(run / ".work" / "final-0123")
    with pytest.raises(PushError, match="is not finished"):
        find_exported(run)
    shutil.rmtree(run / ".work")
    with pytest.raises(PushError, match=r"has no exported judge \(no final/\)"):
        find_exported(run)


def test_another_stage_is_not_taken_for_the_judge(run: Path) -> None:
    with pytest.raises(PushError, match="is the stage 'round-1/judge' of a run, not an exported judge"):
        find_exported(run / "round-1" / "judge")


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "prompt.json"])
def test_a_damaged_file_is_not_sent(run: Path, name: str) -> None:
    file = run / "final" / name
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        PushError, match=rf"/{name} is not what was written \(its sha256 differs\): start the run again"
    ):
        find_exported(run)
    file.unlink()
    with pytest.raises(PushError, match=rf"/final/{name} is missing"):
        find_exported(run)


def test_a_store_at_a_url_brings_the_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / "cache"))
    memory, there = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    memory.put(str(run), f"{there}/hand", recursive=True)
    url = f"memory:/{there}/hand"
    for _ in range(2):
        final = find_exported(url).final
        assert final.path.is_relative_to(tmp_path / "cache")
        assert not final.damage()
        weights = final.path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])  # the copy is damaged: it is fetched again
    memory.pipe(f"{there}/hand/final/README.md", b"other")
    (final.path / "README.md").unlink()
    with pytest.raises(PushError, match=r"README\.md is 5 bytes long but was written with"):
        find_exported(url)
    memory.rm(f"{there}/hand/final/manifest.json")
    with pytest.raises(PushError, match="has no exported judge"):
        find_exported(url)


@pytest.mark.parametrize("target", ["me/judge", "hub:judge", "hub:a/b/c", "hub:me/ju dge", "hub:", "hub:/judge"])
def test_what_is_no_name_on_the_hub(target: str) -> None:
    with pytest.raises(PushError, match="is no name on the hub"):
        repository_of(target)
    assert repository_of("hub:me/judge") == "me/judge"


# ---- the card ------------------------------------------------------------------------------------------------------------


def test_the_card_keeps_its_text_and_gets_metadata(run: Path) -> None:
    exported = (run / "final" / "README.md").read_text(encoding="utf-8")
    card = ModelCard(hub_card(find_exported(run), "apache-2.0"))
    assert card.text == exported.split("---\n", 2)[2]
    known = card.data
    assert (known.license, known.base_model, known.library_name) == ("apache-2.0", "org/judge", "transformers")
    assert {"reward-model", "gram-r2"} <= set(known.tags)
    assert known.datasets is None
    (held,) = known.eval_results
    assert (held.metric_type, held.metric_value) == ("accuracy", 0.7)
    assert held.dataset_name == "50 held-out pairs of the run, which also chose this judge"
    assert "license" not in hub_card(find_exported(run)).split("---\n")[1]


def test_the_card_has_the_benchmarks_of_this_judge_only(whole: tuple[Run, Judges]) -> None:
    run, judges = whole
    put(run, "benchmarks/rm", "benchmark-data", None, {})
    manifest = run.store.path / "benchmarks" / "rm" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "config": {"data": "hub:THU-KEG/RM-Bench"}}))

    def benchmark(round: int, label: str, metrics: dict[str, object], **inputs: Input) -> None:
        name, given = f"benchmark-{label}", inputs or {"judge": judges[round][1]}
        put(run, f"round-{round}/{name}", name, round, {}, {**PLAYED, **metrics}, Counts(20, 20), given)

    benchmark(1, "rm", {"drawn": {"items": 20, "of": 1327}})
    benchmark(1, "broken", {"accuracy": None})  # parts are missing
    benchmark(2, "other", {})
    games = put(run, "round-1/benchmark-ppe-games-1", "games", 1, {}, {}, Counts(1, 1), {"judge": judges[1][1]})
    benchmark(1, "ppe", {"benchmark": "ppe"}, **{"games-1": games})
    results = ModelCard(hub_card(find_exported(run.store.path))).data.eval_results
    assert [(one.dataset_type, one.dataset_name, one.metric_value) for one in results[1:]] == [
        ("ppe", "ppe", 0.625),
        ("THU-KEG/RM-Bench", "rm (20 of 1,327)", 0.625),
    ]


def test_the_card_names_the_data_sets_of_the_hub_that_were_trained_on(run: Path) -> None:
    manifest = run / "data" / "manifest.json"
    sources = {
        "rationale": [{"path": "hub:nvidia/HelpSteer3"}],
        "labeled": [{"path": "own.jsonl"}, {"path": "hub:nvidia/HelpSteer3"}],
        "unlabeled": [{"path": "hub:org/pairs"}],
        "heldout": [{"path": "hub:org/held"}],
    }
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "config": {"data": sources}}))
    assert ModelCard(hub_card(find_exported(run))).data.datasets == ["nvidia/HelpSteer3", "org/pairs"]
