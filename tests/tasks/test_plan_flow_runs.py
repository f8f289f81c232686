"""Plans of the flows baselines and adapt against what the flows' own stages make of the small world; seeds and rates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl, write_jsonl
from data.store.artifacts import Artifact
from data.store.store import RunStore
from data.world.splits import write_splits
from flows.config.every_run import PlannedParameters
from flows.config.parameters import AdaptConfig, BaselinesConfig
from flows.config.recipes import load_recipe_of, with_overrides
from flows.plan import plan_target, target_of, write_plan
from flows.running.carry_out import planned_in_words
from flows.self_train import self_training
from tasks.adapt import task_examples, train_file
from tasks.baselines import labeled_pairs, preference_examples, response_pairs
from tasks.benchmark.play import game_requests, query_for
from tasks.benchmark.sets import ITEMS, prepare_heldout
from tasks.model.chat import ChatEncoder
from tasks.model.requests import Skip
from tasks.model.scalar import SCALAR
from tasks.plan.assumptions import assume
from tasks.plan.baselines import settings_of_label_judges
from tasks.plan.begun import BackgroundPlanner
from tasks.plan.facts import measure_scores
from tasks.plan.plan import PLAN, Plan
from tasks.plan.sample import sample_run
from tasks.plan.show import COLUMNS, amount, as_text, gpu_time, plan_rows, size
from tasks.plan.stages import PlannedStage
from tasks.prepare import batch_of, prepare
from tasks.run.stage import Run
from tasks.settings import Optimization, Role
from tasks.training.examples import ExampleCounts, encode_rows
from tasks.training.job import TrainingJob
from tests.conftest import ROOT, settings_with
from tests.support.commands import gram_r2

PARTS = ("rationale", "labeled", "unlabeled", "heldout")


# ---- against what the flows' stages make of the small world --------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_splits(folder, seed=0)
    return folder


def sources(world: Path, part: str) -> list[dict[str, str]]:
    return [{"path": f"{world}/{part}.jsonl"}]


def baselines(world: Path, **overrides: Any) -> BaselinesConfig:
    data = {f"data.{part}": sources(world, part) for part in PARTS}
    recipe = load_recipe_of("baselines", "world").model_dump(mode="json")
    return with_overrides(recipe, {**data, "seeds": [], **overrides}, BaselinesConfig)


def adapting(world: Path, judge: Path, **overrides: Any) -> AdaptConfig:
    given = {
        "judge.path": str(judge),
        "task.pairs": sources(world, "rationale"),
        "task.heldout": sources(world, "heldout"),
        "task.sizes": [4, 8],
        "benchmarks.sets": [],
    }
    recipe = load_recipe_of("adapt", "demo").model_dump(mode="json")
    return with_overrides(recipe, {**given, **overrides}, AdaptConfig)


def trained_judge(folder: Path, prompt: str) -> Path:
    """The base as a judge that says how it is asked; one that scores says so by its architecture."""
    made = folder / f"judge-{prompt}"
    shutil.copytree(ROOT / "data/world/base-judge", made)
    if prompt == SCALAR:
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    else:
        (made / "prompt.json").write_text(json.dumps({"name": prompt}))
    return made


def planned(config: PlannedParameters, *given: Any) -> dict[str, PlannedStage]:
    return {stage.place.name: stage for stage in plan_target(target_of(config), *given).stages}


def run_of(config: PlannedParameters, store: Path) -> Run:
    target = target_of(config)
    return Run(RunStore(str(store), target.run_name), target.settings, config.seed)


def tokens_of(run: Run, role: Role, examples: Path) -> tuple[int, int]:
    """Examples that a training goes through, and their tokens, as the trainer's process encodes them."""
    settings, counts = run.settings, ExampleCounts()
    models, training = settings.models.model_dump(), settings.training.mechanics()
    optimization = Optimization(epochs=1).model_dump()
    job = TrainingJob("x", role, str(examples), "", "", models, training, optimization, settings.labels.max_tokens, 0)
    encoder = ChatEncoder.load(str(ROOT / "data/world/base-judge"))
    encoded = encode_rows(read_jsonl(examples), job, encoder, settings.models, counts)
    return sum(isinstance(one, dict) for one in encoded), counts.tokens


