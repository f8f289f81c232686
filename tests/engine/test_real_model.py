"""A real language model, as it is published, through our engine: its tokens, its probabilities, real pairs and prompts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from data.files import read_jsonl, write_json
from prompts.catalog import JUDGE_PROMPTS
from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_set
from tasks.model.chat import ChatEncoder
from tasks.model.judging import JudgeQuery, build_request
from tasks.model.location import Checkpoint
from tasks.model.process import EngineProcess
from tasks.rank import Judge, open_judge
from tasks.settings import BenchmarkSet, GenerationSettings, ModelSettings, Optimization
from tests.conftest import real_file, run_with
from tests.real.model import CONTROL_TOKENS, END_ID
from tests.support.sums import proved_sums, sum_pairs
from tests.support.training_jobs import Setup

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CONTEXT = 2048
Metrics = dict[str, Any]
SYSTEM = [
    1,
    9690,
    198,
    2683,
    359,
    253,
    5356,
    5646,
    11173,
    3365,
    3511,
    308,
    34519,
    28,
    7018,
    411,
    407,
    19712,
    8182,
    2,
    198,
]
"""The turn that the template puts before a conversation that has no system turn: ``<|im_start|>system\\nYou are … SmolLM …``."""


def models(model: Path, prompt: str, dtype: str = "float32") -> ModelSettings:
    return ModelSettings.model_validate({
        "judge_base": str(model), "prover_base": str(model), "judge_prompt": prompt, "max_tokens": CONTEXT, "dtype": dtype,
    })  # fmt: skip


@pytest.fixture(scope="module")
def encoder(real_model: Path) -> ChatEncoder:
    return ChatEncoder.load(str(real_model))


def opened(model: Path, dtype: Literal["bfloat16", "float32"]) -> AbstractContextManager[Judge]:
    generation = GenerationSettings(kv_cache_mib=256)
    return open_judge(model, prompt="gram", max_tokens=8, context=CONTEXT, dtype=dtype, generation=generation)


@pytest.fixture(scope="module")
def judge(real_model: Path) -> Iterator[Judge]:
    """A judge by the label alone, in bfloat16, as models are served on GPUs."""
    with opened(real_model, "bfloat16") as running:
        yield running


# ---- tokens -------------------------------------------------------------------------------------------------------------


def test_the_converted_model_is_the_published_one(real_model: Path, encoder: ChatEncoder) -> None:
    """Shape, control tokens and token ids as Hugging Face publishes them."""
    config = json.loads((real_model / "config.json").read_text())
    published = {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": END_ID, "pad_token_id": END_ID, "dtype": "float32",
    }  # fmt: skip
    assert {name: config[name] for name in published} == pytest.approx(published)
    assert config["rope_parameters"]["rope_theta"] == 100_000
    assert "quantization_config" not in config
    generation = json.loads((real_model / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"], generation["pad_token_id"]) == (1, END_ID, END_ID)
    tokenizer = encoder.tokenizer
    assert {name: getattr(tokenizer, name) for name in CONTROL_TOKENS} == CONTROL_TOKENS
    assert tokenizer.convert_ids_to_tokens([0, 1, END_ID]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert (len(tokenizer), encoder.end_id) == (49152, END_ID)
    assert encoder.text_ids("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    text = "Prices rose 3.75% in 2024,\n\n  but “naïve” – 漢字 🙂"
    assert tokenizer.decode(encoder.text_ids(text)) == text


@pytest.mark.parametrize("prompt", ["compact", "gram-r2", "gram"])
def test_training_and_generation_see_the_same_tokens(
    real_model: Path, encoder: ChatEncoder, prompt: str, tmp_path: Path
) -> None:
    """And so does whoever applies the template to the whole conversation; its default system turn is in all of them."""
    rows = proved_sums(4)
    role = "judge" if JUDGE_PROMPTS[prompt].has_rationale else "label-judge"
    how = Setup(models(real_model, prompt), Optimization(max_steps=1), role=role)
    features = how.features(tmp_path, [row.to_json() for row in rows], encoder)
    assert len(features) == len(rows)
    for row, made in zip(rows, features, strict=True):
        request = build_request(JudgeQuery(prompt, how.reply_tokens, CONTEXT), encoder, row.pair, "ab")
        assert request is not None
        asked = list(request.prompt_ids)
        assert asked[: len(SYSTEM)] == SYSTEM
        assert made["labels"] == [-100] * len(asked) + made["input_ids"][len(asked) :]
        assert made["input_ids"][: len(asked)] == asked
        said = JUDGE_PROMPTS[prompt].target(row.rationale, row.label)
        turns = [message.to_json() for message in JUDGE_PROMPTS[prompt].render(row.pair)]
        whole = encoder.tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": said}], return_dict=False
        )
        ended = [] if role == "judge" else [END_ID]  # a label judge is not taught to end its turn
        assert [*made["input_ids"], *ended, *encoder.text_ids("\n")] == whole


# ---- probabilities ------------------------------------------------------------------------------------------------------


def test_the_probabilities_of_the_labels_are_those_of_transformers(real_model: Path, encoder: ChatEncoder) -> None:
    """In float32; the prompts are GRAM's."""
    import torch
    from transformers import AutoModelForCausalLM

    pairs = [one.pair for one in sum_pairs(4, seed=1)]
    with opened(real_model, "float32") as running:
        compared = running.compare_many([(pair.prompt, pair.response_a, pair.response_b) for pair in pairs])
    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32)
    for pair, found in zip(pairs, compared, strict=True):
        for answer, shown in zip(found.answers, (pair, pair.swapped()), strict=True):
            ids = torch.tensor([encoder.prompt_ids(JUDGE_PROMPTS["gram"].render(shown))])
            with torch.no_grad():
                logits_V = model(ids, logits_to_keep=1).logits[0, -1]
            p_first = float(logits_V[list(encoder.label_ids)].softmax(-1)[0])
            assert answer.answer.p_first == pytest.approx(p_first, abs=1e-4)
            assert answer.answer.verdict == ("A" if p_first > 0.5 else "B")


