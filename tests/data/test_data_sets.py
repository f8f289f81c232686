"""The data sets that are known by name: their rows become the right records, and a wrong row is named by file, row, field."""

from __future__ import annotations

import copy
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from data.records import Message, PreferencePair
from data.sources.adapters import Format
from data.sources.catalog import DATASETS, DatasetName
from data.sources.sources import Dropped, Source, SourceError, assign_order
from flows.config.recipes import RECIPES
from prompts.judge import GRAM_R2
from tasks.settings import DataSettings
from tests.support.data_sets import IN_SHAPE, ROWS, code, multipref, said, unified
from tests.support.known_sets import each_set, read


def better(item: PreferencePair) -> str:
    return item.pair.response_a if item.label == "A" else item.pair.response_b


def labels(items: list[Any]) -> list[str]:
    """What became of each pair: the better response, or why it was dropped."""
    return [item.reason if isinstance(item, Dropped) else better(item) for item in items]


# ---- the catalog -----------------------------------------------------------------------------------------------------


def test_every_name_has_an_entry_and_rows_here() -> None:
    assert set(DATASETS) == set(get_args(DatasetName)) == set(ROWS)
    assert {known.format for known in DATASETS.values()} == set(get_args(Format)) - {"records", "columns"}


@each_set
def test_a_name_stands_for_hub_name_subset_split_and_format(name: DatasetName) -> None:
    known = DATASETS[name]
    source = Source(dataset=name)
    assert (source.hub_name, source.subset, source.split, source.format) == (
        known.hub,
        known.subset,
        known.split,
        known.format,
    )
    assert Source.model_validate(source.model_dump()) == source
    assert known.licence
    assert known.columns
    assert known.label


@each_set
def test_every_name_can_stand_in_a_recipe(name: DatasetName) -> None:
    """In each kind that the set can give, with a cap and a seed."""
    for kind in DATASETS[name].gives:
        section = {"rationale": "rationale", "preference": "labeled", "pair": "unlabeled"}[kind]
        text = (RECIPES / "demo.toml").read_text(encoding="utf-8")
        data = tomllib.loads(text)["data"] | tomllib.loads(f'{section} = [{{ dataset = "{name}", cap = 5, seed = 1 }}]')
        assert getattr(DataSettings.model_validate(data), section)[0].hub_name == DATASETS[name].hub


def test_what_is_given_beside_the_name_counts() -> None:
    assert Source(dataset="helpsteer3", split="validation").split == "validation"
    assert Source(dataset="unified-feedback", subset="Nectar").subset == "Nectar"
    assert Source(dataset="ultrafeedback-binarized", split="test_prefs").split == "test_prefs"
    mine = Source(dataset="helpsteer3", path="hub:me/mine")
    assert (mine.hub_name, mine.subset, mine.format) == ("me/mine", "preference", "helpsteer3")
    mapped = Source.model_validate(
        {"dataset": "hh-rlhf", "format": "columns", "columns": {"prompt": "p", "chosen": "c", "rejected": "r"}}
    )
    assert mapped.format == "columns"


def test_a_local_copy_needs_its_path_only() -> None:
    source = Source(dataset="ultrafeedback-binarized", path="copy.parquet")
    assert (source.hub_name, source.format, source.split, source.subset) == (None, "chosen-rejected", "train", None)
    with pytest.raises(ValidationError, match="split, subset and revision are only for hub data sets"):
        Source(dataset="ultrafeedback-binarized", path="copy.parquet", split="test_prefs")


