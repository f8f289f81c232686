"""PPE's human preferences as their authors publish them: pairs, of which one response won, or neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks.catalog import load
from data.sources.sources import SourceError
from tests.support.hub_sets import stand_in_sets
from tests.support.scoring_rows import Row, ppe_human_row, write_rows


def test_the_cell_has_the_winner_first_and_ties_are_counted(tmp_path: Path) -> None:
    winners = ["model_a", "model_b", "tie", "tie (bothbad)"]
    path = write_rows(tmp_path / "test.jsonl", [ppe_human_row(str(i), winner) for i, winner in enumerate(winners)])
    loaded = load("ppe-human-preference", path)
    first, second = loaded.items
    assert (first.pair(first.cells[0]).response_a, second.pair(second.cells[0]).response_a) == (
        "first to 0",
        "second to 1",
    )
    assert (first.right, second.right) == ((True, False), (False, True))
    assert (loaded.dropped, loaded.groups) == ({"tie": 2}, ("ppe-human-preference",))


def test_the_hub_has_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_sets(monkeypatch, lambda subset, split: [ppe_human_row("1"), ppe_human_row("2", "tie")])
    assert list(load("ppe-human-preference", "hub:lmarena-ai/PPE-Human-Preference-V1").by_id) == ["1"]
    assert asked == [("lmarena-ai/PPE-Human-Preference-V1", None, "test")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ppe_human_row("1", "A"),
            "field 'winner': must be one of 'model_a', 'model_b', 'tie', 'tie .bothbad.', got str 'A'",
        ),
        (ppe_human_row("1", "tie", response_2=None), "field 'response_2'"),
        (ppe_human_row("1", prompt=""), "field 'prompt': is empty"),
        ({"question_id": "1", "scores": [True, False]}, "'winner'.*has the columns question_id, scores"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(SourceError, match=f"test.jsonl, row 1: .*{message}"):
        load("ppe-human-preference", write_rows(tmp_path / "test.jsonl", [row]))


def test_the_columns_that_are_read_are_told(tmp_path: Path) -> None:
    told: list[set[str]] = []
    path = write_rows(tmp_path / "test.jsonl", [ppe_human_row("1"), ppe_human_row("2", "tie")])
    load("ppe-human-preference", path, notice=lambda row, read: told.append(set(read)))
    assert told == [{"question_id", "prompt", "response_1", "response_2", "winner"}] * 2
