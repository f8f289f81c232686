"""The page of the report: pairs that are shown with their fate, texts that are escaped, charts."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data.store.store import RunStore
from tasks.page import charts
from tasks.report.samples import sample_pairs
from tasks.report.self_training import write_report
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.support.written_run import (
    BATCH,
    fake_settings,
    pair_row,
    put,
)


@pytest.fixture(scope="module")
def page(reported: Run) -> str:
    return write_report(reported, {"Recipe": "by hand"}).read_text(encoding="utf-8")


# ---- sampled pairs ----------------------------------------------------------------------------------------------------


def test_samples_are_seeded_and_bounded(reported: Run) -> None:
    some = [pair["id"] for pair in sample_pairs(reported, 1, n=5)]
    assert len(some) == 5
    assert some == [pair["id"] for pair in sample_pairs(reported, 1, n=5)]
    assert len(sample_pairs(reported, 1, n=1000)) == BATCH
    assert sample_pairs(reported, 0) == []


def test_every_pair_shows_its_fate(reported: Run) -> None:
    fates = [pair["fate"] for pair in sample_pairs(reported, 2, n=BATCH)]
    assert fates[:6] == [
        "dropped at labels: prompt_too_long",
        "dropped at labels: engine_abort",
        "dropped at labels: tie",
        "dropped at labels: low_confidence",
        "dropped at select: no_valid_proof_in_one_order",
        "kept",
    ]
    assert set(fates[5:]) == {"kept"}


def test_a_pair_is_joined_with_votes_label_truth_and_proofs(reported: Run) -> None:
    pairs = sample_pairs(reported, 1, n=BATCH)
    wrong, right = pairs[4], pairs[5]
    assert [vote["verdict"] for vote in pairs[3]["votes"]] == [None, None, "A", "A"]
    assert (wrong["label"], wrong["truth"]) == ("A", "B")
    assert (right["label"], right["truth"], right["confidence"]) == ("A", "A", 1.0)
    assert [(p["order"], p["chosen"], p["rejected"]) for p in right["candidates"]] == [
        ("ab", False, None),
        ("ab", True, None),
        ("ba", False, None),
        ("ba", True, None),
    ]
    assert [p["score"] for p in right["candidates"]] == [-0.5, -0.25, -0.5, -0.25]
    assert [p["rejected"] for p in wrong["candidates"]] == [None, None, "concludes_for_other", "concludes_for_other"]


# ---- the page ---------------------------------------------------------------------------------------------------------


def test_texts_of_models_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "Second <b>answer</b>" not in page
    assert "&lt;script&gt;alert(" in page


def test_the_page_asks_for_nothing_else(page: str) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!["'#])|<link|@import|url\((?!#)""", page)
    assert "default-src 'none'" in page


def test_the_page_shows_every_sampled_pair_with_its_fate(page: str, reported: Run) -> None:
    for round in (1, 2):
        for pair in sample_pairs(reported, round):
            article = page[page.index(f'id="pair-{round}-{pair["id"]}"') :].split("</article>")[0]
            assert pair["fate"].replace("_", " ") in article
            assert f"<code>gram-r2 trace hand {pair['id']}</code>" in article


def test_the_page_shows_headline_rounds_and_stages(page: str, reported: Run) -> None:
    assert "by hand" in page
    assert "60.0%" in page
    assert "+10.0" in page
    assert "20 of 24" in page
    for artifact in reported.finished:
        assert artifact.manifest.key[:12] in page


@pytest.mark.parametrize("n_stages", [0, 7, 10])
def test_a_run_under_way_can_be_reported(reported: Run, tmp_path: Path, n_stages: int) -> None:
    part = Run(RunStore(tmp_path, "part"), reported.settings, reported.seed, finished=reported.finished[:n_stages])
    assert write_report(part).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_label_only_judge_without_proofs_and_audit_can_be_reported(tmp_path: Path) -> None:
    models = {"judge_base": "org/judge", "prover_base": "org/prover", "judge_prompt": "compact-label"}
    run = Run(RunStore(tmp_path, "labels"), fake_settings(models=models), 5)
    rows = [{**pair_row(f"x{i}"), "label": "A", "confidence": 1.0, "votes": {}, "orders_agree": True} for i in range(3)]
    put(run, "round-1/labels", "label", 1, {"labels.jsonl": rows, "dropped.jsonl": []}, {"label_balance": {"A": 3}})
    chosen = [{**row, "proofs": {"ab": {"rationale": ""}, "ba": {"rationale": ""}}} for row in rows]
    put(run, "round-1/selected", "select", 1, {"selected.jsonl": chosen}, {"candidates": 0})
    page = write_report(run).read_text(encoding="utf-8")
    assert [pair["fate"] for pair in sample_pairs(run, 1)] == ["kept"] * 3
    assert "Prover trained from" not in page


# ---- charts -----------------------------------------------------------------------------------------------------------


def test_charts_are_deterministic_xml_without_a_date(reported: Run) -> None:
    drawn = charts.draw(round_table(reported))
    assert drawn == charts.draw(round_table(reported))
    assert len(drawn) == 3
    for _, svg in drawn:
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "<dc:date>" not in svg


def test_charts_label_their_values(reported: Run) -> None:
    accuracy, right, fates = (svg for _, svg in charts.draw(round_table(reported)))
    assert ">70.0<" in accuracy
    assert "held-out accuracy (%)" in accuracy
    assert ">95.0<" in right
    assert ">19<" in fates
