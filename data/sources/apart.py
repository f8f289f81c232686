"""Pairs that are set apart, to measure or to calibrate with: their content is kept out of everything that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.files import read_jsonl
from data.records import parse_pair, prompt_key
from data.seeds import derive_seed
from data.sources.prepared import Prepared


@dataclass
class SetApart:
    """What one kind of pairs keeps out: every pair with one of their prompts, or only the pairs themselves.

    `adjective` completes the reasons for which others are dropped: ``prompt_is_held_out``, ``pair_is_held_out``.
    """

    adjective: str
    by: Literal["prompt", "pair"]
    prompts: set[str] = field(default_factory=set)
    pairs: set[int] = field(default_factory=set)

    def add(self, pair: Prepared) -> None:
        self.prompts.add(pair.prompt)
        self.pairs.add(pair.key)

    def keeps_out(self, pair: Prepared) -> str | None:
        """Why another pair is dropped, or None."""
        if self.by == "prompt" and pair.prompt in self.prompts:
            return f"prompt_is_{self.adjective}"
        return f"pair_is_{self.adjective}" if pair.key in self.pairs else None


def is_drawn(identity: object, seed: int, purpose: str, share: float) -> bool:
    """Whether a prompt, or a pair, is in the seeded share that is split off for a purpose."""
    return derive_seed(seed, purpose, identity) / 2**31 < share


def on_one_side(folder: Path) -> str:
    """What to say if a share of the prompts was to be held out and all labeled pairs in a folder are on one side of the split."""
    files = (folder / "heldout.jsonl", folder / "labeled.jsonl")
    n = len({prompt_key(parse_pair(row).prompt) for file in files for row in read_jsonl(file)})
    prompts = "one prompt" if n == 1 else f"{n} prompts"
    return (
        f": heldout_share is a share of prompts, and the labeled pairs have {prompts}, all on one side: give data.heldout"
        if n
        else ""
    )
