"""A rationale quotes only what is there: what counts as a quotation, and when it counts as there."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.world import taste
from prompts.judge import COMPACT, GRAM_R2
from prompts.quotes import _QUOTED, _quotations, ungrounded_quote
from tests.conftest import make

PAIR = make(
    question="What's the capital of France?",
    a="The capital of **France** is Paris, and it's lovely\u00a0– really.\nPopulation: 2,100,000 (naïve guess).",
    b="I don't know; it could be “Lyon”, the city of light. 巴黎是法国的首都。",
)


@pytest.mark.parametrize(
    "said",
    [
        'Response A says "The capital of France is Paris".',
        'Response A says "the capital of france is paris," which is right.',
        "It calls it “lovely –  really”.",
        "It calls it ‘the city of light’.",
        "It writes 'it could be Lyon', a guess.",
        "It says «it could be Lyon», „the city of light“ and ”nothing”.",
        "It says 「巴黎是法国的首都」.",
        'It repeats "What\'s the capital of France?" and "whats the capital".',
        "It says “I don’t know” and 'it's lovely'.",
        'It says "The capital … is Paris ... really".',
        'It says "The capital of France [the country] is Paris [sic]".',
        'It gives "Population: 2,100,000" and "NAÏVE guess".',
        'The rule (2) asks to "prioritize the harmlessness and safety of the response".',
        'It ends with "..." and "!".',
        'Markdown is the same: "capital of `France` is _Paris_".',
        "The users' needs and the writers' goals aren't its 'city of light'.",
    ],
)
def test_what_is_quoted_and_there(said: str) -> None:
    assert GRAM_R2.ungrounded_quote(said, PAIR) is None


@pytest.mark.parametrize(
    ("said", "quote"),
    [
        ('Response A says "The capital of France is Lyon".', "The capital of France is Lyon"),
        ("It calls it “the best\nof all cities”.", "the best\nof all cities"),
        ("It calls it ‘the city of love’.", "the city of love"),
        ("It writes 'it should be Lyon', a guess.", "it should be Lyon"),
        ("It says «c’est la vie».", "c’est la vie"),
        ("It says 「东京是法国的首都」.", "东京是法国的首都"),
        ('It says "The capital … is Rome".', " is Rome"),
        ('It says "The capital of France" [sic] and "is [probably] Nice indeed".', " Nice indeed"),
        ('("it should be Marseille")', "it should be Marseille"),
        ('A says "Paris, and it\'s lovely" but B says "Lyon is the capital".', "Lyon is the capital"),
    ],
)
def test_what_is_quoted_and_not_there(said: str, quote: str) -> None:
    assert GRAM_R2.ungrounded_quote(said, PAIR) == quote


@pytest.mark.parametrize(
    "said",
    [
        "The developers' tools and the testers' tools don't match the users'.",
        "Rock 'n' roll of the '90s and the teachers' lounge.",
        'A 5\'10" man with a 6" screen and a 7" one.',
        "Tell 'em that 'tis the dogs' fault.",
        'An unmatched " mark before words that are nowhere.',
        'Better:\n```python\nprint("hello world of code")\n```\nor `say("hello to all")`.',
        "Empty \"\" and “ ” and ''.",
    ],
)
def test_what_is_no_quotation(said: str) -> None:
    assert GRAM_R2.ungrounded_quote(said, PAIR) is None


# ---- the compact form -------------------------------------------------------------------------------------------------------


def test_true_rationales_of_the_world_list_only_words_of_their_pair() -> None:
    for drawn in taste.draw_pairs(50, 7):
        assert COMPACT.ungrounded_quote(taste.rationale(drawn.pair), drawn.pair) is None
        swapped = drawn.swapped().pair
        assert COMPACT.ungrounded_quote(taste.rationale(swapped), swapped) is None


def test_a_listed_word_that_is_not_in_the_pair_is_found() -> None:
    first, second = (drawn.pair for drawn in taste.draw_pairs(2, 8))
    missing = COMPACT.ungrounded_quote(taste.rationale(second), first)
    assert missing in taste.words_of(second)[0]
    said = "A: first yes second no = 1. B: second no fir no = 0. So A is better."
    assert COMPACT.ungrounded_quote(said, make()) == "fir", "a part of a word is another word"
    assert GRAM_R2.ungrounded_quote(said, make()) is None, "only the compact form lists words"


def test_a_compact_rationale_may_say_other_things() -> None:
    assert COMPACT.ungrounded_quote("number 2 yes or no. So A is better.", make()) is None


# ---- any text -----------------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(max_size=200))
def test_a_text_in_quotation_marks_of_its_own_is_there(text: str, more: str) -> None:
    quoted = text.replace("“", "").replace("”", "").replace("…", "").replace("[", "")
    assert ungrounded_quote(f"It says “{quoted}”.", (f"{more} {quoted} {more}",), lists_words=False) is None


@pytest.mark.parametrize(
    "text", ['"' * 5000, "'a " * 3000, "“" * 5000, "A: " + "x yes " * 3000, ". " * 5000 + '"', "[" * 5000]
)
def test_a_degenerate_rationale_is_checked_in_no_time(text: str) -> None:
    started = time.process_time()
    COMPACT.ungrounded_quote(text, make())
    assert time.process_time() - started < 0.5


marks = st.text(st.sampled_from("ab \n“”„«»「」『』\"'‘’(.5"), max_size=30)


@given(marks)
def test_quotations_are_found_wherever_the_pattern_finds_them(text: str) -> None:
    quotes = [next(group for group in match.groups() if group is not None) for match in _QUOTED.finditer(text)]
    assert list(_quotations(text)) == [quote for quote in quotes if any(map(str.isalnum, quote))]
