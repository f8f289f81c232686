"""The planned GPU hours of the recipes in the README: ``python -m tests.benchmarks.costs``, with options of ``gram-r2 plan``.

Neither models nor data of these recipes are here. What stands in for them: the models' shapes, with a tokenizer of 32K tokens
trained on public pairs (the 300 of LLaMA-Factory's ``dpo_en_demo.json``, found through GRAM_R2_DATA); these pairs as every
part of the data, with rationales of 360 tokens, as long as HelpSteer3's; and the numbers of rows that the papers state. All
else is what a plan assumes by itself.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data.files import write_jsonl
from data.records import Message, RationalePair, ResponsePair
from prompts.judge import join_headings
from tests.support.commands import gram_r2
from tests.support.plan_fixtures import write_model
from tests.support.planning import RECIPES, target

PAIRS = Path(os.environ.get("GRAM_R2_DATA", "../shared/data")) / "llamafactory-dpo/dpo_en_demo.json"
VOCABULARY, RATIONALE_TOKENS = 32_000, 360
SELF_TRAINING = {"rows_rationale": 40_500, "rows_labeled": 1_000_000, "rows_unlabeled": 1_500_000}
ROWS: Mapping[str, Mapping[str, int]] = {
    "llama-3.2-3b": SELF_TRAINING,
    "llama-3.1-8b": SELF_TRAINING,
    "llama-3.2-3b-lora": {**SELF_TRAINING, "rows_labeled": 62_000},
    "llama-3.1-8b-lora": {**SELF_TRAINING, "rows_labeled": 44_000},
    "gram/gram-qwen3-1.7b": {"rows_pretraining": 566_000, "rows_labeled": 65_000},
}
"""The recipes, and how many rows their data has where they do not say it themselves."""
HELD_OUT = 2_000
"""Pairs that the recipes with LoRA hold out: a share of all that they read, before the caps bound what is trained on."""


def public_pairs() -> list[ResponsePair]:
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    return [
        ResponsePair(
            str(i),
            tuple(Message(roles[turn["from"]], turn["value"]) for turn in row["conversations"]),
            row["chosen"]["value"],
            row["rejected"]["value"],
        )
        for i, row in enumerate(json.loads(PAIRS.read_text(encoding="utf-8")))
    ]


def write_tokenizer(folder: Path, texts: Iterator[str]) -> None:
    """A byte-level BPE tokenizer, with the chat template of the small world's judge."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    world = AutoTokenizer.from_pretrained("data/world/base-judge")
    special = {key: str(value) for key, value in world.special_tokens_map.items() if isinstance(value, str)}
    kept = [*dict.fromkeys([*special.values(), *world.added_tokens_encoder])]
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=kept, show_progress=False)
    )
    PreTrainedTokenizerFast(tokenizer_object=made, chat_template=world.chat_template, **special).save_pretrained(folder)


def rationale(words: Iterator[str], n: int, headings: bool) -> str:
    text = " ".join(itertools.islice(words, n))
    return join_headings(text, "One says more of what was asked.", "Response A is better.") if headings else text


def stand_ins(
    recipe: str, folder: Path, pairs: Sequence[ResponsePair], words: Iterator[str], n_words: int
) -> list[str]:
    """The options that name what stands in for a recipe's models and data; its rationales have `n_words` words."""
    found = target(recipe, folder)
    headings = found.settings.judge_prompt.shape == "headings"
    rows = [RationalePair(pair, "A", rationale(words, n_words, headings)).to_json() for pair in pairs]
    write_jsonl(folder / "rows.jsonl", rows)
    given = []
    for model in set(found.models.values()):
        made = write_model(folder, model)
        shutil.copytree(folder / "tokenizer", made, dirs_exist_ok=True)
        given += ["--stand-in", f"{model}={made}"]
    for part in ("rationale", "labeled", "unlabeled", "pretraining", "heldout"):
        if getattr(RECIPES[recipe].data, part, None):
            given += ["--data-stand-in", f"{part}={folder / 'rows.jsonl'}"]
    return given


def hours_of(given: Sequence[str]) -> dict[str, float]:
    """GPU hours by kind of stage, in the plan with these options."""
    done = gram_r2("plan", *given, "--json")
    hours: dict[str, float] = {}
    for stage in json.loads(done.out)["stages"]:
        hours[stage["kind"]] = hours.get(stage["kind"], 0.0) + stage["gpu_seconds"] / 3600
    return hours


def main() -> None:
    pairs = public_pairs()
    texts = [
        text for pair in pairs for text in (*(turn.content for turn in pair.prompt), pair.response_a, pair.response_b)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(folder / "tokenizer", iter(texts))
        tokens = sum(map(len, AutoTokenizer.from_pretrained(folder / "tokenizer")(texts)["input_ids"]))
        words = [word for text in texts for word in text.split()]
        n_words = len(words) * RATIONALE_TOKENS // tokens
        for recipe, rows in ROWS.items():
            given = [recipe, *sys.argv[1:], *stand_ins(recipe, folder, pairs, itertools.cycle(words), n_words)]
            if recipe.endswith("-lora"):
                given += ["--set", f"data.heldout_share={HELD_OUT / rows['rows_labeled']}"]
            hours = hours_of([*given, *(word for key, n in rows.items() for word in ("--assume", f"{key}={n}"))])
            shown = {kind: round(h) for kind, h in sorted(hours.items(), key=lambda one: -one[1]) if h >= 0.5}
            print(f"{recipe}: {sum(hours.values()):,.0f} h {shown}", flush=True)


if __name__ == "__main__":
    main()
