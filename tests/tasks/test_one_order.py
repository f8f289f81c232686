"""Proofs and examples of one order of each pair, drawn by a fair coin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.records import flip
from data.world import taste
from tasks.model.chat import ChatEncoder
from tasks.model.orders import orders_of
from tasks.prove import prove, select_proofs, write_proofs
from tasks.run.space import generation_bytes
from tasks.run.stage import Run
from tasks.training_set import judge_examples
from tests.conftest import ScriptedEngine, artifact, rows_of, run_with
from tests.support.plan_by_hand import stages

PAIRS = taste.draw_pairs(60, 0)


def proved(folder: Path, encoder: ChatEncoder, writes: bool = True, **proofs: Any) -> tuple[Run, Any]:
    """(run, selected) where every proof is valid."""

    def reply(request: Any, j: int) -> tuple[str, float]:
        label = encoder.tokenizer.decode(list(request.prompt_ids)).rpartition(" is better. Why?")[0][-1]
        return f"Because x. So {label} is better.", -10.0

    run = run_with(folder, encoder, ScriptedEngine(reply), proofs={"max_tokens": 64, "k": 2, **proofs})
    prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
    labeled = artifact(run, "data", {"labeled.jsonl": [p.to_json() for p in PAIRS]}).ref("labeled.jsonl")
    if not writes:
        return run, prove(run, 0, None, labeled)
    return run, select_proofs(run, 0, write_proofs(run, 0, prover, labeled), labeled)


def orders_in(selected: Any) -> dict[str, tuple[str, ...]]:
    return {row["id"]: tuple(row["proofs"]) for row in rows_of(selected.file("selected.jsonl"))}


def test_half_of_the_proofs_are_written_and_no_pair_is_lost(tmp_path: Path, encoder: ChatEncoder) -> None:
    run, both = proved(tmp_path / "both", encoder)
    one_run, one = proved(tmp_path / "one", encoder, orders="one")
    assert (run.generator.requests, one_run.generator.requests) == (120, 60)  # type: ignore[union-attr]
    assert (both.manifest.metrics["candidates"], one.manifest.metrics["candidates"]) == (240, 120)
    assert both.manifest.counts.kept == one.manifest.counts.kept == 60
    assert {len(orders) for orders in orders_in(one).values()} == {1}
    of_both = {row["id"]: row["proofs"] for row in rows_of(both.file("selected.jsonl"))}
    for row in rows_of(one.file("selected.jsonl")):
        [(order, proof)] = row["proofs"].items()
        assert proof == of_both[row["id"]][order], "the same request as before"


def test_the_examples_are_half_as_many_and_a_is_the_label_of_half_of_them(tmp_path: Path, encoder: ChatEncoder) -> None:
    run, selected = proved(tmp_path, encoder, orders="one")
    made = judge_examples(run, 0, [selected], None)
    examples = rows_of(made.file("examples.jsonl"))
    assert len(examples) == 60
    balance = made.manifest.metrics["label_balance"]
    assert 20 <= balance["A"] <= 40
    of_id = {p.pair.id: p.label for p in PAIRS}
    for example in examples:
        label = of_id[example["origin"]["pair"]]
        assert example["label"] == (label if example["origin"]["order"] == "ab" else flip(label))


def test_the_coin_is_fair_and_follows_the_seed() -> None:
    drawn = [[orders_of("one", seed, str(i))[0] for i in range(1000)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert 450 <= drawn[0].count("ab") <= 550
    assert 450 <= sum(one == other for one, other in zip(drawn[0], drawn[2], strict=True)) <= 550
    assert orders_of("both", 0, "x") == ("ab", "ba")


def test_pairs_without_proofs_are_in_the_same_order_as_with_them(tmp_path: Path, encoder: ChatEncoder) -> None:
    _, with_proofs = proved(tmp_path / "with", encoder, orders="one")
    _, without = proved(tmp_path / "without", encoder, writes=False, orders="one")
    assert orders_in(without) == orders_in(with_proofs)
    assert rows_of(without.file("selected.jsonl"))[0]["proofs"] == {
        orders_in(with_proofs)[PAIRS[0].pair.id][0]: {"rationale": ""}
    }


@pytest.mark.parametrize("writes", [True, False])
def test_the_default_is_in_no_key(tmp_path: Path, encoder: ChatEncoder, writes: bool) -> None:
    def configs(name: str, **proofs: Any) -> list[dict[str, Any]]:
        run, _ = proved(tmp_path / name, encoder, writes, **proofs)
        return [dict(a.manifest.config) for a in run.finished if a.manifest.kind in ("prove", "select")]

    assert not any("orders" in config for config in configs("both"))
    assert [config.get("orders") for config in configs("one", orders="one")] == (["one", None] if writes else ["one"])


def test_the_plan_counts_half() -> None:
    both, one = stages(), stages(proofs={"orders": "one"})
    for name in ("round-0/proofs", "round-1/proofs"):
        assert one[name].generated_tokens == both[name].generated_tokens / 2
        assert one[name].prompt_tokens == both[name].prompt_tokens / 2
        assert one[name].rows_out == both[name].rows_out
    assert one["round-0/judge"].rows_in == both["round-0/judge"].rows_in / 2
    assert one["round-1/votes"] == both["round-1/votes"]
    assert generation_bytes({"k": 4, "max_tokens": 1000, "orders": "one"}, 100) == 800_000
