"""The stream of rows through an engine, on replies of heavy-tailed length: ``python -m tests.benchmarks.stream``.

20 shards of 16 rows, two requests a row of four completions each. A completion is exactly as long as its row says:
log-normal with σ = 0.6 around 24 tokens. Held against bare ``LLM.generate``, which is given all requests at once, tokenized
beforehand; both in this process on one engine, in turn. To hold it against earlier code, copy this file into that.

``python -m tests.benchmarks.stream memory`` gives the peak of traced memory for 1,000 and 100,000 rows with a fake engine.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.files import write_jsonl
from data.world import taste
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.label import vote_requests
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request, Sampling
from tasks.model.requests import Skip
from tasks.model.vllm import VLLMEngine
from tasks.settings import GenerationSettings, ModelSettings

BASE = Path("data/world/base-judge").resolve()
N_SHARDS, SHARD_ROWS, REPEATS = 20, 16, 5
MEDIAN_TOKENS, SIGMA, MOST_TOKENS = 24, 0.6, 80
HERE = "tests.benchmarks.stream"


class Endless(VLLMEngine):
    """Replies do not end by themselves, but at the limit of their request."""

    def _as_vllm(self, request: Request) -> tuple[Any, Any]:
        prompt, params = super()._as_vllm(request)
        params.ignore_eos, params.stop_token_ids, params._all_stop_token_ids = True, None, set()
        return prompt, params


def tailed_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """Votes as `tasks.label` asks for them, as long as is drawn for this row and order."""
    made = vote_requests(row, params, encoder)
    if isinstance(made, Skip):
        return made
    draw = random.Random(str(row["id"]))
    lengths = [min(MOST_TOKENS, max(1, round(MEDIAN_TOKENS * draw.lognormvariate(0, SIGMA)))) for _ in made]
    return [
        replace(request, sampling=replace(request.sampling, max_tokens=n))
        for request, n in zip(made, lengths, strict=True)
    ]


def main() -> dict[str, Any]:
    models = ModelSettings(
        judge_base=str(BASE), prover_base=str(BASE), judge_prompt="compact", max_tokens=128, dtype="float32"
    )
    generation = GenerationSettings(shard_rows=SHARD_ROWS, kv_cache_mib=64)
    encoder = ChatEncoder.load(str(BASE))
    engine = Endless(str(BASE), models, generation, encoder.end_id)
    params = {"prompt": "compact", "votes": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "context": 128}
    params |= {"overlong": "drop", "seed": 0}
    seconds: dict[str, list[float]] = {"stream": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        rows = [row.to_json() for row in taste.draw_pairs(N_SHARDS * SHARD_ROWS, seed=11)]
        write_jsonl(Path(folder) / "rows.jsonl", rows)
        made = [tailed_requests(row, params, encoder) for row in rows]
        requests = [request for one in made if not isinstance(one, Skip) for request in one]
        for repeat in range(REPEATS + 1):
            job = GenerationJob(
                f"{HERE}:tailed_requests", params, f"{folder}/rows.jsonl", len(rows), str(BASE),
                f"{folder}/shards-{repeat}", {"max_tokens": 0}, generation.model_dump(mode="json"),
            )  # fmt: skip  # without a context, there is no room to continue a reply
            sides = {
                "stream": lambda job=job: run_shards(job, engine, encoder, lambda _: None),
                "bare": lambda: bare(engine, requests),
            }
            for name in sorted(sides, reverse=bool(repeat % 2)):
                engine.llm.reset_prefix_cache()
                started = time.perf_counter()
                sides[name]()
                seconds[name].append(time.perf_counter() - started)
    ratios = [b / s for b, s in zip(seconds["bare"][1:], seconds["stream"][1:], strict=True)]  # the first warms up
    return {
        "completions": 4 * len(requests),
        "stream_over_bare": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "stream_s": round(statistics.median(seconds["stream"][1:]), 2),
        "bare_s": round(statistics.median(seconds["bare"][1:]), 2),
    }


def bare(engine: VLLMEngine, requests: list[Request]) -> None:
    from vllm import SamplingParams, TokensPrompt

    engine.llm.generate(
        [TokensPrompt(prompt_token_ids=list(request.prompt_ids)) for request in requests],
        [
            SamplingParams(
                n=r.sampling.n, temperature=r.sampling.temperature, max_tokens=r.sampling.max_tokens,
                seed=r.sampling.seed, ignore_eos=True,
            )
            for r in requests
        ],
        use_tqdm=False,
    )  # fmt: skip


def plain_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    return [Request(order, [*range(300, 400)], Sampling(n=2, seed=int(row["id"]))) for order in ("ab", "ba")]


def memory() -> dict[str, float]:
    """MiB at the peak, for numbers of rows; shards of 256 rows, and one shard of all rows."""
    encoder, peaks = ChatEncoder.load(str(BASE)), {}
    for n_rows, shard_rows in ((1000, 256), (1000, 256), (100_000, 256), (100_000, 100_000)):  # the first warms up
        with tempfile.TemporaryDirectory() as folder:
            write_jsonl(Path(folder) / "rows.jsonl", ({"id": str(i)} for i in range(n_rows)))
            job = GenerationJob(
                f"{HERE}:plain_requests", {}, f"{folder}/rows.jsonl", n_rows, "", f"{folder}/shards",
                {"max_tokens": 0}, {"shard_rows": shard_rows},
            )  # fmt: skip
            tracemalloc.start()
            run_shards(job, FakeEngine(lambda request, j: "word " * 100), encoder, lambda _: None)
            peaks[f"{n_rows} rows in shards of {shard_rows}"] = round(tracemalloc.get_traced_memory()[1] / 2**20, 2)
            tracemalloc.stop()
    return peaks


if __name__ == "__main__":
    print(json.dumps(memory() if sys.argv[1:] == ["memory"] else main()))
