"""``gram-r2 trace``: the life of a pair in a run, and the training examples behind a wrong judgment."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.errors import InputError, command
from flows.cli.given import run_names

if TYPE_CHECKING:
    from data.store.store import RunStore
    from tasks.trust.lineage import Trace
    from tasks.trust.nearest import Nearest

Row = dict[str, Any]


@command
def trace(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=run_names,
            show_default=False,
            help="A run's name, its folder, its recipe's, or its URL.",
        ),
    ],
    pair: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            show_default=False,
            help="A pair's id, the beginning of one, or FILE:ROW of a source, such as pairs.jsonl:17.",
        ),
    ],
    nearest: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            show_default=False,
            help="Also show the N training examples nearest to a held-out or benchmark pair: of the run's last judge that was "
            "wrong on it, or else of its last one.",
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Follow a pair through a run: its source, votes, labels, proofs, trainings and judgments.

    Only what the run folder has is read. Its large files are indexed by id the
    first time, at about 10 GB a minute; then a trace takes a second or two.
    --nearest compares the pair with every training example of that judge.

    Examples:
      gram-r2 trace demo 0ce1e346
      gram-r2 trace demo runs/world/seed-0/unlabeled.jsonl:12 --json
      gram-r2 trace demo 289e6d5f --nearest 5
    """
    from tasks.trust.finding import NoSuchPairError
    from tasks.trust.lineage import trace as traced
    from tasks.trust.nearest import nearest_to
    from tasks.trust.stages import open_stages

    try:
        stages = open_stages(_store(run), lambda line: print(line, file=sys.stderr))
        found = traced(stages, pair)
    except NoSuchPairError as error:
        raise InputError(str(error)) from error
    behind, nothing = None, None
    if nearest:
        try:
            behind = nearest_to(stages, str(found.id), nearest)
        except NoSuchPairError as error:  # the trace is shown all the same
            nothing = InputError(str(error))
    if as_json:
        print(json.dumps({**found.to_json(), "nearest": behind.to_json() if behind else None}, indent=1))
    else:
        for line in (*lines_of(found), *(nearest_lines(behind, run) if behind else ())):
            print(_printable(line))
    if nothing is not None:
        raise nothing


def _store(run: str) -> RunStore:
    from data.store.remote import is_remote
    from data.store.store import RunStore
    from flows.cli.folders import find_run

    if is_remote(run):
        root, _, name = run.rstrip("/").rpartition("/")
        try:
            return RunStore(root, name)
        except ValueError as error:  # no such kind of store
            raise InputError(str(error)) from error
    folder = find_run(run).path
    return RunStore(folder.parent, folder.name)


# ---- as text -------------------------------------------------------------------------------------------------------------


def lines_of(found: Trace) -> Iterator[str]:
    """A trace for people to read: a section for each thing that there is to say."""
    yield found.id or "a row that was dropped before it had an id"
    yield from _pair(found)
    for row in found.losses:
        facts = ", ".join(
            f"{key} {value}" for key, value in row.items() if key not in ("stage", "round", "reason", "id")
        )
        yield f"dropped at {row['stage']}: {row['reason']}" + (f" ({facts})" if facts else "")
    for row in found.votes:
        yield from _votes(row)
    for row in found.labels:
        yield from _label(row)
    for row in found.proofs:
        yield from _proofs(row)
    for row in found.trainings:
        yield from _training(row)
    for row in found.judgments:
        yield from _judgment(row)
    for row in found.decisions:
        yield f"{row['stage']}: " + ", ".join(f"{name} {_short(value)}" for name, value in row["metrics"].items())
    yield from (f"note: {line}" for line in found.notes)


def _pair(found: Trace) -> Iterator[str]:
    for place in found.read_from:
        yield f"read from {place['file']}, row {place['row']}"
    if found.held_in:
        yield f"in {', '.join(found.held_in)}"
    pair = found.pair
    for message in pair.get("prompt", ()):
        yield from _text(message["role"], message["content"])
    if "response_a" in pair:
        yield from _text("response A", pair["response_a"])
        yield from _text("response B", pair["response_b"])
    for i, response in enumerate(pair.get("responses", ())):
        yield from _text(f"response {i}, {'right' if pair['right'][i] else 'wrong'}", response)
    if "true_label" in pair:
        yield f"true label {pair['true_label']}"


