"""Games on real files: published runs score as their authors say, and fixed judges as a count by hand does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from data.benchmarks import judgebench, llmbar, rm_bench
from data.benchmarks.catalog import BenchmarkName, load
from data.benchmarks.items import Cell, Item
from data.files import write_jsonl
from tasks.benchmark.games import read_games
from tasks.benchmark.score import score
from tests.conftest import REAL, real_file
from tests.support.commands import gram_r2
from tests.support.scoring_rows import Row, game_rows, played, right_always
from tests.tasks.test_games import DRAWS


@pytest.mark.parametrize(
    ("split", "judge", "overall"),
    [
        ("gpt", "arena_hard,judge_model=o1-mini-2024-09-12", 65.71),
        ("claude", "arena_hard,judge_model=claude-3-haiku-20240307", 32.22),
        ("gpt", "reward_model,judge_model=Skywork_Skywork-Reward-Llama-3.1-8B", 62.29),
    ],
)
def test_stored_judgebench_runs_score_as_published(split: str, judge: str, overall: float) -> None:
    name = f"dataset=judgebench,response_model={judgebench.SPLITS[split]},judge_name={judge}.jsonl"
    games = real_file(f"judgebench/outputs/{name}")
    scored = score(read_games(judgebench.load(str(REAL / "judgebench"), split), games), draws=DRAWS)
    assert round(100 * scored["micro"], 2) == overall


@pytest.mark.parametrize("subset", llmbar.SUBSETS)
def test_stored_llmbar_runs_score_as_published(subset: str) -> None:
    games = real_file(f"llmbar/results_GPT-4_CoT/{subset}.json")
    found = score(read_games(llmbar.load(str(REAL / "llmbar")), games), draws=DRAWS)["subsets"][subset]
    published = json.loads(real_file(f"llmbar/results_GPT-4_CoT/{subset}.statistics.json").read_text())

    def percent(name: str) -> float:
        return float(published[name].split("= ")[-1].rstrip("%"))

    assert 100 * found["accuracy"] == pytest.approx(percent("correct_average"))
    assert 100 * found["accuracy_as_published"] == pytest.approx(percent("correct_False"))
    assert 100 * found["accuracy_swapped"] == pytest.approx(percent("correct_True"))
    assert 100 * found["both_correct"] == pytest.approx(percent("correct_both"))
    assert 100 * found["agreement_published"] == pytest.approx(percent("equal"))


# ---- by hand ------------------------------------------------------------------------------------------------------------


def longer(item: Item, cell: Cell, order: int) -> Row:
    """Prefers the response that is longer by 100 characters; where neither is, it says A."""
    gap = len(item.responses[cell.first]) - len(item.responses[cell.second])
    shown = gap if order == 0 else -gap
    return {"verdict": "A" if shown > -100 else "B"}


def test_a_domain_of_rm_bench_by_hand() -> None:
    """The judge is `longer`, but gives no verdict in the order rejected_first for ids that 10 divides.

    So a chosen response wins a cell where it is longer by 100 (1, or ¾ where a game is null), and where neither is and
    10 divides the id (A in the first order and null in the second: ¾). Counted over the 129 rows of chat_filtered.json
    without our code, by these two conditions alone, the nine cells are won

        11    0    0
       125   18    5
       125   35   12   times, chosen style down, rejected style across.

    By SCORING.md: hard = mean(M01, M02, M12) = (0 + 0 + 5) ÷ 387, normal = mean(M00, M11, M22) = (11 + 18 + 12) ÷ 387,
    easy = mean(M10, M20, M21) = (125 + 125 + 35) ÷ 387.
    """
    real_file("rm-bench/chat_filtered.json")

    def judge(item: Item, cell: Cell, order: int) -> Row:
        null = order == 1 and int(item.id.split("/")[1]) % 10 == 0
        return {"verdict": None} if null else longer(item, cell, order)

    chat = score(played(rm_bench.load(str(REAL / "rm-bench")), judge), draws=DRAWS)["domains"]["chat"]
    assert chat["hard"] == pytest.approx(5 / 387)
    assert chat["normal"] == pytest.approx(41 / 387)
    assert chat["easy"] == pytest.approx(285 / 387)
    assert chat["score"] == pytest.approx((5 + 41 + 285) / 3 / 387)


def test_a_category_of_judgebench_by_hand() -> None:
    """The judge is `longer`. Of the 56 math pairs of the GPT-4o split, counted without our code: in 24 the right response
    is longer by 100 characters, in 20 the wrong one, in 12 neither, of which 8 are labeled A>B.

    By SCORING.md: {right, right} counts, {wrong, wrong} does not, and of the close ones {right, wrong} does not: 24 ÷ 56.
    In the first order alone, which says A for the close ones: (24 + 8) ÷ 56.
    """
    real_file(f"judgebench/dataset=judgebench,response_model={judgebench.SPLITS['gpt']}.jsonl")
    scored = score(played(judgebench.load(str(REAL / "judgebench")), longer), draws=DRAWS)
    assert scored["categories"]["math"] == pytest.approx(24 / 56)
    assert scored["single_game"]["categories"]["math"] == pytest.approx(32 / 56)


@pytest.mark.parametrize("name", ["rm-bench", "judgebench", "llmbar", "rmb"])
def test_the_command_scores_a_whole_benchmark(tmp_path: Path, name: BenchmarkName) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not here; set GRAM_R2_DATA to a folder with the public files")
    benchmark = load(name, str(REAL / name))
    write_jsonl(tmp_path / "games.jsonl", game_rows(benchmark, right_always))
    started = time.monotonic()
    games = str(tmp_path / "games.jsonl")
    done = gram_r2("benchmark", "score", games, "--benchmark", name, "--data", str(REAL / name))
    print(f"{name}: {time.monotonic() - started:.1f} s")
    assert (done.code, done.err) == (0, "")
    scored = json.loads(done.out)
    assert scored["games"]["games"] == len(game_rows(benchmark, right_always))
    # Math is missing from the files here, and 94 of RMB's 98 files.
    assert scored["total"] == (None if name in ("rm-bench", "rmb") else 1.0)