def test_a_label_judge_in_bfloat16_has_no_ties(judge: Judge) -> None:
    """With a head that rounds its logits to bfloat16, these 200 games had 19 different probabilities."""
    by_label = Judge(judge.engine, judge.encoder, replace(judge.query, prompt="compact-label"))
    pairs = [one.pair for one in sum_pairs(100, seed=2)]
    compared = by_label.compare_many([(pair.prompt, pair.response_a, pair.response_b) for pair in pairs])
    found = [judged.answer.p_first for one in compared for judged in one.answers]
    assert len(found) == 200
    assert found.count(0.5) < 2
    assert len({round(p, 6) for p in found if p is not None}) > 180


# ---- real prompts and pairs -----------------------------------------------------------------------------------------------


def llmbar(folder: Path, n: int) -> BenchmarkSet:
    """The shortest items of LLMBar's natural subset."""
    items = json.loads(real_file("llmbar/Natural.json").read_text(encoding="utf-8"))
    items.sort(key=lambda item: len(item["input"] + item["output_1"] + item["output_2"]))
    write_json(folder / "Natural.json", items[:n])
    return BenchmarkSet(benchmark="llmbar", data=str(folder / "Natural.json"))


def played(folder: Path, judge: Judge, prompt: str, n: int, max_tokens: int) -> tuple[Metrics, list[Metrics], Metrics]:
    """Metrics, games and scores of the published model as a judge of n real pairs."""
    assert isinstance(judge.engine, EngineProcess)
    assert isinstance(judge.encoder, ChatEncoder)
    run = run_with(
        folder, judge.encoder, judge.engine, labels={"max_tokens": max_tokens}, generation={"shard_rows": n},
        models=models(Path("none"), prompt, "bfloat16").model_dump(mode="json"),
    )  # fmt: skip
    made = benchmark(run, None, Checkpoint("published", "none"), prepare_set(run, llmbar(folder, n)))
    games = list(read_jsonl(made.file("games.jsonl")))
    return dict(made.manifest.metrics), games, json.loads(made.file("scores.json").read_text())


def test_forty_real_pairs_are_scored_with_an_interval(judge: Judge, tmp_path: Path) -> None:
    """This model prefers the response shown first in 78 of 80 games: half of them are right, whatever pairs are drawn."""
    metrics, games, scores = played(tmp_path, judge, "gram", 40, 8)
    assert (metrics["games"], metrics["malformed"], metrics["truncated"]) == (80, {}, 0.0)
    right = {"chosen_first": "A", "rejected_first": "B"}
    by_pair = Counter(game["id"] for game in games if game["verdict"] == right[game["order"]])
    accuracy = by_pair.total() / 80
    assert metrics["parts"] == {"Natural": pytest.approx(accuracy)}
    low, high = scores["intervals"]["subsets"]["Natural"]["accuracy"]
    assert low <= accuracy <= high
    varied = len({by_pair[game["id"]] for game in games}) > 1
    assert (0.01 < high - low < 0.4) if varied else low == high
    said = Counter(game["verdict"] for game in games)
    assert said == Counter({verdict: n for verdict, n in metrics["verdicts"].items() if n})
    assert said["A"] > 60


def test_the_released_prompt_at_its_length_and_every_reply_is_counted(judge: Judge, tmp_path: Path) -> None:
    """An untrained model hardly ever keeps the format: its replies are no verdicts, each with its reason."""
    metrics, games, _ = played(tmp_path, judge, "gram-r2", 2, 64)
    assert metrics["games"] == len(games) == 4
    assert "prompt_too_long" not in metrics["malformed"]
    assert metrics["prompt_tokens"] > 4 * 450
    assert sum(metrics["malformed"].values()) + metrics["verdicts"]["A"] + metrics["verdicts"]["B"] == 4
    for game in games:
        assert (game["verdict"] is None) == (game["malformed"] is not None)
        assert game["truncated"] == (game["malformed"] == "truncated")
        assert game["n_tokens"] > 1
