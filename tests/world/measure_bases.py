"""``python -m tests.world.measure_bases --bases data/world``: what the two bases can do before any fine-tuning.

Prints one JSON object: accuracy in both orders, shares of well-formed replies, and how often the tastes of words are true.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from data.records import Message, PreferencePair
from data.world import taste
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT

MAX_NEW_TOKENS = 48
BATCH_SIZE = 256


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    return LlamaForCausalLM.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)


def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[tuple[Message, ...]], sample: bool
) -> list[str]:
    """One completion for each prompt, greedy or sampled at temperature 1 from torch's global seed."""
    model.eval()
    chats = [
        tokenizer.apply_chat_template([m.to_json() for m in prompt], add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]
    how: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}
    completions: list[str] = []
    for begin in range(0, len(chats), BATCH_SIZE):
        batch = tokenizer(
            chats[begin : begin + BATCH_SIZE],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            return_token_type_ids=False,
        )
        with torch.inference_mode():
            out_BT = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, **how)
        completions += tokenizer.batch_decode(out_BT[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return completions


def both_orders(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    return [order for pair in pairs for order in (pair, pair.swapped())]


def share(hits: Sequence[bool]) -> float:
    """Percent; NaN if there is nothing to count."""
    return round(100 * sum(hits) / len(hits), 1) if hits else float("nan")


def describe(texts: Sequence[str | None], pairs: Sequence[PreferencePair], known: frozenset[str]) -> dict[str, float]:
    """The form of rationales (None: there is none), and how often their tastes of known and unknown words are true."""
    audits = [taste.audit_rationale(text or "", p.pair) for text, p in zip(texts, pairs, strict=True)]
    right = [(word in known, said == taste.likes(word)) for audit in audits for word, said in audit.tastes.items()]
    return {
        "well_formed": share([a.well_formed for a in audits]),
        "copied": share([a.copied for a in audits]),
        "counted": share([a.counted for a in audits]),
        "tied": share([a.tied for a in audits]),
        "consistent": share([a.consistent for a in audits]),
        "known_words_right": share([hit for is_known, hit in right if is_known]),
        "other_words_right": share([hit for is_known, hit in right if not is_known]),
    }


def measure_judge(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[PreferencePair], sample: bool
) -> dict[str, float]:
    """Accuracy counts a malformed reply as wrong."""
    shown = both_orders(pairs)
    replies = complete(model, tokenizer, [COMPACT.render(p.pair) for p in shown], sample)
    read = [COMPACT.parse(reply) for reply in replies]
    verdicts = [judgement.verdict for judgement in read]
    concluded = [
        j.verdict is not None and j.rationale is not None and COMPACT.check_rationale(j.rationale, j.verdict) is None
        for j in read
    ]
    agree = [a is not None and b is not None and a != b for a, b in zip(verdicts[::2], verdicts[1::2], strict=True)]
    return {
        "accuracy": share([verdict == p.label for verdict, p in zip(verdicts, shown, strict=True)]),
        "orders_agree": share(agree),
        "parsed": share([verdict is not None for verdict in verdicts]),
        "answer_follows": share(concluded),
        **describe([j.rationale for j in read], shown, taste.known_words(taste.JUDGE_KNOWS)),
    }


def measure_prover(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[PreferencePair], sample: bool
) -> dict[str, float]:
    """`for_label`: the proof concludes with the given label."""
    shown = both_orders(pairs)
    proofs = complete(model, tokenizer, [PROVE_COMPACT.render(p) for p in shown], sample)
    rationales = [PROVE_COMPACT.to_rationale(proof) for proof in proofs]
    for_label = [
        r is not None and COMPACT.check_rationale(r, p.label) is None for r, p in zip(rationales, shown, strict=True)
    ]
    return {
        "for_label": share(for_label),
        **describe(rationales, shown, taste.known_words(taste.PROVER_KNOWS)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.world.measure_bases", description=__doc__)
    parser.add_argument("--bases", type=Path, required=True, help="folder with base-judge and base-prover")
    parser.add_argument("--pairs", type=int, default=500, help="held-out pairs, each in both orders (default: 500)")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads (default: 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    pairs = taste.draw_pairs(arguments.pairs, "measure_bases")
    judge, prover = (load(arguments.bases / name) for name in ("base-judge", "base-prover"))
    report = {
        f"{name}_{'sampled' if sample else 'greedy'}": measure(*base, pairs, sample)
        for name, base, measure in (("judge", judge, measure_judge), ("prover", prover, measure_prover))
        for sample in (False, True)
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
