"""Ways to a judge, side by side: what each learns from, what counts as its cost, and what the comparison says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from data.records import flip
from data.store.artifacts import Artifact, Counts, Outcome
from data.world import taste
from flows.config.parameters import BaselinesConfig
from flows.config.recipes import ConfigError, checked
from tasks.baselines import Method, labeled_pairs, of_rounds, per_cost, preference_examples, response_pairs
from tasks.run.stage import Run
from tests.conftest import artifact, make, rows_of

# ---- what a method costs --------------------------------------------------------------------------------------------------


def test_points_for_a_cost_by_hand() -> None:
    """25 points over chance for 4 + 1 million tokens and half an hour; a judge worse than chance has points below 0."""
    row = {"accuracy": 0.75, "tokens_trained": 4_000_000, "tokens_generated": 1_000_000, "seconds": 1800.0}
    assert per_cost(row) == {"points_a_million_tokens": 5.0, "points_an_hour": 50.0}
    assert per_cost({**row, "accuracy": 0.4, "tokens_generated": 0}) == {
        "points_a_million_tokens": -2.5,
        "points_an_hour": -20.0,
    }


def stage(
    run: Run, name: str, kind: str, round: int | None = None, seconds: float = 1.0, rows: int = 0, **metrics: Any
) -> Artifact:
    """A finished stage with these metrics, that is said to have taken this long."""
    made = run.find_or_make(name, kind, {}, {}, lambda context: Outcome(Counts(rows, rows), metrics), round)
    return replace(made, manifest=replace(made.manifest, seconds=seconds))


def test_the_row_of_a_method_by_hand(run: Run) -> None:
    stages = (
        stage(run, "gram/pretrained", "pretrain", seconds=10, tokens=1000, epochs=0.5),
        stage(run, "prover", "train-prover", seconds=20, tokens=400, epochs=2.0),
        stage(run, "round-0/proofs", "prove", 0, seconds=5.25, tokens_generated=700, tokens=9),
        stage(run, "round-0/judge", "train-judge", 0, seconds=30, tokens=2000, epochs=1.5),
        stage(run, "round-1/votes", "vote", 1, seconds=4, tokens_generated=50),
    )
    heldout = {
        "accuracy": 0.8,
        "interval": [0.7, 0.9],
        "games": 160,
        "mean_tokens": 31.5,
    }  # of 20 pairs, 4 votes in each order
    games = (
        stage(run, "x/benchmark-own", "benchmark-own", accuracy=0.9, interval=None, mean_tokens=1.0, seconds=1e6),
        stage(run, "x/benchmark", "benchmark", rows=20, seconds=1e6, **heldout),
        stage(run, "x/benchmark-part", "benchmark-part", accuracy=None, interval=None, mean_tokens=1.0),
    )
    assert Method("self-trained", stages, games).to_json() == {
        "method": "self-trained",
        "pretrained": True,
        "accuracy": 0.8,
        "interval": [0.7, 0.9],
        "tokens_trained": 500 + 800 + 3000,
        "tokens_generated": 750,
        "seconds": 69.2,
        "tokens_a_judgment": 4 * 31.5,
        "warnings": [],
        "sets": {"own": 0.9, "part": None},
        "points_a_million_tokens": round(30 / 5050 * 1e6, 2),
        "points_an_hour": round(30 / 69.2 * 3600, 2),
    }


def test_the_cost_of_a_round_is_what_led_to_it(run: Run) -> None:
    """Of two rounds and the baselines beside them: no benchmark, no audit, no later round, and not the baselines' trainings."""
    stage(run, "discriminative/judge", "train-judge")
    stage(run, "gram/pretrained", "pretrain")
    stage(run, "gram/benchmark", "benchmark")
    stage(run, "human-examples", "human-examples")
    stage(run, "pretrained", "pretrain")
    stage(run, "prover", "train-prover")
    stage(run, "round-0/proofs", "prove", 0)
    stage(run, "round-0/judge", "train-judge", 0)
    for i in (0, 1, 2):
        if i:
            for name, kind in (("votes", "vote"), ("labels", "label"), ("audit", "audit"), ("proofs", "prove")):
                stage(run, f"round-{i}/{name}", kind, i)
            stage(run, f"round-{i}/selected", "select", i)
            stage(run, f"round-{i}/training-set", "training-set", i)
            stage(run, f"round-{i}/judge", "train-judge", i)
        stage(run, f"round-{i}/benchmark", "benchmark", i)
        stage(run, f"round-{i}/benchmark-own", "benchmark-own", i)

    def named(last: int) -> tuple[list[str], list[str]]:
        method = of_rounds(run, "any", last)
        return [a.manifest.name for a in method.stages], [a.manifest.name for a in method.benchmarks]

    first = ["pretrained", "prover", "round-0/proofs", "round-0/judge"]
    second = ["round-1/votes", "round-1/proofs", "round-1/judge"]
    assert named(0) == (first, ["round-0/benchmark", "round-0/benchmark-own"])
    assert named(1) == ([*first, *second], ["round-1/benchmark", "round-1/benchmark-own"])
    assert len(named(2)[0]) == 10


