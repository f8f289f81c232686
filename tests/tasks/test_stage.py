"""Stages and what surrounds them: base models, the lock on a run, seeds and keys of trainings, engines' environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.files import read_jsonl
from data.seeds import derive_seed
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from tasks.label import cast_votes
from tasks.model.chat import ChatEncoder
from tasks.model.device import engine_environment
from tasks.model.location import find_model
from tasks.run.stage import Context, Run
from tasks.run.watch import describe, progress_text
from tests.conftest import artifact, make, run_with, settings_with
from tests.support.recording import RecordedRun
from tests.support.stages import began_earlier


def test_a_base_model_on_disk_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    path, before = find_model(str(tmp_path))
    assert path == str(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert find_model(str(tmp_path))[1] != before


def test_a_base_model_of_the_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--org--name"
    for revision, commit in (("main", "c0ffee"), ("v2", "decade")):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_model("org/name")[1] == {"hub": "org/name", "commit": "c0ffee"}
    path, known = find_model("org/name@v2")
    assert (Path(path).name, known["commit"]) == ("decade", "decade")
    with pytest.raises(FileNotFoundError, match=r"'org/name@v3' is neither a local folder nor available from the hub"):
        find_model("org/name@v3")


def test_a_finished_stage_is_one_line_with_what_became_of_its_rows(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), seed=0)
    counts = Counts(1200, 1187, {"tie": 10, "duplicate": 1}, {"engine_abort": 2})
    made = run.find_or_make("round-1/labels", "label", {}, {}, lambda context: Outcome(counts))
    line = describe(made).partition("; ")[2]
    assert line == "1,200 in, 1,187 kept, lost 10 tie, 1 duplicate, 2 failed: engine_abort"


def test_an_artifact_that_was_finished_but_not_in_its_place_is_not_made_again(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), seed=0)
    made = run.find_or_make("a", "test", {}, {}, lambda context: (context.work / "x").write_text("x") and _nothing())
    work = tmp_path / "demo" / ".work" / f"a-{made.manifest.key[:16]}"
    work.parent.mkdir(exist_ok=True)
    made.path.rename(work)
    again = run.find_or_make("a", "test", {}, {}, lambda context: pytest.fail("was made again"))
    assert (again.reused, again.path, again.file("x").read_text()) == (True, made.path, "x")


def test_the_progress_of_a_stage_keeps_the_time_that_it_was_worked_on(tmp_path: Path) -> None:
    def stage(body: Callable[[Context], Outcome]) -> Artifact:
        return Run(RunStore(tmp_path, "demo"), settings_with(), seed=0).find_or_make("a", "test", {}, {}, body)

    def killed(context: Context) -> Outcome:
        began_earlier(context.work, 100)
        context.progress(1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(killed)
    assert stage(lambda context: _nothing()).manifest.seconds == pytest.approx(100, abs=5)


def test_what_a_stage_reads_beside_its_inputs_is_seen(tmp_path: Path, encoder: ChatEncoder) -> None:
    """By the recording with which the tests of whole runs look for stages that forget an input."""
    run = RecordedRun.of(run_with(tmp_path, encoder, lambda request, j: ""), tmp_path)
    rows = artifact(run, "rows", {"a.jsonl": [{"id": "1"}], "b.jsonl": [{"id": "2"}]})

    def body(context: Context) -> Outcome:
        found = [*read_jsonl(context.file("a")), *read_jsonl(rows.file("b.jsonl"))]
        return Outcome(Counts(len(found), len(found)))

    run.find_or_make("forgetful", "test", {}, {"a": rows.ref("a.jsonl")}, body)
    assert run.forgotten == {"forgetful": ["run/rows/b.jsonl"]}
    run.find_or_make("complete", "test", {}, {"a": rows.ref("a.jsonl"), "b": rows}, body)
    assert "complete" not in run.forgotten
    assert {path.name for path in run.opened["complete"]} == {"a.jsonl", "b.jsonl"}


def _nothing():  # type: ignore[no-untyped-def]
    from data.store.artifacts import Counts, Outcome

    return Outcome(Counts(0, 0))


def test_engines_get_their_environment_and_keep_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert engine_environment(on_gpus=False)["OMP_NUM_THREADS"] == "1"
    assert engine_environment(on_gpus=False)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in engine_environment(on_gpus=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in engine_environment(on_gpus=False)
    assert "TORCHDYNAMO_DISABLE" not in engine_environment(on_gpus=True)


def test_seeds_of_other_purposes_are_unrelated_and_all_fit_31_bits() -> None:
    seeds = {derive_seed(seed, "vote", round) for seed in range(10) for round in range(100)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**31
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2) != derive_seed(1, "a2")


def test_progress_says_rows_rate_and_time_left() -> None:
    assert progress_text("votes", 500, 1500, 400, 10.0) == "votes: 500 of 1,500, 40.0/s, 25 s left"
    assert progress_text("votes", 0, 1500, 0, 10.0) == "votes: 0 of 1,500"
    assert progress_text("votes", 10, 100_000, 10, 10.0).endswith("min left")


@pytest.mark.parametrize(
    ("prompt", "dtype", "head"),
    [
        ("compact-label", "bfloat16", "float32"),
        ("compact-label", "float32", None),
        ("compact", "bfloat16", None),
    ],
)
def test_votes_by_rounded_probabilities_are_not_those_by_exact_ones(
    tmp_path: Path, encoder: ChatEncoder, prompt: str, dtype: str, head: str | None
) -> None:
    """The key of votes tells what the head computed in, where that is not what the rest does and probabilities are read."""
    run = run_with(tmp_path, encoder, lambda request, j: "A", models={"judge_prompt": prompt, "dtype": dtype})
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    batch = artifact(run, "data", {"batch-1.jsonl": [make().to_json()]}).ref("batch-1.jsonl")
    assert cast_votes(run, 1, judge, batch).manifest.config.get("head_dtype") == head
