"""Configurations: what is refused, in which words, and that every recipe can be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config.parameters import ENTRYPOINTS, FLOWS
from flows.config.recipes import (
    RECIPES,
    ConfigError,
    checked,
    load_recipe,
    load_recipe_of,
    recipe_files,
    with_overrides,
)
from tasks.settings import ModelSettings
from tests.conftest import ROOT, settings_with


def values(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest configuration, with changes to its sections."""
    smallest: dict[str, Any] = {
        "run_name": "demo",
        "models": {"judge_base": "j", "prover_base": "p"},
        "data": {key: [{"path": f"{key}.jsonl"}] for key in ("rationale", "labeled", "unlabeled")},
    }
    for name, changes in sections.items():
        smallest[name] = {**smallest.get(name, {}), **changes}
    return smallest


def refusal(given: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        with_overrides(given, overrides) if overrides is not None else checked(given)
    return str(caught.value)


# ---- what the paper says, and nothing unknown -------------------------------------------------------------------------------


def test_the_defaults_that_the_paper_gives() -> None:
    config = checked(values())
    assert (config.rounds.count, config.rounds.pairs) == (3, 500_000)
    assert config.models.judge_prompt == "gram-r2"
    assert config.training.judge_start == "base"
    assert not config.training.human_rationales
    assert config.proofs.temperature > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"vote": 8}}, "labels.vote: Extra inputs are not permitted (got 8)"),
        ({"data": {"labelled": []}}, "data.labelled: Extra inputs are not permitted (got [])"),
        ({"training": {"judge": {"epochs": 1, "lr": 1}}}, "training.judge.lr: Extra inputs are not permitted (got 1)"),
        ({"rationales": {}}, "rationales: Extra inputs are not permitted (got {})"),
    ],
)
def test_an_unknown_key_is_refused_by_its_dotted_name(changed: dict[str, Any], message: str) -> None:
    assert refusal(values(**changed)) == f"the configuration cannot be run:\n  {message}"


def test_an_unknown_key_of_a_source_is_refused_by_its_place() -> None:
    text = refusal(values(data={"labeled": [{"path": "x.jsonl", "colums": {}}]}))
    assert "\n  data.labeled.0.colums: Extra inputs are not permitted (got {})" in text


def test_one_wrong_key_of_a_source_is_one_complaint() -> None:
    assert refusal(values(data={"labeled": [{"path": "x.jsonl", "colums": {}}]})).count("\n") == 1


def test_every_wrong_value_is_listed_with_what_was_got() -> None:
    text = refusal(values(labels={"votes": "many", "temperature": 0}, models={"overlong": "cut"}, rounds={"count": -1}))
    for part in (
        "labels.votes: Input should be a valid integer, unable to parse string as an integer (got 'many')",
        "labels.temperature: Input should be greater than 0 (got 0)",
        "models.overlong: Input should be 'drop' or 'truncate' (got 'cut')",
        "rounds.count: Input should be greater than or equal to 0 (got -1)",
    ):
        assert f"\n  {part}" in text
    assert text.count("\n") == 4


def test_a_missing_value_is_named() -> None:
    given = values()
    del given["models"]["judge_base"], given["data"]
    assert refusal(given) == (
        "the configuration cannot be run:\n  models.judge_base: Field required\n  data: Field required"
    )


# ---- fields that must fit together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"votes": 7}}, "labels: Value error, votes must be even, half for each order of a pair; got 7"),
        (
            {"training": {"judge": {"epochs": 1, "max_steps": 5}}},
            "training.judge: Value error, give either epochs or max_steps: exactly one of the two",
        ),
        ({"training": {"final": {}}}, "training.final: Value error, give either epochs or max_steps"),
        (
            {"training": {"prover": {"epochs": 1, "batch_size": 10, "micro_batch_size": 3}}},
            "training.prover: Value error, micro_batch_size 3 must divide batch_size 10",
        ),
        (
            {"proofs": {"max_tokens": 4096}},
            "proofs.max_tokens = 4096 leaves no room for a prompt in models.max_tokens = 4096",
        ),
        (
            {"models": {"max_tokens": 512}, "proofs": {"max_tokens": 100}},
            "labels.max_tokens = 1024 leaves no room for a prompt in models.max_tokens = 512",
        ),
        ({"labels": {"source": "truth"}}, "set data.unlabeled_truth"),
        ({"data": {"unlabeled": []}}, "rounds.count = 3 needs data.unlabeled; set rounds.count = 0"),
        ({"data": {"heldout_share": 0}}, "data: Value error, give a held-out source, or a heldout_share above 0"),
        ({"data": {"labeled": []}}, "data.labeled: Tuple should have at least 1 item"),
    ],
)
def test_what_does_not_fit_together_is_said_with_its_fields(changed: dict[str, Any], message: str) -> None:
    assert message in refusal(values(**changed))


def test_what_does_fit_together_is_taken() -> None:
    checked(values(labels={"source": "truth"}, data={"unlabeled_truth": True}))
    checked(values(data={"unlabeled": []}, rounds={"count": 0}))
    checked(values(training={"final": {"max_steps": 5, "batch_size": 9, "micro_batch_size": 3}}))


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    config = checked(values())
    with pytest.raises(ValueError, match="frozen"):
        config.labels.votes = 7


# ---- dotted overrides ------------------------------------------------------------------------------------------------------


