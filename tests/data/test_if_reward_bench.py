"""IF-RewardBench as its authors publish it: responses to an instruction with a graph of preferences among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks import if_reward_bench
from data.benchmarks.catalog import load, path_of
from data.benchmarks.items import Item
from data.sources.sources import SourceError
from tests.support.scoring_rows import Row, if_reward_bench_row, write_rows

EDGES = [(0, 1), (0, 3), (1, 3), (2, 3)]


def test_all_pairs_are_compared_and_the_graph_is_kept(tmp_path: Path) -> None:
    loaded = load(
        "if-reward-bench", write_rows(tmp_path / "any.json", [if_reward_bench_row(7, EDGES, kind="Multi_Turn")])
    )
    [item] = loaded.items
    assert (item.id, item.group, len(item.responses), len(item.cells)) == ("7", "Multi_Turn", 4, 6)
    assert item.better == ((0, 1), (0, 3), (1, 3), (2, 3))
    assert item.right == (True, False, True, False)  # no response is preferred to 0 or to 2
    assert loaded.orders == ("AB", "BA")
    assert Item.from_json(item.to_json()) == item


def test_the_graph_is_part_of_the_content_and_other_benchmarks_have_none(tmp_path: Path) -> None:
    one, other = (
        load("if-reward-bench", write_rows(tmp_path / f"{i}.json", [if_reward_bench_row(7, edges)]))
        for i, edges in enumerate((EDGES, EDGES[:3]))
    )
    assert one.digest != other.digest
    assert "better" not in Item("x", "g", (), ("a", "b"), (True, False), ()).to_json()


def test_the_repository_is_read_without_its_positions(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "data" / if_reward_bench.FILE, [if_reward_bench_row(7, EDGES)])
    write_rows(tmp_path / "inference" / "position_maps.json", [])
    for data in (tmp_path, tmp_path / "data", file):
        assert list(load("if-reward-bench", str(data)).by_id) == ["7"]
        assert path_of("if-reward-bench", str(data)) == file


def test_an_instruction_without_preferences_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [if_reward_bench_row(1, EDGES), if_reward_bench_row(2, [])]
    loaded = load("if-reward-bench", write_rows(tmp_path / "any.json", rows))
    assert (list(loaded.by_id), loaded.dropped) == (["1"], {"no_preference": 1})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (if_reward_bench_row(1, [(0, 1), (1, 2), (2, 0)]),
         "field 'preference_graph': has a cycle .*: (0 > 1 > 2 > 0|1 > 2 > 0 > 1|2 > 0 > 1 > 2)"),
        (if_reward_bench_row(1, [(0, 1), (1, 0)]), "field 'preference_graph': has a cycle"),
        (if_reward_bench_row(1, [(2, 2)]), "field 'preference_graph': has a cycle .*: 2 > 2"),
        (if_reward_bench_row(1, [(0, 1), (0, 4)]),
         "field 'preference_graph.1.rejected.response_id': must be the number of a response, 0 to 3, got int 4"),
        (if_reward_bench_row(1, [(-1, 0)]), "chosen.response_id': must be the number of a response, 0 to 3, got int -1"),
        (if_reward_bench_row(1, EDGES, preference_graph=[{"chosen": {"response_id": True}, "rejected": {"response_id": 0}}]),
         "must be the number of a response, 0 to 3, got bool"),
        (if_reward_bench_row(1, EDGES, preference_graph=[{"chosen": {"response_id": 1}}]), "preference_graph.0.rejected"),
        (if_reward_bench_row(1, EDGES, preference_graph="none"), "'preference_graph': must be a list of objects"),
        (if_reward_bench_row(1, [], n=1), "'responses': must contain at least two responses, got 1"),
        (if_reward_bench_row(1, EDGES, responses=[{"response": "x"}, {"text": "y"}]), "'responses.1.response'"),
        (if_reward_bench_row(1, EDGES, kind="Other"), "'instruction_type': must be one of Single_Turn, .*got 'Other'"),
        (if_reward_bench_row(1, EDGES, messages=[]), "field 'messages': is empty"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(SourceError, match=f"any.json, row 1: .*{message}"):
        load("if-reward-bench", write_rows(tmp_path / "any.json", [row]))


def test_the_columns_that_are_read_are_told(tmp_path: Path) -> None:
    told: list[set[str]] = []
    path = write_rows(tmp_path / "any.json", [if_reward_bench_row(1, EDGES)])
    load("if-reward-bench", path, notice=lambda row, read: told.append(set(read)))
    assert told == [{"id", "instruction_type", "messages", "responses", "preference_graph"}]


def test_the_hub_has_no_set_of_its_authors() -> None:
    with pytest.raises(SourceError, match="IF-RewardBench's authors publish a file, not a hub data set"):
        load("if-reward-bench", "hub:thu-coai/IF-RewardBench")
