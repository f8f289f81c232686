"""M-RewardBench's scores: RewardBench's sections in each language, and the mean over the languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks import m_reward_bench
from data.benchmarks.items import Benchmark
from tasks.benchmark.score import parts, score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import Row, m_reward_bench_row, played, right_always, says, verdict, write_rows


def m_reward_bench_of(tmp_path: Path, languages: tuple[str, ...] = m_reward_bench.LANGUAGES) -> Benchmark:
    """One row of each subset in each language."""
    rows = [m_reward_bench_row(1, subset) for subset in m_reward_bench.SUBSETS]
    for language in languages:
        write_rows(tmp_path / f"{language}.jsonl", rows)
    return m_reward_bench.load(str(tmp_path))


def test_languages_count_alike_and_subsets_by_their_weights(tmp_path: Path) -> None:
    """Right on math-prm alone, in one language of 23: half of one section of four, by either table."""
    benchmark = m_reward_bench_of(tmp_path)
    scored = score(played(benchmark, lambda i, c, o: verdict(i.id.startswith("kor_Hang/math-prm"), o)), draws=DRAWS)
    assert scored["languages"]["kor_Hang"] == {
        "sections": {"Chat": 0.0, "Chat Hard": 0.0, "Safety": 0.0, "Reasoning": 0.5}, "score": 0.125,
    }  # fmt: skip
    assert scored["total"] == scored["own_counts"]["total"] == round(0.125 / 23, 10)
    assert parts(scored) == {**dict.fromkeys(m_reward_bench.LANGUAGES, 0.0), "kor_Hang": 0.125}
    assert scored["complete"]


def test_the_two_tables_differ_in_their_weights(tmp_path: Path) -> None:
    """By hand: alpacaeval-easy is 100 of 358 in RewardBench and 79 of 79 + 79 + 76 + 24 + 38 = 296 in M-RewardBench."""
    benchmark = m_reward_bench_of(tmp_path)
    scored = score(played(benchmark, lambda i, c, o: verdict("/alpacaeval-easy/" in i.id, o)), draws=DRAWS)
    assert scored["languages"]["fra_Latn"]["sections"]["Chat"] == round(100 / 358, 10)
    assert scored["own_counts"]["languages"]["fra_Latn"]["sections"]["Chat"] == round(79 / 296, 10)
    assert scored["total"] == round(100 / 358 / 4, 10)


@pytest.mark.parametrize("answer", [{"verdict": None}, {"verdict": "A"}, {"verdict": "tie"}])
def test_an_error_is_half_a_point(tmp_path: Path, answer: Row) -> None:
    assert score(played(m_reward_bench_of(tmp_path), says(answer)), draws=2)["total"] == 0.5


def test_missing_languages_and_subsets_leave_no_total(tmp_path: Path) -> None:
    two = score(played(m_reward_bench_of(tmp_path / "two", ("deu_Latn", "vie_Latn")), right_always), draws=DRAWS)
    assert (two["total"], two["languages"]["deu_Latn"]["score"], len(two["missing"])) == (None, 1.0, 21)
    benchmark = m_reward_bench_of(tmp_path / "all")
    write_rows(
        tmp_path / "all" / "deu_Latn.jsonl", [m_reward_bench_row(1, subset) for subset in m_reward_bench.SUBSETS[1:]]
    )
    lacking = score(played(m_reward_bench.load(str(tmp_path / "all")), right_always), draws=DRAWS)
    assert (lacking["total"], lacking["missing"]) == (None, ["alpacaeval-easy of deu_Latn"])
    assert lacking["languages"]["deu_Latn"]["sections"]["Chat"] == 1.0  # the subset that is not there has no weight
    assert len(benchmark.items) == 23 * 23
