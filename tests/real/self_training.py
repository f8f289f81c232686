"""``make real``: the flow self-train on real public files, with a tiny byte-level model made from scratch.

The files are found through GRAM_R2_DATA (default ../shared/data). They are converted to records below, a few lines per
data set, as a user would do; none of their content is kept in the project. When the run has ended, its manifests are
reconciled and the bounds that must hold are checked.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from data.files import read_jsonl, write_jsonl
from data.records import Label, ResponsePair, content_id, parse_messages
from data.store.artifacts import MANIFEST, Manifest
from tests.support.following import run_deployment
from tests.support.services import local_services

OUT = Path("runs/real-data")
RUN = Path("runs/real-input")


def data_folder() -> Path:
    """The folder of the public files; exits with a message if it is missing."""
    folder = Path(os.environ.get("GRAM_R2_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        sys.exit(
            f"{folder} does not exist: set GRAM_R2_DATA to the folder with pandalm/, fine-grained-rlhf/ and arena-hard/"
        )
    return folder


def pandalm(folder: Path) -> Iterator[dict[str, Any]]:
    """Pairs whose stored verdict agrees with the annotators' majority, with the reason given for it."""
    reasons = {row["idx"]: row for row in json.loads((folder / "gpt-3.5-turbo-testset-v1.json").read_text())}
    labels: dict[str, Label] = {"1": "A", "2": "B"}
    for row in json.loads((folder / "testset-v1.json").read_text()):
        said = reasons[row["idx"]]
        majority = Counter(str(row[f"annotator{i}"]) for i in (1, 2, 3)).most_common(1)[0]
        if said["gpt_result"] not in labels or majority[0] != said["gpt_result"] or majority[1] < 2:
            continue
        texts = (row["response1"], row["response2"])
        if not all(isinstance(text, str) and text.strip() for text in texts) or texts[0] == texts[1]:
            continue
        label = labels[said["gpt_result"]]
        reason = said["gpt_reason"].replace("Response 1", "Response A").replace("Response 2", "Response B").strip()
        question = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
        pair = ResponsePair(f"pandalm-{row['idx']}", parse_messages(question), *texts, source="pandalm")
        yield {**pair.to_json(), "label": label, "rationale": f"{reason} So {label} is better."}


def fine_grained(folder: Path) -> Iterator[dict[str, Any]]:
    """Every untied pair of the four answers to a question; the passages belong to the question."""
    for number, row in enumerate(json.loads((folder / "qa_feedback_dev_feedback.json").read_text())):
        question = row["question"] + "\n\n" + "\n".join(" ".join(passage[1:]) for passage in row["passages"])
        for (i, j), preferred in zip(combinations(range(1, 5), 2), row["preference"], strict=True):
            a, b = row[f"prediction {i}"], row[f"prediction {j}"]
            if preferred == 0 or a == b:
                continue
            pair = ResponsePair(f"fg-{number}-{i}{j}", parse_messages(question), a, b, source="fine-grained-rlhf")
            yield {**pair.to_json(), "label": "A" if preferred == 1 else "B"}


def arena_hard(folder: Path) -> Iterator[dict[str, Any]]:
    """Two models' answers to the same prompt, joined on uid."""
    answers: list[dict[str, str]] = []
    for model in ("gpt-3.5-turbo-0125", "gpt-4-0314"):
        rows = read_jsonl(folder / "model_answer" / f"{model}.jsonl")
        answers.append({row["uid"]: row["messages"][1]["content"]["answer"] for row in rows})
    for row in read_jsonl(folder / "question.jsonl"):
        a, b = (by_uid[row["uid"]] for by_uid in answers)
        if a.strip() and b.strip() and a != b:
            pair = ResponsePair(content_id(row["uid"]), parse_messages(row["prompt"]), a, b, source="arena-hard")
            yield pair.to_json()


