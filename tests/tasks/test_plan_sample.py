"""A plan counts what a run counts: pairs and not rows, a model's weights once; and says why nothing is usable."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl, write_jsonl
from data.store.store import RunStore
from tasks.benchmark.sets import load_set
from tasks.plan.assumptions import PlanAssumptions, PlanError
from tasks.plan.first_rows import Part
from tasks.plan.sample import sample_run, sample_sources
from tasks.plan.sizes import model_size
from tasks.prepare import prepare
from tasks.run.stage import Run
from tasks.settings import BenchmarkSet
from tests.conftest import ROOT
from tests.support.data_sets import code
from tests.support.planning import demo, planned
from tests.support.scoring_rows import reward_bench_2_row

BASE = ROOT / "data/world/base-judge"


def test_a_row_with_several_pairs_counts_as_all_of_them(world: Path, tmp_path: Path) -> None:
    """Three ranked responses are three pairs; a tie is no labeled pair, a copy is dropped."""
    ratings = [["1", "2", "3"]] * 5 + [["1", "2", "2"]] * 5
    rows = [{**code(rating), "instruction": f"Task {i}."} for i, rating in enumerate(ratings)]
    write_jsonl(tmp_path / "train.jsonl", [*rows, *rows[:2]])
    source = {"path": f"{tmp_path}/train.jsonl", "format": "code-ultrafeedback"}
    plan = planned(demo(world, **{"data.labeled": [source], "models.max_tokens": 512}))
    assert plan.stages[0].rows_in == pytest.approx(982 - 20 + 36)
    assert plan.stages[2].place.name == "round-0/proofs"
    assert plan.stages[2].rows_in == pytest.approx(5 * 3 + 5 * 2)
    some = planned(demo(world, **{"data.labeled": [source], "models.max_tokens": 512}), n=5)
    assert some.stages[2].rows_in == pytest.approx(12 * 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"where": {"label": ["none"]}}, "no usable pairs in {file} (20 rows: 20 filtered). A run would stop"),
        ({"max_chars": 1}, "no usable pairs in {file} (20 rows: 20 too_long). A run would stop"),
        ({"path": "{empty}"}, "{empty}: holds no rows"),
    ],
)
def test_nothing_usable_is_said_with_its_reasons(
    changed: dict[str, Any], message: str, world: Path, tmp_path: Path
) -> None:
    names = {"file": f"{world}/labeled.jsonl", "empty": f"{tmp_path}/empty.jsonl"}
    Path(names["empty"]).write_text("\n")
    source = {"path": names["file"], **changed}
    source["path"] = source["path"].format(**names)
    with pytest.raises(PlanError) as caught:
        planned(demo(world, **{"data.labeled": [source]}))
    assert str(caught.value) == f"data.labeled: {message.format(**names)}"


def test_a_plan_draws_its_rows_where_the_run_will(world: Path, tmp_path: Path) -> None:
    """The first half is unusable: a plan that took the first rows would stop."""
    rows = list(read_jsonl(world / "labeled.jsonl"))
    write_jsonl(tmp_path / "sorted.jsonl", [{**row, "label": "tie"} for row in rows] + rows)
    source = {"path": f"{tmp_path}/sorted.jsonl", "where": {"label": ["A", "B"]}, "sample": 30}
    plan = planned(demo(world, **{"data.labeled": [source]}), n=15)
    everything = planned(demo(world, **{"data.labeled": [{"path": f"{world}/labeled.jsonl"}]}), n=15)
    assert everything.stages[0].rows_in - plan.stages[0].rows_in == len(rows) - 30
    assert 5 < plan.stages[2].rows_in < 25
    assert any("data.labeled: of 15 rows" in note for note in plan.notes)


def test_rows_that_were_not_sampled_may_still_be_usable(world: Path, tmp_path: Path) -> None:
    rows = list(read_jsonl(world / "labeled.jsonl"))
    write_jsonl(tmp_path / "late.jsonl", [*({**row, "label": "tie"} for row in rows[:10]), *rows[10:]])
    config = demo(world, **{"data.labeled": [{"path": f"{tmp_path}/late.jsonl", "where": {"label": ["A", "B"]}}]})
    with pytest.raises(PlanError, match=r"10 filtered\)\. A run would stop, unless later rows are usable: .* --sample"):
        planned(config, n=10)
    assert planned(config, n=20).stages[2].rows_in == pytest.approx(10)


def test_a_source_with_a_weight_and_nothing_usable_stops_a_run(world: Path) -> None:
    sources = [{"path": f"{world}/labeled.jsonl"}, {"path": f"{world}/heldout.jsonl", "max_chars": 1, "limit": 20}]
    assert planned(demo(world, **{"data.labeled": sources})).stages[2].rows_in == 20
    with pytest.raises(PlanError, match="20 too_long"):
        planned(demo(world, **{"data.labeled": [{**one, "weight": 1} for one in sources]}))


def test_sources_whose_ids_collide_stop_a_run(world: Path, tmp_path: Path) -> None:
    for name, part in (("one", "labeled"), ("two", "heldout")):
        rows = list(read_jsonl(world / f"{part}.jsonl"))[:3]
        write_jsonl(tmp_path / f"{name}.jsonl", ({**row, "id": str(i)} for i, row in enumerate(rows)))
    sources = [{"path": f"{tmp_path}/{name}.jsonl"} for name in ("one", "two")]
    with pytest.raises(
        PlanError, match=r"data\.labeled: .*/two\.jsonl: two different pairs have the id '0'.*A run would stop"
    ):
        planned(demo(world, **{"data.labeled": sources}))


def test_pairs_are_split_off_before_caps_and_weights(world: Path, tmp_path: Path) -> None:
    """Of 500 pairs half are held out, and of those left a fifth are for calibration; the cap is on the other 200."""
    rows = ({**row, "prompt": f"Case {i}."} for i, row in enumerate(read_jsonl(world / "heldout.jsonl")))
    write_jsonl(tmp_path / "labeled.jsonl", rows)
    shares = {"data.heldout": [], "data.heldout_share": 0.5, "data.calibration_share": 0.2}
    config = demo(world, **{**shares, "data.labeled": [{"path": f"{tmp_path}/labeled.jsonl", "cap": 50}]})
    data = sample_sources(config.data, (), {}, PlanAssumptions(), n=500)
    parts: tuple[Part, ...] = ("labeled", "heldout", "calibration")
    usable = {part: data.usable(part) for part in parts}
    assert usable == pytest.approx({"labeled": 50, "heldout": 250, "calibration": 50})
    assert data.notes[-1].startswith("data.labeled: 50 of about 200 usable pairs of")
    sizes = prepare(Run(RunStore(str(tmp_path), "run"), config, config.seed)).manifest.metrics["sizes"]
    assert {part: sizes[f"{part}.jsonl"] for part in usable} == pytest.approx(usable, rel=0.2)


@pytest.mark.parametrize("source", [{}, {"cap": 5}])
def test_rationales_of_the_labeled_pairs_are_held_out_with_them(world: Path, source: dict[str, int]) -> None:
    shared = [{"path": f"{world}/rationale.jsonl", **source}]
    data = {"data.rationale": shared, "data.labeled": shared, "data.heldout": [], "data.heldout_share": 0.25}
    sample = sample_sources(demo(world, **data).data, (), {}, PlanAssumptions(), n=500)
    parts: tuple[Part, ...] = ("rationale", "labeled", "heldout")
    left = source.get("cap", 9)
    assert [sample.usable(part) for part in parts] == [left, left, 3]


def test_the_games_of_a_set_are_counted_in_all_of_its_items(world: Path, tmp_path: Path) -> None:
    """Its file is in the order of its subsets, of which the last has more responses to an item."""
    rows = [reward_bench_2_row(str(i), "Math") for i in range(24)]
    rows += [reward_bench_2_row(f"ref:{i}", "Ties", chosen=3, rejected=5) for i in range(24, 30)]
    write_jsonl(tmp_path / "test.jsonl", rows)
    chosen = BenchmarkSet(benchmark="reward-bench-2", data=f"{tmp_path}/test.jsonl")
    config = demo(world, **{"benchmarks.sets": [chosen.model_dump()]})
    items = load_set(chosen).items
    write_jsonl(tmp_path / "items.jsonl", (item.to_json() for item in items))
    begun = {"label": "x", "items": str(tmp_path / "items.jsonl"), "total": 30, "candidates": None}
    [before], [after] = (
        sample_sources(config.data, [chosen], {}, PlanAssumptions(), n=12).sets,
        sample_run({}, {}, [begun], n=12).sets,
    )
    assert replace(after, label=before.label) == before
    assert before.items == list(items[::2])
    assert before.cells == pytest.approx(sum(len(item.cells) for item in items) / 30)
    assert before.scored == pytest.approx((24 * 4 + 6 * 8) / 30)
    some, whole = ({stage.place.name: stage for stage in planned(config, n=n).stages} for n in (12, 500))
    name = "round-0/benchmark-reward-bench-2"
    assert some[name].generated_tokens == pytest.approx(whole[name].generated_tokens)


@pytest.mark.parametrize("beside", ["consolidated.safetensors", "adapter_model.safetensors"])
def test_other_weights_beside_the_models_are_not_counted(beside: str, tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "model")
    shutil.copy(BASE / "model.safetensors", tmp_path / "model" / beside)
    assert model_size(tmp_path / "model") == model_size(BASE)


def test_broken_weights_are_an_error_of_the_plan(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "model")
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"\xff" * 100):
        (tmp_path / "model/model.safetensors").write_bytes(content)
        with pytest.raises(
            PlanError, match=r"model\.safetensors.* is (empty|a Git LFS pointer|not a safetensors file)"
        ):
            model_size(tmp_path / "model")
