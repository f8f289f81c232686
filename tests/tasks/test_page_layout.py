"""Pages in a window of 1400 and of 800 pixels, as Chromium shows them: nothing sticks out, and the best round is in sight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import Artifact
from tasks.adapt import Adapted
from tasks.benchmark.play import measured
from tasks.page import charts
from tasks.page.summary import Summary, Table
from tasks.report import adaptation, baselines
from tasks.report.benchmarks import PlayedBy, PlayedSet
from tasks.report.cards import Pairs, cards_of, pairs_of
from tasks.report.costs import Cost
from tasks.report.learned import Control, Gain
from tasks.report.samples import SAMPLES, sample_pairs
from tasks.report.self_training import page_content, page_of
from tasks.run.rounds import best_round
from tasks.run.stage import Run
from tests.support.browser import Layout, laid_out, looked_at
from tests.support.written_run import fake_run

Judges = list[tuple[int, Artifact, Artifact]]
WIDTHS = (1400, 800)
LONG = "a-name-as-long-as-run-names-may-be-" + 65 * "x"
MODEL = "/mnt/models/" + 120 * "m"
PAGES = ("4 rounds", "12 rounds", "one seed", "three seeds", "adaptation", "wide")


def report(run: Run, rounds: int) -> str:
    """A run's page with so many rounds, large numbers and long names, and sets of many parts; its best round is in the middle."""
    content = page_content(run, {"Judge trained from": MODEL, "Recipe": f"{MODEL}.toml"})
    large: dict[str, Any] = {
        "examples": 12_345_678, "examples_of": 12_456_789, "labeled": 1_234_567, "pseudo_labeled": 11_111_111, "human": 123_456,
        "pseudo_by_round": {str(i): 1_010_101 for i in range(1, rounds)}, "labels_kept": 499_123,
        "labels_of": 500_000, "proofs_valid": 7_345_678, "proof_candidates": 8_000_000, "pairs_selected": 498_765,
        "vote_margins": {str(margin): 123_456 for margin in range(0, 17, 2)}, "promised": 0.95, "promise_holds": False,
        "promise_bound": 0.9412, "calibration_kept": 0.8123, "kept_right_in": {"a-source-of-ones-own": 0.9512},
        "thresholds": {"a-source-of-ones-own": 0.85, "another-source": 0.75, "all others": None},
    }  # fmt: skip
    share, auc = {"value": 0.9625, "interval": [0.9411, 0.9812]}, {"value": 0.7421, "interval": [0.6611, 0.8155]}
    large["proof_audit"] = {
        "pairs": 2000, "passed": {"right": share, "wrong": share}, "proved": {"wrong": share}, "score": auc, "reply": auc,
        "p_label": auc, "right_by": {"true label": 1234, "pseudo-label": 766},
    }  # fmt: skip
    of = content["table"][1]
    table = [
        {
            **of,
            **large,
            "round": i,
            "name": str(i),
            "accuracy": 0.6 + 0.3 / (1 + abs(i - rounds // 2)),
            "interval": [0.5, 1.0],
        }
        for i in range(rounds)
    ]
    table[-1]["name"] = "final"
    metrics = {
        "accuracy": 0.8123,
        "interval": [0.7812, 0.8345],
        "games": 2_985_000,
        "truncated": 0.1234,
        "mean_tokens": 812.5,
    }
    metrics |= {"position_consistency": 0.9123, "first_shown": 0.4812, "parts": {f"{LONG} {i}": 0.5 for i in range(9)}}
    judges = [PlayedBy(row["round"], row["name"], metrics, 0.0123) for row in table]
    name = "a-benchmark-of-ones-own (1,000 of 12,345)"
    played = PlayedSet(name, judges, list(metrics["parts"]), judges[:6], [LONG, "safety"], f"{MODEL}/games.jsonl")
    content |= {
        "table": table,
        "measured": table,
        "best": best_round(table),
        "gains": {row["round"]: Gain(0.2345, (0.2012, 0.2678), 0.0004) for row in table[1:]},
        "controls": [Control("discriminative", 0.612, (0.6, 0.63)), Control("label-only", 0.622, None)],
        "learning_charts": charts.of_learning(table),
        "dropping_charts": charts.of_dropping(table),
        "rounds": [Cost(row["name"], 12, 360_000.0, 2_880_000.0, 10**9, 10**10) for row in table],
        "total": Cost("total", 12 * rounds, rounds * 360_000.0, rounds * 2_880_000.0, 10**11, 10**12),
        "sets": [played, replace(played, name=LONG)],
        "heldout_sets": [played],
        "planned": [
            {"name": "round-1/benchmark-a-benchmark-of-ones-own", "figures": [("123,456", "7.89M", "0.98")] * 5}
        ],
    }
    long = {"prompt": f"{LONG}{MODEL} " * 20, "source": LONG}
    pairs = [(row["name"], [{**pair, **long, "id": LONG} for pair in sample_pairs(run, 1)[3:6]]) for row in table[1:]]
    return page_of(content, Pairs(pairs, "1", [], 0), MODEL)


def comparison(*seeds: int) -> str:
    """Five methods on eight other sets, of which some items were drawn."""
    sets = {f"{name} (1,000 of 12,345)": 0.71234 for name in ("rm-bench", "judgebench", "ppe", LONG)}
    row = {
        "accuracy": 0.91,
        "interval": [0.88, 0.93],
        "pretrained": True,
        "tokens_trained": 123_456_789,
        "tokens_generated": 987_654_321,
    }
    row |= {"seconds": 360_000.0, "points_a_million_tokens": 12.3, "points_an_hour": 1234.5, "tokens_a_judgment": 812.5}
    row |= {
        "warnings": [],
        "sets": sets | {f"set {i}": 0.5 for i in range(4)},
        "drawn": {name: [0.6, 0.8] for name in sets},
    }
    return baselines.summary(LONG, {seed: [{**row, "method": m} for m in baselines.TITLES] for seed in seeds}).html()


def adapted(run: Run, judges: Judges) -> str:
    """Seven sizes of training sets."""
    sets = tuple(measured(run)[:2])
    made = [
        Adapted(0, None, judges[0][2], sets),
        *(Adapted(10**i, judges[1][1], judges[1][2], sets) for i in range(1, 8)),
    ]
    for one in made[1:]:
        assert one.trained is not None
        one.trained.manifest.metrics.update(tokens=123_456_789, epochs=2.5)  # type: ignore[attr-defined]
    return adaptation.summary(run, made).html()


def wide() -> str:
    """More columns than any of our tables has: it scrolls in its own box."""
    table = Table("Wide", [{"name": "first", **{f"column {i}": "1,234,567" for i in range(40)}}])
    return Summary("wide", "One table.", [table]).html()


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[Layout]:
    folder = tmp_path_factory.mktemp("pages")
    run, judges = fake_run(folder, (0.5, 0.6, 0.6), LONG)
    pages = (report(run, 4), report(run, 12), comparison(1), comparison(1, 2, 3), adapted(run, judges), wide())
    return laid_out(dict(zip(PAGES, pages, strict=True)), WIDTHS, folder)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_everything_fits_and_the_best_round_is_in_sight(layouts: list[Layout], page: str, width: int) -> None:
    [layout] = [one for one in layouts if (one.page, one.width) == (page, width)]
    assert layout.wider == []
    assert layout.lost == []
    assert len(layout.scrolls) == (1 if page == "wide" else 0), layout.scrolls


def test_a_filter_leaves_its_cards_only_and_the_first_card_is_open(reported: Run, tmp_path: Path) -> None:
    content = page_content(reported, {})
    pairs = pairs_of(reported, content["table"], content["best"])
    [shown] = looked_at([(page_of(content, pairs, ""), 1400)], SHOWN, tmp_path)
    cards, filters = cards_of(pairs, SAMPLES)
    assert shown == {one.key: one.n for one in filters} | {"open": 1}
    assert shown["all"] == len(cards)


SHOWN = """
(page, window) => {
  const cards = [...page.querySelectorAll('.pair')], shown = {open: cards.filter(card => card.open).length}
  for (const choice of page.querySelectorAll('input[name=show]')) {
    choice.checked = true
    shown[choice.id.replace('show-', '')] = cards.filter(card => card.offsetParent).length
  }
  return shown
}
"""
"""How many cards are open, and how many each filter leaves."""


def test_what_does_not_fit_is_seen(tmp_path: Path) -> None:
    """The measuring itself: a table that sticks out, one whose first column goes out of sight, and a best round that does."""
    cells = "".join(f"<td>{100 * 'x'}</td>" for _ in range(9))
    pages = {
        "sticks out": f"<!doctype html><table><tr>{cells}</tr></table>",
        "scrolls away": f'<!doctype html><div style="overflow-x: auto"><table><tr>{cells}</tr></table></div>',
        "best": f'<!doctype html><div style="overflow-x: auto"><table><tr>{cells}<td class="best">1</td></tr></table></div>',
    }
    out, away, best = laid_out(pages, (800,), tmp_path)
    assert out.wider
    assert not away.wider
    assert away.scrolls
    assert [line.split(":")[0] for line in away.lost] == ["the first column"]
    assert [line.split(":")[0] for line in best.lost] == ["the first column", "the best round"]
