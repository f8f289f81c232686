"""The service as trainers call it by themselves: OpenRLHF, slime, NeMo-Gym; and their prompts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import trl

from data.records import Message
from data.sources.rows import SourceError
from tasks.model.chat import ChatEncoder
from tasks.reward import trainers
from tasks.reward.limits import RefusedError
from tasks.reward.references import read_references
from tasks.reward.templated import conversation_of, response_of
from tasks.reward.templated import without_end as response_without_end
from tasks.reward.trainer_shapes import output_text
from tests.support.rewarding import rewarding, said
from tests.support.vllm_server import StandIn, gateway, post

CHATML = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
GEMMA = "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


# ---- OpenRLHF -----------------------------------------------------------------------------------------------------------


def test_openrlhf_gets_a_reward_for_each_query_against_the_reference_in_its_label(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder)

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            queries = [f"{CHATML}c<|im_end|>", f"{CHATML}a"]
            labels = ["b", {"reference": "b", "messages": [{"role": "user", "content": "Why?"}]}]
            found = await post(client, "/get_reward", query=queries, prompts=[CHATML] * 2, labels=labels)
            assert found["rewards"] == found["scores"] == [1.0, 0.0]
            assert found["extra_logs"]["response_characters"] == [1.0, 1.0]
            assert len(found["extra_logs"]["judge_tokens"]) == 2
            shown = encoder.tokenizer.decode(stand_in.seen[0]["prompt"])
            assert "im_start" not in shown
            empty: list[Any] = []
            nothing = await post(client, "/get_reward", query=empty, prompts=empty, labels=empty)
            assert nothing == {
                "rewards": [],
                "scores": [],
                "extra_logs": {"response_characters": [], "judge_tokens": []},
            }

    run(scenario())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": [""]}, "labels[0] has no reference response to compare with: put one into the label"),
        ({"labels": [{"answer": "b"}]}, "labels[0] has no reference response"),
        ({"labels": []}, "must be equally long, got 1, 1 and 0"),
        ({"query": ["Other?c"]}, "query[0] does not begin with its prompt"),
        ({"query": ["<s>[INST] Why?c"], "prompts": ["<s>[INST] Why?"]}, "a chat template that is not known here"),
    ],
)
def test_what_openrlhf_cannot_be_told_is_refused(encoder: ChatEncoder, changes: Any, words: str) -> None:
    stand_in = StandIn(encoder)

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            body = {"query": ["Why?c"], "prompts": ["Why?"], "labels": ["b"], **changes}
            assert words in (await post(client, "/get_reward", 422, **body))["detail"]
        assert stand_in.seen == []

    run(scenario())


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("Why?Because.", "Why?"),
        ("<s> Why?Because.</s>", "Why?"),
        ("Why?Because.<|endoftext|>", "<|begin_of_text|>Why?"),
        (f"{CHATML}Because.<|im_end|>\n", CHATML),
        (f"<s>{CHATML}Because.", CHATML),
        (f"{LLAMA}Because.<|eot_id|>", LLAMA.removeprefix("<|begin_of_text|>")),
    ],
)
def test_the_prompt_and_the_marks_around_a_response_are_cut_off(query: str, prompt: str) -> None:
    assert response_of(query, prompt, "query") == "Because."


def test_marks_within_a_response_are_left_to_it() -> None:
    assert response_of("Why?<|im_end|> is a mark.", "Why?", "query") == "<|im_end|> is a mark."
    assert response_of("Why?Because.<|im_end|>\n<|endoftext|>", "Why?", "query") == "Because.", "several end it"
    loop = (
        "<|im_start|>" * 20_000
    )  # as of a policy that has gone wrong: a pattern that tries each of them anew takes minutes
    for end in (response_without_end, trainers.without_end):
        assert end(f"{loop}x") == f"{loop}x"
        assert end(f"x{loop}") == "x"
        for text in ("By Jensen, |E[X]| <= E[|X|]", "let a = [| 1.0; 2.0 |]", "Either <|> or <|>"):
            assert end(f"{text}<|im_end|>") == text
        assert end("Because.[|endofturn|]") == "Because."


# ---- prompts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [CHATML, LLAMA, GEMMA, "Why?"])
def test_a_rendered_prompt_is_read_as_the_conversation_that_it_is(prompt: str) -> None:
    system = (Message("system", "Be brief."),) if prompt == CHATML else ()
    assert conversation_of(prompt, "prompt") == (*system, Message("user", "Why?"))


@pytest.mark.parametrize("name", ["qwen2_5", "llama3_1", "llama3_2", "qwen3"])
def test_what_a_template_tells_the_policy_is_no_part_of_the_question(tokenizer: Any, name: str) -> None:
    """By TRL's copies of the templates."""
    template = (Path(trl.__file__).parent / f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
    for turns in ([], [{"role": "system", "content": "Be brief."}]):
        asked = [*turns, {"role": "user", "content": "Why?"}]
        prompt = tokenizer.apply_chat_template(
            asked, chat_template=template, tokenize=False, add_generation_prompt=True, bos_token="<|begin_of_text|>"
        )
        assert turns or name == "qwen3" or "system" in prompt
        assert conversation_of(prompt, "prompt") == tuple(Message(**turn) for turn in asked)


def test_smollm_s_template_tells_the_policy_who_it_is() -> None:
    prompt = CHATML.replace("Be brief.", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    assert conversation_of(prompt, "prompt") == (Message("user", "Why?"),)


def test_turns_and_a_reply_that_has_begun_to_think_are_read_too() -> None:
    turns = (
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause.<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n"
    )
    found = conversation_of(f"{turns}<|im_start|>assistant\n<think>\n", "prompt")
    assert found == (Message("user", "Why?"), Message("assistant", "Because."), Message("user", "So?"))
    assert conversation_of([{"role": "user", "content": "Why?"}], "prompt") == (Message("user", "Why?"),)


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>tool\nx<|im_end|>\n<|im_start|>assistant\n",
        "\n<|user|>Why?<|assistant|>",
        "[gMASK]<sop><|user|>\nWhy?<|assistant|>\n<think></think>\n",  # GLM
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Why?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "]~!b[]~b]user\nWhy?[e~[\n]~b]ai\n<think>\n",  # MiniMax
        "<|turn>user\nWhy?<turn|>\n<|turn>model\n",  # Gemma 4
        "[|system|][|endofturn|]\n[|user|]Why?\n[|assistant|]",  # EXAONE 3.5
        "[|user|]\nWhy?[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n",  # EXAONE 4.0
        "Be brief.<｜User｜>Why?<｜Assistant｜>",  # DeepSeek, without its first token
        "Be brief.<｜User｜>Why?<｜Assistant｜></think>",
        "Be brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "Be brief.[|endofturn|]\n[|user|]\nWhy?[|endofturn|]\n[|assistant|]\n",
    ],
)
def test_a_template_that_is_not_known_is_not_guessed(prompt: str) -> None:
    with pytest.raises(RefusedError, match=r"not known here \(it has"):
        conversation_of(prompt, "prompt")
    if not prompt.startswith("Be"):
        with pytest.raises(ValueError, match=r"chat template \(it has .* give it as messages"):
            trainers.Judge("http://x").score(prompt, ["a", "b"])


