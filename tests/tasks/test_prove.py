"""Proofs: Eq. 5 by hand, every reason to reject one, and which of the valid ones is taken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import PreferencePair, flip, parse_preference
from data.store.artifacts import StageError
from data.world import taste
from prompts.judge import COMPACT, GRAM_R2, join_headings
from prompts.prove import PROVE, PROVE_COMPACT
from prompts.quotes import RULE
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.orders import shown
from tasks.model.proofs import read_proof, score
from tasks.prove import prove, select_proofs, write_proofs
from tasks.settings import ProofSettings
from tests.conftest import ScriptedEngine, artifact, make, rows_of, run_with

# ---- Eq. 5 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logprob", "alone", "expected"),
    [
        (-20.0, -40.0, -0.5),
        (-40.0, -40.0, -1.0),
        (-60.0, -40.0, -1.5),
        (-0.5, -50.0, -0.01),
        (0.0, -50.0, 0.0),
        (-20.0, 0.0, -1e9),
        (0.0, 0.0, -1e9),
        (-20.0, -1e-12, -1e9),
    ],
)
def test_the_score_by_hand(logprob: float, alone: float, expected: float) -> None:
    assert score(logprob, alone) == expected


LOGPROB = st.floats(-1e5, 0)


@given(LOGPROB, LOGPROB)
def test_the_score_is_never_above_zero_and_can_be_written_to_json(logprob: float, alone: float) -> None:
    assert -1e9 <= score(logprob, alone) <= 0


@given(st.floats(-1e4, -1e-3), st.floats(-1e4, -1e-3), st.floats(0.01, 100))
def test_more_likely_given_the_pair_or_less_likely_alone_is_better(logprob: float, alone: float, less: float) -> None:
    assert score(logprob - less, alone) <= score(logprob, alone) <= score(logprob, alone - less)


# ---- what is rejected ---------------------------------------------------------------------------------------------------


SHOWN = PreferencePair(make(question="Why?", a="The first.", b="The second."), "A")


def completion(text: str, **changes: Any) -> dict[str, Any]:
    return {"text": text, "finished": True, "n_tokens": 20, "logprob": -50.0, "logprob_alone": -100.0, **changes}


@pytest.mark.parametrize(
    ("made", "rejected"),
    [
        (completion("Because a b. So A is better."), None),
        (completion("Because a b. So A is better.", finished=False), "truncated"),
        (completion("a b. So A is better."), "no_opening"),
        (completion("because a b. So A is better."), "no_opening"),
        (completion(""), "no_opening"),
        (completion("Because a b. So A is better.", n_tokens=31), "too_long"),
        (completion("Because a b. So A is better.", n_tokens=30), None),
        (completion("Because "), "empty"),
        (completion("Because x</think><answer>B</answer> So A is better."), "contains_reply_tags"),
        (completion("Because a b."), "no_conclusion"),
        (completion("Because a b. So B is better."), "concludes_for_other"),
        (completion("Because a b. So A is better.", logprob=-80.1), "low_score"),
        (completion("Because a b. So A is better.", logprob=-80.0), None),
        (completion("Because a b. So A is better.", logprob_alone=0.0), "low_score"),
        (completion("Because a b. So A is better.", logprob_alone=None), "not_scored"),
        (completion("Because a b. So B is better.", logprob_alone=None), "concludes_for_other"),
    ],
)
def test_why_a_compact_proof_is_rejected(made: dict[str, Any], rejected: str | None) -> None:
    proofs = ProofSettings(max_rationale_tokens=30, min_score=-0.8)
    proof = read_proof(made, 3, SHOWN, COMPACT, PROVE_COMPACT, proofs)
    assert proof.rejected == rejected
    assert (proof.candidate, proof.n_tokens) == (3, made["n_tokens"])


@pytest.mark.parametrize(
    ("rationale", "rejected"),
    [
        (join_headings("f", "c", "Response A is better."), None),
        (join_headings("f", "c", "Response B is better."), "concludes_for_other"),
        (join_headings("f", "c", "Both are good."), "no_conclusion"),
        ("Response A is better.", "missing_headings"),
    ],
)
def test_why_a_proof_with_headings_is_rejected(rationale: str, rejected: str | None) -> None:
    proof = read_proof(completion(PROVE.to_proof(rationale)), 0, SHOWN, GRAM_R2, PROVE, ProofSettings())
    assert (proof.rejected, proof.rationale) == (rejected, rationale)


def test_without_bounds_only_the_rules_reject() -> None:
    made = completion("Because a b. So A is better.", n_tokens=10_000, logprob=-5000.0)
    proofs = ProofSettings(min_score=None, max_rationale_tokens=None)
    assert read_proof(made, 0, SHOWN, COMPACT, PROVE_COMPACT, proofs).rejected is None


@pytest.mark.parametrize(("grounded_quotes", "rejected"), [(True, "ungrounded_quote"), (False, None)])
def test_a_proof_that_quotes_what_is_not_there_is_rejected_unless_that_is_switched_off(
    grounded_quotes: bool, rejected: str | None
) -> None:
    proofs = ProofSettings(grounded_quotes=grounded_quotes)
    made = completion(PROVE.to_proof(join_headings('A says "it is Lyon".', "c", "Response A is better.")))
    assert read_proof(made, 0, SHOWN, GRAM_R2, PROVE, proofs).rejected == rejected
    listing = completion("Because A: first yes Lyon no = 1. B: second no = 0. So A is better.")
    assert read_proof(listing, 0, SHOWN, COMPACT, PROVE_COMPACT, proofs).rejected == rejected
    grounded = completion("Because A: first yes = 1. B: second no = 0. So A is better.")
    assert read_proof(grounded, 0, SHOWN, COMPACT, PROVE_COMPACT, proofs).rejected is None


# ---- which is taken -----------------------------------------------------------------------------------------------------

PAIRS = taste.draw_pairs(6, 0)


def asked_for(encoder: ChatEncoder, request: Request) -> str:
    """The label that a compact proving prompt tells."""
    return encoder.tokenizer.decode(list(request.prompt_ids)).rpartition(" is better. Why?")[0][-1]


def four_proofs(encoder: ChatEncoder) -> ScriptedEngine:
    """Candidates: 0 valid at −0.6; 1 the best score, for the other label; 2 valid at −0.4; 3 valid at −0.4 too."""

    def reply(request: Request, j: int) -> tuple[str, float]:
        label = asked_for(encoder, request)
        said = flip(label) if j == 1 else label  # type: ignore[arg-type]
        return f"Because number {j}. So {said} is better.", [-60.0, -10.0, -40.0, -40.0][j]

    return ScriptedEngine(reply)


def select(folder: Path, encoder: ChatEncoder, engine: Any, pairs: Any = PAIRS, seed: int = 0, **proofs: Any) -> Any:
    run = run_with(folder, encoder, engine, proofs={"max_tokens": 64, **proofs})
    run.seed = seed
    prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
    labeled = artifact(run, "data", {"labeled.jsonl": [p.to_json() for p in pairs]}).ref("labeled.jsonl")
    return select_proofs(run, 0, write_proofs(run, 0, prover, labeled), labeled)


def candidates(selected: Any) -> list[int]:
    return [proof["candidate"] for row in rows_of(selected.file("selected.jsonl")) for proof in row["proofs"].values()]


def test_the_best_valid_proof_of_each_order_is_taken(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Not the best score, which the rules reject; of two equal ones the first."""
    selected = select(tmp_path, encoder, four_proofs(encoder))
    rows = rows_of(selected.file("selected.jsonl"))
    assert [row["id"] for row in rows] == [p.pair.id for p in PAIRS]
    assert candidates(selected) == [2] * 12
    for row in rows:
        for order in ("ab", "ba"):
            label = shown(parse_preference(row), order).label
            proof = row["proofs"][order]
            assert proof["rationale"] == f"number 2. So {label} is better."
            assert (proof["score"], proof["logprob"], proof["logprob_alone"]) == (-0.4, -40.0, -100.0)
    metrics = selected.manifest.metrics
    assert (metrics["candidates"], metrics["valid"]) == (48, 36)
    assert metrics["rejected"] == {"concludes_for_other": 12}
    assert (metrics["min_score"], metrics["max_score"]) == (-0.6, -0.4)
    assert metrics["mean_score"] == pytest.approx(-(0.6 + 0.4 + 0.4) / 3, abs=1e-6)
    counts = selected.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (6, 6, {}, {})


