"""Plans a judge's games of a benchmark: the requests and the replies."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.plan.facts import HELD_OUT, PlayedSet
from tasks.plan.stages import GenerationLoad, Place, PlannedModel, PlannedStage, planned_generation
from tasks.settings import Settings

_BYTES_A_GAME = 250
"""Bytes of a line of games.jsonl."""


@dataclass(frozen=True)
class Answers:
    """A judge's answer to a request: the number of replies, and the tokens of each."""

    replies: int
    tokens: float


SCORED = Answers(1, 0)
"""For a judge that scores responses: it reads and generates nothing."""
_LABEL = Answers(1, 1)


def answers_of(settings: Settings, reply_tokens: float) -> Answers:
    """How the settings' judge answers, given the mean length of its replies; a bare label is read from one token."""
    if not settings.judge_prompt.has_rationale:
        return _LABEL
    return Answers(settings.benchmarks.votes, min(reply_tokens, settings.reply_tokens))


def planned_benchmark(
    folder: str, round: int | None, played: PlayedSet, answers: Answers, model: PlannedModel
) -> PlannedStage:
    """All games of one benchmark, in both orders; if responses are scored, each is read once."""
    suffix = "" if played.label == HELD_OUT else f"-{played.label}"
    name = f"{folder}/benchmark{suffix}"
    levels = range(1, (played.candidates - 1).bit_length() + 1) if played.candidates else ()
    knockouts = [f"{name}-{what}-{level}" for level in levels for what in ("matches", "games")]
    games = 2 * played.cells
    load = GenerationLoad(
        rows=played.items,
        fits=played.lengths.fits,
        requests=games if played.scored is None else played.scored,
        replies=answers.replies,
        prompt_tokens=played.lengths.tokens,
        reply_tokens=answers.tokens,
        row_bytes=games * answers.replies * _BYTES_A_GAME,
    )
    return planned_generation(Place(name, f"benchmark{suffix}", round, (*knockouts, name)), load, model)
