"""Annotators' texts as rationales: in the judge's shape (Feedback, Comparision, Conclusion), and named by position."""

from __future__ import annotations

import re

from data.records import Label, flip

# What would break the shape of a rationale, or of the reply that contains it. Spaces are those of one line: with those of
# several, the time would grow with the square of the number of blank lines.
_BREAKS_SHAPE = re.compile(r"^[^\S\n]*(?:Feedback|Comparision|Conclusion):\s*$|</?(?:think|answer)>", re.MULTILINE)

_NOUN = r"(?:response|answer|reply|completion|output)"
_BY_LABEL = re.compile(rf"\b(?:the\s+)?(chosen|rejected)\s+(?:{_NOUN}|one)\b", re.IGNORECASE)
_NAMED = rf"(?:{_NOUN}|assistant|model|candidate|option|choice|solution|summary|text|version|translation|conversation)"
_DOES = (
    r"(?:is|was|isn't|wasn't|has|had|does|doesn't|did|didn't|can|cannot|can't|could|will|would|should|may|might|must|gives|gave|"
    r"provides|cites|explains|answers|uses|names|says|states|makes|shows|offers|contains|includes|fails|failed|invents|covers|"
    r"follows|ignores|misses|lacks|gets|goes)"
)
_TWO = rf"\s+of\s+(?:the|these)\s+two(?=\s+(?:{_NAMED}s|{_DOES})\b|\s*[.,;:!?)]|\s*$)"
_THEN = rf"(?=\s+{_DOES}\b|['’]s\b|{_TWO}|\s*[.,;:!?)]|\s*$)"
"""What follows a name, and not an adjective: "the second is short", but not "the second sentence"."""
_NOT_AN_ARTICLE = (
    r"(?=\s+(?:and|or|vs|than|over|because|since|but|while|whereas)\b(?!-)"
    r"|\s+(?!means\b|lens\b|series\b|species\b)[a-z]+(?<![isu])s\b)"
    rf"|(?!\s+must\b){_THEN}"
)
"""What follows a small "a" that is a name: "response a is", but not "a response a user wants" nor "a response a must"."""
_BY_POSITION = re.compile(
    rf"\b(?i:{_NAMED})(?:\s*#?|[-_])(?:[AB]|[12])\b(?!\.\d)"
    rf"|\b(?i:{_NAMED})_[ab]\b"
    rf"|\b(?i:{_NAMED})(?:\s+|\s*#|-)(?:b\b(?![&/+*-]|\.\w|\s*[=<>])|a\b(?:{_NOT_AN_ARTICLE}))"
    rf"|\b(?i:{_NAMED})\s*(?:\([AaBb12]\)|\"[AaBb12]\"|“[AaBb12]”|'[AaBb12]'|‘[AaBb12]’|`[AaBb12]`)"
    rf"|\b(?i:{_NAMED}s|summaries)\s+#?[AaBb12]\s*(?:and|or|&|/|,)"
    rf"|\b(?i:{_NAMED}\s+(?:one|two)){_THEN}"
    rf"|\b(?i:first|second|former|latter|1st|2nd)\s+(?i:{_NAMED})\b"
    rf"|\b(?i:the\s+(?:first|second|former|latter|1st|2nd))(?:\s+(?i:one)\b|{_THEN})"
    r"|#[12]\b",
)
_LETTER = re.compile(r"(?<![\w&/.$-])([AB])(?![\w&/+*-]|\.\w)")
_LAST_WORD = re.compile(r"(\w+)[ \"'“‘(\[`]*$")
_OTHER_THINGS = {"vitamin", "hepatitis", "influenza", "grade", "type", "group", "class", "part", "section", "appendix", "plan",
                 "team", "point", "step", "figure", "table", "column", "row", "matrix", "person", "a", "an"}  # fmt: skip
_GOES_ON = re.compile(r"\s+(?:vitamins?|cells?|minor|major|flat|sharp|side|movie)\b")
_INITIAL = re.compile(r"[A-Z]\w+ [AB]\. [A-Z]")
_NO_ARTICLE = re.compile(
    rf"\s*[)\]\"”’',;:!?`]|\.?\s*$|\.\s|\s+(?:{_DOES}|and|or|vs|than|only|also|[a-z]+(?<![isu])s)\b"
)
_IN_A_SENTENCE = re.compile(r"[a-z0-9),;] +$")
_TITLE = re.compile(r" +[A-Z]")


def names_positions(text: str) -> bool:
    """Whether a text names the responses by a position, such as Response A, Answer 2, the second response, or A alone.

    In doubt it does: "A" counts where it is not the article, unless a word such as "Vitamin" is before it.
    """
    plain = text.replace("**", "")
    return _BY_POSITION.search(plain) is not None or any(_is_position(plain, one) for one in _LETTER.finditer(plain))


def _is_position(text: str, letter: re.Match[str]) -> bool:
    """Whether a capital A or B that stands alone names a response."""
    before = text[max(0, letter.start() - 40) : letter.start()]
    word = _LAST_WORD.search(before)
    if word and (word[1].lower() in _OTHER_THINGS or _INITIAL.match(text, letter.start() - len(word[0]))):
        return False
    if letter[1] == "B":
        return not _GOES_ON.match(text, letter.end())
    if _NO_ARTICLE.match(text, letter.end()):
        return True
    return _IN_A_SENTENCE.search(before) is not None and _TITLE.match(text, letter.end()) is None


def name_by_label(text: str, label: Label) -> str:
    """The text with "the chosen response" and "rejected answer" rewritten to the names used in the judge's prompt."""
    names = {"chosen": f"Response {label}", "rejected": f"Response {flip(label)}"}
    return _BY_LABEL.sub(lambda match: names[match[1].lower()], text)


def rationale_of(feedback_a: str, feedback_b: str, comparison: str, better: Label) -> str | None:
    """A rationale in the shape that the released judge prompt asks for, including its spelling of the second heading.

    None if a text is empty or contains something that would break the shape.
    """
    texts = [text.strip() for text in (feedback_a, feedback_b, comparison)]
    if not all(texts) or any(_BREAKS_SHAPE.search(text) for text in texts):
        return None
    return (
        f"Feedback:\nResponse A: {texts[0]}\nResponse B: {texts[1]}\n\n"
        f"Comparision:\n{texts[2]}\n\nConclusion:\nResponse {better} is better."
    )
