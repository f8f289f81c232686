"""The folds and the table of ``make real-pandalm``, on rows and games written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.files import write_jsonl
from tests.real import pandalm


def rows(n: int) -> list[dict[str, Any]]:
    """Two pairs for each prompt; the longer response is better in the first, the shorter in the second."""
    return [
        {
            "id": f"{prompt}-{i}",
            "prompt": f"prompt {prompt}",
            "label": "AB"[i],
            "response_a": f"longer {i}",
            "response_b": f"short {i}",
        }
        for prompt in range(n)
        for i in range(2)
    ]


def test_no_prompt_is_in_two_folds_and_no_pair_is_lost() -> None:
    parts = pandalm.folds_of(rows(12))
    prompts = [{row["prompt"] for row in part} for part in parts]
    assert sorted(map(len, prompts)) == [2, 2, 2, 3, 3]
    assert len(set().union(*prompts)) == 12
    assert sorted(row["id"] for part in parts for row in part) == sorted(row["id"] for row in rows(12))


def test_a_pair_that_is_given_again_is_left_out_also_with_its_responses_swapped() -> None:
    """The flow drops such pairs itself: a number of pairs that counts them could not be had."""
    given = rows(12)
    again = {
        **given[0],
        "id": "again",
        "label": "B",
        "response_a": given[0]["response_b"],
        "response_b": given[0]["response_a"],
    }
    found = [str(row["id"]) for part in pandalm.folds_of([*given, again]) for row in part]
    assert len(found) == len(set(found)) == 24


def test_the_table_counts_both_games_of_a_pair(tmp_path: Path) -> None:
    """Trained, every game of an even prompt is right and those of an odd one lack a verdict; untrained, A always wins."""
    judged = rows(40)
    files = {}
    for when in ("before", "after"):
        games = [
            {"id": row["id"], "order": order, "verdict": verdict}
            for row in judged
            for order, better in (("chosen_first", "A"), ("rejected_first", "B"))
            for verdict in ["A" if when == "before" else better if int(row["id"].split("-")[0]) % 2 == 0 else None]
        ]
        files[when] = tmp_path / f"{when}.jsonl"
        write_jsonl(files[when], games)
    found = {(prompt, when): [files[when]] for prompt in pandalm.JUDGES for when in files}
    made = list(pandalm.lines(judged, found))
    shares = [text.split("|")[2].strip() for text in made[2:]]
    assert shares[:3] == ["50.0 (50.0 to 50.0)"] * 3
    assert shares[3::2] == ["50.0 (50.0 to 50.0)"] * 2
    for trained in shares[4::2]:
        share, low, high = (
            float(part) for part in trained.replace("(", "").replace(")", "").replace("to ", "").split()
        )
        assert share == 50.0
        assert 25 < low < 40 < 60 < high < 75
    longer = [row for row in judged if row["label"] == "A"]
    assert [text.split("|")[2].strip() for text in list(pandalm.lines(longer, found))[3:5]] == [
        "100.0 (100.0 to 100.0)",
        "0.0 (0.0 to 0.0)",
    ]
