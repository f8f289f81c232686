"""What is counted in a data set, and how texts, columns and lengths are shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from data.sources.sources import Dropped, Source, read_source
from prompts.judge import COMPACT, GRAM_R2
from tasks.describe.columns import Columns
from tasks.describe.layout import named, quoted, shortened, width
from tasks.describe.survey import Survey, survey
from tests.support.data_sets import ROWS
from tests.support.describing import MIXED, Rows, own, write


def surveyed(tmp_path: Path, rows: Rows, **config: Any) -> Survey:
    return survey(Source(path=write(tmp_path / "rows.jsonl", rows), **config), GRAM_R2)


# ---- what is counted ---------------------------------------------------------------------------------------------------


def test_everything_that_a_run_would_count(tmp_path: Path) -> None:
    found = surveyed(tmp_path, MIXED)
    assert (found.rows, found.pairs) == (11, 11)
    assert {reason: each.n for reason, each in found.dropped.items()} == {"empty_response": 1, "malformed": 2}
    assert found.dropped["malformed"].where.endswith("rows.jsonl:8")
    assert found.dropped["malformed"].detail == """field 'label': must be "A" or "B", got str 'neither'"""
    assert found.labels == {"A": 4, "B": 3, "none": 1}
    assert found.usable == {"pair": 5, "preference": 4, "rationale": 2}
    assert (found.duplicates.n, found.duplicates.where[-2:]) == (2, ":3")
    assert (found.conflicts.n, found.conflicts.where[-2:]) == (1, ":5")
    assert found.no_rationale.n == 5
    assert (found.out_of_shape.n, found.out_of_shape.detail) == (1, "missing_headings")


def test_a_survey_counts_what_the_reader_yields(tmp_path: Path) -> None:
    """Of every known set: usable pairs and those dropped, as `read_source` has them."""
    for name, rows in ROWS.items():
        source = Source(dataset=name, path=write(tmp_path / f"{name}.jsonl", rows))
        found = survey(source, GRAM_R2)
        items = list(read_source(source, "pair_with_truth", 0))
        assert found.pairs == len(items)
        assert sum(found.labels.values()) == sum(not isinstance(item, Dropped) for item in items)
        assert sum(each.n for each in found.dropped.values()) == sum(isinstance(item, Dropped) for item in items)


def test_the_shape_of_rationales_is_the_prompts(tmp_path: Path) -> None:
    source = Source(path=write(tmp_path / "rows.jsonl", [own(1, rationale="It is. So A is better.")]))
    assert survey(source, GRAM_R2).out_of_shape.n == 1
    assert survey(source, COMPACT).out_of_shape.n == 0


def test_a_pair_that_comes_again_brings_no_second_rationale(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [own(1, rationale="So A is better."), own(1, rationale="A is right. So A is better.")])
    assert found.usable == {"pair": 1, "preference": 1, "rationale": 1}
    assert found.duplicates.n == 1


def test_lengths(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [own(0, prompt="x" * n) for n in range(1, 101)])
    assert list(found.lengths["prompt"]) == list(range(1, 101))
    assert list(found.lengths["response"]) == [6, 5] * 100
    whole = found.lengths["judge's whole prompt"]
    assert whole[9] - whole[0] == 9


def test_tokens_are_counted_of_the_same_texts(tmp_path: Path) -> None:
    source = Source(path=write(tmp_path / "rows.jsonl", [own(n) for n in range(400)]))
    found = survey(source, GRAM_R2, lambda texts: [len(text.split()) for text in texts])
    assert {name: len(values) for name, values in found.tokens.items()} == {
        name: len(values) for name, values in found.lengths.items()
    }
    assert set(found.tokens["prompt"]) == set(found.tokens["response"]) == {2}


# ---- what is said --------------------------------------------------------------------------------------------------------


def test_columns_are_named_with_their_types() -> None:
    columns = Columns()
    for i in range(20):
        columns.add(
            {
                "id": i,
                "winner": ["a", "b", None][i % 3],
                "turns": [{"from": "human", "value": "x" * (i + 1)}] * (1 + i % 2),
                "meta": {"score": i / 2},
                "flag": i == 3,
                "image": bytes(1000),
                "mixed": i if i % 10 else "none",
                **({"rare": 1} if i == 0 else {}),
            }
        )
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in columns.lines()}
    assert said["id"] == "integer 0 to 19"
    assert said["winner"] == "text: 'a' (7), 'b' (7) or null (6 times)"
    assert said["turns"] == "list of 1 to 2"
    assert said["turns.*.from"] == "text: 'human'"
    assert said["turns.*.value"] == "text of 1 to 20 characters"
    assert said["meta"] == "object"
    assert said["meta.score"] == "number 0 to 9.5"
    assert said["flag"] == "true/false: False (19), True (1)"
    assert said["mixed"] == "integer 1 to 19 or text of 4 characters (2 times)"
    assert said["rare"] == "integer: 1; missing in 19 of 20"
    assert said["image"] == "bytes"
    assert any("stands for any item" in line for line in columns.lines())


def test_very_many_columns_are_cut() -> None:
    columns = Columns()
    columns.add({f"group {i}": {f"column {j}": j for j in range(30)} for i in range(30)})
    lines = columns.lines()
    assert len(lines) == 62
    assert lines[60].strip().startswith("… and ")


def test_texts_are_cut_in_their_middle_at_a_space() -> None:
    text = " ".join(f"word{i}" for i in range(1000))
    short = shortened(text, 300)
    head, count, tail = short.split("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert text[len(head)] == text[-len(tail) - 1] == " "
    left_out = int(re.sub(r"\D", "", count))
    assert left_out == len(text) - len(head) - len(tail)
    assert shortened("x" * 300, 300) == "x" * 300
    assert len(shortened("字" * 5000, 300)) < 400
    assert quoted("a\n\nb") == "│ a\n│\n│ b"
    assert max(map(len, quoted("字" * 500).splitlines())) <= 2 + (width() - 2) // 2
    assert named("x" * 30, "text", 10) == f"  {'x' * 30}\n          text"
