"""The small world: what a run's numbers rest on, and what would go wrong without a sound."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import data.world
from data.records import pair_key, parse_preference, parse_rationale
from data.world import taste
from data.world.splits import SIZES, write_splits
from data.world.tokenizer import END, FORM, SPECIAL, TAGS, build_tokenizer
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT

BASES = Path(data.world.__file__).parent
GOLDEN_WORDS = ("tuzo", "biva", "napi", "vema")
GOLDEN_JUDGE_PROMPT = [
    1,
    3,
    647,
    40,
    208,
    42,
    35,
    563,
    514,
    394,
    583,
    208,
    43,
    35,
    597,
    522,
    461,
    417,
    208,
    651,
    40,
    5,
    4,
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


# ---- the taste and its pairs ----------------------------------------------------------------------------------------


def test_the_lexicon_is_fixed_and_half_of_it_is_liked() -> None:
    assert len(set(taste.WORDS)) == taste.N_WORDS == 240
    assert len(taste.LIKED) == 120
    assert taste.WORDS[:4] == GOLDEN_WORDS


@pytest.mark.parametrize("share", [taste.JUDGE_KNOWS, taste.PROVER_KNOWS])
def test_a_base_knows_its_share_of_liked_and_of_disliked_words(share: float) -> None:
    known = taste.known_words(share)
    assert len(known) == round(share * 240)
    assert len(known & taste.LIKED) == len(known) / 2
    assert taste.known_words(0.4) < taste.known_words(0.9) < taste.known_words(1) == set(taste.WORDS)


def test_drawn_pairs_are_balanced_prefixes_without_ties_and_repeats() -> None:
    pairs = taste.draw_pairs(301, seed=5)
    assert len({pair_key(p.pair) for p in pairs}) == len({p.pair.id for p in pairs}) == 301
    for p in pairs:
        a, b = taste.words_of(p.pair)
        assert len(a) == len(b) == 4
        assert len({*a, *b}) == 8
        liked_a, liked_b = taste.counts(p.pair)
        assert liked_a != liked_b
        assert p.label == ("A" if liked_a > liked_b else "B") == taste.verdict(p.pair)
    assert Counter(p.label for p in pairs[:300]) == {"A": 150, "B": 150}
    assert taste.draw_pairs(20, seed=5) == pairs[:20]
    assert taste.draw_pairs(20, seed=6) != pairs[:20]


def test_excluded_pairs_are_not_drawn_in_either_order() -> None:
    first = taste.draw_pairs(50, seed=5)
    again = taste.draw_pairs(50, seed=5, exclude={pair_key(p.pair.swapped()) for p in first})
    assert not {pair_key(p.pair) for p in first} & {pair_key(p.pair) for p in again}


def test_the_true_rationale_passes_the_judges_checks_in_both_orders() -> None:
    for drawn in taste.draw_pairs(50, seed=1):
        for p in (drawn, drawn.swapped()):
            text = taste.rationale(p.pair)
            assert COMPACT.check_rationale(text, p.label) is None
            assert COMPACT.parse(COMPACT.target(text, p.label)).rationale == text
            audit = taste.audit_rationale(text, p.pair)
            assert audit.consistent
            assert audit.tastes == {w: taste.likes(w) for words in taste.words_of(p.pair) for w in words}


def test_a_belief_decides_a_rationale_and_a_tie_has_none() -> None:
    pair = taste.draw_pairs(1, seed=1)[0].pair
    text = taste.rationale(pair, lambda word: word in pair.response_b)
    assert text.endswith("= 4. So B is better.")
    with pytest.raises(ValueError, match="a tie of 4 liked words each"):
        taste.rationale(pair, lambda _: True)


PAIR = taste.make_pair(["boze", "pena", "gamu", "zuno", "vema", "numu", "faro", "radi"])
GOOD = "A: boze yes pena no gamu yes zuno yes = 3. B: vema no numu no faro no radi yes = 1. So A is better."


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("", "", set()),
        ("pena", "gamu", {"copied"}),
        ("boze yes pena no", "pena no boze yes", {"copied"}),
        ("= 3", "= 2", {"counted"}),
        ("radi yes", "radi no", {"counted"}),
        ("So A", "So B", {"concluded"}),
        ("faro no radi yes = 1", "faro yes radi yes = 4", {"counted", "concluded"}),
        ("= 1.", "= 1", {"well_formed", "copied", "counted", "concluded"}),
        ("pena no ", "", {"well_formed", "copied", "counted", "concluded"}),
    ],
)
def test_audit_tells_a_wrong_copy_count_and_conclusion_apart(old: str, new: str, wrong: set[str]) -> None:
    audit = taste.audit_rationale(f" {GOOD.replace(old, new) if old else GOOD}\n", PAIR)
    assert {name for name in ("well_formed", "copied", "counted", "concluded") if not getattr(audit, name)} == wrong
    assert audit.consistent == (not wrong)
    assert set(audit.tastes) <= {*PAIR.response_a.split(), *PAIR.response_b.split()}


def test_audit_lets_a_tie_conclude_either_way() -> None:
    tie = GOOD.replace("boze yes", "boze no").replace("= 3", "= 2").replace("numu no", "numu yes").replace("= 1", "= 2")
    for text in (tie, tie.replace("So A", "So B")):
        audit = taste.audit_rationale(text, PAIR)
        assert audit.tied
        assert audit.consistent
    assert not taste.audit_rationale(GOOD, PAIR).tied


def test_audit_reports_tastes_only_of_words_in_their_place() -> None:
    audit = taste.audit_rationale(GOOD.replace("pena", "numu"), PAIR)
    assert "pena" not in audit.tastes
    assert audit.tastes["numu"] is False
    assert audit.tastes["boze"] is True


# ---- the files -----------------------------------------------------------------------------------------------------


def test_the_files_are_the_same_bytes_for_the_same_seed_and_disjoint(tmp_path: Path) -> None:
    for out in ("one", "two", "two"):
        write_splits(tmp_path / out, 3, {**SIZES, "unlabeled": 60, "heldout": 80})
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(f"{name}.jsonl" for name in SIZES)
    keys: list[str] = []
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        rows = [json.loads(line) for line in content.decode().splitlines()]
        labels = [parse_preference(row).label for row in rows]
        assert labels.count("A") == labels.count("B")
        keys += [pair_key(parse_preference(row).pair) for row in rows]
        if name == "rationale.jsonl":
            assert all(COMPACT.check_rationale(r.rationale, r.label) is None for r in map(parse_rationale, rows))
    assert len(keys) == len(set(keys)) == 12 + 20 + 60 + 80 + 300


def test_more_unlabeled_pairs_leave_the_other_files_as_they_are() -> None:
    small, large = (taste.draw_splits({**SIZES, "unlabeled": n}, seed=0) for n in (10, 20))
    assert {**small, "unlabeled": None} == {**large, "unlabeled": None}
    assert large["unlabeled"][:10] == small["unlabeled"]


# ---- the tokenizer -------------------------------------------------------------------------------------------------


def test_every_word_and_every_tag_is_one_token(tokenizer: Any) -> None:
    assert all(len(tokenizer.encode(" " + word)) == 1 for word in taste.WORDS)
    assert all(len(tokenizer.encode(tag)) == 1 for tag in (*TAGS, *SPECIAL.values(), END))
    assert all(len(tokenizer.encode(text)) == 1 for text in FORM)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(st.sampled_from(" \n\tAboze.'é漢🙂<think></>")) | st.sampled_from(TAGS))
def test_any_text_round_trips(text: str) -> None:
    tokenizer = TOKENIZER
    assume("<|" not in text)  # a control token that is spelled out becomes one, and vanishes with the others
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(f"{text}{END}"), skip_special_tokens=True) == text


TOKENIZER: Any = build_tokenizer()


def test_the_prompts_are_short_and_their_ids_do_not_change(tokenizer: Any) -> None:
    p = taste.draw_pairs(1, seed=0)[0]
    judge, prover = (
        tokenizer.apply_chat_template([m.to_json() for m in prompt], add_generation_prompt=True, return_dict=False)
        for prompt in (COMPACT.render(p.pair), PROVE_COMPACT.render(p))
    )
    assert judge == GOLDEN_JUDGE_PROMPT
    assert len(prover) == 27
    assert len(tokenizer.encode(COMPACT.target(taste.rationale(p.pair), p.label))) == 37
    assert len(tokenizer.encode(PROVE_COMPACT.to_proof(taste.rationale(p.pair)))) == 32


def test_prompt_and_completion_are_the_whole_conversation(tokenizer: Any) -> None:
    system, user, reply = ("Be brief.", "Taste?", "<think> A: boze yes </think><answer>A</answer>")
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": reply}], return_dict=False)
    assert whole == [*prompt, *tokenizer.encode(reply), tokenizer.eos_token_id]
    assert tokenizer.decode(whole) == f"<|bos|><|system|>{system}{END}<|user|>{user}{END}<|assistant|>{reply}{END}"
    with pytest.raises(Exception, match="role must be system, user or assistant, got tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": ""}])


# ---- the shipped bases ----------------------------------------------------------------------------------------------


def test_the_bases_are_small() -> None:
    sizes = [path.stat().st_size for base in ("base-judge", "base-prover") for path in (BASES / base).iterdir()]
    assert 5e6 < sum(sizes) <= 6e6


@pytest.mark.parametrize("base", ["base-judge", "base-prover"])
def test_a_base_loads_with_tied_weights_and_this_tokenizer(base: str, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, loaded = AutoModelForCausalLM.from_pretrained(BASES / base), AutoTokenizer.from_pretrained(BASES / base)
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}
    assert model.config.vocab_size == len(loaded) == len(tokenizer)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.eos_token == END
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.bos_token_id == tokenizer.bos_token_id
