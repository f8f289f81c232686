"""What a worker's own checkout has in common with the run that it works for."""

from __future__ import annotations

from typing import Any

import pytest

from data.files import StoreError
from prompts.catalog import JUDGE_PROMPTS, PROVER_PROMPTS, digests, pretraining_for
from tasks.machine.checkout import check_same, facts


def test_every_prompt_is_compared() -> None:
    known = digests()
    assert {known[f"judge {name}"] for name in JUDGE_PROMPTS} == {p.digest for p in JUDGE_PROMPTS.values()}
    assert {known[f"prover {name}"] for name in PROVER_PROMPTS} == {p.digest for p in PROVER_PROMPTS.values()}
    for prompt in map(pretraining_for, JUDGE_PROMPTS.values()):
        assert known[f"pretraining {prompt.name}"] == prompt.digest


def test_the_same_checkout_is_the_same() -> None:
    said: list[str] = []
    check_same(facts(), said.append)
    check_same(None, said.append)
    assert said == []


def test_other_prompts_are_refused_and_other_versions_are_told() -> None:
    run: dict[str, dict[str, Any]] = {name: dict(of) for name, of in facts().items()}
    run["software"] |= {"transformers": "4.0", "gone": "1"}
    said: list[str] = []
    check_same(run, said.append)
    assert len(said) == 1
    assert "gone 1 → none, transformers 4.0 → " in said[0]
    run["prompts"] |= {"judge compact": "0" * 16, "judge new": "1" * 16}
    with pytest.raises(
        StoreError, match="the prompts judge compact, judge new in this machine's checkout are not those"
    ):
        check_same(run, said.append)
