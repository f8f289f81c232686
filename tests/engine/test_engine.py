"""Real vLLM (its CPU build) behind the Engine seam, held against transformers."""

# Over 300 lines: one engine, whose start takes longer than the tests, serves most of them.

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import preferences
from data.benchmarks.items import Item
from data.files import read_jsonl, write_jsonl
from data.records import PreferencePair, parse_pair
from data.world import taste
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT
from tasks.generation.local import generate_in_children
from tasks.generation.shards import FEW, GenerationJob
from tasks.generation.worker import run_shards
from tasks.label import vote_query
from tasks.model import orders
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request, Sampling
from tasks.model.judging import JudgeQuery, read_answer
from tasks.model.process import EngineProcess
from tasks.model.proofs import score
from tasks.model.votes import read_votes, tally
from tasks.settings import GenerationSettings, ModelSettings

JUDGE, PROVER = Path("data/world/base-judge"), Path("data/world/base-prover")
pytestmark = pytest.mark.engine
Rows = Sequence[PreferencePair | Item | Mapping[str, Any]]

MODELS = ModelSettings(
    judge_base=str(JUDGE), prover_base=str(PROVER), judge_prompt="compact", max_tokens=128, dtype="float32"
)
GENERATION = GenerationSettings(shard_rows=5, kv_cache_mib=64)


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """A real engine with the world's judge, in a process of its own."""
    with EngineProcess(str(JUDGE), MODELS, GENERATION) as running:
        yield running


def a_job(
    folder: Path,
    builder: str,
    params: dict[str, Any],
    rows: Rows,
    model: Path = JUDGE,
    **more: Any,
) -> GenerationJob:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "rows.jsonl", (row if isinstance(row, Mapping) else row.to_json() for row in rows))
    return GenerationJob(
        builder, params, str(folder / "rows.jsonl"), len(rows), str(model), str(folder / "shards"),
        MODELS.model_dump(mode="json"), GENERATION.model_dump(mode="json"), **more,
    )  # fmt: skip


def lines_of(job: GenerationJob) -> list[Any]:
    return [line for shard in sorted(Path(job.out).glob("*.jsonl")) for line in read_jsonl(shard)]


def generated_by(
    engine: EngineProcess, folder: Path, builder: str, params: dict[str, Any], rows: Rows, **more: Any
) -> list[Any]:
    """What the engine makes of the rows."""
    job = a_job(folder, builder, params, rows, **more)
    run_shards(job, engine, ChatEncoder.load(str(JUDGE)), lambda facts: None)
    return lines_of(job)


def generated_in_children(job: GenerationJob) -> list[Any]:
    """What a stage's own engine processes make of the rows."""
    log = Path(job.out).parent / "log"
    stats = generate_in_children(job, log, logging.getLogger(__name__).info, lambda done, total: None)
    assert stats.memory_mib > 300, "what vLLM takes, not what this process does"
    return lines_of(job)


def logprob_by_hand(model: Any, prefix: list[int], continuation: list[int]) -> float:
    """Σ log p(token | all before it) over the continuation, with transformers."""
    import torch

    with torch.no_grad():
        logprobs_TV = model(torch.tensor([prefix + continuation])).logits[0].log_softmax(-1)
    picked = logprobs_TV[len(prefix) - 1 : -1].gather(-1, torch.tensor(continuation)[:, None])
    return float(picked.sum())


