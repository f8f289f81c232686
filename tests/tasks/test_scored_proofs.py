"""Which proofs are scored by Eq. 5, and what becomes of those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import Artifact
from prompts.quotes import RULE
from tasks.model.chat import ChatEncoder
from tasks.model.proofs import uses_score
from tasks.prove import select_proofs, write_proofs
from tasks.run.rounds import round_table
from tasks.run.rows import generated_for
from tasks.settings import ProofSettings
from tests.conftest import ScriptedEngine, artifact, rows_of, run_with
from tests.tasks.test_prove import PAIRS, four_proofs


@pytest.mark.parametrize(
    ("proofs", "used"),
    [
        ({}, True),
        ({"min_score": None}, True),
        ({"min_score": None, "k": 1}, False),
        ({"k": 1}, True),
        ({"choose": "random"}, True),
        ({"choose": "random", "min_score": None}, False),
    ],
)
def test_scores_are_used_to_choose_among_several_and_to_reject(proofs: dict[str, Any], used: bool) -> None:
    assert uses_score(ProofSettings(**proofs)) == used


def made(folder: Path, encoder: ChatEncoder, engine: ScriptedEngine, **proofs: Any) -> tuple[Artifact, Artifact, Any]:
    """The stages prove and select, and the completions of each request in order."""
    run = run_with(folder, encoder, engine, proofs={"max_tokens": 64, **proofs})
    prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
    labeled = artifact(run, "data", {"labeled.jsonl": [p.to_json() for p in PAIRS]}).ref("labeled.jsonl")
    written = write_proofs(run, 0, prover, labeled)
    lines = [line for _, line in generated_for(written, labeled.path)]
    completions = [request["completions"] for line in lines for request in line["requests"]]
    return written, select_proofs(run, 0, written, labeled), completions


def test_what_the_rules_reject_is_not_scored(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Of four candidates, the second is for the other label."""
    engine = four_proofs(encoder)
    written, selected, completions = made(tmp_path, encoder, engine)
    assert [["logprob_alone" in c for c in of_request] for of_request in completions] == [
        [True, False, True, True]
    ] * 12
    assert engine.scored == written.manifest.metrics["scored"] == 36
    assert "scored" not in written.manifest.config
    metrics = selected.manifest.metrics
    assert (metrics["candidates"], metrics["valid"], metrics["scored"]) == (48, 36, 36)
    assert metrics["mean_score"] == pytest.approx(-(0.6 + 0.4 + 0.4) / 3, abs=1e-6)


@pytest.mark.parametrize("how", [{"choose": "random"}, {"k": 1}])
def test_nothing_is_scored_where_scores_are_not_used(tmp_path: Path, encoder: ChatEncoder, how: dict[str, Any]) -> None:
    engine = four_proofs(encoder)
    written, selected, completions = made(tmp_path, encoder, engine, min_score=None, **how)
    assert engine.scored == 0
    assert not any("logprob_alone" in c for of_request in completions for c in of_request)
    assert written.manifest.config["scored"] == "nothing", "those with scores are needed where they are used"
    assert "scored" not in written.manifest.metrics
    metrics = selected.manifest.metrics
    assert metrics["scored"] == 0
    assert not {"mean_score", "min_score", "max_score"} & metrics.keys()
    assert selected.manifest.counts.kept == 6
    [chosen, *_] = rows_of(selected.file("selected.jsonl"))
    assert {proof["score"] for proof in chosen["proofs"].values()} == {None}


def test_a_choice_that_does_not_need_scores_is_the_same_without_them(tmp_path: Path, encoder: ChatEncoder) -> None:
    chosen = []
    for name, min_score in (("with", -1e8), ("without", None)):
        _, selected, _ = made(tmp_path / name, encoder, four_proofs(encoder), choose="random", min_score=min_score)
        rows = rows_of(selected.file("selected.jsonl"))
        chosen.append([proof["candidate"] for row in rows for proof in row["proofs"].values()])
    assert chosen[0] == chosen[1]


def test_proofs_that_may_quote_anything_are_other_proofs_where_they_are_scored(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    """What the rule for quotes rejects has no score, so it must be written anew once the rule is switched off."""
    on, selected, _ = made(tmp_path / "on", encoder, four_proofs(encoder))
    off, _, _ = made(tmp_path / "off", encoder, four_proofs(encoder), grounded_quotes=False)
    assert off.manifest.config == {**on.manifest.config, "scored": "with any quotes"}
    assert selected.manifest.config["quotes"] == RULE
    longer, _, _ = made(tmp_path / "longer", encoder, four_proofs(encoder), max_rationale_tokens=2000)
    assert longer.manifest.config == on.manifest.config, "a bound on length can be changed without that"


def test_rounds_without_scores_have_no_mean_score(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, four_proofs(encoder), proofs={"max_tokens": 64, "min_score": None, "k": 1})
    prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
    labeled = artifact(run, "data", {"labeled.jsonl": [p.to_json() for p in PAIRS]}).ref("labeled.jsonl")
    select_proofs(run, 0, write_proofs(run, 0, prover, labeled), labeled)
    [row] = [row for row in round_table(run) if row["round"] == 0]
    assert (row["proofs_valid"], row["proof_score"]) == (12, None)
