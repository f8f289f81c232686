"""Each benchmark from its authors' files to a score: read as a stage, played in both orders, and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.benchmarks import if_reward_bench, salesforce
from data.benchmarks.catalog import BenchmarkName, load
from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_set, read_set
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.settings import BenchmarkSet
from tests.conftest import run_with
from tests.support.playing import judge_of
from tests.support.scoring_rows import (
    contextual_row,
    if_reward_bench_row,
    m_reward_bench_row,
    ppe_human_row,
    reasoning_row,
    rmb_row,
    write_rows,
)


def rmb(folder: Path) -> None:
    write_rows(folder / "RMB_dataset/Pairwise_set/Harmlessness/S1.json", [rmb_row("pair", "1", "Harmlessness")])
    write_rows(folder / "RMB_dataset/BoN_set/Harmlessness/S1.json", [rmb_row("bon", "1", "Harmlessness")])
    write_rows(folder / "eval/result.json", [{"pair_uid": "1"}])


def contextual(folder: Path) -> None:
    for split in salesforce.CONTEXTUAL_SPLITS:
        write_rows(folder / f"data/{split}-00000-of-00001.jsonl", [contextual_row(1)])


def reasoning(folder: Path) -> None:
    for split in salesforce.REASONING_SPLITS:
        write_rows(folder / f"data/{split}-00000-of-00001.jsonl", [reasoning_row(f"{split}:1")])


def multilingual(folder: Path) -> None:
    for language in ("deu_Latn", "vie_Latn"):
        rows = [m_reward_bench_row(1, name) for name in ("mt-bench-med", "mt-bench-hard", "donotanswer", "hep-go")]
        write_rows(folder / language / "test-00000-of-00001.jsonl", rows)
        write_rows(folder / language / "filtered.json", [m_reward_bench_row(1)])


def human(folder: Path) -> None:
    write_rows(folder / "data/test-00000-of-00001.jsonl", [ppe_human_row("1"), ppe_human_row("2", "tie")])


def instructions(folder: Path) -> None:
    rows = [if_reward_bench_row(i, [(0, 1), (1, 2)], 3, kind) for i, kind in enumerate(if_reward_bench.TYPES)]
    write_rows(folder / "data" / if_reward_bench.FILE, rows)


Write = Callable[[Path], None]


@pytest.mark.parametrize(
    ("name", "write", "cells", "total"),
    [
        ("rmb", rmb, 3, None),  # of two scenarios, 94 others are missing
        ("contextual-judgebench", contextual, 8, 1.0),
        ("reasoning-judgebench", reasoning, 13, 1.0),
        ("m-reward-bench", multilingual, 8, None),  # of 23 languages, two are there
        ("ppe-human-preference", human, 1, 1.0),
        ("if-reward-bench", instructions, 9, 1.0),
    ],
)
def test_a_folder_is_read_played_and_scored(
    tmp_path: Path, encoder: ChatEncoder, name: BenchmarkName, write: Write, cells: int, total: float | None
) -> None:
    """From the folder that the authors publish, by a judge that is right of every row."""
    write(tmp_path / "authors")

    def reply(request: Request, j: int) -> str:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        a, b = (text.split(f"\n{n}: ")[1].split("\n")[0] for n in "AB")
        return f"<think> x </think><answer>{'A' if better(a, b) else 'B'}</answer>"

    run = run_with(tmp_path, encoder, reply, models={"judge_base": "none", "prover_base": "none", "judge_prompt": "compact",
                                                     "max_tokens": 900})  # fmt: skip
    chosen = BenchmarkSet(benchmark=name, data=str(tmp_path / "authors"))
    played = prepare_set(run, chosen)
    assert read_set(played) == load(name, str(tmp_path / "authors"))
    made = benchmark(run, 0, judge_of(run), played)
    assert made.manifest.metrics["games"] == 2 * cells
    assert made.manifest.metrics["accuracy"] == total
    assert set(made.manifest.metrics["parts"].values()) == {1.0}
    assert prepare_set(run, chosen).reused


def better(a: str, b: str) -> bool:
    """Of the tests' rows, which say good and bad, or number their responses from the best."""
    return a > b if "bad" in a + b else a < b
