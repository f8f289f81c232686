"""Discriminative reward models through the same interfaces: a score a response, and what two scores say."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks.items import Item
from data.files import read_jsonl
from data.records import Message
from data.world import taste
from tasks.benchmark.play import benchmark, game_requests
from tasks.benchmark.sets import prepare_set
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, FakeEngine, Request, Sampling
from tasks.model.judging import JudgeQuery, compare_scores
from tasks.model.scalar import SCALAR, ScalarEngine, is_scalar
from tasks.rank import Judge, open_judge, prompt_of
from tasks.settings import BenchmarkSet, GenerationSettings
from tests.conftest import run_with
from tests.support.playing import judge_of
from tests.support.scoring_rows import ppe_row, rm_bench_row, write_rows

ASKING = JudgeQuery(SCALAR, 1, 512)


def scored(encoder: ChatEncoder) -> FakeEngine:
    """A model to which a longer conversation is better."""
    return FakeEngine(lambda request, j: "", scores=lambda request: float(len(request.prompt_ids)))


@pytest.mark.parametrize(
    ("first", "second", "verdict", "p"),
    [
        (2.0, 1.0, "A", 1 / (1 + math.exp(-1))),
        (1.0, 2.0, "B", 1 / (1 + math.e)),
        (3.0, 3.0, None, 0.5),
        (900.0, 0.0, "A", 1.0),
    ],
)
def test_two_scores_make_bradley_terrys_probability(first: float, second: float, verdict: str | None, p: float) -> None:
    said = compare_scores(first, second)
    assert (said.verdict, said.malformed) == (verdict, None)
    assert said.p_first == pytest.approx(p)


def test_a_missing_score_is_no_verdict() -> None:
    assert compare_scores(None, 1.0).malformed == "prompt_too_long"
    assert compare_scores(float("nan"), 1.0).malformed == "no_score"


def test_a_benchmark_asks_for_each_response_once(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8)])
    run = run_with(tmp_path, encoder, scored(encoder))
    played = prepare_set(run, BenchmarkSet(benchmark="rm-bench", data=path))
    [row] = read_jsonl(played.file("items.jsonl"))
    made = game_requests(row, ASKING.to_json(), encoder)
    assert isinstance(made, list)
    assert [request.name for request in made] == ["0", "1", "2", "3", "4", "5"]
    item = Item.from_json(row)
    text = encoder.tokenizer.decode(list(made[1].prompt_ids))
    assert text == f"<|bos|><|user|>Why?<|end|><|assistant|>{item.responses[1]}<|end|>"
    games = list(read_jsonl(benchmark(run, None, judge_of(run), played, ASKING).file("games.jsonl")))
    assert len(games) == 18
    by_order = {(g["cell"], g["order"]): g["p_first"] for g in games}
    for cell in item.cells:
        assert by_order[cell.name, "chosen_first"] + by_order[cell.name, "rejected_first"] == pytest.approx(1.0)


def test_a_knockout_by_scores(tmp_path: Path, encoder: ChatEncoder) -> None:
    row = {**ppe_row("1", [False, False, True, False]), "response_3": "the longest of all the candidates here"}
    run = run_with(tmp_path, encoder, scored(encoder))
    played = prepare_set(run, BenchmarkSet(benchmark="ppe", data=write_rows(tmp_path / "set.jsonl", [row])))
    made = benchmark(run, None, judge_of(run), played, ASKING)
    assert made.manifest.name == "benchmark-ppe"
    assert made.manifest.metrics["accuracy"] == 1.0


def test_ranking_scores_each_response_once(encoder: ChatEncoder) -> None:
    judge = Judge(scored(encoder), encoder, ASKING)
    ranked = judge.rank("Taste?", ["zuvi", "zuvi vato nobu", "zuvi vato"])
    assert (ranked.order, ranked.matches) == ((1, 2, 0), 3)
    assert (judge.usage.generations, judge.usage.batches, judge.usage.comparisons) == (3, 1, 3)
    too_long = judge.compare("Taste?", "zuvi " * 600, "vato")
    assert (too_long.winner, too_long.nulls) == (None, 1)


def test_turns_that_the_template_refuses_fail_alone(tokenizer: Any) -> None:
    strict = copy.deepcopy(tokenizer)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    strict.chat_template = refusing + strict.chat_template
    encoder = ChatEncoder(strict)
    judge = Judge(scored(encoder), encoder, ASKING)
    refused = [Message("system", "Be brief."), Message("user", "Taste?")]
    first, second = judge.compare_many([(refused, "zuvi", "vato"), ("Taste?", "zuvi vato", "vato")])
    assert (first.winner, first.answers[0].answer.malformed) == (None, "refused_by_template")
    assert "no system turn" in first.answers[0].answer.detail
    assert second.winner == 0


# ---- a real model ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """The world's judge base with a head of one output, its weights by chance."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("scalar")
    torch.manual_seed(5)
    loaded = AutoModelForSequenceClassification.from_pretrained(
        "data/world/base-judge", num_labels=1, dtype=torch.float32
    )
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.engine
def test_scores_in_padded_batches_are_those_of_one_at_a_time(model: Path, encoder: ChatEncoder) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    assert is_scalar(str(model))
    assert not is_scalar("data/world/base-judge")
    assert prompt_of(str(model)) == SCALAR
    plain: Any = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    prompt = [Message("user", taste.QUESTION)]
    texts = [" ".join(pair.pair.response_a.split() * n) for n, pair in enumerate(taste.draw_pairs(5, seed=2), start=1)]
    requests = [
        Request(str(i), encoder.response_ids(prompt, text), Sampling(max_tokens=1)) for i, text in enumerate(texts)
    ]
    found: dict[int, float] = {}

    def told(i: int, answer: Any) -> None:
        [completion] = answer
        assert isinstance(completion, Completion)
        assert completion.score is not None
        found[i] = completion.score

    ScalarEngine(str(model), "float32", encoder.end_id).generate(requests, told)
    for i, request in enumerate(requests):
        with torch.inference_mode():
            hidden_TH = plain.model(input_ids=torch.tensor([list(request.prompt_ids)])).last_hidden_state[0]
            alone = plain.score(hidden_TH[-1])[0]  # at the end of the turn, whatever the tokenizer pads with
        assert found[i] == pytest.approx(float(alone), abs=1e-4)


@pytest.mark.engine
def test_a_discriminative_judge_is_opened_like_any_other(model: Path) -> None:
    with open_judge(model, context=512, generation=GenerationSettings(kv_cache_mib=64), dtype="float32") as judge:
        found = judge.compare(taste.QUESTION, "zuvi vato nobu vudo", "fero diku tiza pima")
        again = judge.compare(taste.QUESTION, "fero diku tiza pima", "zuvi vato nobu vudo")
        best = judge.best_of_n(taste.QUESTION, ["zuvi vato nobu vudo", "fero diku tiza pima"])
    assert found.share == pytest.approx(1 - again.share)
    assert best.index == found.winner
    assert 0.0 < found.share < 1.0
