"""M-RewardBench as its authors publish it: a folder for each language, in two versions, or a subset of the hub set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from data.benchmarks import m_reward_bench
from data.benchmarks.catalog import load, path_of
from data.benchmarks.draw import draw
from data.sources.sources import SourceError
from tests.support.hub_sets import stand_in_sets
from tests.support.scoring_rows import Row, m_reward_bench_row, write_rows


def test_a_clone_is_read_language_by_language_in_its_newer_version(tmp_path: Path) -> None:
    for language in ("deu_Latn", "zho_Hans", "translation"):
        write_rows(tmp_path / language / "test-00000-of-00001.jsonl", [m_reward_bench_row(3)])
        write_rows(tmp_path / language / "filtered.json", [m_reward_bench_row(1), m_reward_bench_row(2)])
        write_rows(tmp_path / language / "raw.json", [m_reward_bench_row(0)])
    loaded = load("m-reward-bench", str(tmp_path))
    assert list(loaded.by_id) == ["deu_Latn/alpacaeval-easy/3", "zho_Hans/alpacaeval-easy/3"]
    assert [item.group for item in loaded.items] == ["deu_Latn", "zho_Hans"]
    assert path_of("m-reward-bench", str(tmp_path)) == f"{tmp_path}/*_*/test-*"
    one = load("m-reward-bench", str(tmp_path / "deu_Latn"))
    assert list(one.by_id) == ["deu_Latn/alpacaeval-easy/3"]


def test_version_1_has_english_which_no_mean_is_made_of(tmp_path: Path) -> None:
    row = {**m_reward_bench_row(7), "subset": "math-prm"}
    del row["source"]
    for language in ("deu_Latn", "eng_Latn"):
        write_rows(tmp_path / language / "filtered.json", [row, {**row, "id": 8}])
        write_rows(tmp_path / language / "raw.json", [row])
    loaded = load("m-reward-bench", str(tmp_path))
    assert list(loaded.by_id) == ["deu_Latn/math-prm/7", "deu_Latn/math-prm/8"]
    assert loaded.dropped == {"english": 2}


def test_a_file_names_its_language_or_its_rows_do(tmp_path: Path) -> None:
    one = load("m-reward-bench", write_rows(tmp_path / "vie_Latn.jsonl", [m_reward_bench_row(1)]))
    rows = [m_reward_bench_row(1, language="vie_Latn"), m_reward_bench_row(1, language="ukr_Cyrl")]
    both = load("m-reward-bench", write_rows(tmp_path / "mine" / "rows.jsonl", rows))
    assert ([item.group for item in one.items], [item.group for item in both.items]) == (
        ["vie_Latn"],
        ["vie_Latn", "ukr_Cyrl"],
    )


def test_the_hub_is_read_subset_by_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_sets(monkeypatch, lambda subset, split: [m_reward_bench_row(1), m_reward_bench_row(2, "hep-go")])
    loaded = load("m-reward-bench", "hub:CohereLabsCommunity/multilingual-reward-bench")
    name = "CohereLabsCommunity/multilingual-reward-bench"
    assert asked == [(name, language, "test") for language in m_reward_bench.LANGUAGES]
    assert Counter(item.group for item in loaded.items) == dict.fromkeys(loaded.groups, 2)


def test_subsets_that_a_language_lacks_are_missing(tmp_path: Path) -> None:
    write_rows(tmp_path / "deu_Latn.jsonl", [m_reward_bench_row(1, subset) for subset in m_reward_bench.SUBSETS[1:]])
    write_rows(tmp_path / "vie_Latn.jsonl", [m_reward_bench_row(1, subset) for subset in m_reward_bench.SUBSETS[:5]])
    assert load("m-reward-bench", str(tmp_path)).lacks == (
        "alpacaeval-easy of deu_Latn",
        "18 of 23 subsets of vie_Latn",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            m_reward_bench_row(1, language="German"),
            "field 'language': is not one of M-RewardBench's: 'German'; .* vie_Latn",
        ),
        (m_reward_bench_row(1, "new", language="deu_Latn"), "field 'source': is not one of RewardBench's: 'new'"),
        ({"language": "deu_Latn", "prompt": "Why?"}, "'subset': .*the row has the columns language, prompt"),
        (m_reward_bench_row(1, language="deu_Latn", prompt=" "), "field 'prompt': is empty"),
        (m_reward_bench_row(1, language="deu_Latn", chosen=["x"]), "field 'chosen': must be a string"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(SourceError, match=f"rows.jsonl, row 1: .*{message}"):
        load("m-reward-bench", write_rows(tmp_path / "rows.jsonl", [row]))


def test_the_columns_that_are_read_are_told(tmp_path: Path) -> None:
    told: list[set[str]] = []
    write_rows(tmp_path / "deu_Latn" / "test-0.jsonl", [m_reward_bench_row(1)])
    load("m-reward-bench", str(tmp_path), notice=lambda row, read: told.append(set(read)))
    assert told == [{"id", "source", "prompt", "chosen", "rejected"}]


def test_a_draw_has_every_subset_of_every_language(tmp_path: Path) -> None:
    for language in m_reward_bench.LANGUAGES[:3]:
        rows = [m_reward_bench_row(i, subset) for subset in m_reward_bench.SUBSETS for i in range(3)]
        write_rows(tmp_path / f"{language}.jsonl", rows)
    loaded = load("m-reward-bench", str(tmp_path))
    drawn = draw(loaded, 80, seed=0)
    assert len({item.id.rpartition("/")[0] for item in drawn.items}) == 3 * 23
    with pytest.raises(
        SourceError, match="at least 69 are needed, which is one for each of 69 parts, such as arb_Arab/alpaca"
    ):
        draw(loaded, 68, seed=0)
