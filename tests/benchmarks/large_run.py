"""A run folder of any size, as `tests.benchmarks.lineage` reads it: no model has written it, but its files are those of a run.

Two rounds: a tenth of the rows labeled, the others in two batches, a hundredth more held out; prompts of about 150 characters,
responses of 400, six votes and six proofs a pair of 150 each.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome
from data.store.store import RunStore
from tasks.benchmark.sets import prepare_heldout
from tasks.run.stage import Context, Run
from tests.benchmarks.data import Writer
from tests.conftest import settings_with

SHARD_ROWS = 512
_TEXTS = 4000
_KEEP = 0.8
Lines = Iterator[str]


class Texts:
    """Texts as JSON writes them, drawn from a few thousand, and ids."""

    def __init__(self) -> None:
        writer = Writer(1)
        self.rng = random.Random(2)
        self.prompts, self.responses, self.short = (
            [json.dumps(writer.text(n), ensure_ascii=False) for _ in range(_TEXTS)] for n in (150, 400, 150)
        )

    def pair(self) -> str:
        prompt, a, b = self.rng.choice(self.prompts), self.rng.choice(self.responses), self.rng.choice(self.responses)
        turn = f'[{{"role": "user", "content": {prompt}}}]'
        return f'"prompt": {turn}, "response_a": {a}, "response_b": {b}, "source": "made"'

    def requests(self, facts: str) -> str:
        made = (
            ", ".join(
                f'{{"text": {self.rng.choice(self.short)}, "finished": true, "n_tokens": 40{facts}}}' for _ in range(3)
            )
            for _ in range(2)
        )
        return ", ".join(
            f'{{"name": "{order}", "seed": 7, "completions": [{completions}]}}'
            for order, completions in zip(("ab", "ba"), made, strict=True)
        )


def stage(
    run: Run,
    name: str,
    kind: str,
    inputs: dict[str, Input],
    body: Callable[[Path], tuple[int, dict[str, Any]]],
    **config: Any,
) -> Artifact:
    def made(context: Context) -> Outcome:
        n, metrics = body(context.work)
        return Outcome(Counts(n, n), metrics)

    round = int(name[6 : name.index("/")]) if name.startswith("round-") else None
    started = time.time()
    found = run.find_or_make(name, kind, config, inputs, made, round)
    print(f"{name}: {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def write(path: Path, lines: Lines) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        n = 0
        for line in lines:
            stream.write(line + "\n")
            n += 1
    return n


def rows_of(file: FileRef) -> Iterator[tuple[str, str]]:
    """The id of each row, and the rest of its line without the closing brace."""
    with file.path.open(encoding="utf-8") as stream:
        for line in stream:
            yield line[8 : line.index('"', 8)], line[line.index(",") + 2 : -2]


def make_data(run: Run, texts: Texts, n: int) -> Artifact:
    def body(work: Path) -> tuple[int, dict[str, Any]]:
        sizes = {
            "labeled.jsonl": n // 10,
            "heldout.jsonl": n // 100,
            "batch-1.jsonl": n * 9 // 20,
            "batch-2.jsonl": n * 9 // 20,
        }
        with (work / "origins.jsonl").open("w") as origins:
            for name, size in sizes.items():
                label = "" if name.startswith("batch") else ', "label": "A"'

                def lines(name: str = name, size: int = size, label: str = label) -> Lines:
                    for row in range(size):
                        identity = f"{texts.rng.getrandbits(64):016x}"
                        origins.write(f'{{"id": "{identity}", "file": "/data/sources/{name}", "row": {row + 1}}}\n')
                        yield f'{{"id": "{identity}", {texts.pair()}{label}}}'

                write(work / name, lines())
        (work / "dropped.jsonl").touch()
        return sum(sizes.values()), {"sizes": sizes}

    return stage(run, "data", "data", {}, body, n=n)


def generate(
    run: Run, name: str, kind: str, texts: Texts, rows: FileRef, facts: str, inputs: dict[str, Input], **config: Any
) -> Artifact:
    """A stage with shards: a line for each row of a file."""

    def body(work: Path) -> tuple[int, dict[str, Any]]:
        shard: list[str] = []
        n = 0
        for n, (identity, _) in enumerate(rows_of(rows), start=1):
            shard.append(
                f'{{"row": {n - 1}, "id": "{identity}", "prompt_tokens": 9, "requests": [{texts.requests(facts)}]}}'
            )
            if len(shard) == SHARD_ROWS:
                write(work / f"shards-{SHARD_ROWS}/{(n - 1) // SHARD_ROWS:06d}.jsonl", iter(shard))
                shard.clear()
        write(work / f"shards-{SHARD_ROWS}/{(n - 1) // SHARD_ROWS:06d}.jsonl", iter(shard)) if shard else None
        return n, {"shard_rows": SHARD_ROWS}

    return stage(run, name, kind, inputs, body, **config)


def make_labels(run: Run, round: int, texts: Texts, votes: Artifact, batch: FileRef) -> Artifact:
    facts = '"label": "A", "confidence": 1.0, "confidence_bounds": [0.75, 1.0], "orders_agree": true'

    def body(work: Path) -> tuple[int, dict[str, Any]]:
        with (work / "labels.jsonl").open("w") as kept, (work / "dropped.jsonl").open("w") as dropped:
            for identity, rest in rows_of(batch):
                keep = texts.rng.random() < _KEEP
                end = "" if keep else ', "reason": "low_confidence"'
                (kept if keep else dropped).write(f'{{"id": "{identity}", {rest}, {facts}{end}}}\n')
        return run.settings.rounds.pairs, {}

    return stage(run, f"round-{round}/labels", "label", {"votes": votes, "batch": batch}, body)


def make_selected(run: Run, round: int, texts: Texts, proofs: Artifact, labeled: FileRef) -> Artifact:
    def proof() -> str:
        facts = (
            '"score": -0.5, "candidate": 0, "n_tokens": 40, "logprob": -5.0, "logprob_alone": -10.0, "rejected": null'
        )
        return f'{{"rationale": {texts.rng.choice(texts.short)}, {facts}}}'

    def body(work: Path) -> tuple[int, dict[str, Any]]:
        lines = (
            f'{{"id": "{identity}", {rest}, "proofs": {{"ab": {proof()}, "ba": {proof()}}}}}'
            for identity, rest in rows_of(labeled)
        )
        n = write(work / "selected.jsonl", lines)
        (work / "dropped.jsonl").touch()
        return n, {}

    prompt, rules = run.settings.judge_prompt, run.settings.proofs
    config = {name: getattr(rules, name) for name in ("choose", "min_score", "max_rationale_tokens", "both_orders")}
    inputs: dict[str, Input] = {"proofs": proofs, "labeled": labeled}
    return stage(run, f"round-{round}/selected", "select", inputs, body, prompt=prompt.digest, **config)


def make_examples(run: Run, round: int, selected: Sequence[Artifact]) -> Artifact:
    files = {f"round-{i}": one.ref("selected.jsonl") for i, one in enumerate(selected)}

    def lines() -> Lines:
        for i, file in enumerate(files.values()):
            for identity, rest in rows_of(file):
                pair = rest[: rest.index(', "label"')]
                for order in ("ab", "ba"):
                    label = "A" if order == "ab" else "B"
                    origin = f'{{"pair": "{identity}", "order": "{order}", "source": "made", "round": {i}, "proof": 0}}'
                    yield f'{{"id": "{identity}:{order}", {pair}, "label": "{label}", "rationale": "…", "origin": {origin}}}'

    return stage(
        run,
        f"round-{round}/training-set",
        "training-set",
        dict(files),
        lambda work: (write(work / "examples.jsonl", lines()), {}),
    )


def make_judge(run: Run, round: int, examples: Artifact) -> Artifact:
    inputs: dict[str, Input] = {"examples": examples.ref("examples.jsonl")}
    return stage(
        run,
        f"round-{round}/judge",
        "train-judge",
        inputs,
        lambda work: (write(work / "checkpoint/config.json", iter([str(round)])), {}),
    )


def play(run: Run, round: int, judge: Artifact, played: Artifact, heldout: FileRef) -> None:
    def lines() -> Lines:
        for identity, _ in rows_of(heldout):
            for order in ("chosen_first", "rejected_first"):
                yield (
                    f'{{"benchmark": "preferences", "id": "{identity}", "cell": "", "order": "{order}", "vote": 0, "verdict": '
                    '"A", "p_first": null, "malformed": null, "truncated": false, "n_tokens": 38}'
                )

    inputs: dict[str, Input] = {"judge": judge, "items": played}
    stage(run, f"round-{round}/benchmark", "benchmark", inputs, lambda work: (write(work / "games.jsonl", lines()), {}))


def make_run(folder: Path, n: int) -> None:
    run, texts = Run(RunStore(folder, "run"), settings_with(), 0), Texts()
    data = make_data(run, texts, n)
    heldout = prepare_heldout(run, data)
    facts, k = ', "logprob": -5.0, "logprob_alone": -10.0', {"k": 3}
    query = {
        "prompt": "compact",
        "votes": 6,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 64,
        "context": 256,
        "overlong": "drop",
        "seed": 7,
    }
    selected: list[Artifact] = []
    judge: Artifact | None = None
    for round in range(3):
        labeled = data.ref("labeled.jsonl")
        if judge is not None:
            batch = data.ref(f"batch-{round}.jsonl")
            votes = generate(
                run, f"round-{round}/votes", "vote", texts, batch, "", {"judge": judge, "batch": batch}, **query
            )
            labeled = make_labels(run, round, texts, votes, batch).ref("labels.jsonl")
        proofs = generate(run, f"round-{round}/proofs", "prove", texts, labeled, facts, {"labeled": labeled}, **k)
        selected.append(make_selected(run, round, texts, proofs, labeled))
        judge = make_judge(run, round, make_examples(run, round, selected))
        play(run, round, judge, heldout, data.ref("heldout.jsonl"))