def _votes(row: Row) -> Iterator[str]:
    judge = f" of {row['judge']}" if row["judge"] else ""
    if row["lost"]:
        yield f"{row['stage']}: no votes{judge}: {row['lost']}"
        return
    yield f"{row['stage']}: {len(row['votes'])} votes{judge}"
    for vote in row["votes"]:
        p_a = f", P(A) {vote['p_a']:.3f}" if vote["p_a"] is not None else ""
        verdict = vote["verdict"] or f"none ({vote['malformed']})"
        head = f"{vote['order']}, seed {vote['seed']}: {verdict}{p_a}"
        yield from _text(head, vote["reply"] or "")


def _label(row: Row) -> Iterator[str]:
    told = ("stage", "round", "origin", "label", "kept", "reason", "confidence_bounds", "votes")
    facts = [f"{name} {_short(value)}" for name, value in row.items() if name not in told]
    if row.get("confidence_bounds"):
        facts.append("its bounds over all planned votes {:.3f} to {:.3f}".format(*row["confidence_bounds"]))
    if row.get("votes"):
        facts.append("votes " + ", ".join(f"{side} {n}" for side, n in row["votes"].items()))
    fate = "kept" if row["kept"] else f"dropped, {row['reason']}"
    yield f"{row['stage']}: label {row['label'] or 'none'} ({row['origin']}), {fate}" + "".join(f"; {x}" for x in facts)


def _proofs(row: Row) -> Iterator[str]:
    chosen = sum(one["chosen"] for one in row["candidates"])
    fate = "kept" if row["kept"] else f"dropped, {row['reason']}"
    yield f"{row['stage']}: {fate}; {chosen} of {len(row['candidates'])} candidate proofs chosen"
    for one in row["candidates"]:
        score = "no score" if one["score"] is None else f"score {one['score']:.4f}"
        yield from _text(
            f"{one['order']}, candidate {one['candidate']}, {score}: {'chosen' if one['chosen'] else one['fell']}",
            one["rationale"],
        )


def _training(row: Row) -> Iterator[str]:
    orders = ", ".join(
        f"order {order} {n}×" + (f" with label {row['labels'][order]}" if order in row["labels"] else "")
        for order, n in row["orders"].items()
    )
    file = "" if row["file"] == "examples.jsonl" else f"/{row['file']}"
    yield f"{row['stage']}{file}: {orders}; learned by {', '.join(row['models']) or 'no finished model'}"


def _judgment(row: Row) -> Iterator[str]:
    right = sum(game["right"] is True for game in row["games"])
    yield f"{row['stage']}: {right} of {len(row['games'])} games right, by {row['judge'] or 'a judge that is not in this run'}"
    for game in row["games"]:
        fate = {
            True: "right",
            False: "wrong",
            None: "no verdict" if game["verdict"] is None else "neither is known to be better",
        }
        why = f" ({game['malformed']})" if game["malformed"] else ""
        p_first = f", P(first) {game['p_first']:.3f}" if game["p_first"] is not None else ""
        place = ", ".join([game["order"], *([f"cell {game['cell']}"] if game["cell"] else []), f"vote {game['vote']}"])
        yield from _text(f"{place}: {game['verdict']}{p_first}, {fate[game['right']]}{why}", game["reply"] or "")


def nearest_lines(behind: Nearest, run: str) -> Iterator[str]:
    """The nearest training examples, and how each is traced."""
    searched = ", ".join(behind.searched)
    yield (
        f"nearest of the {behind.examples:,} pairs in {searched}, from which {behind.judgment['judge']} learned, "
        f"behind {behind.judgment['stage']}:"
    )
    if not behind.nearest:
        yield "  none: no example shares a word with the pair"
    for one in behind.nearest:
        confidence = f", confidence {one['confidence']:.3f}" if one["confidence"] is not None else ""
        copy = f", shares a run of 13 words ({one['overlap']})" if one["overlap"] else ""
        yield f"  {one['similarity']:.3f} {one['id']}: label {one['label']}, {one['label_from']}{confidence}{copy}"
        yield from (f"  {line}" for line in _text("A", one["response_a"]))
        yield from (f"  {line}" for line in _text("B", one["response_b"]))
    if behind.nearest:
        yield f"  follow one: gram-r2 trace {shlex.quote(run)} {shlex.quote(behind.nearest[0]['id'])}"


def _text(head: str, text: str) -> Iterator[str]:
    """A text behind its head; what has several lines goes below it."""
    lines = text.splitlines()
    yield f"  {head}" + (f": {lines[0]}" if len(lines) == 1 else "" if not lines else ":")
    yield from (f"    {line}" for line in (lines if len(lines) > 1 else ()))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _printable(line: str) -> str:
    """Without control characters, with which a text of the data could write anywhere on a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
