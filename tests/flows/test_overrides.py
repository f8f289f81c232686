"""Dotted overrides: what they change, and what is refused by which name."""

from __future__ import annotations

from typing import Any

import pytest

from flows.adapt import adapt_judge
from flows.baselines import compare_methods
from flows.benchmark import benchmark_judge
from flows.config.recipes import ConfigError, checked, with_overrides
from flows.gram import train_gram
from flows.self_train import self_train
from tests.support.configs import refusal, values


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


def test_an_override_changes_one_item_of_a_list_or_table() -> None:
    two = values(data={"labeled": [{"path": "one.jsonl"}, {"path": "two.jsonl", "cap": 5}]})
    config = with_overrides(two, {"data.labeled.1.limit": 7, "data.labeled.0.where.domain": ["stem"]})
    assert [(s.path, s.limit, s.cap, s.where) for s in config.data.labeled] == [
        ("one.jsonl", None, None, {"domain": ("stem",)}),
        ("two.jsonl", 7, 5, {}),
    ]


def test_two_overrides_that_only_fit_together_are_taken_together() -> None:
    config = with_overrides(values(), {"training.judge.epochs": None, "training.judge.max_steps": 5})
    assert (config.training.judge.epochs, config.training.judge.max_steps) == (None, 5)


def test_no_overrides_are_the_configuration_itself() -> None:
    assert with_overrides(values(), {}) == checked(values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"labels.vote": 16}, "labels.vote: no such setting; did you mean labels.votes?"),
        ({"label.votes": 16}, "label.votes: no such setting; did you mean labels.votes?"),
        ({"labels.votes.n": 16}, "labels.votes.n: labels.votes is a single value"),
        (
            {"data.labeled.path": "x"},
            "data.labeled.path: data.labeled is a list of items; name one of them, such as data.l",
        ),
        ({"data.labeled.1.path": "x"}, "data.labeled.1.path: data.labeled has 1 items, numbered from 0"),
        ({"data.labeled.0.pth": "x"}, "data.labeled.0.pth: no such setting; did you mean data.labeled.0.path?"),
        ({"proofs.K": 2}, "proofs.K: no such setting; did you mean proofs.k?"),
        ({"models.judge": "x"}, "did you mean models.judge_base or models.judge_prompt?"),
        ({"benchmarks.sets.0.data": "x"}, "benchmarks.sets.0.data: benchmarks.sets is empty: set it as a whole"),
        ({"data.pretraining.0.path": "x"}, "data.pretraining.0.path: data.pretraining is empty: set it as a whole"),
        ({"training.final.lora": {}}, "training.final: give either epochs or max_steps"),
        ({"labels.votes": 7}, "labels.votes: must be a multiple of 2, got 7"),
        ({"votes": 16}, "votes: no such setting; did you mean labels.votes or benchmarks.votes?"),
        ({"labels": {"votes": 16, "vote": 1}}, "labels.vote: no such setting; did you mean labels.votes?"),
        ({"": 1}, "'': no such setting; there are models, data"),
    ],
)
def test_a_wrong_override_is_refused_by_its_name(overrides: dict[str, Any], message: str) -> None:
    assert message in refusal(values(), overrides)


@pytest.mark.parametrize("flow", [self_train, train_gram, compare_methods, adapt_judge, benchmark_judge])
def test_every_flow_says_itself_what_is_wrong_with_its_parameters(flow: Any) -> None:
    """Prefect's own validation would speak of extra inputs and valid tuples."""
    assert not flow.should_validate_parameters
    sections = {name: {} for name in flow.parameters.required}
    with pytest.raises(ConfigError) as caught:
        flow.fn(run_name="a b", generation={"worker": 1}, **sections)
    lines = str(caught.value).splitlines()
    assert "generation.worker: no such setting; did you mean generation.workers?" in lines
    assert any(line.startswith("run_name: run name 'a b': use 1 to 100 letters") for line in lines)
