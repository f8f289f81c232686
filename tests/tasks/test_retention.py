"""What is no longer needed goes, what follows from it stays valid, and it comes back when a stage needs it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import MANIFEST, Artifact, Counts, Manifest, Outcome, StageError
from data.store.lease import LeaseError
from data.store.store import RunStore
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.generation.shards import GenerationJob
from tasks.model.chat import ChatEncoder
from tasks.plan.sizes import model_size
from tasks.report.samples import sample_pairs
from tasks.run.retention import forget_encoded, retire
from tasks.run.space import check_room, encoding_bytes, generation_bytes, training_bytes
from tasks.run.stage import Context, Run
from tasks.settings import Optimization
from tasks.training.job import CACHE
from tests.conftest import ROOT, InProcess, settings_with
from tests.support.learning import copies
from tests.support.playing import world_engine
from tests.support.short_run import short_run

ACCURACY = {0: 0.6, 1: 0.9, 2: 0.8, 3: 0.7}
made: list[str] = []


def stage(
    run: Run, name: str, kind: str, round: int, files: dict[str, str], *inputs: Artifact, **config: Any
) -> Artifact:
    """A stage whose files say what it read."""

    def body(context: Context) -> Outcome:
        made.append(name)
        read = "".join(
            i.file(f).read_text() for i in inputs for f in i.manifest.files if f.startswith(("shards", "check"))
        )
        for file, text in files.items():
            (context.work / file).parent.mkdir(parents=True, exist_ok=True)
            (context.work / file).write_text(f"{text} of {name}, from {len(read)}\n")
        return Outcome(Counts(0, 0), {"accuracy": ACCURACY[round]})

    return run.find_or_make(name, kind, config, {f"{i}": a for i, a in enumerate(inputs)}, body, round)


def algorithm(run: Run) -> None:
    judge = None
    for i in range(4):
        reads = [judge] if judge else []
        cast = stage(run, f"round-{i}/votes", "vote", i, {"shards-5/000000.jsonl": "votes", "log.txt": "log"}, *reads)
        labels = stage(run, f"round-{i}/labels", "label-of-test", i, {"labels.jsonl": "labels"}, cast, least=run.seed)
        files = {"checkpoint/model.safetensors": "weights", "checkpoint/config.json": "config", "steps.jsonl": "steps"}
        judge = stage(run, f"round-{i}/judge", "train-judge", i, files, labels)
        stage(run, f"round-{i}/benchmark", "benchmark", i, {"games.jsonl": "games"}, judge)
        run.on_round(run, i)


@pytest.fixture
def run_it(tmp_path: Path) -> Callable[..., list[str]]:
    def again(seed: int = 0, **retention: Any) -> list[str]:
        run = Run(RunStore(tmp_path, "demo"), settings_with(retention=retention), seed, on_round=retire)
        made.clear()
        algorithm(run)
        return list(made)

    return again


def there(folder: Path) -> set[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in files if not name.startswith((".", "logs")) and not name.endswith(MANIFEST)}


def test_everything_stays_unless_it_is_said_otherwise(run_it: Any, tmp_path: Path) -> None:
    assert len(run_it()) == 16
    assert len(there(tmp_path / "demo")) == 4 * 7


def test_the_last_and_the_best_judge_stay_and_all_manifests(run_it: Any, tmp_path: Path) -> None:
    run_it(judges="last_and_best")
    weights = [name for name in there(tmp_path / "demo") if name.endswith(".safetensors")]
    assert sorted(weights) == [
        "round-1/judge/checkpoint/model.safetensors",
        "round-3/judge/checkpoint/model.safetensors",
    ]
    assert len(list((tmp_path / "demo").rglob(MANIFEST))) == 16
    manifest = Manifest.load(tmp_path / "demo/round-0/judge" / MANIFEST)
    assert manifest.retired == ["checkpoint/model.safetensors"]
    assert manifest.files["checkpoint/model.safetensors"]["bytes"] > 0
    assert run_it(judges="last_and_best") == [], "what was removed makes nothing stale"


def test_completions_of_earlier_rounds_go(run_it: Any, tmp_path: Path) -> None:
    run_it(completions="last_round")
    left = there(tmp_path / "demo")
    assert [name for name in sorted(left) if "shards" in name] == ["round-3/votes/shards-5/000000.jsonl"]
    assert {f"round-{i}/votes/log.txt" for i in range(4)} <= left
    assert run_it(completions="last_round") == []


def test_what_was_removed_is_made_again_when_a_stage_needs_it(run_it: Any, tmp_path: Path) -> None:
    """A changed setting of the labels reads the votes; what those read of a judge is made again for them."""
    run_it(judges="last_and_best", completions="last_round")
    before = Manifest.load(tmp_path / "demo/round-2/votes" / MANIFEST)
    redone = run_it(seed=1, judges="last_and_best", completions="last_round")
    # Every round's labels are redone. They give other judges here, so all that follows the first is new.
    assert redone[:2] == ["round-0/labels", "round-0/votes"]
    shutil.rmtree(tmp_path / "demo/round-3/labels")
    again = run_it(seed=1, judges="last_and_best", completions="last_round")
    assert again[0] == "round-3/labels"
    assert "round-3/votes" not in again, "the last round's completions are still there"
    assert before.retired == ["shards-5/000000.jsonl"]


def test_a_stage_that_is_made_again_keeps_the_content_by_which_others_know_it(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    answers = iter(["first", "second, as on a GPU"])

    def body(context: Context) -> Outcome:
        (context.work / "shards-5").mkdir(exist_ok=True)
        (context.work / "shards-5/0.jsonl").write_text(next(answers))
        return Outcome(Counts(0, 0))

    first = run.find_or_make("votes", "vote", {}, {}, body)
    run.store.retire(first, ["shards-5/0.jsonl"])
    found = Run(RunStore(tmp_path, "demo"), settings_with(), 0).find_or_make("votes", "vote", {}, {}, body)
    assert (found.reused, found.content) == (True, first.content)
    assert (found.folder("shards-5") / "0.jsonl").read_text() == "second, as on a GPU"
    whole = RunStore(tmp_path, "demo").in_place("votes")
    assert whole is not None
    assert (whole.content, list(whole.manifest.retired), whole.damage()) == (first.content, [], {})


def test_a_crash_while_files_are_removed_leaves_none_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    made_of = stage(run, "round-0/votes", "vote", 0, {"shards-5/0.jsonl": "a", "shards-5/1.jsonl": "b"})
    names = ["shards-5/0.jsonl", "shards-5/1.jsonl"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.store.retire(made_of, names)
    assert (made_of.path / names[1]).exists()
    found = run.store.in_place("round-0/votes")
    assert found is not None
    assert (found.manifest.retired, found.damage()) == (names, {})
    assert run.store.retire(found, names) == 0
    assert list((made_of.path / "shards-5").iterdir()) == []


def test_what_was_restored_can_be_retired_again(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    first = stage(run, "round-0/votes", "vote", 0, {"shards-5/0.jsonl": "a"})
    run.store.retire(first, ["shards-5/0.jsonl"])
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    found = stage(run, "round-0/votes", "vote", 0, {"shards-5/0.jsonl": "a"})
    assert found.file("shards-5/0.jsonl").exists(), "it is made again"
    assert run.store.retire(found, ["shards-5/0.jsonl"]) > 0
    assert not (found.path / "shards-5/0.jsonl").exists()
    now = run.store.in_place("round-0/votes")
    assert now is not None
    assert (list(now.manifest.retired), now.damage()) == (["shards-5/0.jsonl"], {})


def test_a_run_that_was_taken_over_removes_nothing(tmp_path: Path) -> None:
    store = RunStore(tmp_path, "demo")
    run = Run(store, settings_with(), 0)
    kept = stage(run, "round-0/votes", "vote", 0, {"shards-5/0.jsonl": "a"})
    with store.held():
        assert store.lease is not None
        store.lease.file.write(json.dumps({**json.loads(store.lease.file.read() or b""), "token": "other"}).encode())
        with pytest.raises(LeaseError):
            store.retire(kept, ["shards-5/0.jsonl"])
    assert kept.damage() == {}
    assert (kept.path / "shards-5/0.jsonl").exists()


def test_encoded_examples_go_when_the_run_has_ended(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    forget_encoded(run)  # there may be none
    write_jsonl(run.store.path / CACHE / "0123.json", [{}])
    forget_encoded(run)
    assert not (run.store.path / CACHE).exists()


# ---- room --------------------------------------------------------------------------------------------------------------------


def test_too_little_room_is_an_error_before_anything_is_started(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_room(tmp_path, "generating", 0, 0)
    with pytest.raises(StageError, match=r"generating may write .* GiB, but the disk of .* GiB free, of which"):
        check_room(tmp_path, "generating", free + (1 << 30), 0)
    with pytest.raises(StageError, match=r"retention\.reserve_gib = 1e\+06"):
        check_room(tmp_path, "generating", 0, 1e6)


def test_forecasts_by_hand(tmp_path: Path) -> None:
    # 100 rows × 8 votes × half of 1,000 tokens × 4 bytes; 2 orders × 4 proofs.
    assert generation_bytes({"votes": 8, "max_tokens": 1000}, 100) == 1_600_000
    assert generation_bytes({"k": 4, "max_tokens": 1000}, 100) == 1_600_000
    assert generation_bytes({"max_tokens": 1000}, 100) == 400_000
    (tmp_path / "model-00001.safetensors").write_bytes(b"0" * 1000)
    write_jsonl(tmp_path / "other.jsonl", [{"a": 1}])
    # The checkpoint; and weights and two moments in fp32, twice the bytes of a 16-bit base, three times at once.
    assert training_bytes(tmp_path, Optimization(epochs=1)) == 1000 + 3 * 3 * 2000
    assert training_bytes(tmp_path, Optimization(epochs=1), trained=0.5) == 1000 + 3 * 2 * 2000


@pytest.mark.parametrize("r", [8, 64])
def test_the_forecast_of_an_adapter_by_hand(r: int) -> None:
    """The merged checkpoint, the adapter in fp32, and three times at once the adapter with two moments."""
    base = ROOT / "data/world/base-judge"
    parameters = r * model_size(base).linear
    optimization = Optimization.model_validate({"epochs": 1, "lora": {"r": r}})
    weights = (base / "model.safetensors").stat().st_size
    assert training_bytes(base, optimization) == weights + 4 * parameters + 3 * 12 * parameters


def test_the_forecast_of_encoded_examples_by_hand(tmp_path: Path) -> None:
    """Eight bytes a token, at three bytes of text a token; what the cache has is not written again, what is packed twice."""
    sets = [tmp_path / "examples.jsonl", tmp_path / "validation.jsonl"]
    sets[0].write_bytes(b"0" * 2400)
    sets[1].write_bytes(b"0" * 600)
    cache = tmp_path / CACHE
    assert encoding_bytes(sets, None, packed=False) == 8000
    assert encoding_bytes(sets, cache, packed=False) == 8000
    cache.mkdir()
    (cache / "0123.arrow").write_bytes(b"0" * 3000)
    assert encoding_bytes(sets, cache, packed=False) == 5000
    assert encoding_bytes(sets, cache, packed=True) == 13000
    (cache / "4567.arrow").write_bytes(b"0" * 30_000)
    assert encoding_bytes(sets, cache, packed=False) == 0


def test_a_run_that_takes_over_another_one_s_stages_makes_nothing_for_its_samples(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    """Pairs whose votes and proofs were removed are shown in the report without them."""
    engine = InProcess(world_engine(encoder), encoder)
    generated: list[str] = []

    def generate(job: GenerationJob, *rest: Any) -> Any:
        generated.append(job.out)
        return engine(job, *rest)

    def end_round(run: Run, round: int) -> None:
        sample_pairs(run, round, n=5)
        retire(run, round)

    def made_by(name: str) -> Run:
        overrides = {
            **short_run(tmp_path / "world"),
            "retention.judges": "last_and_best",
            "retention.completions": "last_round",
            "rounds.count": 3,
            "rounds.pairs": 8,
        }
        config = with_overrides(load_recipe("demo").model_dump(), {**overrides, "training.final": None})
        run = Run(RunStore(tmp_path / "runs", name), config, 0, generator=generate, trainer=copies, on_round=end_round)
        self_training(run)
        return run

    first = sample_pairs(made_by("first"), 1, n=5)
    assert all(pair["votes"] for pair in first)
    assert generated
    generated.clear()
    second = sample_pairs(made_by("second"), 1, n=5)
    assert generated == []
    assert [(pair["id"], pair["fate"]) for pair in second] == [(pair["id"], pair["fate"]) for pair in first]
    assert len(first) == 5
    assert not any(pair["votes"] or pair["candidates"] for pair in second)
