"""Judge a file of prompts and responses: ``python -m tasks.rank best-of-n|rank|compare IN.jsonl OUT.jsonl --judge …``.

An input row, and its output row::

    {"id": "q7", "prompt": "Why is the sky blue?", "responses": ["Rayleigh scattering.", "It reflects the sea."]}
    {"id": "q7", "of": "5d1e…", "best": 0, "matches": 1, "rounds": 1, "ties": [], "nulls": 0, "failed": {}}

``prompt`` may be chat messages and a response an assistant's message, in the shapes of `tasks.rank.inputs`. ``id`` may be
omitted: it is then the row's number, from 0. Started again, the command
keeps the rows in OUT and continues; failed rows are retried. What OUT was made with is recorded beside it
(`tasks.rank.output`): another judge, another setting, or other rows with the same ids need another file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from data.files import json_line
from data.records import RecordError
from data.sources import rows
from data.sources.fields import as_id, contents
from data.sources.rows import BrokenRow, SourceError
from prompts.catalog import JUDGE_PROMPTS
from tasks.machine.child import ChildError
from tasks.machine.terminal import print_anything
from tasks.model.folder import base_of_adapter
from tasks.rank import Best, Comparison, Judge, open_judge
from tasks.rank.inputs import read_messages, read_responses
from tasks.rank.opening import DEFAULTS, Dtype, settings_of
from tasks.rank.output import begin, check_same, fingerprint, hash_of, held, rows_done
from tasks.rank.tournaments import Method, RankMethod
from tasks.settings import GenerationSettings
from tasks.settings.wording import in_one_line

Row = dict[str, Any]
Opened = Callable[..., AbstractContextManager[Judge]]
FAILED, BAD_INPUT = 1, 2
_FACTS = (
    "command", "judge", "prompt", "method", "votes", "temperature", "max_tokens", "context", "overlong", "one_order", "seed",
    "dtype",
)  # fmt: skip
"""The options that a result depends on."""
_AT_ONCE = 256
"""Rows whose comparisons go to the engine together: at most this many are lost when the command is stopped."""


def main(arguments: Sequence[str] | None = None, opened: Opened = open_judge) -> int:
    """Returns 2, with a message, for input that cannot be used, and 1 if rows or the judge failed.

    `opened` opens the judge, as `tasks.rank.open_judge` does.
    """
    print_anything()
    options = _parser().parse_args(arguments)
    try:
        wanted = list(read_rows(options.input, options.command))
        if options.output.resolve() == options.input.resolve():
            raise ValueError(f"{options.output} is the input: write the results to another file")
        if Path(options.judge).is_dir() and base_of_adapter(options.judge) is None:
            for name, value in settings_of(options.judge).items():
                setattr(options, name, getattr(options, name) or value)
        facts = {name: getattr(options, name) for name in _FACTS if hasattr(options, name)}
        # Of a judge that is not here, its own settings are known only once it is opened.
        facts = {name: value for name, value in facts.items() if value is not None or name not in DEFAULTS}
        facts["checkpoint"] = fingerprint(options.judge)
        with held(options.output):
            check_same(options.output, facts)
            done = rows_done(options.output, wanted)
            todo = [row for row in wanted if row["id"] not in done]
            if not todo:
                print(f"{options.output}: all {len(wanted)} rows are already done", file=sys.stderr)
                return 0
            with _open(options, opened) as judge:
                begin(options.output, facts)
                failed = _write(judge, todo, options, len(wanted) - len(todo))
    except ValidationError as error:
        print(in_one_line(GenerationSettings, error), file=sys.stderr)
        return BAD_INPUT
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (ChildError, OSError, RuntimeError) as error:
        print(f"the judge failed; finished rows are kept: {error}", file=sys.stderr)
        return FAILED
    return FAILED if failed else 0


def _open(options: argparse.Namespace, opened: Opened) -> AbstractContextManager[Judge]:
    return opened(
        options.judge,
        prompt=options.prompt,
        votes=options.votes,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        context=options.context,
        overlong=options.overlong,
        both_orders=not options.one_order,
        seed=options.seed,
        generation=GenerationSettings(gpu_memory_share=options.gpu_memory_share),
        dtype=options.dtype,
    )


def read_rows(path: Path, command: str) -> Iterator[Row]:
    """The rows of a file, each with a unique id. Raises SourceError naming the file, row and field; also if it has none."""
    files = rows.local_files(rows.expand_path(str(path)))
    if len(files) > 1:
        raise SourceError(f"{path}: {len(files)} files: give one, as its rows and those of the output belong together")
    seen: dict[str, int] = {}
    for raw in rows.read_file(files[0]):
        try:
            row = _checked(raw.value, str(raw.number - 1), command)
        except RecordError as error:
            problem = str(error) if error.field else error.problem
            raise SourceError(f"{raw.file}, row {raw.number}: {problem}") from error
        if row["id"] in seen:
            raise SourceError(
                f"{raw.file}, row {raw.number}: the id {row['id']!r} is already that of row {seen[row['id']]}"
            )
        seen[row["id"]] = raw.number
        yield row
    if not seen:
        raise SourceError(f"{path}: holds no rows")


def _checked(value: object, number: str, command: str) -> Row:
    if isinstance(value, BrokenRow):
        raise RecordError("", value.problem)
    if not isinstance(value, Mapping):
        raise RecordError("", f"the row must be an object, got {type(value).__name__}")
    if value.get("responses") is None:
        raise RecordError("responses", f"is missing: the row {contents(value)}")
    prompt = read_messages(value.get("prompt"))
    responses = read_responses(_list_of(value["responses"]), prompt)
    if command == "compare" and len(responses) != 2:
        raise RecordError("responses", f"must be exactly two for compare, got {len(responses)}")
    identity = as_id(value["id"]) if value.get("id") is not None else number
    return {"id": identity, "prompt": [message.to_json() for message in prompt], "responses": responses}


def _list_of(value: object) -> object:
    """The list that a string spells in JSON, as in files that have no lists; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