def test_no_template_reaches_the_judge_as_the_user_s_words(tokenizer: Any) -> None:
    """All of TRL's copies: a prompt is read as what it is, or refused."""
    asked = [{"role": "user", "content": "Why?"}]
    found = {}
    for template in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja"):
        prompt = tokenizer.apply_chat_template(
            asked, chat_template=template.read_text("utf-8"), tokenize=False, add_generation_prompt=True, bos_token=""
        )
        with contextlib.suppress(RefusedError):
            found[template.stem] = conversation_of(prompt, "prompt")
    assert len(found) > 10
    assert {name: turns for name, turns in found.items() if turns[-1] != Message("user", "Why?")} == {}


PLAIN = [
    "What does <|im_start|> mean?",
    "Explain the difference between <s> and </s>",
    "Compare [INST] with [/INST]",
    "Tell me about <|endoftext|>",
    "How does one use <pad>",
    "Show |E[X]| <= E[|X|]",
    "[|X|] is not |[X]|",
]


@pytest.mark.parametrize("prompt", [*PLAIN, "<s>Old</s> is HTML.", "Why <s>not</s>", "[/INST] is?"])
def test_a_user_may_write_about_such_marks(prompt: str) -> None:
    if prompt in PLAIN:
        assert conversation_of(prompt, "prompt") == (Message("user", prompt),)
    with rewarding() as served:
        trainers.Judge().score(prompt, ["a", "b"])
    assert served.seen[0]["prompt"] == prompt


# ---- slime --------------------------------------------------------------------------------------------------------------


