"""Words are those that the patterns find, in any script."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.words import words_in


@pytest.mark.parametrize(("also", "pattern"), [("", r"[^\W_]+"), ("_", r"\w+")])
@given(text=st.text() | st.text(st.sampled_from("ab_9'-\n\u00a0—’é²½ªßΣ中\ud800\u0301\u200b٣")))
def test_words_are_what_the_pattern_finds(also: str, pattern: str, text: str) -> None:
    assert words_in(text, also) == re.findall(pattern, text)


def test_every_character_is_where_the_patterns_have_it() -> None:
    text = "x".join(map(chr, range(0x110000)))
    assert words_in(text) == re.findall(r"[^\W_]+", text)
    assert words_in(text, "_") == re.findall(r"\w+", text)
