"""Rationales in the writer's own words, given the last sentence by which a judge's prompt tells what they argue for.

::

    "The second one names its source."                        of a pair whose second response is better, becomes
    "The second one names its source. So B is better."
    "It names its source, so A is better."                    of this pair is left out: it argues for the other response
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from data.records import Label, RationalePair
from data.sources.source import Source
from data.sources.sources import Dropped, read_source
from flows.config.recipes import ConfigError
from flows.starting.copies import CONCLUDED, write_copies
from flows.starting.files import LOOKED_AT, find
from flows.starting.inputs import Inputs
from flows.starting.seen import Seen
from prompts.judge import COMPACT, GRAM_R2, claims, conclusion

_SENTENCE = re.compile(r"[^.!?;\n]+")
_NOUN = r"(?i:response|answer|assistant|model|candidate|output|completion|reply|summary|solution)"
_OTHER_THING = r"(?i:vitamin|hepatitis|grade|type|group|class|part|section|plan|team|point|step|option|choice|person)"
_NAME = re.compile(
    rf"\b{_OTHER_THING}\s+[AB]\b"
    rf"|\b{_NOUN}(?:(?:\s*#?|-)([AB]|\d(?!\.\d))|_([ABab]|\d))\b|\b([AB])\b"
)
_PLACE = re.compile(r"\bthe\s+(first|second)(?:\s+(?:one|response|answer|output|reply|summary))?\b", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_CLAUSE = re.compile(r"[,:]|\b(?:but|however|so)\b", re.IGNORECASE)
_CALLED = re.compile(r"\b(?:better|superior|prefer)", re.IGNORECASE)
_CONDITION = re.compile(r"\b(?:if|whether|unless|when)\b", re.IGNORECASE)
_CONCEDED = re.compile(
    r"\b(?:although|though|while|some|many|may|might|could)\b"
    r"|(?<!think )(?<!believe )(?<!conclude )(?<!say )(?<!find )(?<!means )(?<!evident )(?<!obvious )(?<!\bclear )\bthat\b",
    re.IGNORECASE,
)
"""What another person may think, or the writer does not: "although A is better", but not "I think that A is better"."""
_PARTLY = re.compile(
    r"\b(?:better|superior|preferable|preferred)\b"
    r"(?!\s+(?:response|answer|reply|output|summary|solution|one)\b)"
    r"(?!(?:\s+(?:overall|here|by far))?(?:\s+(?:than|over|to|because|since|as|due|and)\b|\s*(?:[^\w\s'’]|$)))"
    r"|\bprefer(?:s|red)?(?=\s+Response\s+[AB]['’]s\b)",
    re.IGNORECASE,
)
"""Better in one thing, which is no claim: "is better written", "is better at sums", "I prefer A's tone"."""


def check_agreement(inputs: Inputs) -> None:
    """Raises ConfigError if most rationales of a file conclude for the response that their row's label calls worse."""
    for found in inputs.rationale:
        argued = found.argued()
        numbers = _numbers(found.source)
        n = sum(_is_for_the_other(pair, numbers) for pair in argued)
        if 2 * n > len(argued):
            raise ConfigError(
                f"{found.source.path}: {n:,} of {len(argued):,} rationales conclude for the other response: are the labels "
                "reversed? If so, say what they mean with --columns label=COLUMN, label_a=VALUE and label_b=VALUE; if not, "
                "correct the rationales"
            )


def lacks_conclusions(inputs: Inputs) -> bool:
    """Whether rationales for self-training have the tags of a judge's reply, or lack its prompt's last sentence."""
    texts = [pair.rationale for found in inputs.rationale for pair in found.argued()]
    headed = _are_headed(inputs)
    return any(_TAG.search(text) or not (headed or conclusion(text, COMPACT.shape)) for text in texts)


def _are_headed(inputs: Inputs) -> bool:
    """Whether most rationales have the headings that the released judge's prompt asks for, and need no other conclusion."""
    texts = [_without_tags(pair.rationale) for found in inputs.rationale for pair in found.argued()]
    return 2 * sum(conclusion(text, GRAM_R2.shape) is not None for text in texts) > len(texts)


