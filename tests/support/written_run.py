"""A run whose rows are written by hand: no model and no server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import json_line, read_jsonl
from data.records import Label, flip
from data.store.artifacts import Artifact, Counts, Input, Outcome
from data.store.store import RunStore
from tasks.label import keep_labels
from tasks.prepare import batch_of, truth_of
from tasks.prove import select_proofs
from tasks.run.stage import Context, Run
from tasks.run.truth import audit_labels
from tasks.settings import Settings
from tasks.training_set import judge_examples

BATCH = 24


ATTACK = '<script>alert("x")</script>'


def fake_settings(**sections: Mapping[str, Any]) -> Settings:
    given: dict[str, Any] = {
        "models": {"judge_base": "org/judge", "prover_base": "org/prover", "judge_prompt": "compact"},
        "data": {
            "rationale": [{"path": "r.jsonl"}],
            "labeled": [{"path": "l.jsonl"}],
            "unlabeled": [{"path": "u.jsonl"}],
            "unlabeled_truth": True,
        },
        "labels": {"votes": 4, "min_confidence": 0.75},
        "proofs": {"k": 2},
        "rounds": {"count": 2, "pairs": BATCH},
    }
    return Settings.model_validate({**given, **sections})


def put(
    run: Run,
    name: str,
    kind: str,
    round: int | None,
    files: Mapping[str, list[dict[str, Any]]],
    metrics: Mapping[str, Any] | None = None,
    counts: Counts | None = None,
    inputs: Mapping[str, Input] | None = None,
) -> Artifact:
    """A finished stage with hand-written files."""

    def body(context: Context) -> Outcome:
        for file, rows in files.items():
            path = context.work / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json_line(row) for row in rows), encoding="utf-8")
        n_rows = sum(len(rows) for rows in files.values())
        return Outcome(counts or Counts(n_rows, n_rows), metrics or {})

    return run.find_or_make(name, kind, {"rows": files, "metrics": dict(metrics or {})}, inputs or {}, body, round)


def pair_row(identity: str, label: Label | None = None) -> dict[str, Any]:
    row = {
        "id": identity,
        "prompt": [{"role": "user", "content": f"Question of {identity} {ATTACK}?"}],
        "response_a": f"First answer {ATTACK}",
        "response_b": "Second <b>answer</b>",
        "source": "hand",
    }
    return {**row, "label": label} if label else row


def batch_rows(round: int) -> list[dict[str, Any]]:
    return [pair_row(f"r{round}p{i:02d}") for i in range(BATCH)]


def true_label(i: int) -> Label:
    return "A" if i % 2 else "B"


def vote_line(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Row 0 is too long, 1 failed, 2 ties, 3 has a null vote in two, 4 is labeled wrong; the rest are right."""
    line = {"row": i, "id": row["id"]}
    if i == 0:
        return {**line, "dropped": "prompt_too_long"}
    if i == 1:
        return {**line, "failed": "engine_abort"}
    label = flip(true_label(i)) if i == 4 else true_label(i)
    shown: dict[str, list[str | None]] = {"ab": [label, label], "ba": [flip(label), flip(label)]}
    if i == 2:
        shown["ba"] = [label, label]
    if i == 3:
        shown["ab"] = [None, None]
    requests = [{"name": o, "seed": 7, "completions": [reply(v) for v in verdicts]} for o, verdicts in shown.items()]
    return {**line, "requests": requests}


def reply(verdict: str | None) -> dict[str, Any]:
    text = f"<think> {ATTACK} So {verdict} is better. </think><answer>{verdict}</answer>" if verdict else "Hm."
    return {"text": text, "finished": True, "n_tokens": 11}


