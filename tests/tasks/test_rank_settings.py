"""An output of `gram-r2 rank` goes on only with the judge and the settings that it was started with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.rank.files import RankSettings, judge_file
from tasks.rank.output import OutputError
from tests.support.endpoints import chat, serving
from tests.tasks.test_rank_files import ROWS, judged, write


def test_another_judge_does_not_go_on_in_the_same_file(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    judged(tmp_path, encoder, "rank")
    with pytest.raises(OutputError, match=r"was started with another judge or other settings \(seed 0 → 4"):
        judged(tmp_path, encoder, "rank", seed=4)
    write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "out.jsonl.run.json").unlink()
    with pytest.raises(OutputError, match="was not written by this command"):
        judged(tmp_path, encoder, "rank")


def test_a_setting_that_is_left_out_later_does_not_go_on_in_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    with serving(lambda body: (200, chat("<think></think><answer>A</answer>"))) as served:
        settings = RankSettings("rank", f"{served.url}#m", prompt="compact", max_tokens=512, progress=False)
        judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings)
        with pytest.raises(OutputError, match=r"other settings \(max_tokens 512 → None\)"):
            judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", replace(settings, max_tokens=None))


def test_an_endpoint_with_another_model_by_now_does_not_go_on_in_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    models: dict[str, Any] = {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]}
    with serving(lambda body: (200, chat("<think></think><answer>A</answer>")), (200, models)) as served:
        settings = RankSettings("rank", served.url, prompt="compact", progress=False)
        judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings)
        assert json.loads((tmp_path / "out.jsonl.run.json").read_text())["judge"] == f"{served.url}#m"
        models["data"][0]["id"] = "n"
        with pytest.raises(OutputError, match=r"#m' → 'http.*#n'"):
            judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings)


def test_a_damaged_record_of_the_settings_is_named(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    judged(tmp_path, encoder, "rank")
    for text in ("{", "[1]"):
        (tmp_path / "out.jsonl.run.json").write_text(text)
        with pytest.raises(OutputError, match=r"out\.jsonl\.run\.json is damaged"):
            judged(tmp_path, encoder, "rank")
