"""Does a proof prove? On a sample of a round's labeled pairs, the prover also argues for the wrong label.

The proofs of a prover that is as good at proving what is wrong say nothing of whether a label is right. Three scores are held
against each other by how well they tell proofs of right labels from those of wrong ones that pass the rules: Eq. 5, which
chooses among proofs; the judge's P(label | proof) after reading the proof as its own rationale; and the mean logprob that the
judge gives to the proof itself. P(label | proof) alone says little, right or wrong: a proof states its conclusion, and a trained
judge repeats it. In the small world it is above 0.99999 for both.

No label, proof or training depends on what is found. Where no true label is known, the judge's two scores are held against
labels that it gave itself: then they show whether it agrees with itself.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import json_line, parse_line, read_jsonl, write_jsonl
from data.records import Label, flip, parse_pair, parse_preference, prompt_key
from data.seeds import derive_seed
from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome
from prompts.catalog import prover_for
from prompts.judge import JudgePrompt
from prompts.quotes import RULE
from tasks.model.chat import ChatEncoder
from tasks.model.device import head_facts, resolved_dtype
from tasks.model.engine import Request
from tasks.model.judging import JudgeQuery, build_readings, softmax_first
from tasks.model.orders import shown
from tasks.model.proofs import read_proofs
from tasks.model.requests import PROMPT_TOO_LONG, Skip
from tasks.prove import generate_proofs, proof_params
from tasks.run.rows import generate_rows, read_generated
from tasks.run.stage import Context, Run
from tasks.settings import ProofSettings
from tasks.trust.separation import auc, share

CLAIMS, PROOFS = "claims.jsonl", "proofs.jsonl"
SIDES = ("right", "wrong")
_NEARLY, _NO_BETTER = 0.8, 0.55
"""Ours. A prover proves anything if proofs of wrong labels pass the rules at least 0.8 times as often as those of right ones,
and the interval of Eq. 5's AUC reaches down to 0.55. In the small world the former is 0.2 for the demo's prover, and 0.9 for
one that knows less than half of the words.
"""

Rows = Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]


def audit_proofs(
    run: Run, round: int, prover: Artifact | None, judge: Artifact, labeled: FileRef, truth: FileRef | None = None
) -> None:
    """The stages "audit-claims", "audit-proofs" and "judge-proofs" of a round, if its proofs are to be audited.

    `judge` reads the proofs: the one that labeled the round, which has not learned from them; in round 0, where there is none,
    the one that was trained on them. A label is right if it is the true one or, where that is unknown, the one that was kept.
    """
    if prover is None or not run.settings.proofs.audit_pairs or not run.settings.writes_proofs(round):
        return
    claims = draw_claims(run, round, labeled, truth)
    judge_proofs(run, round, judge, prove_claims(run, round, prover, claims.ref(CLAIMS)))


def draw_claims(run: Run, round: int, labeled: FileRef, truth: FileRef | None) -> Artifact:
    """The stage "audit-claims": the sampled pairs, each with its right label and with its wrong one."""
    known_by = "pseudo-label" if round else "label of the data"
    most, seed = run.settings.proofs.audit_pairs, derive_seed(run.seed, "audit-proofs", round)
    config = {"pairs": most, "seed": seed, "known_by": known_by}

    def body(context: Context) -> Outcome:
        n_rows, rows = _sampled(context.file("labeled"), most, seed)
        ids = {row["id"] for row in rows}
        truths = read_jsonl(context.file("truth")) if truth is not None else ()
        true = {row["id"]: row["label"] for row in truths if row["id"] in ids}
        known: Counter[str] = Counter()
        with (context.work / CLAIMS).open("w", encoding="utf-8") as stream:
            for row in rows:
                known["true label" if row["id"] in true else known_by] += 1
                for claim in _claims(row, true.get(row["id"], row["label"])):
                    stream.write(json_line(claim))
        return Outcome(Counts(len(rows), len(rows)), {"sampled_from": n_rows, "right_by": dict(known)})

    inputs: dict[str, Input] = {"labeled": labeled, **({"truth": truth} if truth is not None else {})}
    return run.find_or_make(f"round-{round}/audit-claims", "audit-claims", config, inputs, body, round)


def _sampled(path: Path, most: int, seed: int) -> tuple[int, list[dict[str, Any]]]:
    """How many rows a file has, and a seeded sample of them in their order."""
    with path.open("rb") as lines:
        n_rows = sum(1 for _ in lines)
    chosen = set(random.Random(seed).sample(range(n_rows), min(most, n_rows)))
    with path.open("rb") as lines:
        return n_rows, [parse_line(line, path, i + 1) for i, line in enumerate(lines) if i in chosen]


def _claims(row: Mapping[str, Any], right: Label) -> list[dict[str, Any]]:
    """The pair with its right label, then with the other. Both have its id, and so the same seeds and the same orders."""
    pair = parse_pair(row).to_json()
    return [{**pair, "label": right, "right": True}, {**pair, "label": flip(right), "right": False}]


# ---- the prover -------------------------------------------------------------------------------------------------------


def prove_claims(run: Run, round: int, prover: Artifact, claims: FileRef) -> Artifact:
    """The stage "audit-proofs": the prover argues for both labels, as in the stage "prove"; what the rules and Eq. 5 make of it.

    The lower bound on the score is not applied: what a score is worth is what is asked.
    """
    judge, proofs, params = run.settings.judge_prompt, run.settings.proofs, proof_params(run, round)
    dtype = resolved_dtype(run.settings.models.dtype)
    config = {
        **params,
        "prompt_digest": prover_for(judge).digest,
        "judge_prompt": judge.digest,
        "dtype": dtype,
        **head_facts(dtype),
        **run.settings.generation.facts_in_keys(),
        "max_rationale_tokens": proofs.max_rationale_tokens,
        "both_orders": proofs.both_orders,
        **({"quotes": RULE} if proofs.grounded_quotes else {}),
    }

    def body(context: Context) -> Outcome:
        made = generate_proofs(context, params, context.file("claims"), scored=True)
        rules = proofs.model_copy(update={"min_score": None})
        audited = _audited(context.work, read_generated(context.work, context.file("claims"), made), judge, rules)
        figures = audited.figures()
        return Outcome(made.counts, {**made.metrics, **figures}).warning(_doubts(figures))

    inputs: dict[str, Input] = {"prover": prover, "claims": claims}
    return run.find_or_make(f"round-{round}/audit-proofs", "audit-proofs", config, inputs, body, round)


@dataclass
class _Side:
    """The proofs of a pair's right, or of its wrong label: how many there are, and the scores of those that pass the rules.

    `proved` says whether the pair would be kept with them.
    """

    candidates: int = 0
    scores: list[float] = field(default_factory=list)
    proved: bool = False


@dataclass
class _Audited:
    """By side, one entry a pair."""

    prompts: list[str] = field(default_factory=list)
    sides: dict[str, list[_Side]] = field(default_factory=lambda: {side: [] for side in SIDES})
    rejected: dict[str, Counter[str]] = field(default_factory=lambda: {side: Counter() for side in SIDES})

    def figures(self) -> dict[str, Any]:
        right, wrong = ([one.scores for one in self.sides[side]] for side in SIDES)
        return {
            "pairs": len(self.prompts),
            "passed": {side: self._share(side, lambda one: (len(one.scores), one.candidates)) for side in SIDES},
            "proved": {side: self._share(side, lambda one: (one.proved, one.candidates > 0)) for side in SIDES},
            "rejected": {side: dict(self.rejected[side].most_common()) for side in SIDES},
            "score": auc(self.prompts, right, wrong),
        }

    def _share(self, side: str, count: Any) -> dict[str, Any]:
        counted = [count(one) for one in self.sides[side]]
        return share(self.prompts, [int(hits) for hits, _ in counted], [int(of) for _, of in counted])


def _audited(work: Path, rows: Rows, judge: JudgePrompt, rules: ProofSettings) -> _Audited:
    """Reads the proofs, and writes those that pass the rules into `PROOFS`, one a line, for the judge."""
    audited = _Audited()
    with (work / PROOFS).open("w", encoding="utf-8") as stream:
        for row, line in rows:
            name = "right" if row["right"] else "wrong"
            side, passed, written = _Side(), set(), set()
            for order, _, proof in read_proofs(row, line, judge, rules):
                side.candidates += 1
                written.add(order)
                if proof.rejected is not None or proof.score is None:
                    audited.rejected[name][proof.rejected or "not_scored"] += 1
                    continue
                passed.add(order)
                side.scores.append(proof.score)
                identity = f"{row['id']}:{name}:{order}:{proof.candidate}"
                facts = {"rationale": proof.rationale, "score": proof.score, "n_tokens": proof.n_tokens}
                stream.write(json_line({**row, "id": identity, "pair": row["id"], "order": order, **facts}))
            side.proved = bool(passed) and (passed == written or not rules.both_orders)
            audited.sides[name].append(side)
            if row["right"]:
                audited.prompts.append(prompt_key(parse_pair(row).prompt))
    return audited


def _doubts(figures: Mapping[str, Any]) -> list[str]:
    """A line if the prover proves anything."""
    right, wrong = (figures["passed"][side]["value"] for side in SIDES)
    value, interval = figures["score"]["value"], figures["score"]["interval"]
    if value is None or wrong < _NEARLY * right or interval[0] > _NO_BETTER:  # no value: one of them passed for none
        return []
    prefers = "prefers them" if interval[1] < 0.5 else "does not tell them apart"
    return [
        "the prover proves anything: its proofs of wrong labels pass the rules nearly as often as those of right ones "
        f"({wrong:.1%} and {right:.1%}), and Eq. 5 {prefers} (AUC {value:.2f}, 95% interval {interval[0]:.2f} to "
        f"{interval[1]:.2f}; {figures['pairs']} pairs). Its proofs do not show that a label is right: train the prover longer or "
        "on more rationales, or from a better base"
    ]


# ---- the judge --------------------------------------------------------------------------------------------------------


def reading_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """The judge reads one proof as its own rationale."""
    query = JudgeQuery(params["prompt"], params["max_tokens"], params["context"], params["overlong"])
    seen = shown(parse_preference(row), row["order"])
    return build_readings(query, encoder, seen.pair, row["rationale"]) or Skip(PROMPT_TOO_LONG)


def judge_proofs(run: Run, round: int, judge: Artifact, proofs: Artifact) -> Artifact:
    """The stage "judge-proofs": how well the judge tells proofs of right labels from those of wrong ones, by two scores."""
    models, prompt = run.settings.models, run.settings.judge_prompt
    params = {
        "prompt": prompt.name,
        "max_tokens": run.settings.judge_room,
        "context": models.max_tokens,
        "overlong": models.overlong,
        "read": "label and reply, of which the tokens are counted",
    }
    dtype = resolved_dtype(models.dtype)
    config = {**params, "prompt_digest": prompt.digest, "dtype": dtype, **head_facts(dtype)}
    config |= run.settings.generation.facts_in_keys()

    def body(context: Context) -> Outcome:
        path = context.file("proofs")
        if not path.stat().st_size:  # no proof has passed the rules: no engine is started for nothing
            return Outcome(Counts(0, 0), {"judge": judge.manifest.name})
        made = generate_rows(
            context, "tasks.trust.audit_proofs:reading_requests", params, path, context.model("judge"), "judge"
        )
        readings = list(_readings(read_generated(context.work, path, made)))
        write_jsonl(context.work / "readings.jsonl", readings)
        return Outcome(made.counts, {**made.metrics, "judge": judge.manifest.name, **_judged(readings)})

    inputs: dict[str, Input] = {"judge": judge, "proofs": proofs.ref(PROOFS)}
    return run.find_or_make(f"round-{round}/judge-proofs", "judge-proofs", config, inputs, body, round)


def _readings(rows: Rows) -> Iterable[dict[str, Any]]:
    """What the judge says of each proof; a proof that it could not read has none."""
    for row, line in rows:
        if "requests" not in line:
            continue
        made = {request["name"]: request["completions"][0] for request in line["requests"]}
        for_a, for_b = made["label"].get("id_logprobs") or (math.nan, math.nan)
        odds = for_a - for_b if shown(parse_preference(row), row["order"]).label == "A" else for_b - for_a
        yield {
            "id": row["id"],
            "pair": row["pair"],
            "prompt": prompt_key(parse_pair(row).prompt),
            "right": row["right"],
            "log_odds": odds if math.isfinite(odds) else None,
            "mean_logprob": made["reply"]["logprob"] / made["reply"]["n_scored"],
        }


def _judged(readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    prompts = {row["pair"]: row["prompt"] for row in readings}
    found: dict[str, Any] = {"no_label_probability": sum(row["log_odds"] is None for row in readings)}
    for name, column in (("p_label", "log_odds"), ("reply", "mean_logprob")):
        sides = [_by_pair(readings, prompts, column, right) for right in (True, False)]
        found[name] = auc(list(prompts.values()), *sides)
        for side, scores in zip(SIDES, sides, strict=True):
            values = [softmax_first(x, 0.0) if name == "p_label" else x for of_pair in scores for x in of_pair]
            found[name][f"mean_{side}"] = round(sum(values) / len(values), 6) if values else None
    return found


def _by_pair(
    readings: Sequence[Mapping[str, Any]], pairs: Iterable[str], column: str, right: bool
) -> list[list[float]]:
    scores: dict[str, list[float]] = {pair: [] for pair in pairs}
    for row in readings:
        if row["right"] == right and row[column] is not None:
            scores[row["pair"]].append(row[column])
    return list(scores.values())
