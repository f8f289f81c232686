"""What is said of a model's folder before anything is started with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from tasks.model.chat import ChatEncoder, ChatTemplateError, load_tokenizer
from tasks.model.folder import ModelError, check_model_folder, positions_of, weight_files
from tests.conftest import ROOT

BASE = ROOT / "data/world/base-judge"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the world's base judge, of 512 positions."""
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def test_a_whole_model_passes(model: Path) -> None:
    check_model_folder(str(model), context=512)


def test_a_context_longer_than_the_positions_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"a context of 513 tokens is more than the 512 positions of the model in"):
        check_model_folder(str(model), context=513)
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")  # vLLM's own way to insist
    check_model_folder(str(model), context=513)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 300}}, 300),
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 32768),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 4.0}}, 8192),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 4096),
        ({"max_position_embeddings": 512, "rope_parameters": {"full": {"rope_type": "linear", "factor": 8}}}, 4096),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default", "rope_theta": 1.0}}, 512),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"hidden_size": 8}, None),
    ],
)
def test_positions_are_those_that_the_engine_derives(tmp_path: Path, config: Any, positions: int | None) -> None:
    write_json(tmp_path / "config.json", config)
    assert positions_of(str(tmp_path)) == positions


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize(("content", "problem"), [(POINTER, "is a Git LFS pointer, not the file"), ("", "is empty")])
def test_files_that_are_not_there_in_truth_are_named(model: Path, name: str, content: str, problem: str) -> None:
    (model / name).write_text(content)
    with pytest.raises(ModelError, match=problem) as refused:
        check_model_folder(str(model))
    assert str(model / name) in str(refused.value)


def test_a_download_that_was_broken_off_is_named(model: Path) -> None:
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=rf"is cut off at {len(whole) - 1} of {len(whole)} bytes"):
        check_model_folder(str(model))
    weights.write_bytes(whole[:100])
    with pytest.raises(ModelError, match="is not a safetensors file, or is damaged"):
        check_model_folder(str(model))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json: give the folder of a Hugging Face model"),
        ("tokenizer.json", "has no tokenizer (tokenizer.json): copy the tokenizer files of its base model there"),
        ("model.safetensors", "has no weights (*.safetensors)"),
    ],
)
def test_what_a_folder_lacks_is_named(model: Path, file: str, message: str) -> None:
    (model / file).unlink()
    with pytest.raises(ModelError) as refused:
        check_model_folder(str(model))
    assert message in str(refused.value)


def test_without_weights_none_are_wanted(model: Path) -> None:
    (model / "model.safetensors").unlink()
    check_model_folder(str(model), weights=False)


def test_a_shard_that_is_missing_is_named(model: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_json(model / "model.safetensors.index.json", {"weight_map": shards})
    (model / "model.safetensors").rename(model / shards["a"])
    with pytest.raises(ModelError, match=r"lacks 1 of the 2 weight files .*model-00002-of-00002"):
        check_model_folder(str(model))


def test_an_adapter_is_no_model_and_its_base_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "org/base", "r": 8})
    with pytest.raises(ModelError, match=r"holds an adapter of org/base, not a whole model: merge the two"):
        check_model_folder(str(tmp_path))
    with pytest.raises(ModelError, match=r"holds an adapter of org/base"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_none_is_named(model: Path, content: str) -> None:
    (model / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json (is not JSON|must be a JSON object)"):
        check_model_folder(str(model))


def test_a_tokenizer_that_cannot_be_loaded_is_one_line(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"the tokenizer of .* cannot be loaded \(.*\): if files are missing"
    ) as refused:
        load_tokenizer(str(model))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "template", ["{% for m in messages %}", "{{ raise_exception('no user turns') }}", "{{ x.y.z }}"]
)
def test_a_template_that_cannot_be_rendered_is_named(model: Path, template: str) -> None:
    path = model / "tokenizer_config.json"
    write_json(path, {**json.loads(path.read_text()), "chat_template": template})
    with pytest.raises(ChatTemplateError, match=r"the chat template of .* cannot be rendered"):
        ChatEncoder.load(str(model))


def test_copies_of_the_weights_that_nobody_loads_are_not_looked_at(model: Path) -> None:
    for name in ("consolidated.safetensors", "adapter_model.safetensors"):
        (model / name).write_text(POINTER)
    check_model_folder(str(model))
    assert weight_files(model) == [model / "model.safetensors"]


@pytest.mark.parametrize("content", ["", POINTER, "{", "{}", "[]"])
def test_an_index_of_the_weights_that_is_broken_is_named(model: Path, content: str) -> None:
    (model / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        check_model_folder(str(model))
