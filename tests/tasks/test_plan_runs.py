"""Plans of recipes from stand-ins, on the command line, from a run that is there, and beside a run that has begun."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data.files import json_line, write_json, write_jsonl
from data.records import ResponsePair
from data.sources.rows import SourceError, count_rows, declared_rows, read_file
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from data.world.__main__ import main as write_world
from flows.config.parameters import AdaptConfig, BaselinesConfig, GramConfig, PlannedParameters, SelfTrainConfig
from flows.config.recipes import load_recipe, load_recipe_of, recipe_files, with_overrides
from flows.plan import Course, course_of, main, plan_course, write_plan
from flows.self_train import train_by_itself
from tasks.benchmark.sets import prepare_heldout
from tasks.plan.assumptions import PlanError, assume
from tasks.plan.begun import PlanBeside, plan_begun, planning_job
from tasks.plan.compare import FIGURES, compared, planned_table
from tasks.plan.facts import HELD_OUT
from tasks.plan.measured import measured_in
from tasks.plan.plan import PLAN, Plan
from tasks.plan.sample import sample_run
from tasks.plan.show import COLUMNS, as_text
from tasks.prepare import prepare
from tasks.report.self_training import write_report
from tasks.run.changes import announce
from tasks.run.stage import Context, Run
from tests.conftest import make
from tests.support.plan_fixtures import write_model, write_rows

PARAMETERS = {
    "meta-llama/Llama-3.1-8B-Instruct": "8.03B",
    "meta-llama/Llama-3.2-3B-Instruct": "3.21B",
    "Qwen/Qwen3-14B": "14.8B",
    "Qwen/Qwen3-1.7B": "1.72B",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(["--out", str(folder), "--seed", "0"])
    return folder


def demo(world: Path, **overrides: Any) -> SelfTrainConfig:
    data = {
        f"data.{part}": [{"path": f"{world}/{part}.jsonl"}] for part in ("rationale", "labeled", "unlabeled", "heldout")
    }
    return with_overrides(load_recipe("demo").model_dump(), {**data, **overrides})


def planned(config: PlannedParameters, *given: Any, **options: Any) -> Plan:
    return plan_course(course_of(config), *given, **options)


def planned_recipes() -> dict[str, PlannedParameters]:
    """The configuration of every recipe that can be planned, by its name on the command line."""
    made: dict[str, PlannedParameters] = {}
    for flow, path in recipe_files():
        config = load_recipe_of(flow, path.stem)
        if isinstance(config, PlannedParameters):
            made[path.stem if flow == "self-train" else f"{flow}/{path.stem}"] = config
    return made


RECIPES = planned_recipes()


def course(recipe: str, folder: Path) -> Course:
    """What a recipe's run will do, where a folder stands in for a judge that is to be adapted."""
    config = RECIPES[recipe]
    judge = config.judge.path if isinstance(config, AdaptConfig) else None
    return course_of(config, {judge: str(write_model(folder, judge))} if judge else {})


def options(recipe: str, folder: Path) -> list[str]:
    """The arguments that plan a recipe without the hub, and without the files that it names."""
    found = course(recipe, folder)
    models = [f"{model}={write_model(folder, model)}" for model in sorted(set(found.models.values()))]
    files = [f"{part}={file}" for part, file in write_rows(folder, found.settings).items()]
    return [recipe, *(word for one in models for word in ("--stand-in", one)),
            *(word for one in files for word in ("--data-stand-in", one))]  # fmt: skip


def trainings(recipe: str) -> list[str]:
    """The judges that a recipe trains."""
    config = RECIPES[recipe]
    if isinstance(config, AdaptConfig):
        return [f"size-{size}/judge" for size in config.task.sizes]
    methods = ["discriminative", "label-only", "gram"] if isinstance(config, BaselinesConfig) else []
    rounds = course_of(config).settings.rounds.count
    return [f"{name}/judge" for name in [*methods, *(f"round-{i}" for i in range(rounds + 1))]]


