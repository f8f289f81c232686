"""Rows that are not what their data set has, and sources of only some of its rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.sources.catalog import DATASETS, DatasetName
from data.sources.sources import Dropped, Source, SourceError, read_source
from tests.support.data_sets import ROWS, code, gram_rr, multipref, said, unified
from tests.support.known_sets import each_set, read

# ---- rows that are not what their set has --------------------------------------------------------------------------------


FIELDS: dict[DatasetName, str] = {
    "helpsteer3": "overall_preference",
    "multipref": "expert_worker_annotations",
    "code-ultrafeedback": "annotations",
    "unified-feedback": "conv_B_rating",
    "preference-collection": "orig_preference",
    "pku-saferlhf": "better_response_id",
    "skywork-reward-preference-80k-v0.2": "rejected",
    "stack-exchange": "answers",
    "gram-pre-training-566k": "output",
    "gram-fine-tuning-65k": "instruction",
    "gram-rr-training-data": "output",
    "ultrafeedback-binarized": "chosen",
    "hh-rlhf": "chosen",
    "sharegpt-ranking": "conversations",
}


@each_set
@pytest.mark.parametrize("wrong", ["missing", "wrong"])
def test_a_wrong_row_is_named_by_file_row_and_field(tmp_path: Path, name: DatasetName, wrong: str) -> None:
    field = FIELDS[name]
    good, bad = copy.deepcopy(ROWS[name][0]), copy.deepcopy(ROWS[name][0])
    if wrong == "missing":
        del bad[field]
    else:
        bad[field] = {"not": "this"}
    kind = "preference" if "preference" in DATASETS[name].gives else "pair"
    named = "prompt" if (name, wrong) == ("sharegpt-ranking", "missing") else field
    with pytest.raises(SourceError, match=rf"/copy\.jsonl, row 2: field '{named}[^']*': ") as caught:
        read(tmp_path, name, kind, [good, bad])
    assert "max_malformed" in str(caught.value)
    allowed = read(tmp_path, name, kind, [good, bad], max_malformed=1)
    assert allowed[-1].reason == "malformed"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        (
            "multipref",
            multipref("1", ["A-is-best"], []),
            r"'normal_worker_annotations.0.overall_pref': must be .* got str",
        ),
        ("multipref", multipref("1", [], []), r"'normal_worker_annotations': is empty, and so is 'expert_worker"),
        ("multipref", {**multipref("1", ["Tie"], []), "comparison_id": ""}, r"'comparison_id': must be a non-empty"),
        (
            "code-ultrafeedback",
            code(["good", "1"]),
            r"'annotations.1.rating': must be a number or \"N/A\", got str 'good'",
        ),
        ("code-ultrafeedback", code(["nan", "1"]), r"'annotations.1.rating': must be a number"),
        (
            "code-ultrafeedback",
            {**code(["1", "2"]), "annotations": [{"model": "m0", "rating": "1"}]},
            r"'responses.1.model': has no rating in 'annotations': str 'm1'",
        ),
        (
            "code-ultrafeedback",
            {**code(["1", "2"]), "annotations": [{"model": "m0", "rating": "1"}, {"model": "m0", "rating": "2"}]},
            r"'annotations.1.model': is rated twice",
        ),
        (
            "code-ultrafeedback",
            {**code(["1", "2"]), "responses": ["a", "b"]},
            r"'responses.0': must be an object, got str",
        ),
        ("unified-feedback", unified(float("nan"), 0), r"'conv_A_rating': must be a number, got float nan"),
        ("unified-feedback", unified(True, 0), r"'conv_A_rating': must be a number, got bool True"),
        ("unified-feedback", unified(1, 0, conv_A=said("Hello")), r"'conv_A': must end with the assistant's answer"),
        ("gram-rr-training-data", gram_rr("<answer>A</answer>"), r"'output': must contain <think>"),
        ("gram-rr-training-data", gram_rr("<think>a</think><answer>C</answer>"), r"'output': must contain <think>"),
        ("gram-rr-training-data", gram_rr("<think>a</think><answer>A</answer> B"), r"'output': must contain <think>"),
        (
            "gram-rr-training-data",
            gram_rr("<think>a<think>b</think><answer>A</answer>"),
            r"contains <think> more than once",
        ),
    ],
)
def test_malformed_rows_of_the_sets(tmp_path: Path, name: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, name, "preference", [row])


def test_wrong_labels_do_not_matter_where_labels_are_not_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, "multipref", "pair", [multipref("1", ["A-is-best"], [])])) == 1
    assert len(read(tmp_path, "code-ultrafeedback", "pair", [code(["good", "1"])])) == 1
    assert len(read(tmp_path, "gram-rr-training-data", "pair", [gram_rr("?")])) == 1


# ---- only some rows --------------------------------------------------------------------------------------------------------


def of_domains(tmp_path: Path, *domains: object) -> Source:
    rows = [
        {"domain": domain, "about": {"n": i}, "prompt": f"Why {i}?", "chosen": "Because.", "rejected": "No."}
        for i, domain in enumerate(domains)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return Source(path=str(tmp_path / "rows.jsonl"), format="chosen-rejected")


def test_rows_with_other_values_are_dropped_and_counted(tmp_path: Path) -> None:
    source = of_domains(tmp_path, "stem", "code", "stem").model_copy(update={"where": {"domain": ("stem",)}})
    items = list(read_source(source, "preference", 0))
    assert [getattr(item, "reason", None) for item in items] == [None, "filtered", None]
    assert items[1].detail == "domain is str 'code'"
    everything = of_domains(tmp_path, "stem", "code", "stem")
    kept = [item for item in read_source(everything, "preference", 0) if item.pair.prompt[0].content != "Why 1?"]
    assert [items[0], items[2]] == kept, "what is kept keeps its places"


def test_values_are_compared_as_numbers_texts_and_truths_and_nested_columns_are_reached(tmp_path: Path) -> None:
    source = of_domains(tmp_path, "1", 1, True, 1.0, 0.5, False)
    for wanted, places in (
        (["1"], [0]),
        ([1], [1, 3]),
        ([1.0], [1, 3]),
        ([0.5], [4]),
        ([True], [2]),
        ([0], []),
        (["1", True], [0, 2]),
    ):
        chosen = Source.model_validate({**source.model_dump(), "where": {"domain": wanted}})
        again = Source.model_validate_json(chosen.model_dump_json())
        for each in (chosen, again):
            items = list(read_source(each, "pair", 0))
            assert [i for i, item in enumerate(items) if not isinstance(item, Dropped)] == places
    nested = list(read_source(source.model_copy(update={"where": {"about.n": (2,)}}), "pair", 0))
    assert [i for i, item in enumerate(nested) if not isinstance(item, Dropped)] == [2]


def test_a_column_that_is_not_there_is_an_error_with_file_row_and_column(tmp_path: Path) -> None:
    source = of_domains(tmp_path, "stem").model_copy(update={"where": {"topic": ("stem",)}})
    with pytest.raises(
        SourceError, match=r"rows\.jsonl, row 1: field 'topic': is missing: the row has the columns domain"
    ):
        list(read_source(source, "pair", 0))
