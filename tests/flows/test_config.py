"""Configurations: what is refused, in which words, and that every recipe can be run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import get_call_parameters

from flows.config.every_run import parameters_of
from flows.config.parameters import ENTRYPOINTS, FLOWS
from flows.config.recipes import (
    RECIPES,
    ConfigError,
    checked,
    load_recipe,
    load_recipe_of,
    own,
    recipe_files,
    with_overrides,
)
from tasks.settings import ModelSettings
from tests.conftest import ROOT, settings_with
from tests.support.configs import refusal, values

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
        ({"labels": {"vote": 8}}, "labels.vote: no such setting; did you mean labels.votes?"),
        ({"data": {"labelled": []}}, "data.labelled: no such setting; did you mean data.labeled?"),
        (
            {"rounds": {"pears": 1, "count": 0}},
            "rounds.pears: no such setting; did you mean rounds.pairs?",
        ),
        ({"rounds": {"zz": 1}}, "rounds.zz: no such setting; there are count, pairs, gate, gate_level, gate_margin"),
        ({"votes": 8}, "votes: no such setting; did you mean labels.votes or benchmarks.votes?"),
        ({"rationales": {}}, "rationales: no such setting; did you mean data.rationale?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_name(changed: dict[str, Any], message: str) -> None:
    given = values(**{name: one for name, one in changed.items() if isinstance(one, dict)})
    assert refusal({**given, **changed} if "votes" in changed else given) == message


def test_an_unknown_key_of_a_source_is_refused_by_its_place() -> None:
    text = refusal(values(data={"labeled": [{"path": "x.jsonl", "colums": {}}]}))
    assert text == "data.labeled.0.colums: no such setting; did you mean data.labeled.0.columns?"


def test_every_wrong_value_is_listed_with_what_was_got() -> None:
    text = refusal(values(labels={"votes": "many", "temperature": 0}, models={"overlong": "cut"}, rounds={"count": -1}))
    for part in (
        "labels.votes: must be a whole number, got 'many'",
        "labels.temperature: must be above 0, got 0",
        "models.overlong: must be one of drop, truncate, got 'cut'",
        "rounds.count: must be at least 0, got -1",
    ):
        assert part in text.splitlines()
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": {"labeled": "x.jsonl"}}, "data.labeled: must be a list of sources, got 'x.jsonl'"),
        (
            {"data": {"labeled": ["x.jsonl"]}},
            "data.labeled.0: must be a table with keys such as dataset, path, format, got",
        ),
        ({"data": {"labeled": []}}, "data.labeled: must not be empty, got []"),
        ({"data": {"labeled": [{"path": "x", "where": {"a": [None]}}]}}, "data.labeled.0.where.a.0: must be text or"),
        (
            {"data": {"labeled": [{"path": "x", "weight": float("inf")}]}},
            "data.labeled.0.weight: must be a finite number",
        ),
        ({"models": {"judge_prompt": "gram-r3"}}, "(did you mean gram-r2?), got 'gram-r3'"),
        (
            {"training": {"report_to": ["wanbd"]}},
            "training.report_to.0: must be one of wandb, tensorboard, mlflow, trackio",
        ),
        ({"training": {"packing": "perhaps"}}, "training.packing: must be true or false, got 'perhaps'"),
        (
            {"training": {"gradient_checkpointing": "some"}},
            """training.gradient_checkpointing: must be true or "all", false or "off", "selective", or the share of""",
        ),
        (
            {"training": {"gradient_checkpointing": 0.75}},
            "training.gradient_checkpointing: every n-th layer can be recomputed, a share of 0.5, 0.33, 0.25, 0.2 and so on; "
            "got 0.75",
        ),
        (
            {"training": {"attention": "flash_atention_2"}},
            'training.attention: "flash_atention_2" is no attention that is known: auto, eager, sdpa, flex_attention, ',
        ),
        (
            {"training": {"judge": 5}},
            "training.judge: must be a table with keys such as learning_rate, epochs, max_steps",
        ),
        ({"labels": {"votes": 8.5}}, "labels.votes: must be a whole number, got 8.5"),
        ({"rounds": {"count": True}}, "rounds.count: must be a whole number, got True"),
        ({"proofs": {"min_score": False}}, "proofs.min_score: must be a number, got False"),
        ({"data": {"labeled": [{"path": "x.jsonl", "limit": True}]}}, "data.labeled.0.limit: must be a whole number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_it_must_be(changed: dict[str, Any], message: str) -> None:
    text = refusal(values(**changed))
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "x" * 101, "é"])
def test_a_run_name_must_name_a_folder(name: str) -> None:
    assert refusal({**values(), "run_name": name}).startswith(f"run_name: run name {name!r}: use 1 to 100 letters")


@pytest.mark.parametrize("name", ["a b", ".", "..", "../up", "_hidden", "-x", "x" * 101, "é", "x\n"])
def test_the_name_of_a_set_must_name_a_folder_and_a_curve(name: str) -> None:
    """Of "..", the stage would be the run folder itself; what begins with "_" is left out of a chart's legend."""
    said = refusal(values(benchmarks={"sets": [{"benchmark": "rm-bench", "data": "x", "name": name}]}))
    assert said.startswith(
        "benchmarks.sets.0.name: must be up to 100 letters, digits, dots, dashes and underscores, starting with a letter or "
        "digit, got "
    )