def write_base(out: Path) -> None:
    """Writes a byte-level Llama of 0.7M random weights, with the chat template and reply tags of the small world."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens(["<think>", "</think>", "<answer>", "</answer>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|bos|>", eos_token="<|end|>"
    )
    fast.chat_template = (
        "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            pad_token_id=fast.pad_token_id,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    )
    model.save_pretrained(out)
    fast.save_pretrained(out)


def prepare() -> None:
    """Writes the records and the base model that the recipe names."""
    folder = data_folder()
    for name, rows in (
        ("pandalm", pandalm(folder / "pandalm")),
        ("fine-grained-rlhf", fine_grained(folder / "fine-grained-rlhf")),
        ("arena-hard", arena_hard(folder / "arena-hard")),
    ):
        print(f"{OUT / name}.jsonl: {write_jsonl(OUT / f'{name}.jsonl', rows)} rows")
    write_base(OUT / "base")


def check(run: Path) -> None:
    """Prints the counts of every stage, and raises AssertionError if a bound of the recipe does not hold."""
    manifests = [Manifest.load(path) for path in run.rglob(MANIFEST) if ".stale" not in path.parts]
    for manifest in sorted(manifests, key=lambda m: m.started):
        counts = manifest.counts  # loading it has checked that rows in = kept + dropped + failed
        print(
            f"{manifest.name:24} in {counts.rows_in:5} kept {counts.kept:5} dropped {dict(counts.dropped)} "
            f"failed {dict(counts.failed)}"
        )
        if manifest.kind in ("vote", "prove", "benchmark"):
            assert counts.kept >= 0.6 * counts.rows_in, f"{manifest.name}: under 60% of the rows reached the engine"
        if manifest.kind == "select" and manifest.round:
            assert counts.kept >= 50, f"{manifest.name}: under 50 pairs were labeled and proved"
    for games in run.glob("round-*/benchmark/games.jsonl"):
        for game in read_jsonl(games):
            assert (game["verdict"] is None) == (game["malformed"] is not None), f"{games}: {game}"
    for path in run.glob("round-*/benchmark/shards-*/*.jsonl"):
        orders = {"chosen_first": "0", "rejected_first": "1"}
        games = read_jsonl(path.parent.parent / "games.jsonl")
        check_games(path, {(g["id"], f"{g['cell']}/{orders[g['order']]}"): g for g in games})
    for labels in run.glob("round-*/labels"):
        rows = [row for name in ("labels", "dropped") for row in read_jsonl(labels / f"{name}.jsonl") if "votes" in row]
        check_votes(labels.parent / "votes", {row["id"]: row["votes"] for row in rows})


# The rule for a verdict, written independently of the parser: the whole reply, nothing before or after it.
WELL_FORMED = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>\s*<answer>\s*([AB])\s*</answer>\s*", re.DOTALL)


def said(completion: dict[str, Any]) -> str | None:
    match = WELL_FORMED.fullmatch(completion["text"]) if completion["finished"] else None
    return match[1] if match else None


def check_games(path: Path, games: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Checks that every game's verdict is that of its reply by the rule above; a malformed reply has none."""
    for line in read_jsonl(path):
        for request in line.get("requests", ()):
            assert games[line["id"], request["name"]]["verdict"] == said(request["completions"][0]), line


def check_votes(votes: Path, counted: dict[str, dict[str, int]]) -> None:
    """Checks that every pair's votes are those of its replies by the rule above."""
    for path in votes.glob("shards-*/*.jsonl"):
        for line in read_jsonl(path):
            recount = {"A": 0, "B": 0, "null": 0}
            for request in line.get("requests", ()):
                for completion in request["completions"]:
                    verdict = said(completion)
                    flipped = {"A": "B", "B": "A"} if request["name"] == "ba" else {"A": "A", "B": "B"}
                    recount[flipped[verdict] if verdict else "null"] += 1
            if "requests" in line:
                assert counted[line["id"]] == recount, line["id"]


def main() -> None:
    prepare()
    with local_services(Path(".prefect")) as services:
        _, state = run_deployment(services, "self-train/real-input", {"run_name": RUN.name})
    if state != "Completed":
        sys.exit(f"self-train/real-input: {state}")
    check(RUN)


if __name__ == "__main__":
    main()