# ---- what a method learns from --------------------------------------------------------------------------------------------


def test_labels_are_learned_in_the_orders_asked_for(run: Run) -> None:
    rows = [pair.to_json() for pair in taste.draw_pairs(6, 41)]
    human = [{**pair.to_json(), "rationale": "r"} for pair in taste.draw_pairs(2, 42)]
    data = artifact(run, "data", {"labeled.jsonl": rows, "rationale.jsonl": human})
    made = preference_examples(run, "label-only/examples", labeled_pairs(run, data))
    found = rows_of(made.file("examples.jsonl"))
    assert (made.manifest.counts.rows_in, made.manifest.counts.kept) == (16, 16)
    assert made.manifest.metrics == {"label_balance": {"A": 8, "B": 8}}
    assert [one["id"] for one in found[:2]] == [f"{rows[0]['id']}:ab", f"{rows[0]['id']}:ba"]
    for row, as_is, swapped in zip([*rows, *human], found[::2], found[1::2], strict=True):
        assert (as_is["response_a"], as_is["response_b"], as_is["label"]) == (
            row["response_a"], row["response_b"], row["label"],
        )  # fmt: skip
        assert (swapped["response_a"], swapped["label"]) == (row["response_b"], flip(row["label"]))
        assert as_is["rationale"] == swapped["rationale"] == "", "a human rationale is none of a judge by label"
    one_order = preference_examples(run, "discriminative/examples", labeled_pairs(run, data), ["ab"])
    assert [one["id"] for one in rows_of(one_order.file("examples.jsonl"))] == [
        f"{r['id']}:ab" for r in [*rows, *human]
    ]
    assert Counter(row["label"] for row in [*rows, *human]) == one_order.manifest.metrics["label_balance"]


def test_pretraining_reads_the_pairs_of_all_rounds(run: Run) -> None:
    batches = {f"batch-{i}.jsonl": [make(f"{i}-{j}").to_json() for j in range(3)] for i in (1, 2)}
    data = artifact(run, "data", batches)
    made = response_pairs(run, "gram/responses", [data.ref(name) for name in batches])
    assert rows_of(made.file("examples.jsonl")) == [*batches["batch-1.jsonl"], *batches["batch-2.jsonl"]]
    assert (made.manifest.counts.rows_in, made.manifest.counts.kept) == (6, 6)


# ---- settings -----------------------------------------------------------------------------------------------------------


def recipe(**sections: Any) -> dict[str, Any]:
    """Parameters of the flow that say {seed} in several places."""
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    return {
        "run_name": "sides",
        "models": {"judge_base": "judge-{seed}", "prover_base": "p"},
        "data": {kind: [{"path": f"w/{{seed}}/{kind}.jsonl"}, {"path": "{seed}.jsonl"}] for kind in kinds},
        "benchmarks": {"sets": [{"benchmark": "preferences", "data": "{seed}/own.jsonl"}]},
        **sections,
    }


def test_each_seed_has_a_run_and_data_of_its_own() -> None:
    config = checked(recipe(seeds=[3, 5], seed=9), BaselinesConfig)
    each = config.each_seed()
    assert [(one.run_name, one.seed, one.seeds) for one in each] == [("sides-seed-3", 3, ()), ("sides-seed-5", 5, ())]
    for one in each:
        for kind in ("rationale", "labeled", "unlabeled", "heldout"):
            paths = [source.path for source in getattr(one.data, kind)]
            assert paths == [f"w/{one.seed}/{kind}.jsonl", f"{one.seed}.jsonl"]
        same = {"run_name", "seed", "seeds", "data"}
        assert one.model_dump(exclude=same) == config.model_dump(exclude=same), "nothing else is replaced"


@pytest.mark.parametrize(("given", "seed"), [({"seeds": [4]}, 4), ({"seed": 6}, 6), ({}, 0)])
def test_one_seed_is_the_run_itself(given: Mapping[str, Any], seed: int) -> None:
    [one] = checked(recipe(**given), BaselinesConfig).each_seed()
    assert (one.run_name, one.seed, one.data.labeled[1].path) == ("sides", seed, f"{seed}.jsonl")


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([1, 1], "seeds must differ, got"),
        ([0, -1], "seeds.1: must be at least 0, got -1"),
        ("0", "seeds: must be a list of whole numbers, got '0'"),
    ],
)
def test_seeds_must_differ_and_not_be_negative(seeds: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(recipe(seeds=seeds), BaselinesConfig)


def test_the_judge_that_is_compared_must_reason() -> None:
    models = {"judge_base": "j", "prover_base": "p", "judge_prompt": "gram"}
    with pytest.raises(ConfigError, match=r'models\.judge_prompt = "gram" has no rationale'):
        checked(recipe(models=models), BaselinesConfig)
    with pytest.raises(ConfigError, match=r"baselines\.label_prompt: must be one of gram, gram-card, compact-label"):
        checked(recipe(baselines={"label_prompt": "gram-r2"}), BaselinesConfig)