def test_a_missing_value_is_named() -> None:
    given = values()
    del given["models"]["judge_base"], given["data"]
    assert refusal(given) == (
        "models.judge_base: is required: Folder or hub name of the model that the judge is trained from. Paper: "
        "LLaMA-3.1-8B-Instruct, LLaMA-3.2-3B-Instruct.\ndata: is required"
    )


# ---- fields that must fit together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"votes": 7}}, "labels.votes: must be a multiple of 2, got 7"),
        (
            {"training": {"judge": {"epochs": 1, "max_steps": 5}}},
            "training.judge: give either epochs or max_steps: exactly one of the two",
        ),
        ({"training": {"final": {}}}, "training.final: give either epochs or max_steps"),
        (
            {"training": {"prover": {"epochs": 1, "batch_size": 10, "micro_batch_size": 3}}},
            "training.prover.micro_batch_size 3 must divide batch_size 10",
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
        ({"data": {"heldout_share": 0}}, "data: give a held-out source, or a heldout_share above 0"),
        ({"data": {"heldout_share": 1}}, "data.heldout_share: must be below 1, got 1"),
        ({"training": {"packing": True, "attention": "eager"}}, "training.packing needs an attention that keeps"),
        (
            {"training": {"packing": True, "attention": "flex_attention"}},
            "sdpa or flash_attention_2, not flex_attention",
        ),
        ({"training": {"pack_tokens": 8192}}, "training.pack_tokens is the length of packed sequences: set packing"),
        (
            {"training": {"packing": True, "pack_tokens": 2048}},
            "training.pack_tokens = 2048 is less than the context of 4096 tokens, and would cut examples",
        ),
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


# ---- recipes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flow", "path"), recipe_files(), ids=lambda one: getattr(one, "stem", one))
def test_every_recipe_can_be_run(flow: str, path: Path) -> None:
    config = load_recipe(path.stem) if flow == "self-train" else load_recipe_of(flow, path.stem)
    own = path.stem if flow == "self-train" else f"{flow}-{path.stem}"
    assert config.run_name == ("gram-qwen3-1.7b" if path.stem == "gram-qwen3-1.7b" else own)
    # What Prefect stores of it is the same configuration.
    assert FLOWS[flow].model_validate(config.model_dump(mode="json")) == config
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_recipe_file_belongs_to_a_flow_or_is_to_be_copied() -> None:
    assert {path for _, path in recipe_files()} == {path for path in RECIPES.rglob("*.toml") if not own(path)}


def test_a_run_of_every_deployment_gets_exactly_its_recipes_configuration() -> None:
    """As the flow receives it: the deployment's parameters, and the defaults of the flow's signature for the others.

    Plans of all of them are in test_plan_runs, from stand-ins.
    """
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    deployed = {(one["entrypoint"], one["name"]): one for one in entries}
    for flow, path in recipe_files():
        found = deployed.pop((ENTRYPOINTS[flow], path.stem))
        module, _, function = ENTRYPOINTS[flow].rpartition(".")
        body = getattr(importlib.import_module(module), function).fn
        config = load_recipe_of(flow, path.stem)
        named = {"run_name": config.run_name, **found["parameters"]}
        received = get_call_parameters(body, (), named)
        assert with_overrides(parameters_of(FLOWS[flow], received), {}, FLOWS[flow]) == config
        assert (found["tags"], "dry_run" in named) == (["gram-r2", "built-in", flow], False)
        assert found["work_pool"]["name"] == "ctl"
        assert found["work_pool"].get("work_queue_name") == ("short" if flow == "benchmark" else None)
    assert sorted(name for _, name in deployed) == ["model", "shards"]


def test_prefect_yaml_holds_only_what_differs_from_the_defaults() -> None:
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 700
    assert text.count("PREFECT_CLIENT_MAX_RETRIES") == 1
    [demo] = [one for one in yaml.safe_load(text)["deployments"] if one["entrypoint"] == ENTRYPOINTS["gram"]][:1]
    assert demo["parameters"]["generation"] == {"kv_cache_mib": 64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": {"sets": []}}, "benchmarks.sets is empty"),
        ({"generation": {"workers": 2}}, "generation.workers: a judge that is not in the store"),
        ({"judge": {"path": ""}}, "judge.path: must not be empty, got ''"),
    ],
)
def test_a_benchmark_that_cannot_be_played_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe_of("benchmark", "demo", **changes)


def test_a_recipe_can_be_changed_by_the_one_who_loads_it() -> None:
    config = load_recipe("demo", run_name="mine", seed=4)
    assert (config.run_name, config.seed, config.models.judge_prompt) == ("mine", 4, "compact")


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe 'dmeo'; did you mean demo\? available: .*\bdemo\b"):
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