# ---- recipes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_planned_from_stand_ins_and_says_so(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(recipe, tmp_path)) == 0
    text, models = capsys.readouterr().out, course(recipe, tmp_path).models.values()
    assert "ESTIMATES FROM STAND-INS" in text
    assert set(models) <= set(" ".join(text.split("\n\n")[1].split()).split("for: ")[1].split(", "))
    assert max(map(len, text.splitlines())) <= COLUMNS
    unwrapped = " ".join(text.split())
    for model in models:
        assert f"{model}: {tmp_path}" in unwrapped
        assert f"{model}: N = {PARAMETERS.get(model, '8.03B')}" in text
    assert f"{tmp_path}/rows.jsonl stands in for the sources" in unwrapped
    assert "not measured" in text
    for name in trainings(recipe):
        assert f"\n{name} " in text
        assert f"\n{name.replace('judge', 'benchmark')} " in text


def test_only_flows_that_train_and_know_their_work_are_planned() -> None:
    assert {type(config) for config in RECIPES.values()} == {SelfTrainConfig, GramConfig, BaselinesConfig, AdaptConfig}


def test_a_plan_of_the_paper_has_the_sizes_of_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"rows_rationale": 40_500, "rows_labeled": 1_000_000, "rows_unlabeled": 3_000_000}
    given = [word for name, n in rows.items() for word in ("--assume", f"{name}={n}")]
    assert main([*options("llama-3.1-8b-lora", tmp_path), *given, "--json", "--set", "labels.votes=16"]) == 0
    plan = Plan.from_json(json.loads(capsys.readouterr().out))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["data"].rows_in == sum(rows.values())
    assert stages["prover"].rows_in == 40_500
    assert stages["round-0/proofs"].rows_in == pytest.approx(0.998 * 1_000_000)
    assert stages["round-0/benchmark"].rows_in == pytest.approx(0.002 * 1_000_000)
    votes = stages["round-3/votes"]
    assert (votes.rows_in, votes.rows_out) == (500_000, 300_000)
    shares = {one["name"]: one["value"] for one in plan.assumptions}
    assert votes.generated_tokens == pytest.approx(500_000 * 16 * shares["reply_share"] * 1024)
    n = 8_030_261_248
    assert votes.flops == pytest.approx(2 * n * (votes.prompt_tokens + votes.generated_tokens))
    peak = 989e12
    expected = 2 * n * (votes.prompt_tokens / (0.4 * peak) + votes.generated_tokens / (0.1 * peak))
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
    assert stages["round-1/votes"].generated_tokens == pytest.approx(150 * 8 * 38, rel=0.01)
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
    sources = [{"path": f"{tmp_path}/labeled.jsonl"}, {"path": f"{world}/labeled.jsonl", "limit": 8}]
    plan = planned(demo(world, **{"data.labeled": sources}))
    assert plan.stages[2].place.name == "round-0/proofs"
    assert plan.stages[2].rows_in == 15 + 8
    assert plan.stages[0].rows_in == 982 - 20 + 20 + 8


def test_pairs_that_do_not_fit_are_left_out_and_said(world: Path) -> None:
    """The compact prompt of a pair has 23 tokens for the judge and 27 for the prover."""
    plan = planned(demo(world, **{"models.max_tokens": 64 + 26}))
    stages = {stage.place.name: stage for stage in plan.stages}
    assert stages["round-0/proofs"].rows_out == 0
    assert stages["round-1/votes"].rows_out > 0
    assert "labeled pairs: 0.0% fit the prover's context (models.max_tokens); the others are dropped" in plan.notes
    assert not any("the judge's context" in note for note in plan.notes)


def test_sets_are_planned_with_all_their_games(world: Path) -> None:
    sets = [{"benchmark": "preferences", "data": f"{world}/heldout.jsonl", "name": "more"}]
    stages = {stage.place.name: stage for stage in planned(demo(world, **{"benchmarks.sets": sets}), n=50).stages}
    more, held_out = stages["round-2/benchmark-more"], stages["round-2/benchmark"]
    assert (more.rows_in, more.prompt_tokens) == (held_out.rows_in, pytest.approx(held_out.prompt_tokens))


def test_a_round_that_finds_too_few_pairs_is_noted(world: Path) -> None:
    plan = planned(demo(world, **{"rounds.pairs": 200}))
    assert any(note == "3 rounds of 200 pairs want 600; there are 450" for note in plan.notes)


