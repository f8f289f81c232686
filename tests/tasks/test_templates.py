"""Golden tokens of judge, prover and label-only judge in the published chat templates of Llama 3, 3.1, 3.2 and Qwen 2.5, 3."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from data.records import Message
from prompts.catalog import JUDGE_PROMPTS, PROVER_PROMPTS
from tasks.model.chat import DATE, ChatEncoder
from tests.support.families import (
    QWEN_2_5,
    QWEN_3,
    Family,
)
from tests.support.templates import (
    JUDGE,
    LABEL,
    LONG,
    PROVER,
    Golden,
    asked,
    each_family,
    shown,
)

# ---- what is golden -----------------------------------------------------------------------------------------------------


_HEADER = "<|start_header_id|>·{}·<|end_header_id|>·\n\n·"


_DATED = (
    "<|begin_of_text|>·" + _HEADER.format("system") + "Cutting· Knowledge· Date·:· December· ·202·3·\n"
    "·Today· Date·:· ·26· Jul· ·202·4·\n\n·<|eot_id|>·" + _HEADER.format("user")
)


_AFTER_LLAMA = "·<|eot_id|>·" + _HEADER.format("assistant").removesuffix("·")


_AFTER_QWEN = "·<|im_end|>·\n·<|im_start|>·assistant·\n"


AROUND = {
    "llama-3": ("<|begin_of_text|>·" + _HEADER.format("user"), _AFTER_LLAMA),
    "llama-3.1": (_DATED, _AFTER_LLAMA),
    "llama-3.2": (_DATED, _AFTER_LLAMA),
    "qwen-2.5": (
        "<|im_start|>·system·\n·You· are· Qwen·,· created· by· Alibaba· Cloud·.· You· are· a· helpful· assistant·.·"
        "<|im_end|>·\n·<|im_start|>·user·\n·",
        _AFTER_QWEN,
    ),
    "qwen-3": ("<|im_start|>·user·\n·", _AFTER_QWEN),
}
"""The tokens of a prompt before and after the user's text."""


GOLDEN = {"judge": JUDGE, "prover": PROVER, "label": LABEL}


def trained(family: Family, golden: Golden) -> str:
    """The golden completion in a family: only Qwen 3 has the tags of thinking as tokens."""
    text = golden.completion
    if family is not QWEN_3:
        text = text.replace("<think>", "<·think·>").replace("· ·</think>·<", "· </·think·><")
    return f"{text}·{family.end}"


@each_family
@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_tokens_of_prompt_and_completion(encoders: dict[str, ChatEncoder], family: Family, kind: str) -> None:
    encoder, golden = encoders[family.name], GOLDEN[kind]
    before, after = AROUND[family.name]
    prompt, completion = golden.setup().encode(golden.row, encoder)
    assert shown(encoder, prompt) == before + golden.user + after
    assert shown(encoder, completion) == trained(family, golden)
    assert asked(golden, encoder) == prompt


@each_family
@pytest.mark.parametrize("kind", GOLDEN)
def test_the_loss_is_on_exactly_the_completion_and_the_end_of_its_turn(
    encoders: dict[str, ChatEncoder], family: Family, kind: str, tmp_path: Path
) -> None:
    encoder, golden = encoders[family.name], GOLDEN[kind]
    prompt, completion = golden.setup().encode(golden.row, encoder)
    [features] = golden.setup().features(tmp_path, [golden.row], encoder)
    assert features["input_ids"] == prompt + completion
    assert features["labels"] == [-100] * len(prompt) + completion
    assert encoder.tokenizer.decode([features["labels"][-1]]) == family.end


REPLY = (
    "<think>·\n·Feedback·:\n·Response· A· names· the· cause·.\n\n·Comparision·:\n·Only· A· is· right·.\n\n·Conclusion·:\n·"
    "Response· A· is· better·.\n·</think>·\n·<·answer·>\n·A·\n·</·answer·>"
)


@each_family
def test_golden_tokens_of_the_released_reply_format(encoders: dict[str, ChatEncoder], family: Family) -> None:
    """Line breaks stand at the seams: of the prompt, of the tags, and of the label."""
    encoder = encoders[family.name]
    golden = Golden("judge", "gram-r2", LONG, "", "")
    prompt, completion = golden.setup().encode(golden.row, encoder)
    before, after = AROUND[family.name]
    tokens = shown(encoder, prompt)
    assert tokens.startswith(before + "You· are· a· helpful· assistant· in· evaluating")
    assert tokens.endswith("·It· reflects· the· sea·.\n·[·The· End· of· Assistant· B·'·s· Response·]" + after)
    reply = (
        REPLY if family is QWEN_3 else REPLY.replace("<think>·\n", "<·think·>\n").replace("</think>·\n", "</·think·>\n")
    )
    assert shown(encoder, completion) == f"{reply}·{family.end}"
    assert asked(golden, encoder) == prompt


@each_family
def test_a_turn_with_nothing_in_it_is_what_eq5_divides_by(encoders: dict[str, ChatEncoder], family: Family) -> None:
    encoder = encoders[family.name]
    before, after = AROUND[family.name]
    [alone] = PROVER_PROMPTS["prove"].render_unconditional()
    assert shown(encoder, encoder.prompt_ids([alone])) == before.removesuffix("·") + after


