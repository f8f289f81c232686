"""Opening a judge: the prompt, the context and the dtype that it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.rank import open_judge, prompt_of
from tasks.rank.opening import settings_of


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ('{"sha256": "x"}', r"prompt\.json: 'name' must be one of gram-r2, .*, got None"),
        ('{"name": "mine"}', r"prompt\.json: 'name' must be one of .*, got 'mine'"),
        ("[]", r"prompt\.json must be a JSON object, got list"),
        ("null", r"prompt\.json must be a JSON object, got nothing \(null\)"),
        ("{}", r"prompt\.json: 'name' must be one of .*, got None"),
        ("{broken", r"prompt\.json is not JSON"),
        ('{"name": "compact", "context": "x"}', r"prompt\.json: 'context' must be a number of tokens, got 'x'"),
        ('{"name": "compact", "reply_tokens": 0}', r"'reply_tokens' must be a number of tokens, got 0"),
        ('{"name": "compact", "dtype": "int8"}', r"'dtype' must be one of auto, .*, got 'int8'"),
    ],
)
def test_a_prompt_json_that_is_none_is_named(tmp_path: Path, card: str, message: str) -> None:
    (tmp_path / "prompt.json").write_text(card)
    with pytest.raises(ValueError, match=message), open_judge(tmp_path):
        pass


def test_a_judge_is_used_as_it_was_trained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    small = {"max_tokens": 256, "context": 512, "dtype": "auto"}
    assert settings_of(str(tmp_path)) == small
    (tmp_path / "prompt.json").write_text('{"name": "compact"}')  # as it was written before
    assert settings_of(str(tmp_path)) == small
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 131072}')
    assert settings_of(str(tmp_path)) == {"max_tokens": 1024, "context": 4096, "dtype": "auto"}
    card = {"name": "compact", "context": 128, "reply_tokens": 64, "dtype": "float32"}
    (tmp_path / "prompt.json").write_text(json.dumps(card))
    assert settings_of(str(tmp_path)) == {"max_tokens": 64, "context": 128, "dtype": "float32"}


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("NiuTrans/GRAM-RR-LLaMA-3.1-8B-RewardModel", "gram-r2"),
        ("/models/GRAM-RR-LLaMA-3.2-3B-RewardModel/", "gram-r2"),
        ("NiuTrans/GRAM-Qwen3-1.7B-RewardModel", "gram"),
        ("NiuTrans/GRAM-LLaMA3.2-3B-RewardModel", "gram"),
        ("http://127.0.0.1:8000/v1#NiuTrans/GRAM-RR-LLaMA-3.1-8B-RewardModel", "gram-r2"),
    ],
)
def test_released_checkpoints_get_their_own_prompt(name: str, prompt: str) -> None:
    assert prompt_of(name) == prompt


def test_a_checkpoint_of_ours_says_what_it_was_trained_with(tmp_path: Path) -> None:
    (tmp_path / "prompt.json").write_text(json.dumps({"name": "compact"}))
    assert prompt_of(str(tmp_path)) == "compact"


def test_a_judge_whose_prompt_is_not_known_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="the prompt that this judge was trained with is unknown"),
        open_judge(tmp_path),
    ):
        pass
    with pytest.raises(ValueError, match="there is no judge prompt 'new'"), open_judge(tmp_path, prompt="new"):
        pass


def test_a_judge_in_the_home_folder_says_what_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an adapter, the folder that is used is another: the merged one."""
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge/prompt.json").write_text(json.dumps({"name": "compact"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prompt_of("/merged", "~/judge") == prompt_of("/merged", "${HOME}/judge") == "compact"