def test_defaults_that_a_form_sends_along_do_not_override_the_name() -> None:
    form = {"dataset": "ultrafeedback-binarized", "path": "", "format": "records", "split": "train", "subset": None}
    assert Source.model_validate(form) == Source(dataset="ultrafeedback-binarized")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give a path, or the name of a data set"),
        ({"dataset": "helpsteer"}, "Input should be 'helpsteer3', 'multipref'"),
        ({"dataset": ["helpsteer3"]}, "Input should be 'helpsteer3'"),
        ({"dataset": None}, "give a path"),
    ],
)
def test_sources_of_nothing(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(given)


@each_set
def test_a_set_gives_the_kinds_that_its_entry_says_and_no_others(tmp_path: Path, name: DatasetName) -> None:
    gives = DATASETS[name].gives
    assert gives == ("rationale", "preference", "pair")[3 - len(gives) :]
    for kind in ("rationale", "preference", "pair"):
        if kind in gives:
            assert any(not isinstance(item, Dropped) for item in read(tmp_path, name, kind))
        else:
            with pytest.raises(SourceError, match=r"were requested, but this source \(format .*\) has none"):
                read(tmp_path, name, kind)


@each_set
def test_pairs_do_not_depend_on_labels_and_carry_the_sets_name(tmp_path: Path, name: DatasetName) -> None:
    pairs = read(tmp_path, name, "pair")
    truths = read(tmp_path, name, "pair_with_truth")
    assert pairs == [item if isinstance(item, Dropped) else item[0] for item in truths]
    assert {item.source for item in pairs if not isinstance(item, Dropped)} == {name}


@pytest.mark.parametrize("name", [name for name in ROWS if "preference" in DATASETS[name].gives])
def test_a_seed_changes_places_and_labels_together(tmp_path: Path, name: DatasetName) -> None:
    many = [copy.deepcopy(row) for _ in range(12) for row in ROWS[name]]
    for row in many:
        row["comparison_id"] = float("nan")  # pandas' empty cell: the set with this column has no ids
    one, two = (read(tmp_path, name, "preference", many, seed) for seed in (0, 1))
    assert labels(one) == labels(two)
    for left, right in zip(one, two, strict=True):
        assert right == left or right == left.swapped()


# ---- each set --------------------------------------------------------------------------------------------------------


RIVER, MOUNTAINS = "The Elbe.", "The Alps are a range of mountains."


def test_helpsteer3(tmp_path: Path) -> None:
    assert labels(read(tmp_path, "helpsteer3", "preference")) == [RIVER, MOUNTAINS, "tie", RIVER]
    reasoned = read(tmp_path, "helpsteer3", "rationale")
    assert [item.reason for item in reasoned[2:]] == ["tie", "no_rationale"]  # of the last, nobody agrees with it
    for item in reasoned[:2]:
        assert (item.pair.response_a, item.pair.response_b) == (RIVER, MOUNTAINS)
        assert GRAM_R2.check_rationale(item.rationale, item.label) is None
        assert "Only Response A names a river." in item.rationale


def test_multipref_is_what_most_annotators_said(tmp_path: Path) -> None:
    """Two of four for A against one each; three for B; A and B alike; mostly ties; A and ties alike."""
    items = read(tmp_path, "multipref", "preference")
    assert labels(items) == ["Seven minutes in boiling water.", "Put it on a shelf.", "tie", "tie", "tie"]
    assert [item.pair.id for item in items[:2]] == ["c1", "c2"]
    assert items[0].pair.prompt == (Message("user", "Boil an egg."),)


def test_multipref_reads_the_experts_as_well_as_the_crowd(tmp_path: Path) -> None:
    rows = [
        multipref("1", [], ["B-is-clearly-better"]),
        multipref("2", ["B-is-clearly-better"], []),
        multipref("3", ["A-is-clearly-better"], ["B-is-slightly-better", "B-is-slightly-better"]),
    ]
    assert labels(read(tmp_path, "multipref", "preference", rows)) == ["Put it on a shelf."] * 3


def test_code_ultrafeedback_gives_every_pair_of_a_row(tmp_path: Path) -> None:
    items = read(tmp_path, "code-ultrafeedback", "preference")
    first, rest = items[:6], items[6:]
    assert labels(first) == ["answer of m0", "tie", "no_label", "answer of m2", "no_label", "no_label"]
    assert labels(rest) == ["answer of m1", "few_responses"]
    assert Counter(item.where.rsplit(":", 1)[1] for item in items if isinstance(item, Dropped)) == {"1": 4, "3": 1}
    pairs = [item for item in read(tmp_path, "code-ultrafeedback", "pair") if not isinstance(item, Dropped)]
    assert len({pair.id for pair in pairs[:6]}) == 6
    assert [{pair.response_a[-2:], pair.response_b[-2:]} for pair in pairs[:6]] == [
        {"m0", "m1"},
        {"m0", "m2"},
        {"m0", "m3"},
        {"m1", "m2"},
        {"m1", "m3"},
        {"m2", "m3"},
    ]


def test_code_ultrafeedback_truth_of_a_response_without_rating_is_unknown(tmp_path: Path) -> None:
    truths = read(tmp_path, "code-ultrafeedback", "pair_with_truth")[:6]
    assert [truth is None for _, truth in truths] == [False, True, True, False, True, True]


def test_a_limit_counts_rows_of_several_pairs_as_one(tmp_path: Path) -> None:
    assert len(read(tmp_path, "code-ultrafeedback", "pair", limit=1)) == 6
    assert len(read(tmp_path, "code-ultrafeedback", "pair", limit=2)) == 7


def test_unified_feedback(tmp_path: Path) -> None:
    items = read(tmp_path, "unified-feedback", "preference")
    assert labels(items) == ["C, a, t.", "K, a, t.", "tie"]
    assert [turn.content for turn in items[0].pair.prompt] == ["Hello", "Hi!", "Spell cat."]
    differing = read(tmp_path, "unified-feedback", "preference", [unified(1, 0, conv_B=said("Hello", "Hi."))])
    assert labels(differing) == ["prompts_differ"]


def test_preference_collection(tmp_path: Path) -> None:
    assert labels(read(tmp_path, "preference-collection", "preference")) == [
        "Thank you so much!",
        "No.",
        "Thank you so much!",
    ]
    one, two, three = read(tmp_path, "preference-collection", "rationale")
    assert three.reason == "no_rationale"
    for item in (one, two):
        assert (item.pair.response_a, item.pair.response_b) == ("Thank you so much!", "No.")
        assert GRAM_R2.check_rationale(item.rationale, item.label) is None
        assert "Response A: It is warm.\nResponse B: It is curt." in item.rationale
    assert "\nComparision:\nResponse B is to the point.\n\n" in two.rationale  # without the verdict behind it


def test_pku_saferlhf_goes_by_helpfulness(tmp_path: Path) -> None:
    items = read(tmp_path, "pku-saferlhf", "preference")
    assert labels(items) == ["With a tension wrench and a pick, pin by pin.", "I would rather not say."]


def test_stack_exchange_pairs_the_first_two_answers(tmp_path: Path) -> None:
    items = read(tmp_path, "stack-exchange", "pair_with_truth")
    for pair, _ in items[:3]:
        assert {pair.response_a, pair.response_b} == {"<p>answer 0</p>", "<p>answer 1</p>"}
        assert pair.prompt == (Message("user", "<p>Why does ice float?</p>"),)
    assert items[3].reason == "few_responses"
    assert items[2][1] is None
    assert labels(read(tmp_path, "stack-exchange", "preference")) == [
        "<p>answer 1</p>",
        "<p>answer 0</p>",
        "tie",
        "few_responses",
    ]


def test_gram_rr(tmp_path: Path) -> None:
    for item in read(tmp_path, "gram-rr-training-data", "rationale"):
        assert (item.pair.prompt, better(item)) == ((Message("user", "Greet me."),), "Good morning!")
        assert (item.pair.response_a, item.label, item.rationale) == ("What do you want?", "B", IN_SHAPE)
        assert GRAM_R2.check_rationale(item.rationale, item.label) is None


def test_gram_sets(tmp_path: Path) -> None:
    [unlabeled] = read(tmp_path, "gram-pre-training-566k", "pair")
    assert (unlabeled.response_a, unlabeled.response_b) == ("The sky.", "Not much.")
    assert labels(read(tmp_path, "gram-fine-tuning-65k", "preference")) == ["The sky.", "Me."]


@pytest.mark.parametrize(
    "name", ["skywork-reward-preference-80k-v0.2", "ultrafeedback-binarized", "hh-rlhf", "sharegpt-ranking"]
)
def test_sets_that_name_the_better_response(tmp_path: Path, name: str) -> None:
    items = read(tmp_path, name, "preference")
    assert set(labels(items)) == {"Four."}
    assert [item.label for item in items] == [assign_order(i, 0) for i in range(len(items))]
    assert items[0].pair.prompt[-1].content == "Two and two?"


def test_places_of_no_meaning_are_balanced_whatever_the_file_does(tmp_path: Path) -> None:
    """A file whose better response is always the first must not teach that the first is better."""
    items = read(tmp_path, "unified-feedback", "preference", [unified(1.0, 0.0)] * 40)
    assert Counter(item.label for item in items) == {"A": 20, "B": 20}
    pairs = read(tmp_path, "code-ultrafeedback", "preference", [code(["5", "4", "3", "2"])] * 40)
    assert Counter(item.label for item in pairs) == {"A": 120, "B": 120}
    assert Counter(item.label for item in pairs[:6]) == {"A": 3, "B": 3}  # within a row too
