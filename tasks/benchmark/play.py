"""The stages "benchmark": a judge plays every game of a benchmark, in both orders, and the games are stored and scored.

A line of ``games.jsonl``; `tasks.benchmark.games` describes each field::

    {"benchmark": "rm-bench", "id": "chat/8", "cell": "0-1", "order": "chosen_first", "vote": 0, "verdict": "A",
     "p_first": null, "malformed": null, "truncated": false, "n_tokens": 212}

``scores.json`` is what ``gram-r2 benchmark score`` prints for them. A game whose prompt does not fit, or on which
the engine fails, has no verdict; the benchmark's own rules decide how that is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from data.benchmarks.items import Benchmark, Cell, Item
from data.files import read_jsonl, write_json, write_jsonl
from data.seeds import derive_seed
from data.store.artifacts import Artifact, Counts, Input, Outcome
from tasks.benchmark.best_of import next_matches
from tasks.benchmark.doubts import NO_VERDICT
from tasks.benchmark.games import adaptive, of_rows
from tasks.benchmark.score import parts, score
from tasks.benchmark.sets import HELD_OUT, ITEMS, read_set
from tasks.model.chat import ChatEncoder
from tasks.model.device import head_facts, resolved_dtype
from tasks.model.endpoint import is_endpoint
from tasks.model.engine import Request
from tasks.model.judging import JudgeAnswer, JudgeQuery, build_request, build_score_request, compare_scores, read_answer
from tasks.model.location import Checkpoint
from tasks.model.malformed import shortened
from tasks.model.requests import PROMPT_TOO_LONG, Skip
from tasks.run.rows import generate_rows, generated_for, read_generated
from tasks.run.stage import Context, Run
from tasks.settings import BenchmarkSettings, ModelSettings

GAMES, SCORES = "games.jsonl", "scores.json"
Rows = Iterator[tuple[dict[str, Any], dict[str, Any]]]
"""Items as JSON, each with the line generated for it."""


def game_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """One request for each cell in each order, named "0-1/0"; requests that show the same response first are adjacent.

    Their shared text comes first in the prompt, so an engine with prefix caching processes it once.
    """
    item, query = Item.from_json(row), JudgeQuery(**params)
    if query.by_score:
        return _score_requests(item, query, encoder)
    games = [(cell, order) for cell in item.cells for order in (0, 1)]
    games.sort(key=lambda game: (game[0].first, game[0].second) if game[1] == 0 else (game[0].second, game[0].first))
    asked = [build_request(query, encoder, item.pair(cell, order), _name(cell, order)) for cell, order in games]
    return [request for request in asked if request is not None] or Skip(PROMPT_TOO_LONG)


def _score_requests(item: Item, query: JudgeQuery, encoder: ChatEncoder) -> list[Request] | Skip:
    """One request for each response in any cell, named by its index."""
    playing = sorted({place for cell in item.cells for place in (cell.first, cell.second)})
    asked = [build_score_request(query, encoder, item.prompt, item.responses[i], str(i)) for i in playing]
    return [request for request in asked if request is not None] or Skip(PROMPT_TOO_LONG)


def _name(cell: Cell, order: int) -> str:
    return f"{cell.name}/{order}"


def read_games(query: JudgeQuery, benchmark: Benchmark, rows: Rows) -> Iterator[dict[str, Any]]:
    """The games of each item, in the order of its cells."""
    for row, line in rows:
        item = Item.from_json(row)
        # Answered games of a failed row still count.
        answered = line.get("requests") or line.get("answered") or ()
        made = {request["name"]: request["completions"] for request in answered}
        lost = line.get("dropped") or line.get("failed") or PROMPT_TOO_LONG
        for cell in item.cells:
            for order in (0, 1):
                completions = made.get(_name(cell, order))
                answers = [JudgeAnswer(None, malformed=lost)] * query.replies
                if completions is not None:
                    answers = [read_answer(query, completion) for completion in completions]
                elif query.by_score and made:
                    shown = (cell.first, cell.second) if order == 0 else (cell.second, cell.first)
                    answers = [compare_scores(*(_score_of(made.get(str(i))) for i in shown))]
                for vote, one in enumerate(answers):
                    yield _game(benchmark, item, cell, order, vote, one)


def _score_of(completions: Sequence[Mapping[str, Any]] | None) -> float | None:
    return None if completions is None else float(completions[0]["score"])


def _game(benchmark: Benchmark, item: Item, cell: Cell, order: int, vote: int, answers: JudgeAnswer) -> dict[str, Any]:
    # A probability of one half is a tie; a sampled reply gives a verdict or none.
    verdict = "tie" if answers.p_first == 0.5 else answers.verdict
    return {
        "benchmark": benchmark.name,
        "id": item.id,
        "cell": cell.name,
        "order": benchmark.orders[order],
        "vote": vote,
        "verdict": verdict,
        "p_first": answers.p_first,
        "malformed": answers.malformed,
        "truncated": answers.truncated,
        "n_tokens": answers.n_tokens,
    }


# ---- stages -----------------------------------------------------------------------------------------------------------


def query_of(run: Run) -> JudgeQuery:
    """How the run's judge is queried, by the run's settings."""
    settings = run.settings
    return query_for(settings.benchmarks, settings.judge_prompt.name, settings.models, settings.reply_tokens, run.seed)


def query_for(
    benchmarks: BenchmarkSettings, prompt: str, models: ModelSettings, reply_tokens: int, seed: int
) -> JudgeQuery:
    """How a judge with this prompt is queried. The seed matters only for sampling."""
    return JudgeQuery(
        prompt,
        reply_tokens,
        models.max_tokens,
        models.overlong,
        benchmarks.votes,
        benchmarks.temperature,
        benchmarks.top_p,
        derive_seed(seed, "benchmark") if benchmarks.temperature else 0,
    )


def benchmark(
    run: Run,
    round: int | None,
    judge: Artifact | Checkpoint,
    played: Artifact,
    query: JudgeQuery | None = None,
    place: str = "",
) -> Artifact:
    """The stage in which a judge plays a benchmark. `played` is the benchmark's own stage, "benchmarks/NAME".

    `query` specifies how the judge is queried (default: by the run's settings). `place` is the folder for a judge that does
    not belong to a round.
    """
    name = played.manifest.name.removeprefix("benchmarks/")
    suffix = "" if name == HELD_OUT else f"-{name}"
    place = place or ("" if round is None else f"round-{round}")
    stage = f"{place}/benchmark{suffix}".lstrip("/")
    query = query or query_of(run)
    dtype = resolved_dtype(run.settings.models.dtype)
    config = {**query.to_json(), "prompt_digest": query.digest, "dtype": dtype}
    if query.by_label or query.by_score:
        config |= head_facts(dtype)
    if not (query.by_score or (isinstance(judge, Checkpoint) and is_endpoint(judge.model))):
        config |= run.settings.generation.facts_in_keys()
    inputs: dict[str, Input] = {"judge": judge, "items": played}

    if played.manifest.config.get("benchmark") == "ppe":
        return _play_knockouts(run, round, judge, played, stage, query, config)

    def body(context: Context) -> Outcome:
        items = context.artifact("items")
        outcome = _generate(context, query, "items")

        def rows() -> Rows:
            return read_generated(context.work, items.file(ITEMS), outcome)

        return _score(context, read_set(items), query, rows, outcome)

    return run.find_or_make(stage, f"benchmark{suffix}", config, inputs, body, round)


def _generate(context: Context, query: JudgeQuery, items: str) -> Outcome:
    """Has the input "judge" play the items of the input `items`."""
    rows, judge = context.artifact(items).file(ITEMS), context.model("judge")
    return generate_rows(context, "tasks.benchmark.play:game_requests", query.to_json(), rows, judge)


def _play_knockouts(
    run: Run,
    round: int | None,
    judge: Artifact | Checkpoint,
    played: Artifact,
    stage: str,
    query: JudgeQuery,
    config: Mapping[str, Any],
) -> Artifact:
    """Two stages for each level of the knockouts (its matches and their games), then the scores of all games."""
    levels: list[tuple[Artifact, Artifact]] = []

    def inputs() -> dict[str, Input]:
        """The benchmark, and the matches and games of all levels so far."""
        made: dict[str, Input] = {"items": played}
        for i, (matches, games) in enumerate(levels, start=1):
            made |= {f"matches-{i}": matches, f"games-{i}": games}
        return made

    def rows(context: Context) -> Rows:
        for i in range(1, len(context.inputs) // 2 + 1):
            matches = context.artifact(f"matches-{i}").file(ITEMS)
            yield from generated_for(context.artifact(f"games-{i}"), matches)

    def draw(context: Context) -> Outcome:
        known = read_set(context.artifact("items"))
        games = list(read_games(query, known, rows(context)))
        matches = next_matches(known, of_rows(known, games) if games else None)
        n = write_jsonl(context.work / ITEMS, (item.to_json() for item in matches))
        return Outcome(Counts(n, n))

    def play(context: Context) -> Outcome:
        return _generate(context, query, "items")

    def finish(context: Context) -> Outcome:
        known = read_set(context.artifact("items"))
        total = len(known.items)
        return _score(context, known, query, lambda: rows(context), Outcome(Counts(total, total)))

    for level in range(1, (played.manifest.metrics["candidates"] - 1).bit_length() + 1):
        # Like the scores, the matches depend on how replies are parsed.
        drawn = run.find_or_make(f"{stage}-matches-{level}", "matches", config, inputs(), draw, round)
        asked: dict[str, Input] = {"judge": judge, "items": drawn}
        made = run.find_or_make(f"{stage}-games-{level}", "games", config, asked, play, round)
        levels.append((drawn, made))
    return run.find_or_make(stage, stage.rsplit("/", 1)[-1], config, inputs(), finish, round)


def _score(
    context: Context, known: Benchmark, query: JudgeQuery, answered: Callable[[], Rows], outcome: Outcome
) -> Outcome:
    """Writes the games and their scores. `answered` begins anew at each call."""
    write_jsonl(context.work / GAMES, read_games(query, known, answered()))
    rows = list(read_jsonl(context.work / GAMES))
    scored = score(of_rows(known, rows), partial=adaptive(known))
    write_json(context.work / SCORES, scored)
    answers = Counter(str(row["verdict"]) for row in rows)
    found = scored["games"]
    warnings = _warnings(scored, query, answered)
    metrics = {
        **outcome.metrics,
        "benchmark": known.name,
        "accuracy": scored["total"],
        "interval": scored["intervals"]["total"],
        "parts": parts(scored),
        "missing": scored["missing"],
        "games": found["games"],
        "malformed": found["unparsed_reasons"],
        "truncated": found["truncated"],
        "verdicts": {name: answers[name] for name in ("A", "B", "tie", "None") if answers[name] or name in "AB"},
        "position_consistency": found["position"]["consistency"],
        "first_shown": found["position"]["first_shown"],
        "mean_tokens": round(found["mean_tokens"], 2),
        **({"drawn": scored["drawn"]} if "drawn" in scored else {}),
    }
    return Outcome(outcome.counts, metrics).warning(warnings)


def _warnings(scored: Mapping[str, Any], query: JudgeQuery, answered: Callable[[], Rows]) -> list[str]:
    """What makes the scores doubtful, with the first malformed reply if many games have no verdict."""
    warnings = list(scored.get("doubts", ()))
    if scored["games"]["unparsed"] > NO_VERDICT:
        reply = _first_malformed(query, answered())
        if reply:
            warnings[-1] += f"; the first malformed reply: {reply!r}"
    return warnings


def _first_malformed(query: JudgeQuery, rows: Rows) -> str:
    """The first reply without a verdict, shortened; empty if there is none, or the judge writes none."""
    if query.by_label or query.by_score:
        return ""
    for _, line in rows:
        for request in line.get("requests") or line.get("answered") or ():
            for completion in request["completions"]:
                if read_answer(query, completion).verdict is None:
                    return shortened(str(completion["text"]))
    return ""


# ---- what a run has played -----------------------------------------------------------------------------------------------


def measured(run: Run) -> list[Artifact]:
    """The finished benchmarks of a run, in order."""
    return [
        a for a in run.finished_stages() if a.manifest.kind.startswith("benchmark") and "games" in a.manifest.metrics
    ]


def set_name(artifact: Artifact) -> str:
    """What a benchmark's stage is called in tables: "held-out", or the name of its set, with how many of its items were drawn."""
    name = artifact.manifest.kind.removeprefix("benchmark").removeprefix("-") or HELD_OUT
    drawn = artifact.manifest.metrics.get("drawn")
    return f"{name} ({drawn['items']:,} of {drawn['of']:,})" if drawn else name
