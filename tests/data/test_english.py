"""The small world in English: its words, pairs, splits, and the audit of what a model writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.english import nicer
from data.english.splits import SIZES, write_splits
from data.records import pair_key, parse_preference, parse_rationale
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT

WORDS = nicer.all_words()
PAIR = nicer.make_pair(["keen", "spark", "warms", "vision", "calm", "warns", "jewel", "fresh"])
TRUE = "« warns » is bad, in B. So A is better."


def test_the_words_are_those_that_were_chosen() -> None:
    assert (len(WORDS.pleasant), len(WORDS.unpleasant)) == (481, 568)
    assert all(0.3 <= abs(rating) <= 1.6 for rating in nicer.ratings().values())
    assert all(word.isascii() and word.islower() and len(word) >= 3 for word in nicer.ratings())
    assert (nicer.ratings()["warns"], nicer.ratings()["ability"]) == (-0.4, 1.3), "as in vader_lexicon.txt"


def test_a_pair_has_one_unpleasant_word_and_the_other_response_is_better() -> None:
    drawn = nicer.draw_pairs(60, 1, WORDS)
    assert [pair.label for pair in drawn].count("A") == 30
    for pair in drawn:
        a, b = nicer.unpleasant_in(pair.pair)
        assert (len(a), len(b)) == ((0, 1) if pair.label == "A" else (1, 0))
        assert len(set(f"{pair.pair.response_a} {pair.pair.response_b}".split())) == 8
    assert nicer.draw_pairs(20, 1, WORDS) == drawn[:20]


def test_no_pair_is_in_two_splits_and_more_of_one_changes_no_other() -> None:
    sizes = {"rationale": 40, "labeled": 10, "heldout": 20, "unlabeled": 30}
    splits = nicer.draw_splits(sizes, seed=4)
    keys = [pair_key(row.pair) for rows in splits.values() for row in rows]
    assert len(set(keys)) == len(keys) == 100
    more = nicer.draw_splits({**sizes, "unlabeled": 50}, seed=4)
    assert [more[name] for name in ("rationale", "labeled", "heldout")] == [
        splits[name] for name in ("rationale", "labeled", "heldout")
    ]


def test_words_of_the_rationales_can_be_kept_apart() -> None:
    sizes = {"rationale": 200, "labeled": 20, "heldout": 50, "unlabeled": 100}

    def words(apart: bool) -> tuple[set[str], set[str]]:
        splits = nicer.draw_splits(sizes, seed=4, words_apart=apart)
        of = {
            name: {word for row in rows for word in f"{row.pair.response_a} {row.pair.response_b}".split()}
            for name, rows in splits.items()
        }
        return of["rationale"], of["labeled"] | of["heldout"] | of["unlabeled"]

    proved, others = words(apart=True)
    assert not proved & others
    assert len(proved) > 300 < len(others)
    proved, others = words(apart=False)
    assert len(proved & others) > 100


def test_true_rationales_pass_the_rules_of_proofs_and_the_audit() -> None:
    for pair in nicer.draw_pairs(20, 2, WORDS):
        for shown in (pair, pair.swapped()):
            said = nicer.rationale(shown.pair)
            assert COMPACT.check_rationale(said, shown.label) is None
            assert COMPACT.ungrounded_quote(said, shown.pair) is None
            audit = nicer.audit_rationale(said, shown.pair)
            assert audit.consistent
            assert audit.true
    assert nicer.rationale(PAIR) == TRUE
    assert PROVE_COMPACT.to_rationale(PROVE_COMPACT.to_proof(TRUE)) == TRUE


def test_the_rule_of_quotes_sees_a_word_of_neither_response() -> None:
    assert COMPACT.ungrounded_quote(TRUE.replace("warns", "risky"), PAIR) is not None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (TRUE, set()),
        (f" {TRUE}\n", set()),
        (TRUE.replace("warns", "risky"), {"quoted", "placed", "true"}),
        (TRUE.replace("warns", "jewel"), {"true"}),
        ("« warns » is bad, in A. So B is better.", {"placed"}),
        ("« warns » is bad, in B. So B is better.", {"concluded"}),
        ("warns is bad, in B. So A is better.", {"well_formed", "quoted", "placed", "concluded", "true"}),
        ("", {"well_formed", "quoted", "placed", "concluded", "true"}),
    ],
)
def test_the_audit_names_what_is_wrong(text: str, wrong: set[str]) -> None:
    audit = nicer.audit_rationale(text, PAIR)
    names = ("well_formed", "quoted", "placed", "concluded", "true")
    assert {name for name in names if not getattr(audit, name)} == wrong
    assert audit.consistent == (not wrong & {"well_formed", "placed", "concluded"})


def test_a_pair_of_any_other_kind_has_no_rationale() -> None:
    with pytest.raises(ValueError, match="2 words are unpleasant"):
        nicer.rationale(nicer.make_pair(["keen", "risky", "warms", "vision", "calm", "warns", "jewel", "fresh"]))


def test_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    sizes = {**SIZES, "unlabeled": 6, "rationale": 8}
    first, second = (write_splits(tmp_path / name, 3, sizes) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    rows = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in first}
    assert {name: len(found) for name, found in rows.items()} == sizes
    for row in rows["rationale"]:
        assert parse_rationale(row).rationale == nicer.rationale(parse_rationale(row).pair)
    assert parse_preference(rows["labeled"][0]).pair.prompt[0].content == nicer.QUESTION
