"""Ranking in batches ÷ one comparison at a time; and what caching shared prefixes saves, in our order and shuffled.

All use one engine in this process; its startup does not count. Figures are ratios within one run.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.benchmarks.items import Item
from data.benchmarks.rm_bench import CELLS, STYLES
from data.records import Message
from data.world import taste
from tasks.benchmark.play import game_requests
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.judging import JudgeQuery
from tasks.model.vllm import VLLMEngine
from tasks.rank import Judge
from tasks.settings import GenerationSettings, ModelSettings

BASE = Path("data/world/base-judge")
N_PROMPTS, N_RESPONSES, K = 50, 8, 4
N_ALONE = 10
"""Prompts that are judged one generation at a time; the time for all is extrapolated."""


def open_engine(context: int, kv_cache_mib: int, prefix_caching: bool = True) -> tuple[VLLMEngine, ChatEncoder]:
    models = ModelSettings(
        judge_base=str(BASE), prover_base=str(BASE), judge_prompt="compact", max_tokens=context, dtype="float32"
    )
    encoder = ChatEncoder.load(str(BASE))
    generation = GenerationSettings(kv_cache_mib=kv_cache_mib)
    return VLLMEngine(str(BASE), models, generation, encoder.end_id, prefix_caching=prefix_caching), encoder


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def tournaments() -> dict[str, Any]:
    """50 prompts × 8 responses, 4 votes in each order: knockouts of all prompts in lockstep, against one pair at a time."""
    engine, encoder = open_engine(128, 256)
    pairs = taste.draw_pairs(N_PROMPTS * N_RESPONSES // 2, seed=12)
    texts = [text for pair in pairs for text in (pair.pair.response_a, pair.pair.response_b)]
    rows = [(f"{taste.QUESTION} {i}", texts[i * N_RESPONSES : (i + 1) * N_RESPONSES]) for i in range(N_PROMPTS)]
    query = JudgeQuery("compact", 64, 128, votes=K, temperature=1.0)
    judge = Judge(engine, encoder, query)

    def one_by_one() -> None:
        for prompt, responses in rows:
            judge.best_of_n(prompt, responses, method="linear")

    def vote_by_vote() -> None:
        single = Judge(engine, encoder, replace(query, votes=1), both_orders=False)
        for prompt, responses in rows[:N_ALONE]:
            for _ in range(2 * K):  # both orders, each vote by itself
                single.best_of_n(prompt, responses, method="linear")

    judge.best_of_n_many(rows[:5])  # warms up
    engine.llm.reset_prefix_cache()
    before = judge.usage.generations
    batched = seconds_of(lambda: judge.best_of_n_many(rows))
    generations = judge.usage.generations - before
    engine.llm.reset_prefix_cache()
    alone = seconds_of(one_by_one)
    engine.llm.reset_prefix_cache()
    single = seconds_of(vote_by_vote) * N_PROMPTS / N_ALONE
    return {
        "generations": generations,
        "batched_s": round(batched, 1),
        "comparison_by_comparison_s": round(alone, 1),
        "generation_by_generation_s": round(single, 1),
        "comparisons_ratio": round(alone / batched, 2),
        "generations_ratio": round(single / batched, 2),
    }


def long_items(n: int, words: int) -> list[Item]:
    """Items of RM-Bench's shape from seeded words: six responses each, of which every cell shares one with others."""
    rng = random.Random(5)

    def text() -> str:
        return " ".join(rng.choice(taste.WORDS) for _ in range(words))

    right = (True,) * STYLES + (False,) * STYLES
    return [
        Item(f"i{i}", "chat", (Message("user", text()),), tuple(text() for _ in right), right, CELLS) for i in range(n)
    ]


def prefixes(caching: str) -> dict[str, Any]:
    """Seconds to process 20 items of 18 games each, prompts of about 450 tokens and replies of one, in our order and shuffled."""
    # Room for the prompts of only a few items, as in a GPU's cache among thousands: late requests must not find it evicted.
    engine, encoder = open_engine(512, 16, caching == "on")
    query = JudgeQuery("compact-label", 1, 512)
    requests: list[Request] = []
    for item in long_items(20, 100):
        made = game_requests(item.to_json(), query.to_json(), encoder)
        assert isinstance(made, list)
        requests += made
    shuffled = random.Random(0).sample(requests, len(requests))

    def read(some: Sequence[Request]) -> float:
        engine.llm.reset_prefix_cache()
        return seconds_of(lambda: engine.generate(some, lambda i, answer: None))

    read(requests[:36])  # warms up
    ordered, mixed = [], []
    for _ in range(3):
        ordered.append(read(requests))
        mixed.append(read(shuffled))
    return {
        "games": len(requests),
        "prompt_tokens": sum(len(request.prompt_ids) for request in requests),
        "ordered_s": round(statistics.median(ordered), 2),
        "shuffled_s": round(statistics.median(mixed), 2),
    }


if __name__ == "__main__":
    print(json.dumps(tournaments() if len(sys.argv) == 1 else prefixes(sys.argv[1])))
