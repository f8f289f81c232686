"""A column map guessed from the names and values of a file's columns. What is not clear is left open, and said.

::

    {"question": "Why?", "answer1": "Because.", "answer2": "Ask.", "better": 2, "why": "It asks back."}
    Guess({"prompt": "question", "response_a": "answer1", "response_b": "answer2", "label": "better",
           "label_a": [1], "label_b": [2], "rationale": "why"}, missing=())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from data.sources.columns import ColumnMap
from data.sources.fields import Row
from flows.starting.labels import FIRST, SECOND, is_about_the_worse, marks_in, meanings, scores_in
from flows.starting.seen import Seen, columns_seen, pairs_in

_CHOSEN = ("chosen", "preferred", "preferred", "better", "winner", "winning", "good", "accepted", "best", "positive")
_REJECTED = ("rejected", "rejected", "dispreferred", "worse", "loser", "losing", "bad", "rejected", "worst", "negative")
_SIDES = {*zip(FIRST, SECOND, strict=True), *zip(_CHOSEN, _REJECTED, strict=True)}
_PROMPT = ("prompt", "question", "instruction", "query", "request", "task", "input", "context", "post", "user", "message",
           "messages", "conversation", "dialogue", "dialog", "history", "topic")  # fmt: skip
_RESPONSE = {"response", "answer", "output", "completion", "reply", "text", "candidate", "generation", "summary",
             "translation", "message", "content", "option", "solution", "continuation", "conversation", "resp"}  # fmt: skip
_SCORE = {"score", "scores", "rating", "ratings", "reward", "grade", "points", "stars", "quality", "rank"}
_LABEL = ("label", "winner", "preference", "preferred", "better", "choice", "verdict", "judgment", "judgement", "pick",
          "selected", "best", "favorite", "favourite", "wins", "worse", "worst", "loser")  # fmt: skip
_RATIONALE = ("rationale", "critique", "justification", "explanation", "reasoning", "reason", "reasons", "feedback", "why",
              "analysis", "comment", "comments")  # fmt: skip
_IDS = ("id", "uid", "uuid", "pair_id", "example_id", "row_id", "sample_id", "comparison_id", "idx")
_FACTS = {"model", "name", "source", "language", "id", "url", "category", "type", "date", "author"}
_MEASURES = {"strength", "confidence", "certainty", "margin", "agreement", "count", "source", "type", "date", "time",
             "language"}  # fmt: skip
"""Words of a column that is about a label rather than one, if another column can be the label."""
_MOST_VALUES, _LONGEST_VALUE = 12, 40


@dataclass(frozen=True)
class Missing:
    """What a map still needs: its keys, and what they are."""

    keys: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return ", ".join([" and ".join(self.keys), self.what]) if self.keys else self.what


@dataclass
class Guess:
    """A column map as far as it is known. `missing` says what else is needed, `unclear` the label values not understood."""

    columns: dict[str, Any] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    unclear: list[Any] = field(default_factory=list)
    sides: tuple[str, str] = ("", "")

    @property
    def complete(self) -> bool:
        return not self.missing and not self.unclear


def has_rationale_column(rows: Sequence[Row], names: Set[str]) -> bool:
    """Whether one of these columns argues for the label, by its name and its texts."""
    seen = [one for one in columns_seen(rows) if {one.path, one.path.partition(".")[0]} & names]
    return any(one.kind == "text" and _rank(one, _RATIONALE) is not None and not _is_code(one) for one in seen)


def _is_code(column: Seen) -> bool:
    """Whether a column says something about a rationale, or for short: ``feedback_type``, ``reason`` that is "accuracy"."""
    repeated = len(column.distinct) * 2 <= len(column.values)
    sentences = any(str(value).rstrip().endswith((".", "!", "?")) for value in column.values)
    about = not {*column.words[-1:]}.isdisjoint(_FACTS | _MEASURES)
    return about or (_is_one_of_few(column) and repeated and not sentences)


def guess_columns(rows: Sequence[Row], given: Mapping[str, Sequence[str]] = {}, labeled: bool = True) -> Guess:
    """The map of these rows. `given` names the columns (and label values) of some keys, and is kept as it is.

    Without `labeled`, no label and no rationale is looked for.
    """
    seen = {one.path: one for one in columns_seen(rows)}
    guess = Guess({key: names[0] for key, names in given.items() if not key.startswith("label_") and names[0] in seen})
    _responses(guess, seen)
    _prompt(guess, seen)
    if labeled and {"response_a", "response_b"} <= guess.columns.keys():
        _label(guess, seen, given)
    elif not labeled:
        _leave_out(guess, ("label", "is_a", "is_b", "is_tie", "score_a", "score_b", "rationale"))
    texts = [one for one in _free(guess, seen, "text") if not _is_code(one)]
    if labeled and (found := _best_named(texts, _RATIONALE)) and "rationale" not in guess.columns:
        guess.columns["rationale"] = found.path
    identity = next((one for one in seen.values() if one.path.lower() in _IDS and one.unique), None)
    if identity is not None and "id" not in guess.columns and not isinstance(identity.values[0], float | bool):
        guess.columns["id"] = identity.path
    if as_json := _json_columns(guess, seen):
        guess.columns["json_columns"] = as_json
    guess.columns = {key: guess.columns[key] for key in ColumnMap.model_fields if key in guess.columns}
    return guess


def _json_columns(guess: Guess, seen: Mapping[str, Seen]) -> list[str]:
    """The columns of the map that hold conversations as JSON text, or lists of texts in the prompt and in both responses."""
    named = {key: seen[name] for key, name in guess.columns.items() if isinstance(name, str) and name in seen}
    turns = [one for key, one in named.items() if key in ("prompt", "response_a", "response_b", "chosen", "rejected")]
    lists = turns if len(turns) == 3 and all(one.is_json_list for one in turns) else []
    return [one.path for one in named.values() if one.is_json_text or one in lists]


def _leave_out(guess: Guess, keys: Sequence[str]) -> None:
    for key in keys:
        guess.columns.pop(key, None)


def _free(guess: Guess, seen: Mapping[str, Seen], *kinds: str) -> list[Seen]:
    """The columns of these kinds that the map does not name yet, and that are not one of two sides."""
    sided = {one.path for pair in pairs_in(seen.values(), _SIDES) for one in pair}
    taken = {name for name in guess.columns.values() if isinstance(name, str)}
    return [one for one in seen.values() if one.kind in kinds and one.path not in taken and one.path not in sided]


def _rank(column: Seen, names: Sequence[str]) -> int | None:
    """The place of the first of these names among the words of a column."""
    return next((i for i, name in enumerate(names) if name in column.words), None)


def _best_named(columns: Sequence[Seen], names: Sequence[str]) -> Seen | None:
    ranked = [(rank, one) for one in columns if (rank := _rank(one, names)) is not None]
    return min(ranked, key=lambda each: each[0])[1] if ranked else None


# ---- responses and prompt ---------------------------------------------------------------------------------------------


def _responses(guess: Guess, seen: Mapping[str, Seen]) -> None:
    if {"response_a", "response_b"} <= guess.columns.keys() or {"chosen", "rejected"} <= guess.columns.keys():
        return
    texts = [one for one in seen.values() if one.kind in ("text", "conversation") and not _is_note(one)]
    found = [(_is_response(one, other), one, other) for one, other in pairs_in(texts, _SIDES)]
    best = [each for each in found if each[0] and each[0] == max(rank for rank, *_ in found)]
    if len(best) != 1:
        several = f": several could be: {', '.join(f'{a.path} and {b.path}' for _, a, b in best)}" if best else ""
        guess.missing.append(Missing(("response_a", "response_b"), f"the columns of the two responses{several}"))
        return
    _, one, other = best[0]
    differ = next(pair for pair in zip(one.words, other.words, strict=True) if pair[0] != pair[1])
    keys = ("chosen", "rejected") if differ in zip(_CHOSEN, _REJECTED, strict=True) else ("response_a", "response_b")
    guess.columns |= dict(zip(keys, (one.path, other.path), strict=True))


def _is_note(column: Seen) -> bool:
    """Whether a column is about a response, and not one: a rationale, a label, the name of a model."""
    about = {*_RATIONALE, *_LABEL, *_SCORE, *_FACTS}
    return bool((set(column.words) - {*_CHOSEN, *_REJECTED}) & about)


def _is_response(one: Seen, other: Seen) -> int:
    """2 if the names say so, or name nothing but the sides; 1 if they name something else; 0 if values are repeated, too."""
    stem = set(one.words) & set(other.words)
    if not stem or stem & _RESPONSE:
        return 2
    return int(len(one.distinct) * 2 > len(one.values))


def _prompt(guess: Guess, seen: Mapping[str, Seen]) -> None:
    if "prompt" not in guess.columns:
        free = [one for one in _free(guess, seen, "text", "conversation") if not set(one.words) & {"system", *_FACTS}]
        sides = [seen[guess.columns[key]] for key in ("response_a", "chosen") if guess.columns.get(key) in seen]
        found = _best_named(free, _PROMPT)
        others = [one for one in free if not _is_note(one) and one.path.lower() not in _IDS]
        if found is None and any(one.kind == "conversation" for one in sides):
            return  # the responses are whole conversations
        if found is None and len(others) == 1 and len(others[0].values) == others[0].rows:
            found = others[0]
        if found is None:
            guess.missing.append(Missing(("prompt",), "the column with what both responses answer"))
            return
        guess.columns["prompt"] = found.path
    for key, names in (("prompt_extra", ("input", "context")), ("system", ("system",))):
        extra = next((one for one in _free(guess, seen, "text") if one.words and set(one.words) & set(names)), None)
        instructed = key == "system" or "instruction" in guess.columns["prompt"].lower()
        if extra is not None and instructed and key not in guess.columns and len(extra.words) <= 2:
            guess.columns[key] = extra.path


# ---- which one is better ----------------------------------------------------------------------------------------------


def _label(guess: Guess, seen: Mapping[str, Seen], given: Mapping[str, Sequence[str]]) -> None:
    """The label: a column of values, one column for each outcome, or two scores."""
    columns = guess.columns
    if "score_a" in columns or "is_a" in columns:
        return
    if "label" not in columns:
        found = _named_as_label(guess, seen)
        if not found:
            _marks_or_scores(guess, seen)
            return
        if len(found) > 1:
            several = ", ".join(one.path for one in found)
            guess.missing.append(Missing(("label",), f"{_WHICH}: several could be: {several}"))
            return
        columns["label"] = found[0].path
    _values(guess, seen, given)


def _named_as_label(guess: Guess, seen: Mapping[str, Seen]) -> list[Seen]:
    named = [one for one in _free(guess, seen, "text", "number", "flag", "other") if _is_label(one)]
    return [one for one in named if not _MEASURES & set(one.words)] or named


def _is_label(column: Seen) -> bool:
    return _is_one_of_few(column) and "tie" not in column.words and _rank(column, _LABEL) is not None


def _is_one_of_few(column: Seen) -> bool:
    """Whether its values are a few short ones."""
    short = all(isinstance(one, str | int | float) and len(str(one)) <= _LONGEST_VALUE for one in column.values)
    return bool(column.values) and short and len(column.distinct) <= _MOST_VALUES


def _marks_or_scores(guess: Guess, seen: Mapping[str, Seen]) -> None:
    """A column of marks, or of scores, for each response: only where their names leave no doubt which response is better."""
    responses = [seen[guess.columns[key]] for key in ("response_a", "response_b")]
    marks, other_marks = marks_in(seen.values(), responses, {*_LABEL, *_REJECTED})
    scores, other_scores = scores_in(seen.values(), responses, _SCORE)
    if len(marks) == 1:
        guess.columns |= dict(zip(("is_a", "is_b"), marks[0], strict=True))
        ties = [o.path for o in seen.values() if o.kind == "flag" and "tie" in o.words and not is_about_the_worse(o)]
        if ties:
            guess.columns["is_tie"] = ties[0]
    elif len(scores) == 1:
        guess.columns |= dict(zip(("score_a", "score_b"), scores[0], strict=True))
    elif not scores and other_marks:
        what = "the columns that mark the better response (the other way round, if they mark the worse one): perhaps"
        guess.missing.append(Missing(("is_a", "is_b"), f"{what} {_listed(other_marks)}"))
    elif not scores and other_scores:
        what = (
            "the columns of scores of which the higher one is better (the other way round, if the lower one): perhaps"
        )
        guess.missing.append(Missing(("score_a", "score_b"), f"{what} {_listed(other_scores)}"))
    else:
        found = _listed([*marks, *scores])
        several = f"; several pairs of columns hold marks or scores: {found}" if found else ""
        what = f"{_WHICH} (or score_a and score_b, the columns of their scores)"
        guess.missing.append(Missing(("label",), what + several))


_WHICH = "the column that says which response is better"


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(map(" and ".join, pairs))


def _values(guess: Guess, seen: Mapping[str, Seen], given: Mapping[str, Sequence[str]]) -> None:
    """The values of the label column that mean A, B and a tie; those that are given count, the others where they are clear."""
    columns = guess.columns
    label = seen.get(str(columns["label"]))
    if label is None:
        return
    if not all(isinstance(value, str | int | float) for value in label.values):
        what = f"{_WHICH}: the cells of {label.path!r} are lists or objects"
        guess.missing.append(Missing(("label",), what))
        return
    guess.sides = (str(columns["response_a"]), str(columns["response_b"]))
    found = meanings(label, (seen[guess.sides[0]], seen[guess.sides[1]]))
    said = {text: key for key in ("label_a", "label_b", "label_tie") for text in given.get(key, ())}
    unknown = said.keys() - {str(value) for value in label.distinct}
    guess.missing += [
        Missing((), f"{said[text]}: the column {label.path!r} has no value {text!r}") for text in sorted(unknown)
    ]
    for value in label.distinct:
        meaning = found[value]
        clear = f"label_{meaning.lower()}" if meaning else None
        # Who says that 2 is A has not said what 1 is.
        key = said.get(str(value)) or (None if clear in said.values() else clear)
        if key is None:
            guess.unclear.append(value)
        else:
            columns.setdefault(key, []).append(value)
    for key in ("label_a", "label_b"):
        if not columns.get(key) and not guess.unclear:
            values = ", ".join(map(repr, label.distinct))
            what = f"{key}: the column {label.path!r} has only {values}, none of which means so; if one response always is "
            guess.missing.append(
                Missing((), what + "better, name the two with --columns chosen=COLUMN and --columns rejected=COLUMN")
            )
