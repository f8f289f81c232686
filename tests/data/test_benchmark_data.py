"""Benchmarks as their authors publish them: what an item is in each format, and what is said of a row that is none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import judgebench, llmbar, ppe, preferences, reward_bench, rm_bench
from data.benchmarks.catalog import load
from data.benchmarks.items import Benchmark
from data.sources.sources import Source, SourceError
from tests.conftest import REAL, real_file
from tests.support.scoring_rows import (
    judgebench_row,
    llmbar_row,
    ppe_row,
    reward_bench_2_row,
    reward_bench_row,
    rm_bench_row,
    write_rows,
)


def rm_bench_folder(folder: Path) -> str:
    for part in rm_bench.PARTS:
        write_rows(folder / f"{part}_filtered.json", [rm_bench_row(8), rm_bench_row(9)])
    return str(folder)


def test_an_rm_bench_row_is_nine_cells_of_chosen_against_rejected(tmp_path: Path) -> None:
    loaded = rm_bench.load(rm_bench_folder(tmp_path))
    item = loaded.by_id["chat/8"]
    assert [cell.name for cell in item.cells] == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2", "2-0", "2-1", "2-2"]
    pair = item.pair(item.cells[5], order=0)
    assert (pair.response_a, pair.response_b) == ("chosen long of 8", "rejected bold of 8")
    assert item.pair(item.cells[5], order=1) == pair.swapped()
    assert item.right == (True, True, True, False, False, False)


def test_rm_bench_pools_the_two_safety_files(tmp_path: Path) -> None:
    loaded = rm_bench.load(rm_bench_folder(tmp_path))
    assert [item.id for item in loaded.items if item.group == "safety"] == [
        "safety-refuse/8", "safety-refuse/9", "safety-response/8", "safety-response/9",
    ]  # fmt: skip
    assert loaded.lacks == ()
    (tmp_path / "safety-response_filtered.json").unlink()
    assert rm_bench.load(str(tmp_path)).lacks == ("safety-response",)


def test_the_total_file_of_rm_bench_names_the_domain_in_its_ids(tmp_path: Path) -> None:
    rows = [rm_bench_row(0, id=f"{part}/{n}") for part in rm_bench.PARTS for n in (8, 9)]
    total = write_rows(tmp_path / "total" / "total_dataset.json", rows)
    by_file = rm_bench.load(rm_bench_folder(tmp_path / "files"))
    assert set(rm_bench.load(total).by_id) == set(by_file.by_id)


def test_equal_texts_in_two_styles_stay_two_responses(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(1, chosen=["same", "same", "other"])])
    [item] = rm_bench.load(path).items
    assert item.responses[:3] == ("same", "same", "other")
    assert len(item.cells) == 9


def test_a_judgebench_row_keeps_its_responses_where_they_are(tmp_path: Path) -> None:
    rows = [judgebench_row("p1"), judgebench_row("p2", source="livecodebench", label="B>A")]
    first, second = judgebench.load(write_rows(tmp_path / "gpt.jsonl", rows)).items
    assert (first.group, first.right, second.group, second.right) == (
        "knowledge", (True, False), "coding", (False, True),
    )  # fmt: skip
    assert first.pair(first.cells[0]).response_a == "first answer to p1"
    assert second.pair(second.cells[0]).response_a == "first answer to p2"


def test_the_splits_of_judgebench_are_told_apart_in_a_folder(tmp_path: Path) -> None:
    for split, model in judgebench.SPLITS.items():
        write_rows(
            tmp_path / f"dataset=judgebench,response_model={model}.jsonl", [judgebench_row(split, response_model=model)]
        )
    assert list(judgebench.load(str(tmp_path)).by_id) == ["gpt"]
    assert list(load("judgebench", str(tmp_path), "claude").by_id) == ["claude"]


def test_an_llmbar_cell_has_the_better_output_first(tmp_path: Path) -> None:
    write_rows(tmp_path / "Natural.json", [llmbar_row(1), llmbar_row(2)])
    first, second = llmbar.load(str(tmp_path)).items
    assert (first.id, second.id) == ("Natural/0", "Natural/1")
    assert first.pair(first.cells[0]).response_a == "red"
    assert second.pair(second.cells[0]).response_a == "tree"


def test_llmbar_is_read_as_its_repository_is_laid_out(tmp_path: Path) -> None:
    """The folder Dataset has case studies too, which are no part of the benchmark."""
    places = {
        "LLMBar/Natural": "Natural", "LLMBar/Adversarial/Neighbor": "Adversarial_Neighbor",
        "Processed/LLMEval^2": "Processed_LLMEval^2", "CaseStudy/Normal": None,
    }  # fmt: skip
    for place in places:
        write_rows(tmp_path / "Dataset" / place / "dataset.json", [llmbar_row(1), llmbar_row(2)])
    for folder in (tmp_path, tmp_path / "Dataset"):
        loaded = llmbar.load(str(folder))
        assert {item.group for item in loaded.items} == {subset for subset in places.values() if subset}
        assert "Adversarial_Neighbor/1" in loaded.by_id
    assert {item.group for item in llmbar.load(str(tmp_path / "Dataset" / "LLMBar")).items} == {
        "Natural", "Adversarial_Neighbor",
    }  # fmt: skip
    alone = llmbar.load(str(tmp_path / "Dataset" / "LLMBar" / "Natural" / "dataset.json"))
    assert list(alone.by_id) == ["Natural/0", "Natural/1"]


def test_reward_bench_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "filtered.jsonl", [reward_bench_row(7), reward_bench_row(7, "math-prm")])
    first, second = reward_bench.load(path).items
    assert (first.id, second.id) == ("alpacaeval-easy/7", "math-prm/7")
    assert first.responses == ("good 7", "bad 7")


def test_reward_bench_2_rows_meet_in_a_round_robin(tmp_path: Path) -> None:
    rows = [reward_bench_2_row("1", "Math"), reward_bench_2_row("tied:3", "Ties", chosen=3, rejected=2)]
    math, ties = reward_bench.load_2(write_rows(tmp_path / "test.jsonl", rows)).items
    assert [cell.name for cell in math.cells] == ["0-1", "0-2", "0-3", "1-2", "1-3", "2-3"]
    assert (len(ties.cells), ties.right) == (10, (True, True, True, False, False))


def test_ppe_candidates_know_whether_they_are_correct(tmp_path: Path) -> None:
    [item] = ppe.load(write_rows(tmp_path / "mmlu.jsonl", [ppe_row("70", [True, False, True])])).items
    assert (item.id, item.group, item.right) == ("mmlu/70", "mmlu", (True, False, True))
    assert item.responses[2] == "candidate 2 of 70"


def test_a_preference_set_of_any_format_is_a_benchmark(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "chosen": "because", "rejected": "no"},
        {"prompt": "Why?", "chosen": "same", "rejected": "same"},
    ]
    loaded = preferences.load(Source(path=write_rows(tmp_path / "mine.jsonl", rows), format="chosen-rejected"))
    [item] = loaded.items
    assert item.pair(item.cells[0]).response_a == "because"
    assert loaded.dropped == {"equal_responses": 1}


def test_pairs_of_a_preference_set_that_come_again_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "chosen": "because", "rejected": "no"},
        {"prompt": "Why?", "chosen": "because", "rejected": "no"},
        {"prompt": "Why?", "chosen": "no", "rejected": "because"},
    ]
    loaded = preferences.load(Source(path=write_rows(tmp_path / "mine.jsonl", rows), format="chosen-rejected"))
    assert (len(loaded.items), loaded.dropped) == (1, {"duplicate": 1, "conflicting_labels": 1})


def test_a_file_of_judgebench_is_the_split_that_it_holds(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [judgebench_row("p1", response_model=judgebench.SPLITS["claude"])])
    assert list(judgebench.load(path).by_id) == list(judgebench.load(path, "claude").by_id) == ["p1"]
    with pytest.raises(SourceError, match="field 'response_model': is 'claude-3-5-sonnet-20240620'"):
        judgebench.load(path, "gpt")
    write_rows(tmp_path / "b.jsonl", [judgebench_row("p2")])
    with pytest.raises(SourceError, match="2 files, but a benchmark is one split"):
        judgebench.load(str(tmp_path / "*.jsonl"))


def test_an_llmbar_file_may_be_of_any_type(tmp_path: Path) -> None:
    write_rows(tmp_path / "Natural.jsonl", [llmbar_row(1)])
    assert list(llmbar.load(str(tmp_path / "Natural.jsonl")).by_id) == ["Natural/0"]


@pytest.mark.parametrize("name", ["dpo_en_demo", "dpo_zh_demo"])
def test_a_real_preference_set_with_doubled_rows(name: str) -> None:
    path = real_file(f"llamafactory-dpo/{name}.json")
    loaded = preferences.load(Source(path=str(path), format="chosen-rejected"))
    assert len(loaded.items) + sum(loaded.dropped.values()) == 300
    assert loaded.dropped["duplicate"] > 0


Loader = Callable[[str], Benchmark]


@pytest.mark.parametrize(
    ("loader", "name", "row", "message"),
    [
        (rm_bench.load, "chat_filtered.json", rm_bench_row(1, chosen=["a", "b"]), "field 'chosen': must contain 3"),
        (rm_bench.load, "chat_filtered.json", rm_bench_row(1, prompt=""), "field 'prompt': is empty"),
        (rm_bench.load, "total_dataset.json", rm_bench_row(1), "field 'id': must begin with one of chat"),
        (judgebench.load, "a.jsonl", judgebench_row("p", source="elsewhere"), "field 'source': must begin with"),
        (judgebench.load, "a.jsonl", judgebench_row("p", label="A=B"), "field 'label': must be 'A>B' or 'B>A'"),
        (llmbar.load, "Natural.json", llmbar_row(0), "field 'label': must be 1 or 2"),
        (llmbar.load, "Natural.json", llmbar_row(True), "field 'label': must be 1 or 2"),
        (reward_bench.load, "a.jsonl", reward_bench_row(1, "new"), "field 'subset': is not one of RewardBench's"),
        (reward_bench.load_2, "a.jsonl", reward_bench_2_row("3", "Ties"), "field 'id': in Ties must be ref:NUMBER"),
        (reward_bench.load_2, "a.jsonl", reward_bench_2_row("3", "Math", chosen=2), "must contain one response outside"),
        (ppe.load, "a.jsonl", {**ppe_row("1", [True, False]), "scores": [1, 0]}, "field 'scores': must be a list"),
        (ppe.load, "a.jsonl", {**ppe_row("1", [True, False]), "response_2": None}, "field 'response_2'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path: Path, loader: Loader, name: str, row: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / name, [row])
    with pytest.raises(SourceError, match=rf"{name}, row 1: .*{message}"):
        loader(path)


@pytest.mark.parametrize(
    ("loader", "name", "row", "read"),
    [
        (rm_bench.load, "chat_filtered.json", rm_bench_row(1), {"id", "prompt", "chosen", "rejected"}),
        (judgebench.load, "a.jsonl", judgebench_row("p"),
         {"pair_id", "source", "question", "response_A", "response_B", "label", "response_model"}),
        (llmbar.load, "Natural.json", llmbar_row(1), {"input", "output_1", "output_2", "label"}),
        (reward_bench.load, "a.jsonl", reward_bench_row(1), {"id", "subset", "prompt", "chosen", "rejected"}),
        (reward_bench.load_2, "a.jsonl", reward_bench_2_row("1", "Math"), {"id", "subset", "prompt", "chosen", "rejected"}),
        (ppe.load, "a.jsonl", ppe_row("1", [True, False]),
         {"question_id", "prompt", "scores", "response_1", "response_2"}),
    ],
)  # fmt: skip
def test_the_columns_that_are_read_are_told(
    tmp_path: Path, loader: Callable[..., Benchmark], name: str, row: dict[str, Any], read: set[str]
) -> None:
    told: list[tuple[object, set[str]]] = []
    whole = {**row, "context": "not read"}
    loaded = loader(write_rows(tmp_path / name, [whole]), notice=lambda row, read: told.append((row, set(read))))
    assert told == [(whole, read)]
    assert loaded.digest == loader(write_rows(tmp_path / "plain" / name, [row])).digest


def test_a_row_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="2 items have the id 'p1'"):
        judgebench.load(write_rows(tmp_path / "a.jsonl", [judgebench_row("p1"), judgebench_row("p1")]))


def test_a_folder_without_the_benchmark_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "other.json", [rm_bench_row(1)])
    with pytest.raises(SourceError, match="contains none of rm-bench's files"):
        rm_bench.load(str(tmp_path))


def test_compressed_files_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps(judgebench_row("p1")) + "\n")
    assert list(judgebench.load(str(tmp_path / "a.jsonl.gz")).by_id) == ["p1"]


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = judgebench.load(write_rows(tmp_path / "a.jsonl", [judgebench_row("p1")]))
    again = judgebench.load(write_rows(tmp_path / "b.jsonl", [judgebench_row("p1")]))
    other = judgebench.load(write_rows(tmp_path / "c.jsonl", [judgebench_row("p1", label="B>A")]))
    assert first.digest == again.digest != other.digest


# ---- real files -------------------------------------------------------------------------------------------------------------


def test_the_real_rm_bench() -> None:
    real_file("rm-bench/chat_filtered.json")
    loaded = rm_bench.load(str(REAL / "rm-bench"))
    sizes = {part: sum(item.id.startswith(f"{part}/") for item in loaded.items) for part in rm_bench.PARTS}
    assert sizes == {"chat": 129, "math": 0, "code": 228, "safety-refuse": 284, "safety-response": 157}
    repeated = [item for item in loaded.items if len({*item.responses[:3]}) < 3 or len({*item.responses[3:]}) < 3]
    assert len(repeated) == 63  # rows that hold one text in two styles: their cells are played all the same
    assert all(len(item.cells) == 9 for item in loaded.items)
    assert sum(map(len, prompts_of(loaded).values())) - len(prompts_of(loaded)) > 0  # prompts that come twice


def prompts_of(loaded: Benchmark) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in loaded.items:
        found.setdefault(item.prompt[-1].content, []).append(item.id)
    return found


@pytest.mark.parametrize(
    ("split", "categories"),
    [
        ("gpt", {"knowledge": 154, "reasoning": 98, "math": 56, "coding": 42}),
        ("claude", {"knowledge": 154, "reasoning": 51, "math": 34, "coding": 31}),
    ],
)
def test_the_real_judgebench(split: str, categories: dict[str, int]) -> None:
    real_file(f"judgebench/dataset=judgebench,response_model={judgebench.SPLITS[split]}.jsonl")
    loaded = judgebench.load(str(REAL / "judgebench"), split)
    assert {name: sum(item.group == name for item in loaded.items) for name in categories} == categories
    # One pair of the Claude split has equal responses: a judge can only tie there, and the pair stays.
    assert sum(len(set(item.responses)) == 1 for item in loaded.items) == (1 if split == "claude" else 0)


def test_the_real_llmbar() -> None:
    real_file("llmbar/Natural.json")
    loaded = llmbar.load(str(REAL / "llmbar"))
    sizes = [sum(item.group == subset for item in loaded.items) for subset in llmbar.SUBSETS]
    assert sizes == [100, 134, 92, 47, 46]
    assert {item.group for item in loaded.items} == {*llmbar.SUBSETS, *llmbar.PROCESSED}
    assert loaded.groups == llmbar.SUBSETS  # what a total is made of