def _without_tags(rationale: str) -> str:
    """The text of a judge's whole reply, ``<think> … </think><answer>A</answer>``, without its answer; others as they are."""
    return _TAG.sub("", _ANSWER.sub("", rationale)).strip()


def with_conclusions(inputs: Inputs, folder: Path) -> tuple[Inputs, int]:
    """The inputs with the rationales copied to the folder, as records, each ending with its conclusion; and how many are left out
    because they conclude for the other response.
    """
    other: list[RationalePair] = []
    headed = _are_headed(inputs)
    rows = chain.from_iterable(_concluded(found.source, headed, other) for found in inputs.rationale)
    write_copies(folder, {CONCLUDED: rows})
    return replace(inputs, rationale=(find(str((folder / CONCLUDED).absolute()), labeled=True),)), len(other)


def _concluded(source: Source, headed: bool, other: list[RationalePair]) -> Iterator[Mapping[str, Any]]:
    numbers = _numbers(source)
    for item in read_source(source.model_copy(update={"max_malformed": 20 * LOOKED_AT}), "rationale", seed=0):
        if isinstance(item, Dropped):
            continue
        if _is_for_the_other(item, numbers):
            other.append(item)
            continue
        text = _without_tags(item.rationale)
        if not headed and conclusion(text, COMPACT.shape) is None:
            end = "" if text.endswith((".", "!", "?")) or not text else "."
            text = f"{text}{end} So {item.label} is better.".strip()
        yield {**item.to_json(), "rationale": text}


def _numbers(source: Source) -> Mapping[str, Label]:
    """The response that each number names: 1 and 2, or the numbers in the names of the columns, such as 0 and 1."""
    columns = source.columns
    first, second = (set(Seen(getattr(columns, key, None) or "").words) for key in ("response_a", "response_b"))
    own = [*filter(str.isdigit, first - second)], [*filter(str.isdigit, second - first)]
    return {own[0][0]: "A", own[1][0]: "B"} if all(own) else {"1": "A", "2": "B"}


def _is_for_the_other(pair: RationalePair, numbers: Mapping[str, Label]) -> bool:
    return argues_for(pair.rationale, numbers) not in (None, pair.label)


def argues_for(rationale: str, numbers: Mapping[str, Label]) -> Label | None:
    """What a prompt takes as the conclusion or, without one, the response that the last sentence with a claim calls better.

    None if no sentence claims anything, or the last one that does names both. `numbers` are names of the responses.
    """
    answers = {numbers.get(answer, answer) for answer in _ANSWER.findall(rationale)}
    if answers in ({"A"}, {"B"}):
        return "A" if "A" in answers else "B"
    rationale = _without_tags(rationale)
    if concluded := conclusion(rationale, COMPACT.shape) or conclusion(rationale, GRAM_R2.shape):
        return concluded
    named = _PLACE.sub(lambda match: "Response " + ("A" if match[1].lower() == "first" else "B"), rationale)
    named = _NAME.sub(lambda match: _by_letter(match, numbers), named.replace("*", ""))
    named = _PARTLY.sub("good", named.replace(" wins", " is better"))
    last = next((found for one in reversed(_SENTENCE.findall(named)) if (found := _claimed(one))), set())
    return next(iter(last)) if len(last) == 1 else None


def _by_letter(name: re.Match[str], numbers: Mapping[str, Label]) -> str:
    """What names a response as "Response A" or "Response B"; anything else as it is."""
    side = next(filter(None, name.groups()), "").upper()
    letter = numbers.get(side, side)
    return f"Response {letter}" if letter in ("A", "B") else name[0]


def _claimed(sentence: str) -> set[Label]:
    """The responses that the writer calls better in a sentence, without a condition and not as what others may say."""
    found: set[Label] = set()
    for clause in _CLAUSE.split(sentence):
        called = _CALLED.search(clause)
        before = clause[: called.start()] if called else clause
        if _CONDITION.search(before):
            break
        if not _CONCEDED.search(before):
            found |= claims(clause)
    return found
