"""Training sets: which model learns from which examples, and where each example comes from.

A line of ``examples.jsonl``: a pair in the order shown, its label in that order, the rationale, and ``origin``
(pair, source, round, votes, confidence, which proof, its score).

A pair that several rounds labeled is learned as the newest of them labeled it, with the newest proofs. Labeled
pairs are no part of a round: the stage "data" keeps them out of the unlabeled ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from data.files import Lines, json_line, line_blocks, read_jsonl
from data.records import RationalePair, pair_key, parse_preference, parse_rationale
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

    `selected` holds the artifact of round 0 (the labeled pairs), then of each round, but for those that are left out. Labeled
    examples, and human ones if given, are repeated evenly until they make up `training.labeled_share` of the set. Examples of
    a pair that a later round labeled too are dropped. With `labels.memory`, the last round labeled all pairs of the others
    again: only its own count.
    """
    training = run.settings.training
    rounds = [i if made.manifest.round is None else made.manifest.round for i, made in enumerate(selected)]
    inputs = {f"round-{i}": made.ref("selected.jsonl") for i, made in zip(rounds, selected, strict=True)}
    if run.settings.labels.memory:
        inputs = {role: ref for role, ref in inputs.items() if role in ("round-0", list(inputs)[-1])}
    pseudo = list(inputs)[1:]
    labeled = ["round-0"]
    if human is not None and training.human_rationales:
        labeled.append("human")
        inputs["human"] = human.ref("examples.jsonl")
    config = {"labeled_share": training.labeled_share}

    def body(context: Context) -> Outcome:
        labels: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        replaced = _replaced(context, pseudo)
        with (context.work / "examples.jsonl").open("wb") as stream, ExitStack() as opened:
            # Not there if nothing is dropped, as in the sets of earlier versions.
            aside = opened.enter_context((context.work / "dropped.jsonl").open("wb")) if replaced else stream

            def write(examples: Iterable[_Example]) -> int:
                before = labels.total()
                for label, line, reason in examples:
                    (dropped if reason else labels)[reason or label] += 1
                    (aside if reason else stream).write(line)
                return labels.total() - before

            sizes = {role: write(_all_examples(context, [role], replaced=replaced)) for role in (*labeled, *pseudo)}
            n_labeled, n_pseudo = (sum(sizes[role] for role in roles) for roles in (labeled, pseudo))
            extra = repeats(n_labeled, n_pseudo, training.labeled_share)
            for repeat, done in enumerate(range(0, extra, n_labeled or 1), start=1):
                write(islice(_all_examples(context, labeled, repeat), extra - done))
        n = n_labeled + n_pseudo + extra
        metrics = {"labeled": n_labeled, "pseudo_labeled": n_pseudo, "repeated": extra, "label_balance": dict(labels)}
        metrics["origins"] = sizes
        return Outcome(Counts(n + dropped.total(), n, dict(dropped)), metrics)

    return run.find_or_make(f"round-{round}/training-set", "training-set", config, inputs, body, round)


def repeats(n_labeled: int, n_pseudo: int, share: float) -> int:
    """How many labeled examples must be repeated to reach their share; a share of 1 cannot be reached and gives 0."""
    if not n_labeled or not n_pseudo or share >= 1:
        return 0
    return max(0, math.ceil(share / (1 - share) * n_pseudo - 1e-9) - n_labeled)


class _Example(NamedTuple):
    """A line of ``examples.jsonl`` with its label; if there is a `reason` to drop it, a line of ``dropped.jsonl``."""

    label: str
    line: bytes
    reason: str = ""


_REASONS = ("", "labeled_again", "label_changed")
"""Why an example is dropped, by its number: not at all, or a later round gave its pair the same label, or the other one."""


def _replaced(context: Context, pseudo: Sequence[str]) -> dict[str, bytes]:
    """The numbers in `_REASONS` of all rows of some rounds, which are given from the oldest to the newest.

    Only of rounds in which one is dropped. Pairs are told apart by `pair_key`, in whatever order their responses are shown.
    Memory: about 0.15 GB a million rows; their texts are not held.
    """
    newest: dict[int, bool] = {}
    found = {}
    for role in reversed(pseudo) if len(pseudo) > 1 else ():
        numbers = bytearray()
        for block in over_blocks(_labels_in, line_blocks(context.file(role))):
            for key, better in block:
                later = newest.get(key)
                numbers.append(0 if later is None else 1 + (later != better))
                if later is None:
                    newest[key] = better
        if any(numbers):
            found[role] = bytes(numbers)
    return found


def _labels_in(lines: Lines) -> list[tuple[int, bool]]:
    """`pair_key` as a number and whether the better response is the one that sorts first, for each row."""
    preferences = map(parse_preference, lines.rows())
    return [
        (int(pair_key(p.pair), 16), (p.pair.response_a < p.pair.response_b) == (p.label == "A")) for p in preferences
    ]


def _all_examples(
    context: Context, roles: Sequence[str], repeat: int = 0, replaced: Mapping[str, bytes] = {}
) -> Iterator[_Example]:
    """The examples of the inputs "human" (already examples) and "round-i" (selected pairs of round i).

    `repeat` says how often they have been in the set before, `replaced` which rows a later round has too.
    """
    for role in roles:
        round = None if role == "human" else int(role.removeprefix("round-"))
        numbers = replaced.get(role, b"")
        blocks = ((lines, numbers[lines.first - 1 :][: lines.n]) for lines in line_blocks(context.file(role)))
        for examples in over_blocks(partial(_examples_in, round, repeat), blocks):
            yield from examples


def _examples_in(round: int | None, repeat: int, block: tuple[Lines, bytes]) -> list[_Example]:
    lines, numbers = block
    made = []
    for row, number in zip(lines.rows(), numbers or bytes(lines.n), strict=True):
        for one in [row] if round is None else _selected_examples(row, round):
            if repeat:
                one = {**one, "origin": {**one["origin"], "repeat": repeat}}
            if number:
                one = {"id": one["id"], "label": one["label"], "origin": one["origin"], "reason": _REASONS[number]}
            made.append(_Example(one["label"], json_line(one).encode(), _REASONS[number]))
    return made


def _selected_examples(row: Mapping[str, Any], round: int) -> list[dict[str, Any]]:
    return [_example(row, order, row["proofs"][order], round) for order in ORDERS if order in row["proofs"]]


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