def test_an_override_changes_one_value_and_leaves_the_section_alone() -> None:
    config = with_overrides(
        values(labels={"temperature": 0.7}), {"labels.votes": 16, "seed": 3, "training.judge.epochs": 2}
    )
    assert (config.labels.votes, config.labels.temperature) == (16, 0.7)
    assert (config.seed, config.training.judge.epochs) == (3, 2.0)
    assert config.training.prover == checked(values()).training.prover


def test_an_override_can_fill_an_empty_section_and_empty_a_full_one() -> None:
    filled = with_overrides(values(), {"training.final.epochs": 1, "training.judge.lora.r": 8})
    assert filled.training.final is not None
    assert filled.training.judge.lora is not None
    assert (filled.training.final.epochs, filled.training.judge.lora.r) == (1.0, 8)
    emptied = with_overrides(filled.model_dump(), {"training.final": None, "proofs.min_score": None})
    assert (emptied.training.final, emptied.proofs.min_score) == (None, None)


def test_two_overrides_that_only_fit_together_are_taken_together() -> None:
    config = with_overrides(values(), {"training.judge.epochs": None, "training.judge.max_steps": 5})
    assert (config.training.judge.epochs, config.training.judge.max_steps) == (None, 5)


def test_no_overrides_are_the_configuration_itself() -> None:
    assert with_overrides(values(), {}) == checked(values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"labels.vote": 16}, "labels.vote: Extra inputs are not permitted (got 16)"),
        (
            {"label.votes": 16},
            "override 'label.votes': 'label' is not a section; available: models, data, proofs, labels",
        ),
        ({"labels.votes.n": 16}, "override 'labels.votes.n': 'votes' is not a section; available: source, votes"),
        ({"data.labeled.0.path": "x"}, "override 'data.labeled.0.path': 'labeled' is not a section"),
        ({"training.final.lora": {}}, "training.final: Value error, give either epochs or max_steps"),
        ({"labels.votes": 7}, "labels: Value error, votes must be even"),
        ({"votes": 16}, "votes: Extra inputs are not permitted (got 16)"),
        ({"labels": {"votes": 16, "vote": 1}}, "labels.vote: Extra inputs are not permitted (got 1)"),
        ({"": 1}, ": Extra inputs are not permitted (got 1)"),
    ],
)
def test_a_wrong_override_is_refused_by_its_name(overrides: dict[str, Any], message: str) -> None:
    assert message in refusal(values(), overrides)


# ---- recipes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flow", "path"), recipe_files(), ids=lambda one: getattr(one, "stem", one))
def test_every_recipe_can_be_run(flow: str, path: Path) -> None:
    config = load_recipe(path.stem) if flow == "self-train" else load_recipe_of(flow, path.stem)
    own = path.stem if flow == "self-train" else f"{flow}-{path.stem}"
    assert config.run_name == ("gram-qwen3-1.7b" if path.stem == "gram-qwen3-1.7b" else own)
    # What Prefect stores of it is the same configuration.
    assert FLOWS[flow].model_validate(config.model_dump(mode="json")) == config
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_recipe_file_belongs_to_a_flow() -> None:
    assert {path for _, path in recipe_files()} == set(RECIPES.rglob("*.toml"))


def test_every_recipe_is_deployed_with_its_own_values() -> None:
    """Plans of all of them are in test_plan_runs, from stand-ins."""
    deployed = {
        (one["entrypoint"].rpartition(".")[2], one["name"]): one.get("parameters")
        for one in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    }
    configs = {
        (ENTRYPOINTS[flow].rpartition(".")[2], path.stem): load_recipe_of(flow, path.stem)
        for flow, path in recipe_files()
    }
    wanted = {name: config.model_dump(mode="json") for name, config in configs.items()}
    wanted = {
        name: {**values, "run_name": name[1]} if name[0] == "self_train" else values for name, values in wanted.items()
    }
    assert {name: deployed.get(name) for name in wanted} == wanted
    assert not any(values.get("dry_run") for values in wanted.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": {"sets": []}}, "benchmarks.sets is empty"),
        ({"generation": {"workers": 2}}, "generation.workers: a judge that is not in the store"),
        ({"judge": {"path": ""}}, "judge.path: String should have at least 1 character"),
    ],
)
def test_a_benchmark_that_cannot_be_played_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe_of("benchmark", "demo", **changes)


def test_a_recipe_can_be_changed_by_the_one_who_loads_it() -> None:
    config = load_recipe("demo", run_name="mine", seed=4)
    assert (config.run_name, config.seed, config.models.judge_prompt) == ("mine", 4, "compact")


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe 'dmeo'; available: .*\bdemo\b"):
        load_recipe("dmeo")


def test_remote_code_is_trusted_by_name_and_for_its_own_model_only() -> None:
    models = {"judge_base": "a/judge", "prover_base": "b/prover"}
    named = ModelSettings(**models, trust_remote_code=("b/prover",))  # type: ignore[arg-type]
    assert named.for_role("prover").trust_remote_code == ("b/prover",)
    assert named.for_role("judge").trust_remote_code == ()
    assert ModelSettings(**models).trust_remote_code == ()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="trust_remote_code names c/other, which is neither of the base models"):
        ModelSettings(**models, trust_remote_code=("c/other",))  # type: ignore[arg-type]


@pytest.mark.parametrize("elsewhere", [{"generation": {"workers": 2}}, {"training": {"in_pool": True}}])
def test_workers_elsewhere_need_a_number_format_that_does_not_depend_on_this_machine(elsewhere: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"set models\.dtype explicitly, such as \"bfloat16\""):
        settings_with(**elsewhere)
    settings_with(models={"dtype": "bfloat16"}, **elsewhere)
    assert settings_with().models.dtype == "auto"
