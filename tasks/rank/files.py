"""Judge a file of prompts and responses, as ``gram-r2 rank`` does.

An input row, and its output row::

    {"id": "q7", "prompt": "Why is the sky blue?", "responses": ["Rayleigh scattering.", "It reflects the sea."]}
    {"id": "q7", "of": "5d1e…", "best": 0, "matches": 1, "rounds": 1, "ties": [], "nulls": 0, "failed": {}}

``prompt`` may be chat messages and a response an assistant's message, in the shapes of `tasks.rank.inputs`. ``id`` may be
omitted: it is then the row's number, from 0. Started again, `judge_file` keeps the rows in OUT and continues; failed rows
are retried. What OUT was made with is recorded beside it (`tasks.rank.output`): another judge, another setting, or other
rows with the same ids need another file.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from data.files import json_line
from data.records import RecordError
from data.sources import rows
from data.sources.fields import as_id, contents
from data.sources.rows import BrokenRow, SourceError
from tasks.model.endpoint import is_endpoint, with_model
from tasks.model.folder import base_of_adapter
from tasks.model.location import local_folder
from tasks.rank import Best, Comparison, Judge, open_judge
from tasks.rank.inputs import read_messages, read_responses
from tasks.rank.opening import DEFAULTS, Dtype, settings_of
from tasks.rank.output import begin, check_same, fingerprint, hash_of, held, rows_done
from tasks.rank.tournaments import Method, RankMethod
from tasks.settings import GenerationSettings

Row = dict[str, Any]
Opened = Callable[..., AbstractContextManager[Judge]]
Command = Literal["compare", "best-of-n", "rank"]
METHODS: Mapping[Command, tuple[str, ...]] = {
    "compare": (),
    "best-of-n": get_args(Method),
    "rank": get_args(RankMethod),
}
"""The methods of each command, its default first."""
_FACTS = ("judge", "prompt", "votes", "temperature", "max_tokens", "context", "overlong", "one_order", "seed", "dtype")
"""The settings that a result depends on, besides the command and its method."""


@dataclass(frozen=True)
class RankSettings:
    """What is asked of which judge, and how: see `open_judge`, also for what None stands for.

    At most `at_once` rows have their comparisons in the engine together; so many are lost when the command is stopped.
    Raises ValueError for a method that the command does not have.
    """

    command: Command
    judge: str
    method: str | None = None
    prompt: str | None = None
    votes: int = 1
    temperature: float = 0.0
    max_tokens: int | None = None
    context: int | None = None
    overlong: Literal["drop", "truncate"] = "drop"
    one_order: bool = False
    seed: int = 0
    dtype: Dtype | None = None
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    at_once: int = 256
    progress: bool = True

    def __post_init__(self) -> None:
        known = METHODS[self.command]
        if self.method is not None and self.method not in known:
            rule = f"must be {' or '.join(known)}" if known else "is only for best-of-n and rank"
            raise ValueError(f"method: {rule}, got {self.method!r}")
        object.__setattr__(self, "method", self.method or next(iter(known), None))

    def facts(self) -> dict[str, Any]:
        """What a result depends on. Of a judge that is not here, its own settings are known only once it is opened."""
        method = {"method": self.method} if self.method else {}
        given = {name: getattr(self, name) for name in _FACTS}
        known = {name: value for name, value in given.items() if value is not None or name not in DEFAULTS}
        return {"command": self.command, **method, **known, "checkpoint": fingerprint(self.judge)}


def judge_file(source: Path, output: Path, settings: RankSettings, opened: Opened = open_judge) -> int:
    """Judges the rows of `source` that are not in `output` yet; returns how many rows failed.

    `opened` opens the judge, as `tasks.rank.open_judge` does. Raises ValueError or FileNotFoundError for bad input, and
    ChildError, OSError or RuntimeError if the judge fails; rows that are finished are kept.
    """
    wanted = list(read_rows(source, settings.command))
    if output.resolve() == source.resolve():
        raise ValueError(f"{output} is the input: write the results to another file")
    if is_endpoint(settings.judge):
        settings = replace(settings, judge=with_model(settings.judge))
    folder = local_folder(settings.judge)
    if folder.is_dir() and base_of_adapter(str(folder)) is None:
        trained = settings_of(str(folder))
        settings = replace(settings, **{name: getattr(settings, name) or value for name, value in trained.items()})
    facts = settings.facts()
    with held(output):
        check_same(output, facts)
        done = rows_done(output, wanted)
        todo = [row for row in wanted if row["id"] not in done]
        if not todo:
            print(f"{output}: all {len(wanted)} rows are already done", file=sys.stderr)
            return 0
        with _open(settings, opened) as judge:
            begin(output, facts)
            return _write(judge, todo, output, settings, len(wanted) - len(todo))


def _open(settings: RankSettings, opened: Opened) -> AbstractContextManager[Judge]:
    return opened(
        settings.judge,
        prompt=settings.prompt,
        votes=settings.votes,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        context=settings.context,
        overlong=settings.overlong,
        both_orders=not settings.one_order,
        seed=settings.seed,
        generation=settings.generation,
        dtype=settings.dtype,
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


def _write(judge: Judge, todo: Sequence[Row], output: Path, settings: RankSettings, n_done: int) -> int:
    """Judges all rows, writes the results, and prints what they cost; returns how many rows failed."""
    from tqdm import tqdm

    started = time.monotonic()
    bar = tqdm(total=n_done + len(todo), initial=n_done, unit="row", disable=not settings.progress)
    seen: Counter[str] = Counter()
    with bar, output.open("a", encoding="utf-8") as stream:
        for start in range(0, len(todo), settings.at_once):
            some = todo[start : start + settings.at_once]
            for row, found in zip(some, _results(judge, some, settings), strict=True):
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


def _results(judge: Judge, some: Sequence[Row], settings: RankSettings) -> list[Row]:
    if settings.command == "compare":
        compared = judge.compare_many([(row["prompt"], *row["responses"]) for row in some])
        return [_comparison(one) for one in compared]
    asked = [(row["prompt"], row["responses"]) for row in some]
    if settings.command == "best-of-n":
        return [_best(best) for best in judge.best_of_n_many(asked, cast(Method, settings.method))]
    return [asdict(ranked) for ranked in judge.rank_many(asked, cast(RankMethod, settings.method))]


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
