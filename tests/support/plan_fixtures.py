"""Models and rows that stand in for those of the hub, so that every recipe can be planned without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from data.files import write_jsonl
from data.records import RationalePair
from data.world.taste import draw_pairs, rationale
from prompts.judge import join_headings
from tasks.settings import Settings
from tests.conftest import ROOT

_LLAMA = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "head_dim": 128}
SHAPES: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B-Instruct": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.2-3B-Instruct": {
        **_LLAMA,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-1.7B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-14B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}
"""The architecture in these models' config.json; they have no weights here, and the small world's tokenizer."""
PROMPTS = {"runs/gram-demo/final": "compact-label"}
"""What the judges of recipes that other runs make say of their prompt."""
N_ROWS = 12


def write_model(folder: Path, model: str) -> Path:
    """A folder with a model's config.json and a tokenizer; a model that is not known here has the shape of the first."""
    made = folder / model.replace("/", "--")
    made.mkdir(parents=True, exist_ok=True)
    (made / "config.json").write_text(json.dumps(SHAPES.get(model) or next(iter(SHAPES.values()))))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "data/world/base-judge" / name, made / name)
    if model in PROMPTS:
        (made / "prompt.json").write_text(json.dumps({"name": PROMPTS[model]}))
    return made


def write_rows(folder: Path, config: Settings) -> dict[str, str]:
    """A file of rows for each part of a recipe's data and for each of its sets: what stands in for them."""
    rows = []
    for drawn in draw_pairs(N_ROWS, seed=1):
        pair, said, text = drawn.pair, drawn.label, rationale(drawn.pair)
        if config.judge_prompt.shape == "headings":
            text = join_headings(text, "One has more of what counts.", f"Response {said} is better.")
        rows.append(RationalePair(pair, said, text).to_json())
    write_jsonl(folder / "rows.jsonl", rows)
    parts = [
        part for part in ("rationale", "labeled", "unlabeled", "pretraining", "heldout") if getattr(config.data, part)
    ]
    return {name: str(folder / "rows.jsonl") for name in [*parts, *(one.label for one in config.benchmarks.sets)]}
