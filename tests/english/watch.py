"""What to watch beside accuracy: what the judges' replies and the kept proofs quote, and which side the judges take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data.english.nicer import Audit, audit_rationale
from data.files import read_jsonl
from data.records import PreferencePair, parse_preference
from prompts.judge import COMPACT
from tasks.model.orders import shown
from tests.support.controls import Control, World, mean_sd

COLUMNS = ("quotes a word of the pair", "of the side it names", "the unpleasant one", "A", "malformed")


def watched(world: World, seeds: Sequence[int]) -> str:
    """A table of the last judge of each run: shares in percent of its replies on held-out pairs; of proofs, those kept last."""
    head = ["last judge of", *COLUMNS, "kept proofs true"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for control in world.shown:
        found = [seen for seed in seeds if (seen := run_watched(world, control, seed)) is not None]
        if found:
            columns = [_column([one[i] for one in found]) for i in range(len(head) - 1)]
            lines.append(f"| {control.title} | {' | '.join(columns)} |")
    return "\n".join(["", *lines, ""])


def run_watched(world: World, control: Control, seed: int) -> list[float] | None:
    """The figures of one run, in the order of the table, NaN without proofs; None for one that writes no rationales."""
    run = world.store / world.run_name(control, seed)
    if control.overrides.get("models.judge_prompt", "compact") != "compact":
        return None
    rounds = sorted(run.glob("round-*/benchmark"))
    if not rounds:
        return None
    replies = list(replies_of(rounds[-1], pairs_in(run / "data" / "heldout.jsonl")))
    judgements = [(COMPACT.parse(text), pair) for text, pair in replies]
    audits = [audit_rationale(one.rationale or "", pair.pair) for one, pair in judgements]
    verdicts = Counter(one.verdict for one, _ in judgements)
    answered = verdicts["A"] + verdicts["B"]
    proofs = list(proofs_of(run))
    return [
        share([audit.quoted for audit in audits]),
        share([audit.placed for audit in audits]),
        share([audit.true for audit in audits]),
        100 * verdicts["A"] / max(answered, 1),
        100 * verdicts[None] / len(judgements),
        share([audit.true and audit.consistent for audit in proofs]) if proofs else math.nan,
    ]


def _column(values: Sequence[float]) -> str:
    return "none" if any(math.isnan(value) for value in values) else mean_sd(values)


def share(hits: Sequence[bool]) -> float:
    """Percent; 0 if there is nothing to count."""
    return 100 * sum(hits) / max(len(hits), 1)


def pairs_in(file: Path) -> dict[str, PreferencePair]:
    """The labeled pairs of a file, by id."""
    return {row["id"]: parse_preference(row) for row in read_jsonl(file)}


def replies_of(benchmark: Path, pairs: Mapping[str, PreferencePair]) -> Iterator[tuple[str, PreferencePair]]:
    """Each reply of a benchmark's games, and the pair as it was shown: request 0 shows the chosen response first."""
    for file in sorted(benchmark.glob("shards-*/*.jsonl")):
        for line in read_jsonl(file):
            for request in line.get("requests", ()):
                first = "A" if request["name"].endswith("0") else "B"
                pair = pairs[line["id"]]
                yield request["completions"][0]["text"], pair if pair.label == first else pair.swapped()


def proofs_of(run: Path) -> Iterator[Audit]:
    """The audits of the proofs that the last round keeps; none of pairs learned without one (an empty rationale)."""
    kept = sorted(run.glob("round-*/selected/selected.jsonl"))
    for row in read_jsonl(kept[-1]) if kept else ():
        for order, proof in row["proofs"].items():
            if proof["rationale"]:
                yield audit_rationale(proof["rationale"], shown(parse_preference(row), order).pair)