def read_by(run: Run, prompt: str, played: Artifact) -> int:
    """Prompt tokens of all requests that a judge with this prompt is sent."""
    settings, encoder = run.settings, ChatEncoder.load(str(ROOT / "data/world/base-judge"))
    query = query_for(settings.benchmarks, prompt, settings.models, settings.reply_tokens, run.seed)
    made = [game_requests(row, query.to_json(), encoder) for row in read_jsonl(played.file(ITEMS))]
    return sum(len(request.prompt_ids) for one in made if not isinstance(one, Skip) for request in one)


def passes(optimization: Optimization, n: int) -> float:
    assert optimization.max_steps is not None
    return optimization.max_steps / -(-n // optimization.batch_size)


def test_baselines_go_through_the_tokens_that_their_stages_make(world: Path, tmp_path: Path) -> None:
    config = baselines(world)
    stages, run = planned(config), run_of(config, tmp_path)
    data, chosen = prepare(run), config.baselines
    by_label = replace(run, settings=settings_of_label_judges(run.settings, chosen))
    pairs, batches = labeled_pairs(run, data), [batch_of(data, i) for i in (1, 2, 3)]
    made: list[tuple[str, Role, Artifact, Optimization | None]] = [
        ("discriminative/judge", "scalar", preference_examples(run, "once", pairs, ("ab",)), chosen.discriminative),
        ("label-only/judge", "judge", preference_examples(run, "both", pairs), chosen.label_only),
        ("gram/judge", "label-judge", preference_examples(run, "again", pairs), chosen.gram),
        ("gram/pretrained", "pretrained", response_pairs(run, "responses", batches), chosen.gram_pretraining),
    ]
    for name, role, examples, optimization in made:
        assert optimization is not None
        n, tokens = tokens_of(by_label, role, examples.file("examples.jsonl"))
        assert (stages[name].rows_in, stages[name].rows_out) == (examples.manifest.counts.kept, n), name
        assert stages[name].trained_tokens == pytest.approx(tokens * passes(optimization, n)), name
    heldout = prepare_heldout(run, data)
    for name, prompt in (("discriminative", SCALAR), ("label-only", "compact-label"), ("gram", "compact-label")):
        read = read_by(by_label, prompt, heldout)
        assert stages[f"{name}/benchmark"].prompt_tokens == pytest.approx(read), name
    assert list(stages)[-1] == "final"
    assert list(stages).index("gram/benchmark") < list(stages).index("round-0/judge")


@pytest.mark.parametrize(
    ("prompt", "role"), [("compact-label", "label-judge"), ("compact", "judge"), (SCALAR, "scalar")]
)
def test_a_judge_is_adapted_on_the_tokens_that_its_stages_make(
    prompt: str, role: Role, world: Path, tmp_path: Path
) -> None:
    config = adapting(world, trained_judge(tmp_path, prompt), **{"benchmarks.max_tokens": 64})
    stages, run = planned(config), run_of(config, tmp_path)
    data = prepare(run)
    examples = task_examples(run, data, config.task, prompt)
    for pairs in (4, 8):
        n, tokens = tokens_of(run, role, examples.file(train_file(pairs)))
        stage = stages[f"size-{pairs}/judge"]
        assert (stage.rows_in, stage.rows_out) == (n, n)
        # The size's own pairs are a part of the sample.
        mean = tokens / n * passes(config.training.optimization, n) * n
        assert stage.trained_tokens == pytest.approx(mean, rel=0.05)
    assert stages["before/benchmark"].prompt_tokens == pytest.approx(read_by(run, prompt, prepare_heldout(run, data)))
    assert ("final" in stages) == (prompt != SCALAR)


def test_proofs_of_unknown_length_are_taken_for_half_as_long_as_they_may_be(world: Path, tmp_path: Path) -> None:
    prover = {"task.prover": str(ROOT / "data/world/base-prover"), "proofs.max_tokens": 60}
    config = adapting(world, trained_judge(tmp_path, "compact"), **prover, **{"benchmarks.max_tokens": 90})
    plan = plan_target(target_of(config))
    stages = {stage.place.name: stage for stage in plan.stages}
    origins = {one["name"]: (one["value"], one["origin"]) for one in plan.assumptions}
    assert origins["proof_share"] == (0.5, "default: half of proofs.max_tokens")
    assert origins["reply_share"] == (pytest.approx(30 / 90), "as long as the proofs")
    proofs = stages["round-0/proofs"]
    assert proofs.generated_tokens == pytest.approx(12 * 2 * config.proofs.k * 30)
    assert stages["size-8/judge"].rows_in == pytest.approx(2 * min(8, 0.8 * 0.8 * 12))
    assert set(plan.models) == {"judge", "prover"}
    assert "kept_labels" not in origins


def test_several_seeds_are_planned_as_the_first_with_their_number(world: Path, tmp_path: Path) -> None:
    for seed in (3, 5):
        shutil.copytree(world, tmp_path / f"seed-{seed}")
    paths = {f"data.{part}": [{"path": f"{tmp_path}/seed-{{seed}}/{part}.jsonl"}] for part in PARTS}
    several = baselines(world, **paths, seeds=[3, 5], store=str(tmp_path), dry_run=True)
    plan, path = write_plan(several)
    assert path == f"{tmp_path}/baselines-world-seed-3/{PLAN}"
    assert any(note.startswith("2 seeds: the stages are those of the first") for note in plan.notes)
    assert json.loads(Path(path).read_text())["times"] == 2
    one = plan_target(target_of(several.each_seed()[1]))
    assert one.totals() == pytest.approx(plan.totals())
    assert not any("seeds" in note for note in one.notes)
    together, rows = plan.totals_of_all(), {row[0]: row for row in plan_rows(plan)}
    assert together == pytest.approx({name: 2 * total for name, total in one.totals().items()})
    assert rows["= 2 seeds"][5] == amount(together["trained_tokens"]) != rows["= one seed"][5]
    cost = f"GPU time {gpu_time(together['gpu_seconds'])}, disk {size(together['disk_bytes'])} for 2 seeds"
    assert planned_in_words(plan, path) == f"only planned: {cost}; plan in {path}"
    assert max(map(len, as_text(plan).splitlines())) <= COLUMNS


def test_a_run_of_baselines_plans_all_of_its_methods(world: Path, tmp_path: Path) -> None:
    config = baselines(world, store=str(tmp_path))
    run, said = run_of(config, tmp_path), list[str]()

    def plan(run: Run, data: Artifact, sets: Any) -> None:
        beside = BackgroundPlanner(said.append)
        beside.begin(run, data, sets)
        if beside.ident is not None:
            said.append("planning")
            beside.join()
        raise EOFError

    run.on_data = plan
    with pytest.raises(EOFError):
        self_training(run)
    assert said == ["planning"]
    written = Plan.from_json(json.loads((run.store.path / PLAN).read_text()))
    before, path = write_plan(config)
    assert Path(path) == run.store.path / PLAN
    assert before.settings == written.settings
    assert [stage.place for stage in written.stages] == [stage.place for stage in before.stages]
    for one, other in zip(before.stages, written.stages, strict=True):
        assert other.trained_tokens == pytest.approx(one.trained_tokens, rel=0.02)
    assert (
        write_plan(baselines(world, store=str(tmp_path), **{"baselines.gram.max_steps": 9}))[0].settings
        != before.settings
    )


def test_rates_are_of_judges_that_write(world: Path) -> None:
    rates = {"judge_training": 50, "judge_generation": 10, "prover_training": 40, "prover_generation": 5}
    config = baselines(world)
    plan = plan_target(target_of(config), assume(("given", rates)))
    stages, free = {stage.place.name: stage for stage in plan.stages}, planned(config, assume())
    assert stages["round-0/benchmark"].gpu_seconds == pytest.approx(stages["round-0/benchmark"].generated_tokens / 10)
    for name in ("discriminative", "label-only", "gram"):
        judge, games = stages[f"{name}/judge"], f"{name}/benchmark"
        assert judge.gpu_seconds == pytest.approx(judge.trained_tokens / 50)
        assert stages[games].gpu_seconds == pytest.approx(free[games].gpu_seconds)
    assert "not measured" not in as_text(plan)
    assert any("judges without rationales generate at most one token" in note for note in plan.notes)


def test_pairs_that_do_not_fit_a_baseline_are_said(world: Path) -> None:
    plan = plan_target(target_of(baselines(world, **{"models.max_tokens": 64 + 27})))
    assert not any("discriminative" in note for note in plan.notes)
    long = [{"id": "x", "prompt": "a " * 40, "response_a": "b " * 60, "response_b": "c", "label": "A"}]
    write_jsonl(world / "long.jsonl", [*long, *read_jsonl(world / "labeled.jsonl")])
    config = baselines(world, **{"data.labeled": [{"path": f"{world}/long.jsonl"}], "models.max_tokens": 64 + 27})
    notes = plan_target(target_of(config)).notes
    assert any("labeled pairs: 95.2% fit the discriminative model's context" in note for note in notes)
    assert any("labeled pairs: 95.2% fit the label-only judges' context" in note for note in notes)


# ---- scores of sets ----------------------------------------------------------------------------------------------------------


def test_each_response_of_a_set_is_read_once_and_in_knockouts_once_a_match(tmp_path: Path) -> None:
    """Three by three cells of six responses; and a knockout of four, whose every pair could be a match."""
    responses = [f"plain {i}" for i in range(6)]
    square = [[f"{i}-{j}", i, 3 + j] for i in range(3) for j in range(3)]
    every = [[f"{i}-{j}", i, j] for i in range(4) for j in range(i + 1, 4)]
    item = {"id": "x", "group": "g", "prompt": [{"role": "user", "content": "Which?"}], "right": [True] * 6}
    write_jsonl(tmp_path / "rm.jsonl", [{**item, "responses": responses, "cells": square}])
    write_jsonl(tmp_path / "ppe.jsonl", [{**item, "responses": responses[:4], "right": [True] * 4, "cells": every}])
    sets = [
        {"label": "rm", "items": str(tmp_path / "rm.jsonl"), "total": 10, "candidates": None},
        {"label": "ppe", "items": str(tmp_path / "ppe.jsonl"), "total": 10, "candidates": 4},
    ]
    encoder = ChatEncoder.load(str(ROOT / "data/world/base-judge"))
    rm, ppe = measure_scores(settings_with(), sample_run({}, {}, sets, 5), encoder).sets
    assert (rm.items, rm.cells, rm.scored, ppe.cells, ppe.scored) == (10, 9, 6, 3, 6)
    assert rm.lengths.fits == ppe.lengths.fits == 1


# ---- the command line --------------------------------------------------------------------------------------------------------


def test_a_recipe_that_one_flow_has_needs_no_flow(world: Path) -> None:
    given = [word for part in PARTS for word in ("--set", f"data.{part}={json.dumps(sources(world, part))}")]
    done = gram_r2("plan", "world", *given)
    assert done.code == 0
    text = done.out
    assert text.startswith("Plan of baselines-world-seed-0\n")
    assert "\ndiscriminative/judge " in text
