"""Sources of rows that a test writes, and what is read of them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from data.records import Message, PreferencePair
from data.sources.sources import (
    Dropped,
    Source,
    read_source,
)

Rows = Sequence[object]


def write(path: Path, rows: Rows) -> str:
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


def read(tmp_path: Path, rows: Rows, kind: str = "preference", seed: int = 0, **config: Any) -> list[Any]:
    path = write(tmp_path / "rows.jsonl", rows)
    return list(read_source(Source(path=path, **config), kind, seed))  # type: ignore[call-overload]


def reasons(items: Iterable[Any]) -> Counter[str]:
    return Counter(item.reason if isinstance(item, Dropped) else "kept" for item in items)


def chosen_of(item: PreferencePair) -> str:
    return item.pair.response_a if item.label == "A" else item.pair.response_b


def simple_rows(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(n)]


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Sum 2 and 2"},
]


CONVERSATION = tuple(Message(turn["role"], turn["content"]) for turn in TURNS)  # type: ignore[arg-type]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def share_gpt(turn: dict[str, str]) -> dict[str, str]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"from": names[turn["role"]], "value": turn["content"]}


SHAPES: dict[str, dict[str, Any]] = {
    "prompt messages and strings": {"prompt": TURNS, "chosen": "4", "rejected": "5"},
    "whole conversations": {"chosen": [*TURNS, answer("4")], "rejected": [*TURNS, answer("5")]},
    "prompt and whole conversations": {
        "prompt": TURNS,
        "chosen": [*TURNS, answer("4")],
        "rejected": [*TURNS, answer("5")],
    },
    "one turn as prompt and whole conversations": {
        "prompt": "Sum 2 and 2",
        "chosen": [*TURNS, answer("4")],
        "rejected": [*TURNS, answer("5")],
    },
    "prompt messages and answers": {"prompt": TURNS, "chosen": [answer("4")], "rejected": [answer("5")]},
    "ShareGPT": {
        "conversations": [share_gpt(turn) for turn in TURNS],
        "chosen": {"from": "gpt", "value": "4"},
        "rejected": {"from": "gpt", "value": "5"},
    },
    "keys of both kinds, as Parquet gives them": {
        "prompt": None,
        "conversations": [{"role": None, "content": None, **share_gpt(turn)} for turn in TURNS],
        "chosen": {"role": "assistant", "content": "4", "from": None, "value": None},
        "rejected": {"role": "assistant", "content": "5", "from": None, "value": None},
    },
}


texts = st.text(max_size=6)


def annotator(score: int, mark: str = "", **texts: str | None) -> dict[str, Any]:
    return {
        "score": score,
        "reasoning": f"@Response 1 is shorter than Response 2.{mark}",
        "feedback1": "The response is short.",
        "feedback2": "Longer than @Response 1.",
        **texts,
    }


def helpsteer_row(overall: int, *individuals: dict[str, Any]) -> dict[str, Any]:
    return {
        "domain": "general",
        "language": "english",
        "context": [turn for turn in TURNS if turn["role"] != "system"],
        "response1": "4",
        "response2": "The sum is four.",
        "overall_preference": overall,
        "individual_preference": list(individuals),
    }


AB: dict[str, Any] = {"prompt": "q", "response_a": "one", "response_b": "two"}


LABELED: dict[str, Any] = {**AB, "label": "winner", "label_a": [1], "label_b": [2], "label_tie": [0]}


def by_map(columns: dict[str, Any]) -> dict[str, Any]:
    return {"format": "columns", "columns": columns}
