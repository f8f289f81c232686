"""Training sets: which model learns from which examples, and where each example comes from.

A line of ``examples.jsonl``: a pair in the order shown, its label in that order, the rationale, and ``origin``
(pair, source, round, votes, confidence, which proof, its score).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from data.files import Lines, json_line, line_blocks, read_jsonl
from data.records import RationalePair, parse_preference, parse_rationale
from data.store.artifacts import Artifact, Counts, Outcome, StageError
from tasks.machine.parallel import over_blocks
from tasks.model.malformed import UselessReplies
from tasks.model.orders import ORDERS, shown
from tasks.run.stage import Context, Run


def human_examples(run: Run, data: Artifact) -> Artifact:
    """The stage "human-examples": D_p as training examples for the prover (Eq. 4) and for the judge's final fine-tuning.

    A rationale whose format the judge's prompt does not allow is dropped and counted: the prover must learn the format.
    """
    judge = run.settings.judge_prompt

    def body(context: Context) -> Outcome:
        dropped = UselessReplies()
        labels: Counter[str] = Counter()
        n_rows = 0
        with (
            (context.work / "examples.jsonl").open("w", encoding="utf-8") as examples,
            (context.work / "dropped.jsonl").open("w", encoding="utf-8") as dropped_file,
        ):
            for row in read_jsonl(context.file("rationale")):
                n_rows += 1
                record = parse_rationale(row)
                reason = judge.check_rationale(record.rationale, record.label) if judge.has_rationale else None
                if reason is None:
                    labels[record.label] += 1
                    examples.write(json_line(_human_example(record)))
                else:
                    dropped.add(reason, record.rationale)
                    dropped_file.write(json_line({**row, "reason": reason}))
        loud = dropped.warnings(n_rows, "human rationales")
        if n_rows and not labels:
            reasons = dict(dropped.reasons)
            raise StageError(
                f"none of {n_rows} human rationales has the format required by the prompt {judge.name!r}: {reasons}. "
                "Choose another models.judge_prompt, or provide rationales in its format"
                + "".join(f"\n{x}" for x in loud)
            )
        counts = Counts(n_rows, labels.total(), dict(dropped.reasons))
        return Outcome(counts, {"label_balance": dict(sorted(labels.items()))}).warning(loud)

    config = {"prompt": judge.digest}
    inputs = {"rationale": data.ref("rationale.jsonl")}
    return run.find_or_make("human-examples", "human-examples", config, inputs, body)


def judge_examples(run: Run, round: int, selected: Sequence[Artifact], human: Artifact | None) -> Artifact:
    """The stage "training-set" of a round: all selected pairs so far, in every order with a proof, each with its own.

    `selected` holds the artifact of round 0 (the labeled pairs), then of each round. Labeled examples, and human ones if
    given, are repeated evenly until they make up `training.labeled_share` of the set.
    """
    training = run.settings.training
    inputs = {f"round-{i}": artifact.ref("selected.jsonl") for i, artifact in enumerate(selected)}
    pseudo = list(inputs)[1:]
    labeled = ["round-0"]
    if human is not None and training.human_rationales:
        labeled.append("human")
        inputs["human"] = human.ref("examples.jsonl")
    config = {"labeled_share": training.labeled_share}

    def body(context: Context) -> Outcome:
        labels: Counter[str] = Counter()
        with (context.work / "examples.jsonl").open("wb") as stream:

            def write(examples: Iterable[tuple[str, bytes]]) -> int:
                before = labels.total()
                for label, line in examples:
                    labels[label] += 1
                    stream.write(line)
                return labels.total() - before

            n_labeled = write(_all_examples(context, labeled))
            n_pseudo = write(_all_examples(context, pseudo))
            extra = repeats(n_labeled, n_pseudo, training.labeled_share)
            for repeat, done in enumerate(range(0, extra, n_labeled or 1), start=1):
                write(islice(_all_examples(context, labeled, repeat), extra - done))
        n = n_labeled + n_pseudo + extra
        metrics = {"labeled": n_labeled, "pseudo_labeled": n_pseudo, "repeated": extra, "label_balance": dict(labels)}
        return Outcome(Counts(n, n), metrics)

    return run.find_or_make(f"round-{round}/training-set", "training-set", config, inputs, body, round)


def repeats(n_labeled: int, n_pseudo: int, share: float) -> int:
    """How many labeled examples must be repeated to reach their share; a share of 1 cannot be reached and gives 0."""
    if not n_labeled or not n_pseudo or share >= 1:
        return 0
    return max(0, math.ceil(share / (1 - share) * n_pseudo - 1e-9) - n_labeled)


def _all_examples(context: Context, roles: Sequence[str], repeat: int = 0) -> Iterator[tuple[str, bytes]]:
    """Label and line of each example of the inputs "human" (already examples) and "round-i" (selected pairs of round i).

    `repeat` says how often they have been in the set before.
    """
    for role in roles:
        round = None if role == "human" else int(role.removeprefix("round-"))
        for examples in over_blocks(partial(_examples_in, round, repeat), line_blocks(context.file(role))):
            yield from examples


def _examples_in(round: int | None, repeat: int, lines: Lines) -> list[tuple[str, bytes]]:
    examples = lines.rows() if round is None else _selected_examples(lines.rows(), round)
    if repeat:
        examples = ({**one, "origin": {**one["origin"], "repeat": repeat}} for one in examples)
    return [(one["label"], json_line(one).encode()) for one in examples]


def _selected_examples(rows: Iterable[Mapping[str, Any]], round: int) -> Iterator[dict[str, Any]]:
    for row in rows:
        for order in ORDERS:
            if order in row["proofs"]:
                yield _example(row, order, row["proofs"][order], round)


def _example(row: Mapping[str, Any], order: str, proof: Mapping[str, Any], round: int) -> dict[str, Any]:
    origin = {
        "round": round,
        "votes": row.get("votes"),
        "confidence": row.get("confidence"),
        "proof": proof.get("candidate"),
        "score": proof.get("score"),
    }
    return example_of(row, order, proof["rationale"], **origin)


def example_of(row: Mapping[str, Any], order: str, rationale: str, **origin: object) -> dict[str, Any]:
    """A line of ``examples.jsonl``: a labeled pair in one order. `origin` is added to its known origin."""
    preference = shown(parse_preference(row), order)
    known = {"pair": row["id"], "order": order, "source": row.get("source", ""), **origin}
    return {**preference.to_json(), "id": f"{row['id']}:{order}", "rationale": rationale, "origin": known}


def _human_example(record: RationalePair) -> dict[str, Any]:
    origin = {"pair": record.pair.id, "order": "ab", "source": record.pair.source, "round": None, "proof": "human"}
    return {**record.to_json(), "id": f"{record.pair.id}:human", "origin": origin}
