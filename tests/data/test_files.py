"""Lines of JSON: orjson's are json's, to the byte, and so are the hashes over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import StoreError, in_blocks, json_line, line_blocks, parse_own_line, read_jsonl
from data.records import canonical_json, content_id, text_id

any_text = st.text(st.characters(codec="utf-8"), max_size=20)


def rows_with(integers: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    numbers = integers | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | any_text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
        max_leaves=20,
    )
    return st.dictionaries(any_text, values, max_size=5)


@given(rows_with(st.integers()))
def test_a_line_is_what_json_writes(row: dict[str, Any]) -> None:
    assert json_line(row) == json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


@pytest.mark.parametrize(
    "row",
    [
        {"all": "".join(map(chr, range(0x2100)))},
        {"half a pair": "\ud800", "b": 1},
        {"numbers as keys": {2: "a", None: "b", True: "c", 1.5: "d"}},
        {"tuple": (1, (2.0, -0.0, 1e16, 1e-7, 10**30)), "empty": [{}, [], ""]},
    ],
)
def test_unusual_values_are_what_json_writes(row: dict[str, Any]) -> None:
    assert json_line(row) == json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_refuses_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)) as expected:
        json.dumps([value], allow_nan=False)
    with pytest.raises(expected.type) as found:
        json_line({"a": value})
    assert str(found.value) == str(expected.value)


texts = st.recursive(any_text, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=10)


@given(st.lists(texts, max_size=4))
def test_the_id_of_texts_is_the_id_of_any_content(parts: list[Any]) -> None:
    assert text_id(*parts) == content_id(*parts)


def test_the_id_of_text_that_has_no_bytes_is_refused_as_ever() -> None:
    for identify in (text_id, content_id):
        with pytest.raises(UnicodeEncodeError):
            identify("\ud800")
    assert canonical_json(["a"]) == '["a"]'


# No file of ours has integers of more than 64 bits.
@given(rows_with(st.integers(-(2**63), 2**64 - 1)))
def test_a_row_is_read_as_it_was_written(row: dict[str, Any]) -> None:
    found = parse_own_line(json_line(row).encode(), Path("a.jsonl"), 1)
    assert found == row
    assert json_line(found) == json_line(row)


def test_lines_come_in_blocks_and_errors_name_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.files.BLOCK_ROWS", 3)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"n": {i}}}\n' for i in range(7)) + '{"n": NaN}\n{"n": \n')
    blocks = list(line_blocks(path))
    assert [(block.first, block.n) for block in blocks] == [(1, 3), (4, 3), (7, 3)]
    assert [row["n"] for block in blocks[:2] for row in block.rows()] == list(range(6))
    messages = []
    for read in (lambda: read_jsonl(path), lambda: (row for block in blocks for row in block.rows())):
        with pytest.raises(StoreError) as error:
            list(read())
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}, line 9: not JSON (")


def test_an_error_comes_after_the_items_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.files.BLOCK_ROWS", 2)

    def items() -> Any:
        yield from range(5)
        raise OSError("broken")

    blocks, got = in_blocks(items()), []
    with pytest.raises(OSError, match="broken"):
        got.extend(blocks)
    assert got == [[0, 1], [2, 3], [4]]
