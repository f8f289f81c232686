"""Public formats → records. Every row here is written for these tests; real files are in test_real_sources.py."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from data.records import Message, PreferencePair, RationalePair, ResponsePair, content_id
from data.sources.ids import find_clash
from data.sources.sources import (
    ColumnMap,
    Dropped,
    Source,
    SourceError,
    read_source,
)
from tests.support.sources import (
    AB,
    LABELED,
    TURNS,
    by_map,
    read,
    reasons,
    simple_rows,
    texts,
)

# ---- our own records -------------------------------------------------------------------------------------------------


OWN = RationalePair(
    ResponsePair("r1", (Message("user", "Name a prime."),), "Seven.", "Nine.", source="primes"), "A", "Nine is 3 × 3."
)


def test_what_to_json_writes_is_read_back(tmp_path: Path) -> None:
    rows = [OWN.to_json()]
    assert read(tmp_path, rows, "rationale") == [OWN]
    assert read(tmp_path, rows, "preference") == [OWN.preference]
    assert read(tmp_path, rows, "pair") == [OWN.pair]
    assert read(tmp_path, rows, "pair_with_truth") == [(OWN.pair, "A")]
    assert read(tmp_path, [OWN.pair.to_json()], "pair_with_truth") == [(OWN.pair, None)]
    assert read(tmp_path, [{**OWN.pair.to_json(), "label": float("nan")}], "pair_with_truth") == [(OWN.pair, None)]


def test_records_may_leave_out_id_and_source_and_write_the_prompt_as_text(tmp_path: Path) -> None:
    [pair] = read(tmp_path, [{"prompt": "Hello?", "response_a": "Hi.", "response_b": "Yes?"}], "pair")
    assert pair.prompt == (Message("user", "Hello?"),)
    assert pair.source == "rows"
    assert pair.id == content_id([{"role": "user", "content": "Hello?"}], "Hi.", "Yes?")


@pytest.mark.parametrize(
    ("columns", "row", "problem"),
    [
        ({}, {"id": "\ud83d"}, "field 'id': is not Unicode text: half a surrogate pair at character 0"),
        ({"score_a": "x", "score_b": "y"}, {"x": 10**400, "y": 1}, "field 'x': must be a number, got int"),
        ({"score_a": "z", "score_b": "y"}, {"\ud83d": 1, "y": 1}, r"field 'z': is missing: .* label, \\ud83d, y"),
    ],
)
def test_values_that_nothing_can_hold_are_of_malformed_rows(
    columns: dict[str, str], row: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Hello?", "response_a": "Hi.", "response_b": "Yes?", "label": "A", **row}))
    names = {name: name for name in ("prompt", "response_a", "response_b")}
    source = Source(path=str(path), **(by_map({**names, **columns}) if columns else {}))
    with pytest.raises(SourceError, match=problem) as caught:
        list(read_source(source, "preference", 0))
    str(caught.value).encode()


def test_a_pair_does_not_look_at_the_label(tmp_path: Path) -> None:
    rows = [{**OWN.to_json(), "label": "neither"}]
    assert read(tmp_path, rows, "pair") == [OWN.pair]
    with pytest.raises(SourceError, match=r"""field 'label': must be "A" or "B", got str 'neither'"""):
        read(tmp_path, rows, "pair_with_truth")


def test_a_record_without_rationale_is_dropped_when_one_is_asked_for(tmp_path: Path) -> None:
    rows = [OWN.preference.to_json(), {**OWN.to_json(), "rationale": "  "}, {**OWN.to_json(), "rationale": None}]
    assert reasons(read(tmp_path, rows, "rationale")) == {"no_rationale": 3}


def test_ids_can_be_made_from_the_content_in_every_format(tmp_path: Path) -> None:
    rows = [{**row, "id": 0, "response_a": row["chosen"], "response_b": row["rejected"]} for row in simple_rows(3)]
    for config in (
        {"format": "records"},
        {"format": "chosen-rejected"},
        by_map({"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "id": "id"}),
    ):
        pairs = read(tmp_path, rows, "pair", **config, id_from="content")
        without = [{key: value for key, value in row.items() if key != "id"} for row in rows]
        named = {**config, "columns": {**config["columns"], "id": None}} if "columns" in config else config
        assert [pair.id for pair in pairs] == [pair.id for pair in read(tmp_path, without, "pair", **named)]
        assert len({pair.id for pair in pairs}) == 3
        assert {pair.id for pair in read(tmp_path, rows, "pair", **config)} == {"0"}


def test_a_clash_of_ids_among_sources_is_found(tmp_path: Path) -> None:
    one, two = (read(tmp_path, [{**simple_rows(n)[-1], "id": 0}], format="chosen-rejected") for n in (1, 2))
    first, second = one[0].pair, two[0].pair
    assert find_clash([("one", [first, first.swapped()]), ("two", [])], "labeled") is None  # one pair, however shown
    said = find_clash([("one", [first]), ("two", [second])], "labeled")
    assert said is not None
    assert said.startswith("two: two different pairs have the id '0'. Ids must be unique among the labeled sources")
    assert find_clash([("one", [second, first])], "labeled") is not None


def test_a_source_without_the_newer_keys_is_stored_as_before() -> None:
    assert Source(path="x.jsonl", where={"n": (1,)}).model_dump(mode="json") == {
        "path": "x.jsonl",
        "format": "records",
        "columns": None,
        "split": "train",
        "subset": None,
        "revision": None,
        "where": {"n": [1]},
        "limit": None,
        "max_chars": None,
        "max_malformed": 0,
    }


# ---- drop reasons and bounds -----------------------------------------------------------------------------------------


def test_rows_that_are_no_pairs_are_dropped_with_their_reason(tmp_path: Path) -> None:
    prompt = "Which?"
    rows = [
        {"prompt": " \n", "chosen": "a", "rejected": "b"},
        {"prompt": [], "chosen": "a", "rejected": "b"},
        {"prompt": [*TURNS[:3], {"role": "user", "content": ""}], "chosen": "a", "rejected": "b"},
        {"prompt": prompt, "chosen": "", "rejected": "b"},
        {"prompt": prompt, "chosen": "a", "rejected": " "},
        {"prompt": prompt, "chosen": "same", "rejected": "same\n"},
        {"prompt": prompt, "chosen": "a" * 50, "rejected": "b" * 45},
        {"prompt": prompt, "chosen": "a" * 50, "rejected": "b" * 44},
    ]
    items = read(tmp_path, rows, format="chosen-rejected", max_chars=100)
    assert [item.reason for item in items[:-1]] == [
        *["empty_prompt"] * 3,
        *["empty_response"] * 2,
        "equal_responses",
        "too_long",
    ]
    assert isinstance(items[-1], PreferencePair)
    assert items[-2].detail == "101 characters, at most 100 are allowed"
    assert items[3].id == content_id([{"role": "user", "content": prompt}], "", "b")


def test_one_malformed_row_too_many_raises_and_names_it(tmp_path: Path) -> None:
    rows: list[object] = [*simple_rows(3), 1, 2, 3]
    assert reasons(read(tmp_path, rows, format="chosen-rejected", max_malformed=3)) == {"kept": 3, "malformed": 3}
    with pytest.raises(
        SourceError, match=r"row 6: .*\(the 2 malformed rows that max_malformed allows came before it\)"
    ):
        read(tmp_path, rows, format="chosen-rejected", max_malformed=2)


def test_limit_counts_rows_read_not_rows_kept(tmp_path: Path) -> None:
    rows = simple_rows(10)
    rows[1]["chosen"] = ""
    items = read(tmp_path, rows, format="chosen-rejected", limit=4)
    assert reasons(items) == {"kept": 3, "empty_response": 1}
    assert items == read(tmp_path, rows, format="chosen-rejected")[:4]


def test_a_broken_row_behind_the_limit_is_not_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, [*simple_rows(2), "no row"], format="chosen-rejected", limit=2)) == 2


values = st.one_of(texts, st.none(), st.integers(), st.lists(st.fixed_dictionaries({"role": texts, "content": texts})))


any_row = st.one_of(
    st.fixed_dictionaries({"prompt": texts, "chosen": texts, "rejected": texts}),
    st.dictionaries(st.sampled_from(["prompt", "conversations", "chosen", "rejected", "id"]), values),
    values,
)


@settings(deadline=None)  # it writes files
@given(
    st.lists(any_row, min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from(["chosen-rejected", "records", "helpsteer3"]),
)
def test_every_row_of_a_file_comes_out_once_in_order(rows: list[object], seed: int, format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        items = read(Path(folder), rows, seed=seed, format=format, max_malformed=100)
        assert len(items) == len(rows)
        for number, item in enumerate(items, start=1):
            assert not isinstance(item, Dropped) or item.where.endswith(f":{number}")
        if all(item.reason != "malformed" for item in items if isinstance(item, Dropped)):
            assert reasons(read(Path(folder), rows, seed=seed, format=format)) == reasons(items)


# ---- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format": "columns"}, "format 'columns' needs a column map"),
        ({"columns": AB}, "a column map is only for format 'columns', but the format is 'records'"),
        ({"subset": "preference"}, "split, subset and revision are only for hub data sets"),
        ({"path": "hub:"}, "hub: must be followed by"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"max_malformed": -1}, "greater than or equal to 0"),
        ({"fmt": "records"}, "Extra inputs"),
        ({"where": {"score": [float("nan")]}}, "finite number"),
        ({"id_from": "file"}, "'row' or 'content'"),
    ],
)
def test_sources_that_make_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**{"path": "rows.jsonl", **config})


@pytest.mark.parametrize("model", [Source, ColumnMap])
def test_every_field_is_explained_and_survives_json(model: type[BaseModel]) -> None:
    assert all(field.title and field.description for field in model.model_fields.values())
    source = Source(path="x.jsonl", format="columns", columns=ColumnMap(**{**LABELED, "label_a": [1, "1", 1.5]}))
    assert Source.model_validate_json(source.model_dump_json()) == source
    with pytest.raises(ValidationError, match="frozen"):
        source.path = "y.jsonl"


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("preference", {"format": "gram-pre-training"}, "labeled rows were requested"),
        ("preference", by_map(AB), "add label, or chosen and rejected, to the column map"),
        ("rationale", {"format": "chosen-rejected"}, "rationales were requested"),
        ("rationale", by_map(LABELED), "add rationale to the column map"),
    ],
)
def test_what_a_format_cannot_give_is_refused_before_reading(kind: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_source(Source(path="not-there.jsonl", **config), kind, 0)
