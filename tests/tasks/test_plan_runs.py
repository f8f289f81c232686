"""Plans of recipes from stand-ins, on the command line, from a run that is there, and beside a run that has begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.config.parameters import AdaptConfig, BaselinesConfig, GramConfig, SelfTrainConfig
from flows.plan import target_of
from tasks.plan.assumptions import assume
from tasks.plan.plan import Plan
from tasks.plan.show import COLUMNS, as_text
from tests.support.commands import gram_r2
from tests.support.planning import RECIPES, demo, options, planned, target

PARAMETERS = {
    "meta-llama/Llama-3.1-8B-Instruct": "8.03B",
    "meta-llama/Llama-3.2-3B-Instruct": "3.21B",
    "Qwen/Qwen3-14B": "14.8B",
    "Qwen/Qwen3-1.7B": "1.72B",
}


def trainings(recipe: str) -> list[str]:
    """The judges that a recipe trains."""
    config = RECIPES[recipe]
    if isinstance(config, AdaptConfig):
        return [f"size-{size}/judge" for size in config.task.sizes]
    methods = ["discriminative", "label-only", "gram"] if isinstance(config, BaselinesConfig) else []
    rounds = target_of(config).settings.rounds.count
    return [f"{name}/judge" for name in [*methods, *(f"round-{i}" for i in range(rounds + 1))]]


# ---- recipes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_planned_from_stand_ins_and_says_so(recipe: str, tmp_path: Path) -> None:
    done = gram_r2("plan", *options(recipe, tmp_path))
    assert done.code == 0, done.err
    text, models = done.out, target(recipe, tmp_path).models.values()
    assert "ESTIMATES FROM STAND-INS" in text
    assert set(models) <= set(" ".join(text.split("\n\n")[1].split()).split("for: ")[1].split(", "))
    assert max(map(len, text.splitlines())) <= COLUMNS
    unwrapped = "".join(text.split())  # a path that is longer than a line is broken anywhere
    for model in models:
        assert f"{model}:{tmp_path}" in unwrapped
        assert f"{model}: N = {PARAMETERS.get(model, '8.03B')}" in text
    assert f"{tmp_path}/rows.jsonlstandsinforthesources" in unwrapped
    assert "not measured" in text
    for name in trainings(recipe):
        assert f"\n{name} " in text
        assert f"\n{name.replace('judge', 'benchmark')} " in text


def test_only_flows_that_train_and_know_their_work_are_planned() -> None:
    assert {type(config) for config in RECIPES.values()} == {SelfTrainConfig, GramConfig, BaselinesConfig, AdaptConfig}


def test_a_plan_of_the_paper_has_the_sizes_of_its_settings(tmp_path: Path) -> None:
    rows = {"rows_rationale": 40_500, "rows_labeled": 1_000_000, "rows_unlabeled": 3_000_000}
    given = [word for name, n in rows.items() for word in ("--assume", f"{name}={n}")]
    given += ["--set", "labels.votes=16", "--set", "rounds.pairs=500000"]
    done = gram_r2("plan", *options("llama-3.1-8b-lora", tmp_path), *given, "--json")
    assert done.code == 0, done.err
    plan = Plan.from_json(json.loads(done.out))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["data"].rows_in == sum(rows.values())
    assert stages["prover"].rows_in == 40_500
    assert stages["round-0/proofs"].rows_in == pytest.approx(0.998 * 1_000_000)
    assert stages["round-0/benchmark"].rows_in == pytest.approx(0.002 * 1_000_000)
    votes = stages["round-3/votes"]
    assert (votes.rows_in, votes.rows_out) == (500_000, 300_000)
    shares = {one["name"]: one["value"] for one in plan.assumptions}
    cast = shares["votes_cast"] * 16
    assert votes.generated_tokens == pytest.approx(500_000 * cast * shares["reply_share"] * 1024)
    n = 8_030_261_248
    assert votes.flops == pytest.approx(2 * n * (votes.prompt_tokens + votes.generated_tokens))
    peak = 989e12
    expected = 2 * n * (votes.prompt_tokens / (0.6 * peak) + votes.generated_tokens / (0.2 * peak))
    assert votes.gpu_seconds == pytest.approx(expected)
    judge = stages["round-3/judge"]
    assert judge.flops == pytest.approx((4 + 2) * n * judge.trained_tokens)
    assert judge.disk_bytes > 2 * n
    assert plan.stand_ins == [
        "meta-llama/Llama-3.1-8B-Instruct",
        "Qwen/Qwen3-14B",
        *(f"data.{part}" for part in ("rationale", "labeled", "unlabeled")),
    ]


# ---- the demo, whose data and models are here ----------------------------------------------------------------------------


def test_the_demo_is_planned_from_its_own_data(world: Path) -> None:
    """Compared by hand with a run of the demo: what does not depend on shares kept is exact there."""
    plan = planned(demo(world))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["data"].rows_in == 982
    assert stages["prover"].trained_tokens == 720 * 30
    assert stages["round-0/proofs"].generated_tokens == pytest.approx(20 * 8 * 33)
    assert stages["round-1/votes"].generated_tokens == pytest.approx(0.81 * 150 * 8 * 38, rel=0.01)
    assert stages["round-0/benchmark"].generated_tokens == pytest.approx(1000 * 38, rel=0.01)
    assert stages["round-0/benchmark"].prompt_tokens == 1000 * 23
    assert "STAND-INS" not in as_text(plan)


def test_a_sample_stands_for_the_whole(world: Path) -> None:
    whole, some = (planned(demo(world), n=n) for n in (500, 7))
    for one, other in zip(whole.stages, some.stages, strict=True):
        assert other.rows_in == pytest.approx(one.rows_in)
        assert other.prompt_tokens == pytest.approx(one.prompt_tokens, rel=0.02)


def test_unusable_rows_of_the_sample_are_not_expected_to_come_out(world: Path, tmp_path: Path) -> None:
    lines = (world / "labeled.jsonl").read_text().splitlines()
    empty = json.dumps({**json.loads(lines[0]), "response_a": "", "id": "empty"})
    (tmp_path / "labeled.jsonl").write_text("\n".join([*lines[:15], *[empty] * 5]) + "\n")
    # The second source begins with the same 15 pairs.
    sources = [{"path": f"{tmp_path}/labeled.jsonl"}, {"path": f"{world}/labeled.jsonl"}]
    plan = planned(demo(world, **{"data.labeled": sources}))
    assert plan.stages[2].place.name == "round-0/proofs"
    assert plan.stages[2].rows_in == 15 + 5
    assert plan.stages[0].rows_in == 982 - 20 + 20 + 20


def test_pairs_that_do_not_fit_are_left_out_and_said(world: Path) -> None:
    """The compact prompt of a pair has 23 tokens for the judge and 27 for the prover."""
    plan = planned(demo(world, **{"models.max_tokens": 64 + 26}))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["round-0/proofs"].rows_out == 0
    assert stages["round-1/votes"].rows_out > 0
    left = "models.max_tokens = 90 leaves 26 tokens for the prompt"
    assert f"labeled pairs: none of the sampled ones fits the prover's context; {left}" in plan.stops
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).stops == plan.stops
    assert (
        as_text(plan).split("\n\n")[1].startswith("A RUN WOULD STOP: human rationales: none of the sampled ones fits")
    )
    assert not any("the judge's context" in note for note in plan.notes)


def test_sets_are_planned_with_all_their_games(world: Path) -> None:
    sets = [{"benchmark": "preferences", "data": f"{world}/heldout.jsonl", "name": "more"}]
    stages = {stage.place.name: stage for stage in planned(demo(world, **{"benchmarks.sets": sets}), n=50).stages}
    more, held_out = stages["round-2/benchmark-more"], stages["round-2/benchmark"]
    assert (more.rows_in, more.prompt_tokens) == (held_out.rows_in, pytest.approx(held_out.prompt_tokens))


def test_a_round_that_finds_too_few_pairs_is_noted(world: Path) -> None:
    plan = planned(demo(world, **{"rounds.pairs": 200}))
    assert any(note == "3 rounds of 200 pairs need 600 unlabeled pairs; only 450 are available" for note in plan.notes)
    assert not plan.stops
    [stop] = planned(demo(world, **{"rounds.pairs": 300})).stops
    assert stop.startswith("3 rounds of 300 unlabeled pairs need at least 601; only 450 are available")


def test_assumptions_of_gpus_are_shown_where_a_stage_needs_them(world: Path) -> None:
    """With all rates known, none does, except for the audit of proofs."""
    rates = {"judge_training": 50, "judge_generation": 10, "prover_training": 40, "prover_generation": 5}
    for audited, shown in ((0, False), (8, True)):
        plan = planned(demo(world, **{"proofs.audit_pairs": audited}), assume(("given", rates)))
        assert ("prefill_utilization" in {one["name"] for one in plan.assumptions}) == shown


# ---- judges that give the label alone ------------------------------------------------------------------------------------


def test_gram_is_planned_with_its_pretraining_and_one_token_a_judgment(tmp_path: Path) -> None:
    given = ["--assume", "rows_pretraining=566000", "--assume", "rows_labeled=65000", "--json"]
    done = gram_r2("plan", *options("gram/gram-qwen3-1.7b", tmp_path), *given)
    assert done.code == 0, done.err
    plan = Plan.from_json(json.loads(done.out))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert list(stages) == ["data", "pretrained", "round-0/selected", "round-0/judge", "round-0/benchmark", "final"]
    assert stages["pretrained"].rows_in == 566_000
    assert stages["round-0/judge"].rows_in == pytest.approx(2 * 0.98 * 65_000)
    played = stages["round-0/benchmark"]
    assert played.generated_tokens == pytest.approx(2 * played.rows_out)
    n = 1_720_574_976
    assert stages["pretrained"].flops == pytest.approx((6 + 2) * n * stages["pretrained"].trained_tokens)


def test_a_label_judges_votes_are_one_token_in_each_order(world: Path) -> None:
    label_only = {"models.judge_prompt": "compact-label", "proofs.write_for": "nothing", "labels.votes": 16}
    votes = next(stage for stage in planned(demo(world, **label_only)).stages if stage.place.name == "round-1/votes")
    assert votes.generated_tokens == pytest.approx(2 * votes.rows_in)


def test_a_cap_and_weights_bound_what_is_planned(world: Path) -> None:
    path = f"{world}/unlabeled.jsonl"
    capped = planned(demo(world, **{"data.unlabeled": [{"path": path, "cap": 100}], "rounds.count": 1}))
    stages = {stage.place.name: stage for stage in capped.stages}
    assert stages["round-1/votes"].rows_in == 100
    assert any("100 of about 450 usable pairs" in note for note in capped.notes)
    other = f"{world}/heldout.jsonl"
    weighted = [{"path": path, "weight": 1}, {"path": other, "weight": 4}]
    mixed = planned(demo(world, **{"data.unlabeled": weighted, "rounds.count": 1, "rounds.pairs": 10_000}))
    votes = next(stage for stage in mixed.stages if stage.place.name == "round-1/votes")
    assert votes.rows_in == 125 + 500