def test_the_prover_is_told_the_label_of_the_order_that_it_sees(tmp_path: Path, encoder: ChatEncoder) -> None:
    told: dict[str, Counter[str]] = {"ab": Counter(), "ba": Counter()}

    def reply(request: Request, j: int) -> tuple[str, float]:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        a, b = (text.split(f"\n{name}: ")[1].split("\n")[0] for name in "AB")
        label = asked_for(encoder, request)
        assert taste.verdict(taste.make_pair(f"{a} {b}".split())) == label
        told[request.name][label] += 1
        return f"Because x. So {label} is better.", -10.0

    select(tmp_path, encoder, ScriptedEngine(reply), k=1)
    assert told["ab"] == Counter(p.label for p in PAIRS)
    assert told["ba"] == Counter(flip(p.label) for p in PAIRS)


def test_a_random_choice_is_among_the_valid_ones_and_follows_the_seed(tmp_path: Path, encoder: ChatEncoder) -> None:
    pairs = taste.draw_pairs(40, 1)
    drawn = [
        candidates(select(tmp_path / f"{i}", encoder, four_proofs(encoder), pairs, seed, choose="random"))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {0, 2, 3}
    # About a third each, and not the same draw for both orders of a pair.
    assert all(15 <= drawn[0].count(j) <= 40 for j in (0, 2, 3))
    assert any(first != second for first, second in zip(drawn[0][::2], drawn[0][1::2], strict=True))


def half_proofs(encoder: ChatEncoder) -> ScriptedEngine:
    """No valid proof of pair 0; none in the order ba of pair 1; all are valid for the others."""
    first = {taste.words_of(p.pair)[side][0]: i for i, p in enumerate(PAIRS) for side in (0, 1)}

    def reply(request: Request, j: int) -> tuple[str, float]:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        i = first[text.split("\nA: ")[1].split()[0]]
        if i == 0 or (i == 1 and request.name == "ba"):
            return "Because I cannot say.", -10.0
        return f"Because x. So {asked_for(encoder, request)} is better.", -10.0

    return ScriptedEngine(reply)


def test_a_pair_needs_a_valid_proof_for_each_order(tmp_path: Path, encoder: ChatEncoder) -> None:
    selected = select(tmp_path, encoder, half_proofs(encoder), k=2)
    counts = selected.manifest.counts
    assert (counts.rows_in, counts.kept) == (6, 4)
    assert counts.dropped == {"no_valid_proof": 1, "no_valid_proof_in_one_order": 1}
    dropped = rows_of(selected.file("dropped.jsonl"))
    assert [(row["id"], row["reason"]) for row in dropped] == [
        (PAIRS[0].pair.id, "no_valid_proof"),
        (PAIRS[1].pair.id, "no_valid_proof_in_one_order"),
    ]
    assert [c["rejected"] for c in dropped[1]["candidates"]] == [None, None, "no_conclusion", "no_conclusion"]
    assert all(set(row["proofs"]) == {"ab", "ba"} for row in rows_of(selected.file("selected.jsonl")))


def test_the_rule_for_quotes_is_in_the_settings_of_the_stage_only_if_it_applies(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    on = select(tmp_path / "on", encoder, four_proofs(encoder))
    off = select(tmp_path / "off", encoder, four_proofs(encoder), grounded_quotes=False)
    assert on.manifest.config == {**off.manifest.config, "quotes": RULE}
    assert on.content == off.content


def test_proofs_lost_to_one_reason_are_said_loudly(tmp_path: Path, encoder: ChatEncoder) -> None:
    def reply(request: Request, j: int) -> tuple[str, float]:
        first = f"Because x. So {asked_for(encoder, request)} is better."
        return (first if j == 0 else f"Because word {j}.", -10.0)

    selected = select(tmp_path, encoder, ScriptedEngine(reply), k=3)
    assert selected.manifest.counts.kept == 6
    assert selected.manifest.warnings == [
        "over half of the proofs are lost to one reason: no_conclusion, 24 of 36. The first: 'Because word 1.'"
    ]


def test_one_order_is_enough_where_both_are_not_asked_for(tmp_path: Path, encoder: ChatEncoder) -> None:
    selected = select(tmp_path, encoder, half_proofs(encoder), k=2, both_orders=False)
    assert (selected.manifest.counts.kept, selected.manifest.counts.dropped) == (5, {"no_valid_proof": 1})
    assert [set(row["proofs"]) for row in rows_of(selected.file("selected.jsonl"))][:2] == [{"ab"}, {"ab", "ba"}]


def test_no_valid_proof_at_all_stops_the_run_with_the_reasons(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = ScriptedEngine(lambda request, j: ("Because I cannot say.", -10.0))
    with pytest.raises(
        StageError,
        match=r"no pair has a valid proof: 6 pairs, rejected proofs \{'no_conclusion': 24\}\. Train the prover(?s:.*)"
        r"over half of the proofs are lost to one reason: no_conclusion, 24 of 24\. The first: 'Because I cannot say\.'",
    ):
        select(tmp_path, encoder, engine, k=2)


def test_prompts_for_which_no_proof_could_be_written_stop_the_run_with_what_helps(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    with pytest.raises(
        StageError,
        match=r"no pair has a proof: 6 pairs, dropped \{'prompt_too_long': 6\}, failed \{\}\..*lower proofs\.max_tokens$",
    ):
        select(tmp_path, encoder, four_proofs(encoder), k=4, max_tokens=250)


def test_without_a_prover_every_pair_is_kept_with_an_empty_rationale(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "")
    labeled = artifact(run, "data", {"labeled.jsonl": [p.to_json() for p in PAIRS]}).ref("labeled.jsonl")
    selected = prove(run, 0, None, labeled)
    assert [row["proofs"] for row in rows_of(selected.file("selected.jsonl"))] == [
        {"ab": {"rationale": ""}, "ba": {"rationale": ""}}
    ] * 6
    assert run.generator.requests == 0  # type: ignore[attr-defined]