def proof_line(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Each order has a good proof and a better one; the first row argues for the other label in one order."""
    requests = []
    for order in ("ab", "ba"):
        label = row["label"] if order == "ab" else flip(row["label"])
        claimed = flip(label) if i == 0 and order == "ba" else label
        completions = [
            {
                "text": f"Because proof {j} of {row['id']} {order}. So {claimed} is better.",
                "finished": True,
                "n_tokens": 9,
                "logprob": -10.0 + 5 * j,
                "logprob_alone": -20.0,
            }
            for j in range(2)
        ]
        requests.append({"name": order, "seed": 3, "completions": completions})
    return {"row": i, "id": row["id"], "requests": requests}


def generated(lines: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], Counts]:
    dropped = sum("dropped" in line for line in lines)
    failed = sum("failed" in line for line in lines)
    counts = Counts(
        len(lines),
        len(lines) - dropped - failed,
        {"prompt_too_long": dropped} if dropped else {},
        {"engine_abort": failed} if failed else {},
    )
    metrics = {"shard_rows": 100, "tokens_generated": 1000, "engine_seconds": 2.0, "tokens_per_s": 500.0}
    return {"shards-100/000000.jsonl": lines}, metrics, counts


def put_prepared(run: Run) -> Artifact:
    files = {f"batch-{i}.jsonl": batch_rows(i) for i in range(1, run.settings.rounds.count + 1)}
    truth = [{"id": row["id"], "label": true_label(i)} for rows in files.values() for i, row in enumerate(rows)]
    labeled = [pair_row(f"l{i}", true_label(i)) for i in range(6)]
    sizes = {"labeled.jsonl": 6, "heldout.jsonl": 50, **{name: len(rows) for name, rows in files.items()}}
    return put(run, "data", "data", None, {**files, "truth.jsonl": truth, "labeled.jsonl": labeled}, {"sizes": sizes})


def put_judge(run: Run, round: int, examples: Artifact, accuracy: float) -> tuple[int, Artifact, Artifact]:
    name = f"round-{round}/judge"
    checkpoint: dict[str, list[dict[str, Any]]] = {
        "checkpoint/config.json": [{"model_type": "llama", "round": round}],
        "checkpoint/model.safetensors": [{"weights": round}],
        "checkpoint/tokenizer.json": [{"tokens": []}],
    }
    losses = {"first_loss": 2.5, "last_loss": 0.5 + round}
    n = examples.manifest.counts.kept
    inputs = {"examples": examples.ref("examples.jsonl")}
    judge = put(run, name, "train-judge", round, checkpoint, losses, Counts(n, n), inputs)
    games = {"accuracy": accuracy, "games": 100, "position_consistency": 0.9, "mean_tokens": 12.5}
    games |= {
        "interval": [accuracy - 0.125, accuracy + 0.125],
        "parts": {},
        "missing": [],
        "malformed": {"no_answer": 5},
    }
    games |= {"truncated": 0.0, "first_shown": 0.5}
    result = put(
        run,
        f"round-{round}/benchmark",
        "benchmark",
        round,
        {"games.jsonl": []},
        games,
        Counts(50, 50),
        {"j": judge},
    )
    return round, judge, result


def put_round(run: Run, round: int, data: Artifact, before: list[Artifact]) -> Artifact:
    """Votes and proofs by hand; labels, audit, selection and training set by the real stages."""
    batch, truth = batch_of(data, round), truth_of(data)
    lines = [vote_line(i, row) for i, row in enumerate(read_jsonl(batch.path))]
    files, metrics, counts = generated(lines)
    votes = put(run, f"round-{round}/votes", "vote", round, files, metrics, counts)
    labels = keep_labels(run, round, votes, batch)
    assert truth is not None
    audit_labels(run, round, labels, truth)
    labeled = labels.ref("labels.jsonl")
    files, metrics, counts = generated([proof_line(i, row) for i, row in enumerate(read_jsonl(labeled.path))])
    proofs = put(run, f"round-{round}/proofs", "prove", round, files, metrics, counts)
    return select_proofs(run, round, proofs, labeled)


def fake_run(
    store: Path, accuracies: tuple[float, ...] = (0.6, 0.7, 0.65, 0.7), name: str = "hand", **sections: Any
) -> tuple[Run, list[tuple[int, Artifact, Artifact]]]:
    """All rounds and a final fine-tuning, gone through in a run folder; what is there already is found again."""
    rounds = len(accuracies) - 2
    run = Run(RunStore(store, name), fake_settings(rounds={"count": rounds, "pairs": BATCH}, **sections), 5)
    data = put_prepared(run)
    human = put(run, "human-examples", "human-examples", None, {"examples.jsonl": [pair_row("h", "A")]})
    labeled = [
        {**row, "proofs": {o: {"rationale": "z"} for o in ("ab", "ba")}}
        for row in read_jsonl(data.file("labeled.jsonl"))
    ]
    first = put(run, "round-0/selected", "select", 0, {"selected.jsonl": labeled}, {"candidates": 0})
    selected, judges = [first], []
    for round in range(rounds + 1):
        if round:
            selected.append(put_round(run, round, data, selected))
        examples = judge_examples(run, round, selected, human)
        judges.append(put_judge(run, round, examples, accuracies[round]))
    judges.append(put_judge(run, rounds + 1, human, accuracies[rounds + 1]))
    return run, judges