def test_eq5_equals_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    rows = taste.draw_pairs(6, seed=1)
    alone = PROVE_COMPACT.render_unconditional()
    # So short that many a proof is cut off, and goes on from its own tokens.
    params = {"prompt": "prove-compact", "k": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 20, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    score_against = [message.to_json() for message in alone]
    lines = generated_in_children(
        a_job(tmp_path, "tasks.prove:proof_requests", params, rows, PROVER, score_against=score_against)
    )
    encoder = ChatEncoder.load(str(PROVER))
    model = AutoModelForCausalLM.from_pretrained(PROVER, dtype=torch.float32)
    prefix = encoder.prompt_ids(alone)
    checked = 0
    for row, line in zip(rows, lines, strict=True):
        for request, shown in zip(line["requests"], (row, row.swapped()), strict=True):
            prompt = encoder.prompt_ids(PROVE_COMPACT.render(shown))
            for completion in request["completions"]:
                if not completion["finished"]:
                    continue
                ids = encoder.completion_ids(completion["text"])
                if len(ids) != completion["n_tokens"]:
                    continue  # sampled in another tokenization than the canonical one: the ids are not known here
                given, unconditional = logprob_by_hand(model, prompt, ids), logprob_by_hand(model, prefix, ids)
                by_engine = score(completion["logprob"], completion["logprob_alone"])
                assert by_engine == pytest.approx(-given / unconditional, abs=1e-4)
                assert completion["logprob"] == pytest.approx(given, abs=1e-3)
                checked += 1
    assert checked >= 18
    assert any("asked_longer" in line for line in lines)


def test_vote_confidence_equals_a_recount_and_votes_differ_by_seed(engine: EngineProcess, tmp_path: Path) -> None:
    rows = taste.draw_pairs(6, seed=2)
    params = {"prompt": "compact", "votes": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 60, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    lines = generated_by(engine, tmp_path, "tasks.label:vote_requests", params, rows)
    texts = set()
    for line in lines:
        votes = read_votes(vote_query(params), line["requests"])
        assert len({vote.seed for vote in votes}) == 8
        by_hand = {"A": 0, "B": 0, None: 0}
        for request in line["requests"]:
            for completion in request["completions"]:
                texts.add(completion["text"])
                reply = re.fullmatch(r"<think>[^<]*</think><answer>([AB])</answer>", completion["text"])
                verdict = reply[1] if reply and completion["finished"] else None
                if verdict and request["name"] == "ba":
                    verdict = "A" if verdict == "B" else "B"
                by_hand[verdict] += 1
        counted = tally(votes)
        assert (counted.for_a, counted.for_b, counted.null) == (by_hand["A"], by_hand["B"], by_hand[None])
        winner = max(by_hand["A"], by_hand["B"])
        expected = winner / 8 if by_hand["A"] != by_hand["B"] else 0.0
        assert counted.confidence == pytest.approx(expected, abs=1e-4)
    assert len(texts) > len(rows) * 4, "votes of one pair must be samples of their own"


def test_a_pair_that_does_not_fit_is_left_out_by_the_engine_process_too(engine: EngineProcess, tmp_path: Path) -> None:
    fits, long = taste.draw_pairs(2, seed=6)
    long = replace(long, pair=replace(long.pair, response_a="boze " * 200))
    items = preferences.of_rows([long.to_json(), fits.to_json()]).items
    query = JudgeQuery("compact", max_tokens=60, context=128)
    lines = generated_by(engine, tmp_path, "tasks.benchmark.play:game_requests", query.to_json(), items)
    assert lines[0] == {"row": 0, "id": long.pair.id, "dropped": "prompt_too_long"}
    assert len(lines[1]["requests"]) == 2


def refused_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    """A prompt that is longer than the context for one row, of the reply's own length for the others."""
    sampling = Sampling(n=2, temperature=1.0, max_tokens=3, seed=5)
    long = row["id"] == params["too_long"]
    return [Request("ab", [7] * (200 if long else 20), sampling), Request("ba", [7] * 20, sampling)]


def test_a_request_that_the_engine_refuses_fails_its_row_alone(engine: EngineProcess, tmp_path: Path) -> None:
    rows = taste.draw_pairs(3, seed=7)
    builder, params = "tests.engine.test_engine:refused_requests", {"too_long": rows[1].pair.id}
    lines = generated_by(engine, tmp_path, builder, params, rows)
    assert lines[1]["failed"] == "engine_refused"
    assert "200" in lines[1]["detail"]
    assert "128" in lines[1]["detail"]
    for line in (lines[0], lines[2]):
        assert [len(request["completions"]) for request in line["requests"]] == [2, 2]
        # Three tokens are cut off, and asked for again at six.
        assert line["asked_longer"]
        assert {c["n_tokens"] for request in line["requests"] for c in request["completions"]} <= {4, 5, 6}


def test_a_reply_that_was_cut_off_goes_on_as_if_it_had_not_been(engine: EngineProcess, tmp_path: Path) -> None:
    """Greedy: the same text either way, token by token."""
    rows = taste.draw_pairs(3, seed=8)
    params = {"prompt": "compact", "votes": 2, "temperature": 0.0, "top_p": 1.0, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    found = []
    for tokens in (10, 20):
        lines = generated_by(
            engine, tmp_path / str(tokens), "tasks.label:vote_requests", params | {"max_tokens": tokens}, rows
        )
        found.append([c for line in lines for request in line["requests"] for c in request["completions"]])
        assert any("asked_longer" in line for line in lines) == any(c["n_tokens"] > tokens for c in found[-1])
    assert [c["n_tokens"] for c in found[0]] == [min(20, c["n_tokens"]) for c in found[1]]
    assert all(long["text"].startswith(short["text"]) for short, long in zip(*found, strict=True))
    assert any(c["n_tokens"] > 10 for c in found[0])


def test_votes_are_repeatable(engine: EngineProcess, tmp_path: Path) -> None:
    rows = taste.draw_pairs(3, seed=3)
    params = {"prompt": "compact", "votes": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 60, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    runs = []
    for name in ("one", "two"):
        runs.append(generated_by(engine, tmp_path / name, "tasks.label:vote_requests", params, rows))
    assert json.dumps(runs[0]) == json.dumps(runs[1])


def test_a_vote_that_is_cast_later_is_the_one_that_it_is_among_all(engine: EngineProcess, tmp_path: Path) -> None:
    """Completion j of n is sampled with the request's seed plus j."""
    rows = taste.draw_pairs(12, seed=2)
    params = {"prompt": "compact", "votes": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 60, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    ends = {"voting": "exact", "min_confidence": 0.75, "orders_agree": False}
    cast: list[list[dict[tuple[str, int], str]]] = []
    for name, more, follow in (("all", {}, None), ("exact", ends, "tasks.label:more_votes")):
        lines = generated_by(engine, tmp_path / name, "tasks.label:vote_requests", params | more, rows, follow=follow)
        cast.append(
            [
                {
                    (request["name"], request["seed"] + j): completion["text"]
                    for request in line["requests"]
                    for j, completion in enumerate(request["completions"])
                }
                for line in lines
            ]
        )
    for every, needed in zip(*cast, strict=True):
        assert len(every) == 8
        assert needed.items() <= every.items()
    assert {len(needed) for needed in cast[1]} == {6, 8}


def test_a_checkpoint_gives_the_same_greedy_verdicts_in_plain_transformers_and_plain_vllm(
    engine: EngineProcess, tmp_path: Path
) -> None:
    """The product's benchmark path, `transformers.generate`, and the text of its own tokenizer agree on every game."""
    import torch
    from transformers import AutoModelForCausalLM

    rows = taste.draw_pairs(10, seed=4)
    query = JudgeQuery("compact", max_tokens=60, context=128)
    items = preferences.of_rows(row.to_json() for row in rows).items
    lines = generated_by(engine, tmp_path, "tasks.benchmark.play:game_requests", query.to_json(), items)
    encoder = ChatEncoder.load(str(JUDGE))
    model = AutoModelForCausalLM.from_pretrained(JUDGE, dtype=torch.float32)
    for row, line in zip(rows, lines, strict=True):
        for request, shown in zip(line["requests"], (row.pair, row.pair.swapped()), strict=True):
            prompt = torch.tensor([encoder.prompt_ids(COMPACT.render(shown))])
            out = model.generate(prompt, max_new_tokens=60, do_sample=False, attention_mask=torch.ones_like(prompt))
            text = encoder.tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)
            assert request["completions"][0]["text"] == text
            assert COMPACT.parse(text).verdict is not None


def test_the_probabilities_of_the_labels_are_those_of_transformers(engine: EngineProcess, tmp_path: Path) -> None:
    """A judge that gives the label alone: softmax over its two tokens, where the reply begins."""
    import torch
    from transformers import AutoModelForCausalLM

    rows = taste.draw_pairs(6, seed=4)
    items = preferences.of_rows(row.to_json() for row in rows).items
    query = JudgeQuery("compact-label", max_tokens=60, context=128)
    lines = generated_by(engine, tmp_path, "tasks.benchmark.play:game_requests", query.to_json(), items)
    encoder = ChatEncoder.load(str(JUDGE))
    model = AutoModelForCausalLM.from_pretrained(JUDGE, dtype=torch.float32)
    for row, line in zip(rows, lines, strict=True):
        for request, shown in zip(line["requests"], (row.pair, row.pair.swapped()), strict=True):
            ids = torch.tensor([encoder.prompt_ids(COMPACT.render(shown))])
            with torch.no_grad():
                logits_V = model(ids).logits[0, -1]
            first, second = logits_V[list(encoder.label_ids)].softmax(-1).tolist()
            [completion] = request["completions"]
            said = read_answer(query, completion)
            assert said.p_first == pytest.approx(first, abs=1e-4)
            assert (said.verdict, said.n_tokens) == ("A" if first > second else "B", 1)
            assert "asked_longer" not in line


def test_what_a_judge_thinks_of_a_proof_equals_transformers(engine: EngineProcess, tmp_path: Path) -> None:
    """The labels' logprobs behind a rationale, and that of the rationale itself: of right labels and of wrong ones."""
    import torch
    from transformers import AutoModelForCausalLM

    rows = [
        {**one.to_json(), "order": order, "rationale": f"A: x. So {label} is better."}
        for one in taste.draw_pairs(3, seed=5) for order in ("ab", "ba") for label in ("A", "B")
    ]  # fmt: skip
    params = {"prompt": "compact", "max_tokens": 60, "context": 128, "overlong": "drop"}
    lines = generated_by(engine, tmp_path, "tasks.trust.audit_proofs:reading_requests", params, rows)
    encoder = ChatEncoder.load(str(JUDGE))
    model = AutoModelForCausalLM.from_pretrained(JUDGE, dtype=torch.float32)
    for row, line in zip(rows, lines, strict=True):
        of_label, reply = (request["completions"][0] for request in line["requests"])
        prompt = encoder.prompt_ids(COMPACT.render(orders.shown(parse_pair(row), row["order"])))
        a, b = (encoder.reply_ids(COMPACT.target(row["rationale"], label)) for label in ("A", "B"))
        n = next(i for i, (one, other) in enumerate(zip(a, b, strict=True)) if one != other)
        expected = [logprob_by_hand(model, prompt + a[:n], [token]) for token in (a[n], b[n])]
        assert of_label["id_logprobs"] == pytest.approx(expected, abs=1e-3)
        assert reply["logprob"] == pytest.approx(logprob_by_hand(model, prompt, a[:n]), abs=1e-3)
        assert reply["n_scored"] == n


def test_a_row_that_kills_the_engines_process_fails_alone(tmp_path: Path) -> None:
    """Here all rows are under suspicion: how a row among several is found is tried without vLLM, in test_deadly_rows.py."""
    rows = [replace(row, pair=replace(row.pair, id=f"{i:x}")) for i, row in enumerate(taste.draw_pairs(16, seed=2))]
    params = {"prompt": "compact", "votes": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 20, "context": 128}
    params |= {"overlong": "drop", "seed": 9}
    job = a_job(tmp_path, "tests.support.child_helpers:deadly_requests", params, rows)
    for shard in job.shards():
        shard.mark(FEW)
        shard.note_death()
    lines = generated_in_children(job)
    assert [line["id"] for line in lines if line.get("failed") == "engine_crashed"] == ["7"]
    assert sum("requests" in line for line in lines) == 15
