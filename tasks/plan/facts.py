"""What the sample shows: lengths of prompts and replies in the base models' own tokens, and what fits the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.records import Message, PreferencePair, RationalePair, ResponsePair
from prompts.catalog import prover_for
from tasks.model.chat import ChatEncoder
from tasks.plan.assumptions import PlanError
from tasks.plan.first_rows import Part, Row
from tasks.plan.lengths import Lengths, mean_lengths
from tasks.plan.sample import DataSample, SetSample, mean_bytes, playing
from tasks.settings import Role, Settings
from tasks.training.examples import encode_example

HELD_OUT = "held-out"


@dataclass(frozen=True)
class PlayedSet:
    """A benchmark: its items, comparisons per item, the lengths of a prompt, and for knockouts the number of candidates.

    For a judge that scores responses, `scored` is the number of responses read per item, and the lengths are theirs.
    """

    label: str
    items: float
    cells: float
    lengths: Lengths
    candidates: int | None = None
    scored: float | None = None


@dataclass(frozen=True)
class Facts:
    """What the sample shows. `shaped` is the share of the human rationales in the format that the judge's prompt requires.

    Lengths in `human` are of whole training examples, the others of prompts. `bare_reply` is the length in tokens of a
    reply without a rationale.
    """

    read: float
    rows: dict[Part, float]
    row_bytes: dict[Part, float]
    shaped: float
    human: dict[Role, Lengths]
    labeled: dict[Role, Lengths]
    unlabeled: dict[Role, Lengths]
    bare_reply: int
    sets: tuple[PlayedSet, ...]
    pretraining: Lengths | None = None
    calibration: Lengths | None = None


def measure(settings: Settings, sample: DataSample, encoders: dict[Role, ChatEncoder]) -> Facts:
    """Encodes the sampled rows as the run will. Without a prover there is no encoder for it.

    Raises PlanError if no sampled rationale is usable for training.
    """
    weighted = {part: sample.weighted(part) for part in sample.parts}
    judge, shape = settings.judge_prompt, settings.judge_prompt.check_rationale
    human = [(w, row) for w, row in weighted.get("rationale", ()) if isinstance(row, RationalePair)]
    shaped = [(w, row) for w, row in human if not judge.has_rationale or shape(row.rationale, row.label) is None]
    if not shaped and (human or settings.data.rationale):
        raise PlanError(
            f"none of the {len(human)} sampled rows of data.rationale has a rationale in the format of the prompt "
            f"{judge.name!r}: the prover would have nothing to learn from. Choose another models.judge_prompt, or provide "
            "rationales in its format"
        )
    rows, held_out = _rows(sample)
    sets = [_played(settings, one, encoders["judge"]) for one in sample.sets]
    if held_out:
        lengths = mean_lengths((w, _judged(settings, _pair(row), encoders["judge"])) for w, row in held_out)
        sets.insert(0, PlayedSet(HELD_OUT, rows["heldout"], 1, lengths))
    return Facts(
        read=_read(sample),
        rows=rows,
        row_bytes={part: mean_bytes(found) for part, found in weighted.items()},
        shaped=sum(w for w, _ in shaped) / sum(w for w, _ in human) if human else 0.0,
        human={role: mean_lengths((w, _example(settings, row, role, encoder)) for w, row in shaped)
               for role, encoder in encoders.items() if shaped},
        labeled=_prompts(settings, weighted.get("labeled", []), encoders),
        unlabeled=_prompts(settings, weighted.get("unlabeled", []), encoders),
        bare_reply=len(encoders["judge"].reply_ids(judge.target("", "A"))),
        sets=tuple(sets),
        pretraining=_pretraining(settings, weighted.get("pretraining", ()), encoders["judge"]),
        calibration=_calibration(settings, weighted, encoders["judge"]),
    )  # fmt: skip


def _rows(sample: DataSample) -> tuple[dict[Part, float], Sequence[tuple[float, Row]]]:
    """How many rows each part will have, and the sampled rows that represent the held-out pairs."""
    return {part: sample.usable(part) for part in sample.parts}, sample.weighted("heldout")


def _read(sample: DataSample) -> float:
    return sample.read if sample.read is not None else sum(one.read for found in sample.parts.values() for one in found)


def _pair(row: Row) -> ResponsePair:
    return row if isinstance(row, ResponsePair) else row.pair


def _pretraining(settings: Settings, rows: Sequence[tuple[float, Row]], encoder: ChatEncoder) -> Lengths | None:
    if settings.training.pretraining is None or not rows:
        return None
    return mean_lengths((w, _example(settings, row, "pretrained", encoder)) for w, row in rows)


def _calibration(
    settings: Settings, weighted: Mapping[Part, Sequence[tuple[float, Row]]], encoder: ChatEncoder
) -> Lengths | None:
    """Of the prompts that are voted on."""
    if not settings.data.calibrates:
        return None
    return _prompts(settings, weighted["calibration"], {"judge": encoder})["judge"]


def _example(settings: Settings, row: Row, role: Role, encoder: ChatEncoder) -> tuple[int, int] | None:
    reply_tokens = settings.proofs.max_tokens if role == "prover" else settings.judge_room
    encoded = encode_example(row.to_json(), role, encoder, settings.models, reply_tokens)
    return None if encoded is None else (len(encoded.prompt), len(encoded.completion))


def _prompts(
    settings: Settings, rows: Sequence[tuple[float, Row]], encoders: dict[Role, ChatEncoder]
) -> dict[Role, Lengths]:
    models, found = settings.models, {}
    room = models.max_tokens - settings.judge_room
    encoded = (
        (w, encoders["judge"].judge_ids(settings.judge_prompt, _pair(r), room, models.overlong)) for w, r in rows
    )
    found["judge"] = mean_lengths((w, (len(e.ids), 0) if e else None) for w, e in encoded)
    if "prover" in encoders:
        prompt, room = prover_for(settings.judge_prompt), models.max_tokens - settings.proofs.max_tokens
        # By then an unlabeled pair has a label; which one does not affect the length.
        labeled = ((w, PreferencePair(_pair(row), "A")) for w, row in rows)
        proved = ((w, encoders["prover"].prover_ids(prompt, row, room, models.overlong)) for w, row in labeled)
        found["prover"] = mean_lengths((w, (len(e.ids), 0) if e else None) for w, e in proved)
    return found  # type: ignore[return-value]


def _judged(settings: Settings, pair: ResponsePair, encoder: ChatEncoder) -> tuple[int, int] | None:
    reply = settings.reply_tokens if settings.judge_prompt.has_rationale else settings.judge_room
    room = settings.models.max_tokens - reply
    encoded = encoder.judge_ids(settings.judge_prompt, pair, room, settings.models.overlong)
    return None if encoded is None else (len(encoded.ids), 0)


def _played(settings: Settings, one: SetSample, encoder: ChatEncoder) -> PlayedSet:
    pairs = [item.pair(cell) for item in one.items for cell in item.cells]
    lengths = mean_lengths((1.0, _judged(settings, pair, encoder)) for pair in pairs)
    cells = one.candidates - 1 if one.candidates else one.cells
    return PlayedSet(one.label, one.total, cells, lengths, one.candidates)


# ---- judges that score responses ----------------------------------------------------------------------------------------


def measure_scores(settings: Settings, sample: DataSample, encoder: ChatEncoder) -> Facts:
    """Like `measure`, for a judge that scores each response; the length of a pair is that of both conversations together."""
    weighted = {part: sample.weighted(part) for part in sample.parts}
    rows, held_out = _rows(sample)
    sets = [_scored_set(settings, one, encoder) for one in sample.sets]
    if held_out:
        responses = ((w, _pair(row).prompt, text) for w, row in held_out for text in _responses(_pair(row)))
        lengths = mean_lengths((w, _scored(settings, prompt, text, encoder)) for w, prompt, text in responses)
        sets.insert(0, PlayedSet(HELD_OUT, rows["heldout"], 1, lengths, scored=2))

    def both(part: Part) -> dict[Role, Lengths]:
        pairs = [(w, _pair(row)) for w, row in weighted.get(part, ())]
        return {"judge": mean_lengths((w, _both_scored(settings, pair, encoder)) for w, pair in pairs)} if pairs else {}

    return Facts(
        read=_read(sample),
        rows=rows,
        row_bytes={part: mean_bytes(found) for part, found in weighted.items()},
        shaped=1.0,
        human=both("rationale"),
        labeled=both("labeled"),
        unlabeled={},
        bare_reply=0,
        sets=tuple(sets),
    )


def _responses(pair: ResponsePair) -> tuple[str, str]:
    return pair.response_a, pair.response_b


def _scored(
    settings: Settings, prompt: Sequence[Message], response: str, encoder: ChatEncoder
) -> tuple[int, int] | None:
    n = len(encoder.response_ids(prompt, response))
    return None if n > settings.models.max_tokens else (n, 0)


def _both_scored(settings: Settings, pair: ResponsePair, encoder: ChatEncoder) -> tuple[int, int] | None:
    """Responses are never truncated: a pair fits if both do."""
    a, b = (_scored(settings, pair.prompt, text, encoder) for text in _responses(pair))
    return None if a is None or b is None else (a[0] + b[0], 0)


def _scored_set(settings: Settings, one: SetSample, encoder: ChatEncoder) -> PlayedSet:
    """Each response that plays is read once; in a knockout, once per match."""
    played = ((item.prompt, item.responses[i]) for item in one.items for i in playing(item))
    lengths = mean_lengths((1.0, _scored(settings, prompt, text, encoder)) for prompt, text in played)
    cells = one.candidates - 1 if one.candidates else one.cells
    scored = 2 * cells if one.candidates else one.scored
    return PlayedSet(one.label, one.total, cells, lengths, one.candidates, scored)