# ---- what cannot be planned -------------------------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    out, error = capsys.readouterr()
    assert out == ""
    return error


def test_a_model_that_is_not_there_is_refused_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = refusal(capsys, "demo", "--set", "models.prover_base=../no/such/folder")
    assert "neither a folder here nor to be had from the hub" in text
    assert "--stand-in ../no/such/folder=FOLDER" in text


def test_data_that_is_not_there_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sources = json.dumps([{"path": f"{tmp_path}/none.jsonl"}])
    text = refusal(capsys, "demo", "--set", f"data.rationale={sources}")
    assert "there is no such file" in text
    assert "--data-stand-in rationale=FILE" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmeo"], "there is no recipe 'dmeo'"),
        (["demo", "--set", "labels.votes=7"], "votes must be even"),
        (["demo", "--set", "labels.votes"], "'labels.votes' is not NAME=VALUE"),
        (["demo", "--assume", "kept=0.5"], "not an assumption of a plan: kept"),
        (["demo", "--stand-in", "org/x=."], "no model of this recipe is called org/x"),
        (["demo", "--stand-in", "data/world/base-judge=tests"], "has no config.json: give a model's folder"),
        (["demo", "--data-stand-in", "label=x.jsonl"], "there is no data label to give a stand-in for"),
        (["demo", "--like", "tests"], "tests has no metrics.jsonl: give the folder of a run"),
        (["demo", "--rates", "none.toml"], "none.toml cannot be read as TOML"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, *arguments)


def test_rationales_of_another_shape_are_refused(world: Path) -> None:
    with pytest.raises(PlanError, match=r"none of 12 sampled rows .* in the shape of the prompt 'gram-r2'"):
        planned(demo(world, **{"models.judge_prompt": "gram-r2", "models.max_tokens": 4000}))


# ---- rows -------------------------------------------------------------------------------------------------------------------


def hub_set(folder: Path, world: Path, declared: str) -> str:
    """A data set as the hub holds it, in a folder."""
    folder.mkdir()
    (folder / "train.jsonl").write_text((world / "labeled.jsonl").read_text())
    (folder / "README.md").write_text(f"---\n{declared}---\n")
    return f"hub:{folder}"


DECLARED = "dataset_info:\n  features: []\n  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 77016\n"


def test_the_rows_of_a_hub_set_are_those_that_its_page_declares(world: Path, tmp_path: Path) -> None:
    path = hub_set(tmp_path / "declared", world, DECLARED)
    assert declared_rows(path.removeprefix("hub:"), None, "train", None) == 77016


def test_rows_that_nobody_declares_are_asked_for_or_bounded_by_the_limit(world: Path, tmp_path: Path) -> None:
    path = hub_set(tmp_path / "silent", world, "license: mit\n")
    with pytest.raises(PlanError, match=r"how many rows hub:.* has is not known .*--assume rows_labeled=N"):
        planned(demo(world, **{"data.labeled": [{"path": path}]}))
    limited = planned(demo(world, **{"data.labeled": [{"path": path, "limit": 5000}]}))
    assert limited.stages[2].rows_in == 5000
    assert any("5,000 rows in hub:" in note and "its limit, taken as reached" in note for note in limited.notes)
    given = planned(demo(world, **{"data.labeled": [{"path": path}]}), assume(("given", {"rows_labeled": 300})))
    assert given.stages[2].rows_in == 300
    assert "data.labeled: 300 rows, as given" in given.notes


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"a": i} for i in range(5)]
    (tmp_path / "x.jsonl").write_text("".join(map(json_line, rows)) + "\n \nbroken\n")
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert count_rows(str(path)) == sum(1 for _ in read_file(str(path)))
    (tmp_path / "x.parquet").write_bytes(b"none")
    with pytest.raises(SourceError, match="cannot be read"):
        count_rows(str(tmp_path / "x.parquet"))


# ---- like a run that is there -------------------------------------------------------------------------------------------------