# ---- the work -------------------------------------------------------------------------------------------------------------


def _write(judge: Judge, todo: Sequence[Row], options: argparse.Namespace, n_done: int) -> int:
    """Judges all rows, writes the results, and prints what they cost; returns how many rows failed."""
    from tqdm import tqdm

    started = time.monotonic()
    bar = tqdm(total=n_done + len(todo), initial=n_done, unit="row", disable=options.quiet)
    seen: Counter[str] = Counter()
    with bar, options.output.open("a", encoding="utf-8") as stream:
        for start in range(0, len(todo), options.at_once):
            some = todo[start : start + options.at_once]
            for row, found in zip(some, _results(judge, some, options), strict=True):
                stream.write(json_line({"id": row["id"], "of": hash_of(row), **found}))
                seen.update(name for name in ("ties", "cycles", "failed") if found.get(name))
                seen["ties"] += "winner" in found and _is_tie(found)
            stream.flush()
            bar.update(len(some))
    seconds = time.monotonic() - started
    usage = judge.usage
    print(
        f"{len(todo)} rows in {seconds:.1f} s: {usage.comparisons} comparisons, {usage.generations} generations in "
        f"{usage.batches} batches, {usage.tokens} tokens. {usage.nulls} answers have no verdict, {usage.ties} comparisons "
        f"are ties; rows with a tie: {seen['ties']}, with a cycle: {seen['cycles']}, failed: {seen['failed']}",
        file=sys.stderr,
    )
    for reason, words in usage.failures.items():
        print(f"first {reason}: {words or 'the engine gives no reason'}", file=sys.stderr)
    return seen["failed"]


def _results(judge: Judge, some: Sequence[Row], options: argparse.Namespace) -> list[Row]:
    if options.command == "compare":
        compared = judge.compare_many([(row["prompt"], *row["responses"]) for row in some])
        return [_comparison(one) for one in compared]
    asked = [(row["prompt"], row["responses"]) for row in some]
    if options.command == "best-of-n":
        return [_best(best) for best in judge.best_of_n_many(asked, options.method)]
    return [asdict(ranked) for ranked in judge.rank_many(asked, options.method)]


def _best(best: Best) -> Row:
    # If no match had a winner, the first of the list is not the best: the best is unknown.
    undecided = 0 < best.matches == len(best.ties) + len(best.undecided)
    return {"best": None if undecided else best.index, **_without(asdict(best), "index")}


def _is_tie(compared: Row) -> bool:
    """Whether a comparison, as written, has verdicts and no winner."""
    return compared["winner"] is None and any(answer["malformed"] is None for answer in compared["answers"])


def _comparison(compared: Comparison) -> Row:
    answers = []
    for one in compared.answers:
        said = _without(asdict(one.answer), "verdict")
        said = said if said["detail"] else _without(said, "detail")
        answers.append({"order": one.order, "winner": one.winner, **said})
    facts = {"winner": compared.winner, "share": compared.share, "consistent": compared.consistent}
    return {**facts, "nulls": compared.nulls, "failed": compared.failed, "answers": answers}


def _without(fields: Row, name: str) -> Row:
    return {key: value for key, value in fields.items() if key != name}


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.rank", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text, methods in (
        ("compare", "which of two responses is better", None),
        ("best-of-n", "the best response of each row", Method),
        ("rank", "all responses of each row, best first", RankMethod),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("input", type=Path, help="rows with prompt and responses (.jsonl, .json, .parquet, .gz)")
        command.add_argument("output", type=Path, help="where to write the results, as .jsonl")
        command.add_argument("--judge", required=True, help="folder, hub name, or endpoint URL (…/v1#MODEL)")
        command.add_argument("--prompt", choices=JUDGE_PROMPTS, help="default: the judge's training prompt")
        if methods is not None:
            command.add_argument("--method", choices=get_args(methods), default=get_args(methods)[0])
        command.add_argument("--votes", type=_positive, default=1, help="sampled judgments per order; default: 1")
        command.add_argument("--temperature", type=float, default=0.0, help="above 0 for several votes; default: 0")
        command.add_argument("--max-tokens", type=_positive, help="maximum reply tokens; default: as trained, or 1024")
        command.add_argument(
            "--context", type=_positive, help="tokens of prompt plus reply; default: as trained, or 4096"
        )
        command.add_argument(
            "--overlong",
            choices=("drop", "truncate"),
            default="drop",
            help="what to do with a prompt that does not fit; default: drop",
        )
        command.add_argument("--one-order", action="store_true", help="show each pair in one order only")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--dtype", choices=get_args(Dtype), help="default: as trained, or auto")
        command.add_argument("--gpu-memory-share", type=float, default=0.9)
        command.add_argument("--at-once", type=_positive, default=_AT_ONCE, help=f"rows per batch; default: {_AT_ONCE}")
        command.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
