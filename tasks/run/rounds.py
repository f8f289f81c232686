"""The table of rounds: what each round of a run labeled, proved, trained on and achieved, read from its finished stages."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from data.store.artifacts import Artifact
from tasks.run.stage import Run

Row = dict[str, Any]

PASSED, HARMFUL, ROLLED_BACK, STOPPED = "passed", "harmful", "rolled back", "stopped"
"""What a gate decides of a round: it is not found to harm; it harms, and is used all the same; it is not built on; nor is it, and
there are no further rounds."""

_LABELED = ("round-0", "human")
"""The origins of training examples whose labels were given: `tasks.training_set` counts by origin."""


def round_table(run: Run) -> list[Row]:
    """One row per round, in order, the final fine-tuning last; None if a round has no such stage (yet)."""
    rounds = sorted({a.manifest.round for a in run.finished_stages() if a.manifest.round is not None})
    return [_round_row(run, round) for round in rounds]


def _round_row(run: Run, round: int) -> Row:
    stages = [a for a in run.finished_stages() if a.manifest.round == round]
    kinds = {a.manifest.kind: a for a in stages}
    audit = kinds["audit"].manifest.metrics if "audit" in kinds else {}
    return {
        "round": round,
        "name": _name(round, kinds),
        **_heldout(kinds.get("benchmark")),
        **_labels(kinds.get("label")),
        **_promise(kinds.get("threshold")),
        "kept_right": audit.get("kept_right"),
        "all_right": audit.get("all_right"),
        "kept_right_in": audit.get("kept_right_in", {}),
        **_gate(kinds.get("gate")),
        **_proofs(kinds.get("select")),
        "proof_audit": _proof_audit(kinds),
        **_training(run, kinds.get("train-judge")),
        "tokens_per_s": _rate(
            [kinds[kind] for kind in ("calibration-vote", "vote", "prove", "benchmark") if kind in kinds]
        ),
        "seconds": round_seconds(stages),
    }


def round_names(stages: Iterable[tuple[int | None, str]]) -> dict[int, str]:
    """What each round is called, in order, from the (round, kind) of stages: its number, or "final" for the final fine-tuning."""
    kinds: dict[int, set[str]] = {}
    for round, kind in stages:
        if round is not None:
            kinds.setdefault(round, set()).add(kind)
    return {round: _name(round, kinds[round]) for round in sorted(kinds)}


def names_in(run: Run) -> dict[int, str]:
    """What each round of a run is called."""
    return round_names((a.manifest.round, a.manifest.kind) for a in run.finished_stages())


def _name(round: int, kinds: Container[str]) -> str:
    # Every round of self-training selects pairs; the fine-tuning after the last one only trains.
    return "final" if round > 0 and "train-judge" in kinds and "select" not in kinds else str(round)


def _heldout(benchmark: Artifact | None) -> Row:
    metrics = benchmark.manifest.metrics if benchmark else {}
    pairs = benchmark.manifest.counts.rows_in if benchmark else None
    return {
        "accuracy": metrics.get("accuracy"),
        "interval": metrics.get("interval"),
        "heldout_pairs": pairs,
        "position_consistency": metrics.get("position_consistency"),
        "reply_tokens": metrics.get("mean_tokens"),
    }


def _labels(labels: Artifact | None) -> Row:
    counts = labels.manifest.counts if labels else None
    metrics = labels.manifest.metrics if labels else {}
    malformed, votes, planned = metrics.get("malformed", {}), metrics.get("votes"), metrics.get("votes_planned")
    return {
        "labels_kept": counts.kept if counts else None,
        "labels_of": counts.rows_in if counts else None,
        "labels_dropped": {**counts.dropped, **counts.failed} if counts else {},
        "label_balance": metrics.get("label_balance", {}),
        "votes_cast": votes / planned if votes and planned else None,
        "pairs_by_votes": metrics.get("pairs_by_votes", {}),
        "vote_margins": metrics.get("vote_margins", {}),
        "orders_agree": metrics.get("orders_agree"),
        "voted_again": metrics.get("voted_again", {}),
        "malformed_share": sum(malformed.values()) / votes if votes else None,
    }


def _promise(threshold: Artifact | None) -> Row:
    """What was promised of the labels and shown on calibration pairs, and the thresholds: of domains, and of all others."""
    metrics = threshold.manifest.metrics if threshold else {}
    return {
        "promised": metrics.get("promised"),
        "promise_holds": metrics.get("holds"),
        "promise_bound": metrics.get("bound"),
        "calibration_kept": metrics.get("kept_share"),
        "thresholds": {one["domain"] or "all others": one["threshold"] for one in metrics.get("groups", ())},
    }


def _gate(gate: Artifact | None) -> Row:
    metrics = gate.manifest.metrics if gate else {}
    return {"gate": metrics.get("decision"), "gate_reason": metrics.get("reason")}


def _proofs(selected: Artifact | None) -> Row:
    counts = selected.manifest.counts if selected else None
    metrics = selected.manifest.metrics if selected else {}
    # A judge without rationales selects every labeled pair and has no proofs to count.
    wrote = bool(metrics.get("candidates"))
    return {
        "proofs_valid": metrics.get("valid") if wrote else None,
        "proof_candidates": metrics.get("candidates") if wrote else None,
        "proof_score": metrics.get("mean_score"),
        "proof_tokens": metrics.get("mean_tokens"),
        "proofs_rejected": metrics.get("rejected", {}),
        "pairs_selected": counts.kept if counts else None,
        "pairs_dropped": {**counts.dropped, **counts.failed} if counts else {},
    }


def _proof_audit(kinds: Mapping[str, Artifact]) -> Row | None:
    """The figures of the audit of proofs; None if there is none (yet)."""
    claims, made, read = (kinds.get(kind) for kind in ("audit-claims", "audit-proofs", "judge-proofs"))
    if claims is None or made is None or read is None:
        return None
    figures = {name: made.manifest.metrics[name] for name in ("pairs", "passed", "proved", "score")}
    of_judge = {name: read.manifest.metrics.get(name) for name in ("judge", "p_label", "reply")}
    return {**figures, **of_judge, "right_by": claims.manifest.metrics["right_by"]}


def _training(run: Run, judge: Artifact | None) -> Row:
    """What the judge learned from: those of its examples that the training kept, of how many; origins are of all of them."""
    metrics = judge.manifest.metrics if judge else {}
    wanted = judge.manifest.inputs.get("examples") if judge else None
    of = (
        a
        for a in run.finished_stages()
        if wanted and a.manifest.files.get("examples.jsonl", {}).get("sha256") == wanted
    )
    examples = next(of, None)
    sizes = examples.manifest.metrics if examples else {}
    origins = sizes.get("origins", {})  # not there in sets of earlier versions
    return {
        "examples": judge.manifest.counts.kept if judge else None,
        "examples_of": judge.manifest.counts.rows_in if judge else None,
        "labeled": sizes.get("labeled"),
        "pseudo_labeled": sizes.get("pseudo_labeled"),
        "repeated": sizes.get("repeated"),
        "human": origins.get("human"),
        "pseudo_by_round": {role.removeprefix("round-"): n for role, n in origins.items() if role not in _LABELED},
        "first_loss": metrics.get("first_loss"),
        "last_loss": metrics.get("last_loss"),
    }


def _rate(generated: list[Artifact]) -> float | None:
    """Tokens/s over several stages; those that generated nothing have no rate."""
    parts = [a.manifest.metrics for a in generated if a.manifest.metrics.get("tokens_per_s")]
    seconds = sum(m["tokens_generated"] / m["tokens_per_s"] for m in parts)
    return round(sum(m["tokens_generated"] for m in parts) / seconds, 1) if seconds else None


def round_seconds(stages: list[Artifact]) -> float:
    """The seconds that the stages took when they were made, reused ones included."""
    return round(sum(a.manifest.seconds for a in stages), 1)


def best_round(table: list[Row]) -> Row | None:
    """The row with the highest held-out accuracy that was not rolled back, the earliest if several are equal."""
    measured = [row for row in table if row["accuracy"] is not None and row.get("gate") not in (ROLLED_BACK, STOPPED)]
    return max(measured, key=lambda row: (row["accuracy"], -row["round"]), default=None)


def is_rolled_back(run: Run, round: int) -> bool:
    """Whether a round's gate has rolled it back: its judge then neither labels further batches nor is exported."""
    gate = run.finished_stage("gate", round)
    return gate is not None and gate.manifest.metrics["decision"] in (ROLLED_BACK, STOPPED)


def last_by_gate(table: list[Row]) -> Row | None:
    """The round whose gate decided that there are no further ones; None if there is none."""
    return next((row for row in table if row.get("gate") == STOPPED), None)
