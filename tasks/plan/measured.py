"""What an existing run shows about the next one: kept shares, reply lengths, tokens per second of one GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data.files import read_jsonl
from tasks.export import base_name
from tasks.generation.local import gpu_seconds
from tasks.plan.assumptions import PlanError
from tasks.settings import Role, Settings

Line = dict[str, Any]

_NO_RATE = (
    "that is at most one token per request, so no rate of generation is taken, and the time is estimated from FLOPs"
)


def measured_in(folder: Path, settings: Settings) -> tuple[dict[str, float], list[str]]:
    """Assumptions by name, from a run folder's ``metrics.jsonl``, for a run with these settings; and notes on them.

    Raises PlanError if the folder has none. Stages that the run has not reached are left out; rates are taken only if it
    trained the same base models, and the judge's rate of generation only if both judges write rationales.
    """
    file = folder / "metrics.jsonl"
    if not file.is_file():
        raise PlanError(f"{folder} has no metrics.jsonl: pass a run folder, such as runs/demo")
    kinds: dict[str, list[Line]] = {}
    for line in read_jsonl(file):
        kinds.setdefault(line["stage"], []).append(line)
    found = {
        "kept_labels": _kept_share(kinds.get("label", [])),
        "votes_cast": _votes_cast(kinds.get("label", [])),
        "kept_proofs": _kept_share(line for line in kinds.get("select", []) if line.get("candidates")),
        "reply_share": _share(_reply_mean(kinds), settings.labels.max_tokens),
        "proof_share": _share(_proof_mean(kinds), settings.proofs.max_tokens),
    }
    notes = []
    for role, base in (("judge", settings.models.judge_base), ("prover", settings.models.prover_base)):
        if not base:
            continue
        known = _base_of(folder, role)  # type: ignore[arg-type]
        if known != base_name(base):
            there = (
                f"does not state its {role}'s base"
                if known is None
                else f"has the {role} base {next(iter(known.values()))}"
            )
            notes.append(f"{folder} {there}: its rates are not used for {base}")
            continue
        stages = ("vote", "benchmark") if role == "judge" else ("prove",)
        found[f"{role}_training"] = _training_rate(kinds.get(f"train-{role}", []))
        if role == "judge" and (who := _replies_with_labels(folder, settings)):
            notes.append(f"{who} with the label alone: {_NO_RATE}")
            continue
        found[f"{role}_generation"] = _generation_rate([one for kind in stages for one in kinds.get(kind, [])])
    return {name: value for name, value in found.items() if value is not None}, notes


def _exported(folder: Path) -> dict[str, Any]:
    """The settings of the stage that exported the run's judge; empty if it has not come to that."""
    manifest = folder / "final" / "manifest.json"
    found: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["config"] if manifest.is_file() else {}
    return found


def _base_of(folder: Path, role: Role) -> dict[str, str] | None:
    known: dict[str, str] | None = _exported(folder).get("card", {}).get(f"{role}_base")
    return known


def _replies_with_labels(folder: Path, settings: Settings) -> str:
    """Which of the two judges replies with the label alone, as the beginning of a sentence; empty if neither does."""
    there = not _exported(folder)["prompt"]["reply"]["has_rationale"]
    here = not settings.judge_prompt.has_rationale
    if there and here:
        return f"the judge of {folder} and the planned one reply"
    return f"the judge of {folder} replies" if there else "the planned judge replies" if here else ""


def _ratio(lines: Iterable[Line], part: Callable[[Line], float], whole: Callable[[Line], float]) -> float | None:
    rows = list(lines)
    total = sum(map(whole, rows))
    return sum(map(part, rows)) / total if total else None


def _kept_share(lines: Iterable[Line]) -> float | None:
    """Share of the rows that got a request: the sample accounts for those that are too long."""
    return _ratio(lines, lambda one: one["kept"], lambda one: one["rows_in"] - one["dropped"].get("prompt_too_long", 0))


def _votes_cast(lines: Iterable[Line]) -> float | None:
    """None if all were cast: that says nothing of votes that may end early."""
    share = _ratio(
        (one for one in lines if "votes_planned" in one), lambda one: one["votes"], lambda one: one["votes_planned"]
    )
    return None if share == 1 else share


def _reply_mean(kinds: dict[str, list[Line]]) -> float | None:
    """None if the votes are labels alone, of one token each: that says nothing of replies."""
    votes = {one["round"]: one.get("votes", 0) for one in kinds.get("label", [])}
    mean = _ratio(kinds.get("vote", []), lambda one: one["tokens_generated"], lambda one: votes.get(one["round"], 0))
    return mean if mean is not None and mean > 1 else None


def _proof_mean(kinds: dict[str, list[Line]]) -> float | None:
    proofs = {one["round"]: one.get("candidates", 0) for one in kinds.get("select", [])}
    return _ratio(kinds.get("prove", []), lambda one: one["tokens_generated"], lambda one: proofs.get(one["round"], 0))


def _share(tokens: float | None, most: int) -> float | None:
    return None if tokens is None else min(1.0, tokens / most)


def _training_rate(lines: list[Line]) -> float | None:
    """Per GPU: a training reports the rate of all its processes together."""
    known = [one for one in lines if one.get("train_tokens_per_s")]
    return _ratio(
        known,
        lambda one: one["train_tokens_per_s"] * one["train_seconds"],
        lambda one: one["train_seconds"] * one.get("processes", 1),
    )


def _generation_rate(lines: list[Line]) -> float | None:
    """Per GPU: a stage reports the rate of all its engines together."""
    known = [one for one in lines if one.get("tokens_per_s")]
    return _ratio(known, lambda one: one["tokens_generated"], gpu_seconds)
