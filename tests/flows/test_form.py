"""The form that Prefect's UI makes of a flow's parameters, and the name of a run that is started with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.context import FlowRunContext
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate

from flows.adapt import adapt_judge
from flows.baselines import compare_methods
from flows.benchmark import benchmark_judge
from flows.config.every_run import parameters_of, shown_name
from flows.config.parameters import FLOWS, SelfTrainConfig
from flows.config.recipes import ConfigError, checked
from flows.gram import train_gram
from flows.self_train import self_train
from tests.support.configs import refusal, values

ALL = {
    "self-train": self_train,
    "gram": train_gram,
    "baselines": compare_methods,
    "adapt": adapt_judge,
    "benchmark": benchmark_judge,
}


def form_of(flow: Any) -> dict[str, Any]:
    """The schema that a deployment gives the form."""
    return parameter_schema(flow.fn).model_dump()


# ---- what the form shows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_form_begins_with_the_runs_name_and_ends_with_its_seed(name: str) -> None:
    fields = list(form_of(ALL[name])["properties"])
    begins = ["run_name", *(["dry_run"] if name != "benchmark" else []), "overrides", "on_change"]
    assert fields[: len(begins)] == begins
    assert fields[-2:] == ["store", "seed"]
    assert set(fields) == {*FLOWS[name].model_fields, "overrides"}


@pytest.mark.parametrize("name", ALL)
def test_each_fields_help_is_whole_sentences_and_each_sections_names_its_keys(name: str) -> None:
    form = form_of(ALL[name])
    for field, shown in form["properties"].items():
        assert shown["description"].endswith("."), field
        if "$ref" in shown:
            keys = form["definitions"][shown["$ref"].rpartition("/")[2]]["properties"]
            assert shown["description"].endswith(f" Keys: {', '.join(keys)}."), field


def test_overrides_are_written_at_once() -> None:
    """As an object with a default, and not as one of two types of which one must be chosen first."""
    overrides = form_of(self_train)["properties"]["overrides"]
    assert (overrides["type"], overrides["default"]) == ("object", {})


def test_a_form_without_a_run_name_can_be_sent() -> None:
    assert {name: form_of(flow)["required"] for name, flow in ALL.items()} == {
        "self-train": ["models", "data"],
        "gram": ["models", "data"],
        "baselines": ["models", "data"],
        "adapt": ["judge", "task"],
        "benchmark": ["judge", "benchmarks"],
    }


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("self-train", {"run_name": "a/b"}, "'a/b' does not match"),
    ("self-train", {"seed": -1}, "-1 is less than the minimum of 0"),
    ("self-train", {"on_change": "perhaps"}, "'perhaps' is not one of ['auto', 'redo', 'refuse']"),
    ("self-train", {"labels": {"votes": 7}}, "7 is not a multiple of 2"),
    ("self-train", {"data": {"labeled": [], "heldout_share": 0.1}}, "[] should be non-empty"),
    ("self-train", {"data": {"labeled": [{}], "heldout_share": 1}}, "1 is greater than or equal to the maximum of 1"),
    ("self-train", {"rounds": {"count": 21}}, "21 is greater than the maximum of 20"),
    ("self-train", {"proofs": {"min_score": 0.5}}, "0.5 is greater than the maximum of 0"),
    ("self-train", {"training": {"gradient_checkpointing": 2}}, "2 is greater than the maximum of 1"),
    ("self-train", {"training": {"judge": {"learning_rate": 0}}}, "0 is less than or equal to the minimum of 0"),
    ("baselines", {"seeds": [0, -1]}, "-1 is less than the minimum of 0"),
    ("adapt", {"task": {"pairs": [{}], "sizes": [0]}}, "0 is less than the minimum of 1"),
    ("adapt", {"task": {"pairs": [{}], "validation_share": 1}}, "1 is greater than or equal to the maximum of 1"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_a_number_out_of_range_is_refused_by_the_form(name: str, given: dict[str, Any], message: str) -> None:
    """By the function that the server calls for the form, and before it creates a flow run."""
    needed = {"models": {"judge_base": "j"}, "data": {"labeled": [{}]}, "judge": {"path": "j"}, "task": {"pairs": [{}]}}
    form = form_of(ALL[name])
    parameters = {one: needed[one] for one in form["required"]}
    validate(parameters, form, raise_on_error=True)
    with pytest.raises(ValidationError) as caught:
        validate({**parameters, **given}, form, raise_on_error=True)
    assert message in str(caught.value)


@pytest.mark.parametrize("share", [True, "all", "off", "selective", 0.5, 0])
def test_what_may_be_recomputed_can_be_sent(share: object) -> None:
    form = form_of(self_train)
    given = {"models": {"judge_base": "j"}, "data": {"labeled": [{}]}, "training": {"gradient_checkpointing": share}}
    validate(given, form, raise_on_error=True)
    checked({**values(), "training": given["training"]})


# ---- the run's name -----------------------------------------------------------------------------------------------------------


def in_flow_run(name: str, parameters: dict[str, Any]) -> FlowRunContext:
    """What Prefect knows of a flow run when it asks for its name."""
    context: Any = FlowRunContext
    made: FlowRunContext = context.model_construct(
        flow_run=SimpleNamespace(id="4711", name=name), parameters=parameters
    )
    return made


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "attentive-pony"),
        ({"run_name": ""}, "attentive-pony"),
        ({"run_name": "mine", "overrides": None}, "mine"),
        ({"run_name": "mine", "overrides": {"run_name": "other"}}, "other"),
        ({"overrides": "labels.votes=4"}, "attentive-pony"),
    ],
)
def test_a_run_is_called_as_the_flow_run_unless_it_is_given_a_name(parameters: dict[str, Any], expected: str) -> None:
    with in_flow_run("attentive-pony", parameters):
        assert shown_name() == expected
        given = {**dict.fromkeys(SelfTrainConfig.model_fields), "run_name": "", **parameters}
        assert parameters_of(SelfTrainConfig, given)["run_name"] == expected


def test_the_name_stays_at_a_retry() -> None:
    """By then the flow run has the name that its first attempt was given."""
    with in_flow_run("mine", {"run_name": ""}):
        assert shown_name() == "mine"


def test_a_flow_runs_name_that_can_be_no_folder_is_refused_in_one_line() -> None:
    with in_flow_run("my first run!", {}), pytest.raises(ConfigError) as caught:
        self_train.fn(**{**values(), "run_name": ""})
    assert str(caught.value).startswith("run_name: run name 'my first run!': use 1 to 100 letters, digits")
    assert "\n" not in str(caught.value)
    assert refusal({**values(), "run_name": "a/b"}).startswith("run_name: run name 'a/b'")
