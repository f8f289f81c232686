"""`gram-r2 init` with several files, and with files that lie where it would write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.files import write_jsonl
from data.sources.columns import ColumnMap
from flows.config.parameters import SelfTrainConfig
from flows.config.recipes import ConfigError, load_file
from flows.starting.collect import given_columns
from tests.flows.cli.test_init import MODELS, loaded, run, world_file


def test_files_with_different_columns_each_have_their_own_map(tmp_path: Path) -> None:
    pairs, more = world_file(tmp_path / "pairs.jsonl", 30), world_file(tmp_path / "more.jsonl", 40)
    rows = [json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 30)).read_text().splitlines()]
    chosen = [{"task": row["question"], "good": row["answer1"], "bad": row["answer2"]} for row in rows]
    write_jsonl(tmp_path / "chosen.jsonl", chosen)
    argued, held = world_file(tmp_path / "argued.jsonl", 20, rationales=20), world_file(tmp_path / "held.jsonl", 10)
    said = run(
        *(str(tmp_path / "own"), "--labeled", pairs, "--labeled", str(tmp_path / "chosen.jsonl"), "--unlabeled", more),
        *("--rationale", argued, "--heldout", held, *MODELS),
    )
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    data = config.data
    assert [Path(one.path).name for one in data.labeled] == ["pairs.jsonl", "chosen.jsonl"]
    assert data.labeled[1].columns == ColumnMap(prompt="task", chosen="good", rejected="bad")
    names = [Path(found[0].path).name for found in (data.unlabeled, data.rationale, data.heldout)]
    assert names == ["more.jsonl", "argued.jsonl", "held.jsonl"]
    assert data.rationale[0].columns is not None
    assert data.rationale[0].columns.rationale == "why"
    # 60 labeled pairs in both orders, and half of 40 unlabeled ones.
    assert "# 120 examples" in (tmp_path / "own/own.toml").read_text()


def test_a_file_is_never_overwritten_by_its_own_parts(tmp_path: Path) -> None:
    (tmp_path / "own/prepared").mkdir(parents=True)
    pairs = world_file(tmp_path / "own/prepared/labeled.jsonl", 30, asks="Taste?")
    before = Path(pairs).read_bytes()
    said = run(str(tmp_path / "own"), "--labeled", pairs, *MODELS)
    assert (said.exit_code, Path(pairs).read_bytes()) == (2, before)
    assert "lies where its two parts would be written: move it, or give --heldout" in said.stderr


def test_rows_without_a_rationale_column_are_allowed_for(tmp_path: Path) -> None:
    pairs = Path(world_file(tmp_path / "pairs.jsonl", 30, rationales=12))
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    write_jsonl(pairs, [{key: value for key, value in row.items() if value is not None} for row in rows])
    assert run(str(tmp_path / "own"), "--labeled", str(pairs), *MODELS).exit_code == 0
    config = load_file("self-train", tmp_path / "own/own.toml")
    assert isinstance(config, SelfTrainConfig)
    assert (config.data.rationale[0].max_malformed, config.data.labeled[0].max_malformed) == (18, 0)


def test_a_column_map_can_be_given_as_pairs_or_as_json() -> None:
    told = {"prompt": ["q"], "label_a": ["0"], "label_b": ["1", "2"]}
    assert given_columns(["prompt=q", "label_a=0", "label_b=1", "label_b=2"]) == told
    assert given_columns(['{"prompt": "q", "label_a": [0], "label_b": [1, 2]}']) == told
    with pytest.raises(ConfigError, match="label: must be one column"):
        given_columns(['{"label": ["one", "other"]}'])
    with pytest.raises(ConfigError, match=r"--columns \{prompt: is not JSON"):
        given_columns(["{prompt"])
