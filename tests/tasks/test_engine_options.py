"""Options of engines: what is refused, what vLLM is given, and what goes into keys."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.config.recipes import ConfigError, load_recipe, with_overrides
from tasks.benchmark.play import benchmark
from tasks.label import cast_votes
from tasks.model.chat import ChatEncoder
from tasks.model.engine_options import engine_option_problems
from tasks.model.vllm import VLLMEngine
from tasks.prove import write_proofs
from tasks.settings import GenerationSettings, ModelSettings
from tests.conftest import artifact, run_with
from tests.support.playing import heldout_of


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What vLLM is given for these options, on a machine with a GPU or without."""

    def made(gpu: bool, scoring: bool = False, **options: Any) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        scheduler = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=256))
        llm = SimpleNamespace(
            get_tokenizer=lambda: SimpleNamespace(), llm_engine=SimpleNamespace(vllm_config=scheduler)
        )
        monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda **given: taken.update(given) or llm))
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
        models = ModelSettings(judge_base="x", max_tokens=512)
        VLLMEngine("folder", models, GenerationSettings(**options), 0, scoring)
        return taken

    return made


def test_vllm_is_given_the_options_as_they_are(given: Any) -> None:
    taken = given(True, kv_cache_dtype="fp8", quantization="fp8_per_tensor", engine={"max_num_seqs": 512})
    assert (taken["kv_cache_dtype"], taken["quantization"], taken["max_num_seqs"]) == ("fp8", "fp8_per_tensor", 512)
    assert not given(True).keys() & {"kv_cache_dtype", "quantization", "max_num_seqs"}


def test_batches_are_as_large_for_scoring_as_without(given: Any) -> None:
    assert "max_num_batched_tokens" not in given(True, scoring=True)
    assert given(True, scoring=True, engine={"max_num_batched_tokens": 16384})["max_num_batched_tokens"] == 16384


def test_what_is_set_elsewhere_is_refused_by_name(given: Any) -> None:
    """Everything that vLLM is given of its own accord, but for the size of a batch, which only a CPU needs set."""
    own = {
        *given(True, scoring=True, kv_cache_mib=64, kv_cache_dtype="fp8", quantization="fp8_per_block"),
        *given(False),
    }
    for name in own - {"max_num_batched_tokens"}:
        with pytest.raises(
            ConfigError, match=rf"generation\.engine has '{name}', which is set by [a-z_. ]+: leave it out"
        ):
            with_overrides(load_recipe("demo").model_dump(), {"generation.engine": {name: 1}})
    with pytest.raises(ConfigError, match=r"'max_model_len', which is set by models\.max_tokens"):
        with_overrides(load_recipe("demo").model_dump(), {"generation.engine.max_model_len": 1})


def test_a_quantization_that_vllm_no_longer_does_on_the_fly_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"generation\.quantization: must be one of fp8_per_tensor, .*, got 'fp8'"):
        with_overrides(load_recipe("demo").model_dump(), {"generation.quantization": "fp8"})


def test_nothing_is_started_to_check_no_options() -> None:
    assert engine_option_problems({}) == []


@pytest.mark.parametrize("kind", ["vote", "prove", "benchmark"])
def test_options_are_in_keys_only_if_they_are_set(tmp_path: Path, encoder: ChatEncoder, kind: str) -> None:
    options = {"kv_cache_dtype": "fp8", "quantization": "fp8_per_channel", "engine": {"max_num_seqs": 8}}
    plain, changed = (
        config_of(kind, tmp_path / kind / name, encoder, set_) for name, set_ in (("a", {}), ("b", options))
    )
    assert not plain.keys() & options.keys()
    assert changed == {**plain, **options}


def config_of(kind: str, folder: Path, encoder: ChatEncoder, options: dict[str, Any]) -> dict[str, Any]:
    """The config of a stage of this kind under these options."""
    run = run_with(folder, encoder, lambda request, j: "", generation={"shard_rows": 3, **options})
    model = artifact(run, "model", {"checkpoint/weights.jsonl": []})
    rows = artifact(run, "data", {"rows.jsonl": []}).ref("rows.jsonl")
    if kind == "vote":
        made = cast_votes(run, 1, model, rows)
    elif kind == "prove":
        made = write_proofs(run, 1, model, rows)
    else:
        made = benchmark(run, 1, model, heldout_of(run))
    return dict(made.manifest.config)