def run_folder(folder: Path, judge: str = "data/world/base-judge") -> Path:
    lines: list[dict[str, Any]] = [
        {
            "stage": "vote",
            "round": 1,
            "tokens_generated": 4800,
            "tokens_per_s": 600.0,
            "engines": 2,
            "gpus_an_engine": 2,
        },
        {"stage": "benchmark", "round": 1, "tokens_generated": 1200, "tokens_per_s": 100.0, "engines": 1},
        {"stage": "label", "round": 1, "votes": 160, "rows_in": 30, "kept": 10, "dropped": {"prompt_too_long": 10}},
        {"stage": "prove", "round": 1, "tokens_generated": 900, "tokens_per_s": None},
        {"stage": "select", "round": 0, "rows_in": 5, "kept": 5, "dropped": {}, "candidates": 0},
        {"stage": "select", "round": 1, "rows_in": 10, "kept": 9, "dropped": {"no_valid_proof": 1}, "candidates": 90},
        {"stage": "train-judge", "round": 0, "train_tokens_per_s": 100.0, "train_seconds": 10.0},
        {"stage": "train-judge", "round": 1, "train_tokens_per_s": 800.0, "train_seconds": 30.0, "processes": 4},
    ]
    write_jsonl(folder / "metrics.jsonl", ({"name": str(i), **line} for i, line in enumerate(lines)))
    card = {"judge_base": {"folder": Path(judge).name}, "prover_base": {"hub": "org/other"}}
    write_json(folder / "final" / "manifest.json", {"config": {"card": card}})
    return folder


def test_what_a_run_measured_replaces_what_is_assumed(tmp_path: Path) -> None:
    found, notes = measured_in(run_folder(tmp_path), load_recipe("demo"))
    assert found == pytest.approx(
        {
            "kept_labels": 0.5,
            "kept_proofs": 0.9,
            "reply_share": 4800 / 160 / 64,
            "proof_share": 900 / 90 / 64,
            # 1,000 tokens in 10 s of one GPU, 24,000 in 30 s of four.
            "judge_training": 25_000 / (10 + 4 * 30),
            # 8 s on 4 GPUs, 12 s on one.
            "judge_generation": 6000 / (4800 / 600 * 4 + 12),
        }
    )
    assert len(notes) == 1
    assert "had org/other as its prover's base: rates of data/world/base-prover are not taken" in notes[0]


def test_rates_of_other_models_are_not_taken(tmp_path: Path) -> None:
    found, notes = measured_in(run_folder(tmp_path, judge="another"), load_recipe("demo"))
    assert not {"judge_training", "judge_generation"} & found.keys()
    assert len(notes) == 2


