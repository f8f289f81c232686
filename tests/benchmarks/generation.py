"""Rows per second of the generation stage ÷ bare ``LLM.generate`` on the same engine, prompts and settings.

Both sides run in this process on one engine, in turn, several times; engine startup counts for neither. The stage builds
its prompts from rows, parses nothing, and writes its shards; the bare side is given ready-made prompts.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from data.files import read_jsonl, write_jsonl
from data.world import taste
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.label import vote_requests
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.requests import Skip
from tasks.settings import GenerationSettings, ModelSettings

BASE = Path("data/world/base-judge")
N_ROWS, REPEATS = 250, 5


def main() -> dict[str, Any]:
    from tasks.model.vllm import VLLMEngine

    models = ModelSettings(
        judge_base=str(BASE), prover_base=str(BASE), judge_prompt="compact", max_tokens=128, dtype="float32"
    )
    generation = GenerationSettings(shard_rows=N_ROWS, kv_cache_mib=64)
    encoder = ChatEncoder.load(str(BASE))
    engine = VLLMEngine(str(BASE), models, generation, encoder.end_id)
    params = {"prompt": "compact", "votes": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "context": 128}
    params |= {"overlong": "drop", "seed": 0}
    ratios, stage_rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder) / "rows.jsonl"
        write_jsonl(rows_file, (row.to_json() for row in taste.draw_pairs(N_ROWS, seed=11)))
        made = [vote_requests(row, params, encoder) for row in read_jsonl(rows_file)]
        requests = [request for row in made if not isinstance(row, Skip) for request in row]
        for repeat in range(REPEATS + 1):
            out = Path(folder) / f"shards-{repeat}"
            job = GenerationJob(
                "tasks.label:vote_requests", params, str(rows_file), N_ROWS, str(BASE), str(out),
                models.model_dump(mode="json"), generation.model_dump(mode="json"),
            )  # fmt: skip
            sides = [
                lambda job=job: run_shards(job, engine, encoder, lambda _: None),
                lambda: bare(engine, encoder, requests),
            ]
            order = (0, 1) if repeat % 2 else (1, 0)
            seconds = {}
            for side in order:
                engine.llm.reset_prefix_cache()
                started = time.perf_counter()
                sides[side]()
                seconds[side] = time.perf_counter() - started
            if repeat:  # the first pass warms both up
                ratios.append(seconds[1] / seconds[0])
                stage_rates.append(N_ROWS / seconds[0])
    return {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "stage_rows_per_s": round(statistics.median(stage_rates), 1),
    }


def bare(engine: Any, encoder: ChatEncoder, requests: list[Request]) -> None:
    """The same requests, tokenized beforehand, straight to vLLM."""
    from vllm import SamplingParams, TokensPrompt

    engine.llm.generate(
        [TokensPrompt(prompt_token_ids=list(request.prompt_ids)) for request in requests],
        [
            SamplingParams(
                n=r.sampling.n, temperature=r.sampling.temperature, max_tokens=r.sampling.max_tokens,
                seed=r.sampling.seed, stop_token_ids=[encoder.end_id],
            )
            for r in requests
        ],
        use_tqdm=False,
    )  # fmt: skip


if __name__ == "__main__":
    import json

    print(json.dumps(main()))