def test_slime_gets_a_number(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder)

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            turns = [{"role": "user", "content": "Why?"}]
            assert await post(client, "/slime", prompt="Why?", response="c", label="b") == 1.0
            assert await post(client, "/slime", prompt=turns, response="a", label="b") == 0.0
            assert await post(client, "/slime", prompt=CHATML, response="b<|im_end|>", label="b") == 0.5
            assert {stand_in.shown(body) for body in stand_in.seen[-2:]} == {("b", "b")}
            label = '{"reference": "b", "messages": [{"role": "user", "content": "Why?"}]}'
            assert await post(client, "/slime", prompt="<|user|>Why?", response="c", label=label) == 1.0
            assert stand_in.shown(stand_in.seen[-1]) in {("c", "b"), ("b", "c")}
            label = '{"name": "Bo"}'
            await post(client, "/slime", prompt="Why?", response="c", label=label)
            assert label in stand_in.shown(stand_in.seen[-1]), "a reference may be JSON, too"
            problem = await post(client, "/slime", 422, prompt="Why?", response="c", label=None)
            assert "label has no reference response" in problem["detail"]

    run(scenario())


def test_the_services_own_references_stand_in_for_labels(encoder: ChatEncoder, tmp_path: Path) -> None:
    file = tmp_path / "references.jsonl"
    file.write_text(
        f'{{"prompt": [{{"role": "system", "content": "{QWEN}"}}, {{"role": "user", "content": "Why?"}}], "reference": "b"}}\n'
        '{"prompt": [{"role": "user", "content": "So?"}], "reference": "d"}\n'
    )

    async def scenario() -> None:
        async with gateway(StandIn(encoder), references=read_references(file), strategy="reference") as client:
            assert await post(client, "/slime", prompt="Why?", response="c", label="42") == 1.0
            assert await post(client, "/slime", prompt="So?", response="c") == 0.0
            of_data = '{"prompt": "2+2", "answer": 42}'
            assert await post(client, "/slime", prompt="Why?", response="c", label=of_data) == 1.0
            told = CHATML.replace("Be brief.", QWEN)
            assert await post(client, "/slime", prompt=told, response="c") == 1.0
            turns = [{"role": "system", "content": QWEN}, {"role": "user", "content": "So?"}]
            assert await post(client, "/slime", prompt=turns, response="c") == 0.0
            assert await post(client, "/slime", prompt="Why?", response="c", label={"reference": "d"}) == 0.0
            found = await post(client, "/v1/rewards", prompt="Why?", responses=["c", "a"])
            assert (found["strategy"], found["rewards"]) == ("reference", [1.0, 0.0])
            problem = await post(client, "/slime", 422, prompt="Other?", response="c", label="42")
            assert "the service's references have none for this prompt: 'Other?'" in problem["detail"]

    run(scenario())
    for text, words in (
        ('{"prompt": "Why?"}', "row 1: field 'reference'"),
        ('{"prompt": "Why?", "reference": "b"}\n{"prompt": "Why?", "reference": "c"}', "row 2: its prompt has another"),
        ("", "holds no rows"),
    ):
        file.write_text(text)
        with pytest.raises(SourceError, match=words):
            read_references(file)


# ---- NeMo-Gym -----------------------------------------------------------------------------------------------------------


def test_nemo_gym_gets_the_rewards_of_a_group(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        async with gateway(StandIn(encoder), strategy="all-pairs") as client:
            history = [{"role": "user", "content": "Why?"}]
            texts = [said("b"), said("c"), said("a")]
            found = await post(client, "/compare", conversation_history=history, response_objs=texts)
            assert found["rewards"] == [0.5, 1.0, 0.0]
            first = {"response_i": 0, "response_j": 1, "judge_idx": 0, "score_1": 1.0, "score_2": 5.0, "ranking": 6.0}
            assert (found["comparison_results"][0], len(found["comparison_results"])) == (first, 3)
            assert found["metrics"]["comparisons"] == 3
            for body, words in (
                ({"response_objs": texts[:1]}, "at least two responses, got 1"),
                ({"response_objs": [{"output": "b"}, *texts]}, "response_objs: expected"),
                ({"response_objs": texts, "principle": "Be brief."}, "principle: this judge has none"),
            ):
                problem = await post(client, "/compare", 422, conversation_history=history, **body)
                assert words in problem["detail"]

    run(scenario())


def test_only_what_a_response_says_is_judged() -> None:
    assert output_text(said("b")) == "b"
    assert output_text({"output": [{"type": "function_call", "name": "x"}]}) == ""