def test_given_rates_win_over_measured_ones(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rates.toml").write_text("judge_training = 50\nprover_training = 40\n")
    sources = {
        part: json.dumps([{"path": f"{world}/{part}.jsonl"}])
        for part in ("rationale", "labeled", "unlabeled", "heldout")
    }
    settings = [word for part, value in sources.items() for word in ("--set", f"data.{part}={value}")]
    like = ["--like", str(run_folder(tmp_path / "run")), "--rates", str(tmp_path / "rates.toml")]
    assert main(["demo", *settings, *like, "--assume", "prover_training=20", "--json"]) == 0
    plan = Plan.from_json(json.loads(capsys.readouterr().out))
    taken = {one["name"]: (one["value"], one["origin"]) for one in plan.assumptions}
    assert taken["judge_training"] == (50, f"given in {tmp_path}/rates.toml")
    assert taken["prover_training"] == (20, "given")
    assert taken["kept_labels"] == (0.5, f"measured in {tmp_path}/run")
    judge = next(stage for stage in plan.stages if stage.place.name == "round-1/judge")
    assert judge.gpu_seconds == pytest.approx(judge.trained_tokens / 50)
    votes = next(stage for stage in plan.stages if stage.place.name == "round-1/votes")
    assert votes.rows_out == 75
    assert any("rates of data/world/base-prover are not taken" in note for note in plan.notes)


# ---- a dry run, and a run that has begun -----------------------------------------------------------------------------------


def test_a_dry_run_leaves_its_plan_and_nothing_else(world: Path, tmp_path: Path) -> None:
    plan, path = write_plan(demo(world, store=str(tmp_path), run_name="dry", dry_run=True))
    left = [file for file in (tmp_path / "dry").rglob("*") if file.is_file()]
    assert left == [tmp_path / "dry" / PLAN]
    assert path == str(left[0])
    assert Plan.from_json(json.loads(left[0].read_text())) == plan


def begun(world: Path, store: Path, **overrides: Any) -> tuple[Run, list[str]]:
    """A run that stops when its data is there, with what it then plans; and what it says."""
    config = demo(world, store=str(store), **overrides)
    said: list[str] = []
    run = Run(RunStore(config.store, config.run_name), config, config.seed)

    def plan(run: Run, data: Artifact, sets: Any) -> None:
        beside = PlanBeside(said.append)
        beside.begin(run, data, sets)
        if beside.ident is not None:
            said.append("planning")
            beside.join()
        raise EOFError

    run.on_data = plan
    with pytest.raises(EOFError):
        train_by_itself(run)
    return run, said


def test_a_run_plans_itself_once_from_its_own_rows(world: Path, tmp_path: Path) -> None:
    run, said = begun(world, tmp_path)
    assert said == ["planning"]
    path = run.store.path / PLAN
    plan = Plan.from_json(json.loads(path.read_text()))
    assert [(stage.rows_in, stage.rows_out) for stage in plan.stages[:2]] == [(982, 982), (12, 12)]
    before = planned(demo(world))
    for one, other in zip(before.stages, plan.stages, strict=True):
        assert other.place == one.place
        assert (other.rows_in, other.rows_out) == pytest.approx((one.rows_in, one.rows_out))
        assert other.generated_tokens == pytest.approx(one.generated_tokens, rel=0.02)
    written = path.stat().st_mtime_ns
    assert begun(world, tmp_path)[1] == [], "a resumed run has its plan"
    assert path.stat().st_mtime_ns == written


def test_a_run_that_cannot_be_planned_goes_on(world: Path, tmp_path: Path) -> None:
    """A plan of other settings is not its own: it tries."""
    write_plan(demo(world, store=str(tmp_path)))
    _, said = begun(world, tmp_path, **{"models.judge_base": "../no/such/model"})
    assert said[0] == "planning"
    assert "the run is not planned: planning failed" in said[1]
    assert "neither a folder here" in said[1]


def test_a_dry_run_is_the_plan_of_the_run(world: Path, tmp_path: Path) -> None:
    _, path = write_plan(demo(world, store=str(tmp_path), dry_run=True))
    planned = Path(path).read_text()
    assert begun(world, tmp_path)[1] == []
    assert Path(path).read_text() == planned


def test_a_rehearsal_plans_nothing(world: Path, tmp_path: Path) -> None:
    config = demo(world, store=str(tmp_path))
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    prepare_heldout(run, prepare(run))
    run.on_data = lambda run, data, sets: pytest.fail("a rehearsal has no data to plan for")
    announce(run, train_by_itself, "redo", pytest.fail)


# ---- planned and actual ------------------------------------------------------------------------------------------------------


def finished(run: Run, name: str, kind: str, counts: Counts, metrics: Mapping[str, Any], n_bytes: int) -> None:
    def body(context: Context) -> Outcome:
        (context.work / "file").write_bytes(b"x" * n_bytes)
        return Outcome(counts, metrics)

    run.find_or_make(name, kind, {}, {}, body, 1)


@pytest.fixture
def judged(world: Path, tmp_path: Path) -> Run:
    """A planned run that has gone through the votes of a round, and through the proofs but not their selection."""
    config = demo(world, store=str(tmp_path))
    write_plan(config)
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    generated = {"prompt_tokens": 6900, "tokens_generated": 22_800, "tokens_per_s": 11_400.0, "engines": 1}
    finished(run, "round-1/votes", "vote", Counts(150, 150), generated, 1000)
    finished(run, "round-1/labels", "test", Counts(150, 108, {"tie": 42}), {}, 24)
    finished(run, "round-1/proofs", "prove", Counts(108, 108), generated, 1)
    trained = {"tokens": 100, "epochs": 2.5, "train_seconds": 12.0, "processes": 2}
    finished(run, "round-1/training-set", "training-set", Counts(240, 240), {}, 1)
    finished(run, "round-1/judge", "train-judge", Counts(240, 230, {"too_long": 10}), trained, 1)
    return run


def test_planned_is_held_against_actual_for_what_is_finished(judged: Run) -> None:
    table = dict(compared(judged))
    assert list(table) == ["round-1/votes", "round-1/judge"]
    plan = {
        stage.place.name: stage for stage in Plan.from_json(json.loads((judged.store.path / PLAN).read_text())).stages
    }
    votes = plan["round-1/votes"]
    assert table["round-1/votes"] == [
        (90, 108),
        (6900, 6900),
        (votes.generated_tokens, 22_800),
        (votes.gpu_seconds, pytest.approx(2.0)),
        (votes.disk_bytes, 1024),
    ]
    judge = [actual for _, actual in table["round-1/judge"]]
    assert judge == [230, 0, 250.0, 24.0, 2], "12 s of two GPUs"


def test_the_report_shows_planned_and_actual(judged: Run) -> None:
    row = planned_table(judged)[0]
    assert row["name"] == "round-1/votes"
    assert [row["figures"][0], row["figures"][1]] == [("90", "108", "1.20"), ("6,900", "6,900", "1.00")]
    assert [figure[2] for figure in row["figures"]][2] == "0.50"
    page = write_report(judged).read_text(encoding="utf-8")
    assert "<h2>Planned and actual</h2>" in page
    assert '<td>round-1/votes</td><td class="n">90</td><td class="n">108</td><td class="n soft">1.20</td>' in page
    for title, _ in FIGURES:
        assert title in page


def test_figures_that_a_run_did_not_record_are_left_open(world: Path, tmp_path: Path) -> None:
    config = demo(world, store=str(tmp_path))
    write_plan(config)
    run = Run(RunStore(config.store, config.run_name), config, config.seed)
    finished(run, "round-1/votes", "vote", Counts(150, 150), {"tokens_generated": 0, "tokens_per_s": None}, 5)
    finished(run, "round-1/labels", "label", Counts(150, 150), {}, 5)
    [row] = planned_table(run)
    assert row["figures"][1][1:] == ("–", "–")
    assert row["figures"][3][1:] == ("–", "–")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stages": [{}]}'])
def test_a_report_is_written_with_a_broken_plan_or_none(judged: Run, content: str) -> None:
    (judged.store.path / PLAN).write_text(content)
    assert planned_table(judged) == []
    assert "Planned and actual" not in write_report(judged).read_text(encoding="utf-8")
    (judged.store.path / PLAN).unlink()
    assert planned_table(judged) == []


def test_rows_of_a_run_are_sampled_from_all_of_its_files(tmp_path: Path) -> None:
    """Ten rows that grow: every second one of them is taken, also where a file has one more."""
    pairs = [make(f"p{i}", a="a " * (i + 1)).to_json() for i in range(11)]
    write_jsonl(tmp_path / "rows.jsonl", pairs)
    sample = sample_run({"unlabeled": str(tmp_path / "rows.jsonl")}, {"unlabeled": 33}, [], 5)
    rows = sample.weighted("unlabeled")
    assert [row.id for _, row in rows if isinstance(row, ResponsePair)] == ["p0", "p2", "p4", "p6", "p8", "p10"]
    assert sum(weight for weight, _ in rows) == pytest.approx(33)


def test_a_plan_of_a_run_takes_all_rounds_from_its_first_batch(world: Path, tmp_path: Path) -> None:
    write_plan(demo(world, store=str(tmp_path)))
    run, _ = begun(world, tmp_path)
    data, heldout = (run.passed_stage(kind) for kind in ("data", "benchmark-data"))
    assert data is not None
    assert heldout is not None
    job = planning_job(run, data, [heldout])
    assert job.sizes == {"rationale": 12, "labeled": 20, "unlabeled": 450}
    assert [one["label"] for one in job.sets] == [HELD_OUT]
    assert [stage.rows_in for stage in plan_begun(job).stages if stage.place.kind == "vote"] == [150] * 3


# ---- judges that give the label alone ------------------------------------------------------------------------------------


def test_gram_is_planned_with_its_pretraining_and_one_token_a_judgment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--assume", "rows_pretraining=566000", "--assume", "rows_labeled=65000", "--json"]
    assert main([*options("gram/gram-qwen3-1.7b", tmp_path), *given]) == 0
    plan = Plan.from_json(json.loads(capsys.readouterr().out))
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