@each_family
def test_a_prompt_begins_with_one_bos_where_the_family_has_one(
    encoders: dict[str, ChatEncoder], family: Family
) -> None:
    encoder = encoders[family.name]
    tokenizer = encoder.tokenizer
    first = tokenizer.convert_tokens_to_ids(family.special[0])
    ids, completion = asked(JUDGE, encoder), encoder.completion_ids("x")
    assert (ids + completion).count(first) == family.begins_with_bos
    assert (ids[0] == first) == family.begins_with_bos
    assert (tokenizer("x")["input_ids"][0] == first) == family.begins_with_bos, "as the published tokenizer does"


# ---- templates that change what was said, and that look at the clock -------------------------------------------------------


def test_thinking_is_trained_on_though_the_template_of_qwen_3_would_strip_or_change_it(
    encoders: dict[str, ChatEncoder],
) -> None:
    encoder, target = encoders["qwen-3"], JUDGE_PROMPTS["gram-r2"].target(LONG, "A")
    user, reply = {"role": "user", "content": "x"}, {"role": "assistant", "content": target}
    render = encoder.tokenizer.apply_chat_template
    assert "names the cause" not in render([user, reply, user], tokenize=False), "of an earlier turn"
    assert target not in render([user, reply], tokenize=False), "of the last turn: one line break more"
    assert encoder.tokenizer.decode(encoder.completion_ids(target)) == target + "<|im_end|>"


@pytest.mark.parametrize("reply", ["A", "plain", "<think>\nx\n</think>\n<answer>\nA\n</answer>"])
def test_a_prompt_of_qwen_3_leaves_it_to_the_reply_to_think(encoders: dict[str, ChatEncoder], reply: str) -> None:
    """The block of no thoughts, which the template writes for ``enable_thinking=False``, is in no prompt and no completion."""
    encoder = encoders["qwen-3"]
    user = [{"role": "user", "content": "x"}]
    switched_off = encoder.tokenizer.apply_chat_template(
        user, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert switched_off.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    ids = encoder.prompt_ids([Message("user", "x")])
    assert encoder.tokenizer.decode(ids) == switched_off.removesuffix("<think>\n\n</think>\n\n")
    assert encoder.tokenizer.decode(encoder.completion_ids(reply)) == reply + "<|im_end|>"


def test_of_several_templates_the_default_one_is_used(encoders: dict[str, ChatEncoder], tmp_path: Path) -> None:
    encoder = encoders[QWEN_2_5.name]
    messages = [Message("user", "Why?")]
    saved = copy.deepcopy(encoder.tokenizer)
    saved.chat_template = {"default": encoder.tokenizer.chat_template, "tool_use": "{{ 1 }}"}
    saved.save_pretrained(tmp_path)
    assert ChatEncoder.load(str(tmp_path)).prompt_ids(messages) == encoder.prompt_ids(messages)
    briefly = ChatEncoder.load(str(tmp_path), system="Be brief.")
    assert "Be brief." in briefly.tokenizer.decode(briefly.prompt_ids(messages))


def test_the_chat_template_is_that_of_the_files_where_mistrals_own_format_lies_beside_them(
    encoders: dict[str, ChatEncoder], tmp_path: Path
) -> None:
    encoder = encoders[QWEN_2_5.name]
    encoder.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    (tmp_path / "tekken.json").write_text("{}")
    messages = [Message("user", "Why?")]
    assert ChatEncoder.load(str(tmp_path)).prompt_ids(messages) == encoder.prompt_ids(messages)


def test_the_day_in_a_prompt_is_the_fixed_one_whatever_the_clock_says(encoders: dict[str, ChatEncoder]) -> None:
    encoder = encoders["llama-3.2"]
    by_the_clock = encoder.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert "Today Date: " in by_the_clock
    assert f"Today Date: {DATE}\n" not in by_the_clock, "the published template asks the clock"
    assert f"Today Date: {DATE}\n" in encoder.tokenizer.decode(encoder.prompt_ids([Message("user", "x")]))


# ---- the system turn -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "begins"),
    [
        ("", "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"),
        (
            'Say "A" or\n"B" {% if %}.',
            '<|im_start|>system\nSay "A" or\n"B" {% if %}.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n',
        ),
    ],
)
def test_a_system_turn_takes_the_place_of_the_templates_own_wherever_the_tokenizer_is_used(
    folders: dict[str, Path], tmp_path: Path, system: str, begins: str
) -> None:
    turns, folder = [{"role": "user", "content": "x"}], str(folders["qwen-2.5"])
    assert (
        ChatEncoder.load(folder)
        .tokenizer.apply_chat_template(turns, tokenize=False)
        .startswith("<|im_start|>system\nYou are Qwen")
    )
    encoder = ChatEncoder.load(folder, system=system)
    ids = encoder.prompt_ids([Message("user", "x")])
    assert encoder.tokenizer.decode(ids) == begins + "<|im_start|>assistant\n"
    encoder.tokenizer.save_pretrained(tmp_path)
    saved = ChatEncoder.load(str(tmp_path))  # as generation and a server load what was trained
    assert saved.prompt_ids([Message("user", "x")]) == ids
    assert ChatEncoder.load(str(tmp_path), system=system).tokenizer.chat_template == saved.tokenizer.chat_template
    own = [Message("system", "s"), Message("user", "x")]
    assert saved.prompt_ids(own) == ChatEncoder.load(folder).prompt_ids(own), "a conversation's own turn stays"
