"""What a plan stands on, and how it is read: sizes of models, assumptions, the table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.plan.assumptions import OURS, PlanAssumptions, PlanError, assume, rates_of
from tasks.plan.plan import Plan
from tasks.plan.show import COLUMNS, amount, as_markdown, as_text, flops, gpu_time, size
from tasks.plan.sizes import model_size
from tasks.plan.stages import PlannedStage
from tests.conftest import ROOT
from tests.support.plan_by_hand import stages
from tests.support.plan_fixtures import write_model

# ---- sizes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("Qwen/Qwen3-14B", 14_768_307_200),
    ],
)
def test_parameters_from_a_config_alone(tmp_path: Path, model: str, parameters: int) -> None:
    assert model_size(write_model(tmp_path, model)).parameters == parameters


def test_the_linear_layers_that_lora_adapts(tmp_path: Path) -> None:
    """Per layer of Llama 3.1 8B: q and o 4096 → 4096, k and v 4096 → 1024, three of 4096 and 14336."""
    size = model_size(write_model(tmp_path, "meta-llama/Llama-3.1-8B-Instruct"))
    assert size.linear == 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))


@pytest.mark.parametrize("base", ["base-judge", "base-prover"])
def test_the_headers_of_weights_and_the_config_say_the_same(base: str, tmp_path: Path) -> None:
    folder = ROOT / "data/world" / base
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert model_size(folder) == model_size(tmp_path)


def test_a_checkpoint_with_a_missing_shard_is_sized_by_its_config(tmp_path: Path) -> None:
    folder = ROOT / "data/world/base-judge"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weight_map = {"model.a": "model.safetensors", "model.b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 6}))
    assert model_size(tmp_path).linear == 2 * model_size(folder).linear


def test_a_config_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody-knows"}))
    with pytest.raises(PlanError, match=r"the size of the model in .* cannot be found from its config\.json"):
        model_size(tmp_path)


# ---- room ------------------------------------------------------------------------------------------------------------------


def test_encoded_examples_take_room_while_a_training_runs() -> None:
    """Of five examples four fit, of 50 + 10 tokens; beside three checkpoints of 1,000 weights and their moments in fp32."""
    encoded = 4 * 60 * 8
    assert stages()["prover"].scratch_bytes == 3 * 3 * 4 * 1000 + encoded
    assert stages(training={"packing": True})["prover"].scratch_bytes == 3 * 3 * 4 * 1000 + 2 * encoded


def test_checkpoints_of_an_adapter_take_room_by_its_rank() -> None:
    """50 examples of 3,600 tokens in all; three checkpoints of 7 parameters a rank, each with two moments, in fp32."""
    for r in (2, 40):
        judge = stages(training={"judge": {"epochs": 1, "lora": {"r": r}}})["round-1/judge"]
        assert judge.scratch_bytes == pytest.approx(3 * 3 * 4 * r * 7 + 3600 * 8)


# ---- assumptions ------------------------------------------------------------------------------------------------------------


def test_later_layers_win_and_each_value_says_where_it_comes_from() -> None:
    taken = assume(("measured in x", {"kept_labels": 0.7, "judge_training": 50}), ("given", {"kept_labels": 0.4}))
    assert (taken.values.kept_labels, taken.values.judge_training) == (0.4, 50)
    origins = {one["name"]: one["origin"] for one in taken.to_json()}
    assert origins["kept_labels"] == "given"
    assert origins["judge_training"] == "measured in x"
    assert origins["kept_proofs"] == OURS
    assert "rows_labeled" not in origins


def test_a_value_that_was_given_is_not_measured_over() -> None:
    given = assume(("given", {"reply_share": 0.3}))
    assert given.measured("reply_share", 0.9, "the sample").values.reply_share == 0.3
    measured = given.measured("proof_share", 0.9, "the sample")
    assert (measured.values.proof_share, measured.origin("proof_share")) == (0.9, "the sample")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kept_label", 0.5, "kept_label: no such assumption; did you mean kept_labels?"),
        ("zz", 0.5, "zz: no such assumption; there are kept_labels, kept_proofs"),
        ("kept_labels", 1.5, "kept_labels: must be at most 1, got 1.5"),
        ("judge_training", "fast", "judge_training: must be a number, got 'fast'"),
    ],
)
def test_what_is_no_assumption_is_refused_with_the_nearest(name: str, value: Any, message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(f"invalid assumption: {message}")):
        assume(("given", {name: value}))


def test_every_assumption_says_what_it_stands_on() -> None:
    assert all(field.description for field in PlanAssumptions.model_fields.values())


def test_only_recipes_in_float32_are_taken_for_a_cpus() -> None:
    assert assume(rates_of("bfloat16")).values == PlanAssumptions()
    assert assume(rates_of("float32")).values.peak_tflops < 1


# ---- reading a plan ---------------------------------------------------------------------------------------------------------


def plan_of(planned: list[PlannedStage], **facts: Any) -> Plan:
    models = {"judge": {"model": "org/judge", "parameters": 8_030_261_248, "stand_in": None}}
    given: dict[str, Any] = {
        "models": models,
        "stand_ins": [],
        "notes": ["n"],
        "assumptions": assume().to_json(),
        **facts,
    }
    return Plan("demo", "5e77", stages=planned, **given)


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = plan_of(list(stages().values()))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert plan.totals()["generated_tokens"] == pytest.approx(1800 + 400 + 6400 + 1200 + 400)


def test_the_table_sums_up_each_round_and_the_run() -> None:
    plan = plan_of(list(stages(training={"final": {"epochs": 1}}).values()))
    lines = {line.split("  ")[0]: line.split() for line in as_text(plan).splitlines()}
    assert lines["round-1/votes"][1:] == ["100", "40", "8,800", "6,400", "–", "3.04e7", "20.2", "h", "65.2", "KiB"]
    assert lines["= round 1"][3:6] == ["11.2K", "8,000", "3,600"]
    assert lines["= fine-tuning"][2:5] == ["600", "400", "400"]
    assert lines["= total"][2:5] == ["14.8K", "10.6K", "25.5K"]
    assert max(map(len, as_text(plan).splitlines())) <= COLUMNS


def test_a_plan_shows_its_formulas_models_and_assumptions() -> None:
    plan = plan_of(list(stages().values()))
    for text in (as_text(plan), as_markdown(plan)):
        for part in (
            "6·N·tokens",
            "2·N·(prompt + generated)",
            "N = 8.03B",
            "kept_labels = 0.6 (default)",
            "not measured",
        ):
            assert part in text
        assert "STAND-INS" not in text
    assert "| round-1/votes | 100 | 40 |" in as_markdown(plan)


def test_measured_rates_are_not_called_assumed() -> None:
    measured = assume(("measured in x", {"judge_training": 1.0, "judge_generation": 2.0})).to_json()
    assert "not measured" not in as_text(plan_of([], assumptions=measured))


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (amount(0), "–"),
        (amount(9_999), "9,999"),
        (amount(12_345), "12.3K"),
        (amount(999_700), "1.00M"),
        (amount(2.5e9), "2.50B"),
        (flops(0), "–"),
        (flops(3.04e20), "3.04e20"),
        (gpu_time(0), "–"),
        (gpu_time(45.04), "45.0 s"),
        (gpu_time(300), "5.0 min"),
        (gpu_time(3_600_000), "1,000 h"),
        (size(0), "–"),
        (size(500), "500 B"),
        (size(16.1 * 2**30), "16.1 GiB"),
        (size(1023.9 * 2**20), "1.00 GiB"),
    ],
)
def test_numbers_carry_units(shown: str, text: str) -> None:
    assert shown == text
