"""What a plan counts: every number of a small run by hand, sizes of models, and how a plan is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.plan.facts import PlayedSet
from tasks.plan.lengths import Lengths, mean_lengths
from tasks.plan.stages import PlannedStage, training_cost
from tasks.settings import LoraSettings, Optimization
from tests.support.plan_by_hand import ASSUMED, FACTS, MODEL, stages


def figures(stage: PlannedStage) -> tuple[float, ...]:
    tokens = (stage.prompt_tokens, stage.generated_tokens, stage.trained_tokens)
    return (stage.rows_in, stage.rows_out, *tokens, stage.flops, stage.gpu_seconds, stage.disk_bytes)


# ---- by hand ----------------------------------------------------------------------------------------------------------------


def test_the_stages_are_those_of_the_flow_in_its_order() -> None:
    assert list(stages()) == [
        "data",
        "prover",
        *(f"round-0/{name}" for name in ("proofs", "judge", "benchmark")),
        *(f"round-1/{name}" for name in ("votes", "proofs", "judge", "benchmark")),
        "final",
    ]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        # 10 + 40 + 20 rows, and of 200 unlabeled ones the 100 of the round.
        ("data", (500, 170, 0, 0, 0, 0, 0, 170 * 100)),
        # Half of 10 have the shape, 0.8 of those fit: 4 of 60 tokens, twice; a float16 checkpoint and 10 examples.
        ("prover", (10, 4, 0, 0, 480, 6 * 1000 * 480, 480, 2000 + 10 * (100 + 300))),
        # 30 of 40 pairs fit, in 2 orders, 3 proofs each of 0.2 · 50 tokens; each proof is read once more.
        (
            "round-0/proofs",
            (40, 15, 60 * 40, 180 * 10, 0, 2000 * (2400 + 2 * 1800), 4200 + 18000, 1800 * 4 + 180 * 120 + 40 * 640),
        ),
        # 15 pairs in both orders: one short batch a pass, so 10 steps are 10 passes over 30 examples of 50 + 20 tokens.
        ("round-0/judge", (30, 30, 0, 0, 21000, 6 * 1000 * 21000, 21000, 2000 + 30 * (100 + 80 + 300))),
        ("round-0/benchmark", (20, 10, 20 * 30, 20 * 20, 0, 2000 * 1000, 600 + 4000, 400 * 4 + 20 * 60 + 20 * 500)),
        # 80 of 100 fit, 4 votes each of 0.2 · 100 tokens.
        (
            "round-1/votes",
            (100, 40, 160 * 55, 320 * 20, 0, 2000 * 15200, 8800 + 64000, 6400 * 4 + 320 * 60 + 100 * 220),
        ),
        # Of those that fitted the judge's context half fit the prover's, which is harder.
        (
            "round-1/proofs",
            (40, 10, 40 * 45, 120 * 10, 0, 2000 * 4200, 3000 + 12000, 1200 * 4 + 120 * 120 + 40 * 640),
        ),
        # LoRA: 30 · 70 + 20 · 75 tokens, once, 4 FLOPs a parameter; the adapter is kept in fp32.
        ("round-1/judge", (50, 50, 0, 0, 3600, 4 * 1000 * 3600, 2400, 2000 + 2 * 7 * 4 + 50 * 480)),
        ("final", (2, 1, 0, 0, 0, 0, 0, 2000)),
    ],
)
def test_a_stage_costs_what_it_does_by_hand(name: str, by_hand: tuple[float, ...]) -> None:
    assert figures(stages()[name]) == pytest.approx(by_hand)


def test_a_stage_names_the_stages_of_the_run_that_it_stands_for() -> None:
    parts = {name: stage.place.parts for name, stage in stages().items()}
    assert parts["prover"] == ("human-examples", "prover")
    assert parts["round-0/judge"] == ("round-0/training-set", "round-0/judge")
    assert parts["round-1/votes"] == ("round-1/votes", "round-1/labels")
    assert parts["round-1/proofs"] == ("round-1/proofs", "round-1/selected")


def test_known_rates_take_the_place_of_flops() -> None:
    planned = stages(model=replace(MODEL, training_tokens_per_s=60.0, generated_tokens_per_s=80.0))
    assert planned["round-1/judge"].gpu_seconds == pytest.approx(3600 / 60)
    assert planned["round-1/votes"].gpu_seconds == pytest.approx(6400 / 80)
    assert planned["round-1/votes"].flops == stages()["round-1/votes"].flops


def test_final_fine_tuning_is_on_the_human_rationales() -> None:
    planned = stages(training={"final": {"epochs": 3}})
    assert planned["round-2/judge"].place.parts == ("round-2/judge",)
    assert planned["round-2/judge"].trained_tokens == pytest.approx(5 * 80 * 3)
    assert "round-2/benchmark" in planned
    assert planned["final"].rows_in == 3


def test_later_rounds_learn_from_all_before_and_the_last_may_find_fewer_pairs() -> None:
    planned = stages(rounds={"count": 3, "pairs": 80})
    assert [planned[f"round-{i}/votes"].rows_in for i in (1, 2, 3)] == [80, 80, 40]
    assert [planned[f"round-{i}/judge"].rows_in for i in (0, 1, 2, 3)] == pytest.approx([30, 46, 62, 70])


def test_with_memory_every_round_votes_on_all_pairs_so_far_and_proves_them() -> None:
    once, planned = (
        stages(rounds={"count": 3, "pairs": 80}, labels={"voting": "all", "memory": memory}) for memory in (0.0, 0.3)
    )
    assert [planned[f"round-{i}/votes"].rows_in for i in (1, 2, 3)] == [80, 160, 200]
    assert planned["round-2/votes"].generated_tokens == pytest.approx(2 * once["round-2/votes"].generated_tokens)
    assert planned["round-3/proofs"].rows_in == pytest.approx(5 * once["round-3/proofs"].rows_in)
    for i in (1, 2, 3):
        assert planned[f"round-{i}/judge"].rows_in == pytest.approx(once[f"round-{i}/judge"].rows_in)
    assert planned["round-1/votes"].place == once["round-1/votes"].place
    assert planned["round-2/votes"].place.parts == ("round-2/batch", "round-2/votes", "round-2/labels")


def test_what_the_settings_add_to_a_training_set() -> None:
    human = stages(training={"human_rationales": True})
    assert human["round-0/judge"].rows_in == 30 + 5
    repeated = stages(training={"labeled_share": 0.8})
    assert repeated["round-1/judge"].rows_in == 80 + 20
    assert repeated["round-1/judge"].trained_tokens == pytest.approx(80 * 70 + 20 * 75)


def test_gradient_checkpointing_computes_once_more() -> None:
    planned = stages(training={"gradient_checkpointing": True})
    assert planned["prover"].flops == pytest.approx(8 * 1000 * 480)
    assert planned["round-1/judge"].flops == pytest.approx(6 * 1000 * 3600)
    half = stages(training={"gradient_checkpointing": 0.5})
    assert half["prover"].flops == pytest.approx(7 * 1000 * 480)


def test_steps_over_packed_sequences_are_longer() -> None:
    """30 examples of 70 tokens are 3 sequences of 1,000: a pass a step with a batch of 32."""
    assert stages(training={"packing": True})["round-0/judge"].trained_tokens == pytest.approx(10 * 2100)
    batches = {"packing": True, "first_judge": {"max_steps": 10, "batch_size": 2}}
    assert stages(training=batches)["round-0/judge"].trained_tokens == pytest.approx(10 / 2 * 2100)
    longer = {**batches, "pack_tokens": 2500}
    assert stages(training=longer)["round-0/judge"].trained_tokens == pytest.approx(10 * 2100), "all in one"


def test_true_labels_are_not_voted_on_and_all_kept() -> None:
    planned = stages(labels={"source": "truth"}, data={"unlabeled_truth": True})
    assert figures(planned["round-1/labels"])[:4] == (100, 100, 0, 0)
    # Nothing has fitted a context yet: the prover's is the first.
    assert planned["round-1/proofs"].prompt_tokens == pytest.approx(100 * 0.4 * 2 * 45)


@pytest.mark.parametrize(
    ("voting", "share", "requests", "votes"),
    [("exact", 0.875, 1.5, 3.5), ("exact", 0.1, 1, 3), ("beta", 0.5, 1, 2), ("all", 0.5, 1, 4), ("exact", None, 2, 4)],
)
def test_votes_that_end_early_by_hand(voting: str, share: float | None, requests: float, votes: float) -> None:
    """Of 8 votes, exact casts 6 in the first request of each order, beta 4; each later vote has a request of its own."""
    assumed = ASSUMED.model_copy(update={"votes_cast": share})
    planned = stages(assumed=assumed, labels={"votes": 8, "voting": voting})["round-1/votes"]
    assert planned.prompt_tokens == pytest.approx(80 * 2 * requests * 55)
    assert planned.generated_tokens == pytest.approx(80 * 2 * votes * 20)


@pytest.mark.parametrize("proofs", [{"choose": "random"}, {"k": 1}])
def test_proofs_are_read_again_only_where_their_score_is_used(proofs: dict[str, object]) -> None:
    written = stages(proofs={**proofs, "min_score": None})["round-0/proofs"]
    assert written.flops == pytest.approx(2000 * (written.prompt_tokens + written.generated_tokens))
    used = stages(proofs={**proofs, "min_score": -1.0})["round-0/proofs"]
    assert used.flops == pytest.approx(2000 * (used.prompt_tokens + 2 * used.generated_tokens))


def test_an_audit_of_proofs_by_hand() -> None:
    """Both labels of 8 pairs: 16 claims, of which 0.75 fit in round 0; all proofs are scored, and read twice by the judge."""
    planned = stages(proofs={"audit_pairs": 8, "choose": "random", "min_score": None})
    written = planned["round-0/audit-proofs"]
    assert figures(written)[:4] == (16, 12, 24 * 40, 72 * 10)
    assert written.flops == 2000 * (960 + 2 * 720)
    assert written.place.parts == ("round-0/audit-claims", "round-0/audit-proofs")
    assert figures(planned["round-0/judge-proofs"])[:4] == (72, 72, 144 * (50 + 10), 72)
    assert figures(planned["round-1/audit-proofs"])[:2] == (16, 8), "half of those that the judge has read fit"
    assert figures(stages(proofs={"audit_pairs": 100})["round-0/audit-proofs"])[0] == 80, "there are 40 pairs"
    assert "round-1/audit-proofs" not in stages(proofs={"audit_pairs": 8, "write_for": "labeled"})


def test_known_rates_say_nothing_of_a_judge_that_only_reads() -> None:
    audited, rates = {"proofs": {"audit_pairs": 8}}, {"training_tokens_per_s": 60.0, "generated_tokens_per_s": 80.0}
    planned = stages(model=replace(MODEL, **rates), **audited)
    assert planned["round-0/audit-proofs"].gpu_seconds == pytest.approx(720 / 80)
    # 144 requests of 60 tokens, and half a token more.
    assert planned["round-0/judge-proofs"].gpu_seconds == pytest.approx(2000 * (144 * 60 / 2000 + 72 / 200))


def test_without_proofs_examples_have_the_bare_reply() -> None:
    planned = stages(proofs={"write_for": "nothing"})
    assert "prover" not in planned
    assert figures(planned["round-0/selected"])[:4] == (40, 40, 0, 0)
    assert planned["round-0/judge"].rows_out == pytest.approx(80 * 0.75)
    assert planned["round-0/judge"].trained_tokens == pytest.approx(60 * 55 * 10 / 2)


def test_a_judge_of_labels_writes_one_token_a_game() -> None:
    facts = replace(FACTS, human={"judge": Lengths(1.0, 60, 2)})
    planned = stages(facts, models={"judge_prompt": "compact-label"}, benchmarks={"votes": 4, "temperature": 1.0})
    assert planned["round-0/benchmark"].generated_tokens == 20
    assert "prover" not in planned


def test_a_benchmark_is_played_in_both_orders_by_all_votes() -> None:
    sets = (*FACTS.sets, PlayedSet("rm", 7, 9, Lengths(1.0, 100)), PlayedSet("ppe", 3, 31, Lengths(1.0, 10), 32))
    planned = stages(replace(FACTS, sets=sets), benchmarks={"votes": 4, "temperature": 1.0, "max_tokens": 10})
    assert planned["round-1/benchmark-rm"].prompt_tokens == 7 * 9 * 2 * 100
    assert planned["round-1/benchmark-rm"].generated_tokens == 7 * 9 * 2 * 4 * 10
    knockouts = planned["round-0/benchmark-ppe"].place.parts
    assert knockouts[:2] == ("round-0/benchmark-ppe-matches-1", "round-0/benchmark-ppe-games-1")
    assert knockouts[-2:] == ("round-0/benchmark-ppe-games-5", "round-0/benchmark-ppe")


def test_a_training_of_nothing_costs_nothing() -> None:
    cost = training_cost(0, 70, Optimization(max_steps=10), 1000)
    assert (cost.passes, cost.tokens, cost.flops) == (0, 0, 0)


@pytest.mark.parametrize(
    ("optimization", "passes"),
    [
        (Optimization(epochs=1.5), 1.5),
        (Optimization(max_steps=80, batch_size=32), 40),
        (Optimization(max_steps=80, batch_size=40), 80),
        (Optimization(max_steps=7, batch_size=10, lora=LoraSettings()), 1.75),
    ],
)
def test_passes_over_forty_examples(optimization: Optimization, passes: float) -> None:
    assert training_cost(40, 61, optimization, 1).tokens == pytest.approx(40 * 61 * passes)


def test_flops_a_token_by_hand() -> None:
    """Forward 2, backward 4, of which frozen layers have none; checkpointing computes forward again where there is a backward."""
    whole, adapter = Optimization(epochs=1), Optimization(epochs=1, lora=LoraSettings())
    costs = [(whole, 0, 1.0), (whole, 1, 1.0), (adapter, 0, 1.0), (whole, 0, 0.5), (whole, 1, 0.25)]
    assert [training_cost(1, 1, one, 1, *shares).flops for one, *shares in costs] == [6, 8, 4, 4, 3.5]


def test_mean_lengths_are_weighted_and_of_what_fits() -> None:
    found = mean_lengths([(1, (10, 2)), (3, (20, 6)), (4, None)])
    assert (found.fits, found.tokens, found.reply) == (0.5, 17.5, 5.0)
    assert mean_lengths([(1, None)]) == Lengths(0.0, 0.0)
