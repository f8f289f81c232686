"""Chat templates that write ``<think>`` themselves: its tokens are the same in training and generation, and stand there once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prompts.catalog import JUDGE_PROMPTS
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.rank import Judge
from tests.support.families import DEEPSEEK_R1, QWEN_THINKING, THINKERS, Family, build_tokenizer
from tests.support.templates import JUDGE, LABEL, LONG, PAIR, PROVER, TEXTS, Golden, asked, shown

AROUND = {
    "deepseek-r1": ("<｜begin▁of▁sentence｜>·<｜User｜>·", "·<｜Assistant｜>·<think>·\n"),
    "qwen-thinking": ("<|im_start|>·user·\n·", "·<|im_end|>·\n·<|im_start|>·assistant·\n·<think>·\n"),
}
"""The tokens of a prompt before and after the user's text."""
RELEASED = Golden("judge", "gram-r2", LONG, "", "")

each_thinker = pytest.mark.parametrize("family", THINKERS, ids=lambda family: family.name)


@pytest.fixture(scope="module")
def thinkers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatEncoder]:
    root = tmp_path_factory.mktemp("thinkers")
    for family in THINKERS:
        build_tokenizer(family, TEXTS).save_pretrained(root / family.name)
    return {family.name: ChatEncoder.load(str(root / family.name)) for family in THINKERS}


@each_thinker
def test_golden_tokens_where_the_template_opens_the_thoughts(thinkers: dict[str, ChatEncoder], family: Family) -> None:
    encoder = thinkers[family.name]
    before, after = AROUND[family.name]
    assert encoder.opened == "<think>\n"
    prompt, completion = JUDGE.setup().encode(JUDGE.row, encoder)
    assert shown(encoder, prompt) == before + JUDGE.user + after
    rest = "A· names· the· cause·.· So· A· is· better·.· ·</think>·<·answer·>·A·</·answer·>"
    assert shown(encoder, completion) == f"{rest}·{family.end}"
    assert asked(JUDGE, encoder) == prompt


@each_thinker
@pytest.mark.parametrize("golden", [PROVER, LABEL], ids=["prover", "label"])
def test_what_does_not_think_is_written_as_it_is(
    thinkers: dict[str, ChatEncoder], family: Family, golden: Golden
) -> None:
    """A proof and a bare label stand behind the opened tag, in training as in generation."""
    encoder = thinkers[family.name]
    before, after = AROUND[family.name]
    prompt, completion = golden.setup().encode(golden.row, encoder)
    assert shown(encoder, prompt) == before + golden.user + after
    assert shown(encoder, completion) == f"{golden.completion}·{family.end}"
    assert asked(golden, encoder) == prompt


@each_thinker
def test_the_released_reply_is_the_one_that_a_template_without_the_tag_would_give(
    thinkers: dict[str, ChatEncoder], family: Family
) -> None:
    encoder = thinkers[family.name]
    prompt, completion = RELEASED.setup().encode(RELEASED.row, encoder)
    text = encoder.tokenizer.decode(prompt + completion)
    assert text.endswith(JUDGE_PROMPTS["gram-r2"].target(LONG, "A") + family.end)
    behind = text[text.rindex(PAIR.response_b) :]
    assert behind.count("<think>") == 1
    opener = encoder.text_ids("<think>\n")
    whole = encoder.completion_ids(JUDGE_PROMPTS["gram-r2"].target(LONG, "A"))
    assert prompt[-len(opener) :] + completion == whole


@pytest.mark.parametrize(
    ("reply", "verdict", "malformed"),
    [
        ("{} </think><answer>A</answer>", 0, None),
        ("<think>\n{} </think><answer>A</answer>", 0, None),  # opened once more
        ("{} <answer>A</answer>", None, "no_think_close"),
        ("<answer>A</answer>", None, "no_think_close"),
        ("{} </think>", None, "no_answer"),
        ("{} </think></think><answer>A</answer>", None, "several_think"),
        ("", None, "no_think_close"),
    ],
)
def test_a_reply_is_read_as_the_continuation_that_it_is(
    thinkers: dict[str, ChatEncoder], reply: str, verdict: int | None, malformed: str | None
) -> None:
    text = reply.format("A names the cause. So A is better.")
    judge = Judge(
        FakeEngine(lambda request, j: text), thinkers["deepseek-r1"], JudgeQuery("compact", 64, 512), both_orders=False
    )
    found = judge.compare("Why is the sky blue?", PAIR.response_a, PAIR.response_b)
    [said] = found.answers
    assert (found.winner, said.answer.malformed) == (verdict, malformed)
    assert said.answer.rationale == ("A names the cause. So A is better." if verdict is not None else None)


def test_a_judge_that_gives_the_label_alone_is_read_as_before(thinkers: dict[str, ChatEncoder]) -> None:
    def nearly_sure(request: Request) -> list[float]:
        assert request.opened == ""
        return [-0.1, -3.0]

    engine = FakeEngine(lambda request, j: "A", id_logprobs=nearly_sure)
    judge = Judge(engine, thinkers["qwen-thinking"], JudgeQuery("gram", 1, 512), both_orders=False)
    assert judge.compare("Why?", "x", "y").winner == 0


def test_a_template_that_closes_what_it_opens_opens_nothing(tmp_path: Path) -> None:
    """As Qwen 3.5's small models do, which are not to think: the reply is then whole."""
    family = replace(QWEN_THINKING, template="qwen3_5_nothink")
    build_tokenizer(family, TEXTS).save_pretrained(tmp_path)
    encoder = ChatEncoder.load(str(tmp_path))
    assert encoder.opened == ""
    assert DEEPSEEK_R1.begins_with_bos
    assert encoder.tokenizer.decode(encoder.reply_ids("<think> x </think><answer>A</answer>")).startswith("<think> x")
