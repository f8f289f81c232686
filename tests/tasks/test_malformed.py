"""Replies that are of no use are counted, and said loudly where more than half of them fall to one reason."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from data.store.store import RunStore
from tasks.model.chat import ChatEncoder
from tasks.model.malformed import UselessReplies, shortened
from tasks.report.self_training import metrics_lines, write_report
from tasks.report.ui import progress_summary
from tasks.run.stage import Run
from tasks.run.watch import describe
from tasks.train import train_judge
from tasks.training.job import RESULT, TrainingJob
from tests.conftest import artifact, settings_with, true_judge
from tests.support.generating import stage
from tests.support.labeling import PAIRS, labels_of
from tests.support.training_jobs import BASE, example_rows
from tests.support.written_run import fake_run


@pytest.mark.parametrize(("n", "of", "said"), [(5, 10, False), (6, 10, True), (1, 1, True)])
def test_over_half_is_said(n: int, of: int, said: bool) -> None:
    replies = UselessReplies()
    for i in range(n):
        replies.add("no_answer", f"reply {i}")
    line = f"over half of the votes are lost to one reason: no_answer, {n} of {of}. The first: 'reply 0'"
    assert replies.warnings(of, "votes") == ([line] if said else [])
    assert replies.reasons == {"no_answer": n}


def test_without_replies_there_is_nothing_to_say() -> None:
    assert UselessReplies().warnings(0, "votes") == []


def test_reasons_that_are_many_together_but_not_alone_are_not_said() -> None:
    replies = UselessReplies()
    for reason in ("no_answer", "truncated", "several_think"):
        replies.add(reason, "x")
    assert replies.warnings(3, "votes") == []


def test_a_long_reply_is_shown_by_its_ends_on_one_line() -> None:
    assert shortened(" a\n\nb ") == "a b"
    text = shortened("start " + "x" * 1000 + " end")
    assert len(text) == 203
    assert text.startswith("start xxx")
    assert text.endswith("xxx end")


# ---- where it is said -----------------------------------------------------------------------------------------------------


def mostly_bare(encoder: ChatEncoder) -> Any:
    """Of the four votes in each order, one has the format and is right; the others begin without <think>."""
    right = true_judge(encoder)
    return lambda request, j: right(request, j) if j == 0 else f"<b>bare</b> {j}"


LOUD = "over half of the votes are lost to one reason: no_think_open, 72 of 96. The first: '<b>bare</b> 1'"


def test_votes_lost_to_one_reason_are_said_in_the_log_the_state_and_the_metrics(
    tmp_path: Path, encoder: ChatEncoder, logged: list[logging.LogRecord]
) -> None:
    labels, run = labels_of(tmp_path, encoder, mostly_bare(encoder), min_confidence=0.2)
    assert labels.manifest.counts.kept == len(PAIRS)
    assert labels.manifest.warnings == [LOUD]
    assert describe(labels).endswith(f"; WARNING: {LOUD}")
    assert [r.getMessage() for r in logged if r.levelname == "WARNING"] == [describe(labels)]
    assert metrics_lines(run)[-1]["warnings"] == [LOUD]
    assert run.warnings() == [f"round-1/labels: {LOUD}"]


def test_where_no_label_is_left_the_error_has_the_first_reply(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(Exception, match=r"no pseudo-label was kept(?s:.*)\nover half of the votes.*The first: 'Hm\.'"):
        labels_of(tmp_path, encoder, lambda request, j: "Hm.")


def test_a_stage_without_such_replies_says_nothing(tmp_path: Path, encoder: ChatEncoder) -> None:
    labels, run = labels_of(tmp_path, encoder, true_judge(encoder))
    assert "warnings" not in labels.manifest.metrics
    assert "WARNING" not in describe(labels)
    assert run.warnings() == []


def test_rows_that_mostly_do_not_fit_are_said(run: Run, tmp_path: Path, job: Any) -> None:
    made = stage(run, Path(job.rows), params={"skipped": [str(i) for i in range(2, 9)]})
    assert made.manifest.warnings == [
        "over half of the rows are lost to one reason: prompt_too_long, 7 of 11. The first: 'row 2'"
    ]


@pytest.mark.parametrize(("kept", "said"), [(50, False), (49, True)])
def test_a_training_that_mostly_drops_its_examples_says_so(tmp_path: Path, kept: int, said: bool) -> None:
    def trains(job: TrainingJob, *_: object) -> None:
        counts = {"rows_in": 100, "kept": kept, "dropped": {"too_long": 90 - kept, "refused_by_template": 10}}
        write_json(Path(job.out) / RESULT, {"files": [], "counts": counts, "metrics": {}})

    run = Run(RunStore(tmp_path, "run"), settings_with(models={"judge_base": str(BASE)}), 0, trainer=trains)
    judge = train_judge(run, 0, artifact(run, "examples", {"examples.jsonl": example_rows(2)}))
    line = "over half of the examples are dropped, and not learned from: too_long 41, refused_by_template 10, of 100"
    assert judge.manifest.warnings == ([line] if said else [])


def test_the_report_shows_warnings_first_and_as_text(tmp_path: Path, encoder: ChatEncoder) -> None:
    assert '<div class="warnings">' not in write_report(fake_run(tmp_path / "hand")[0]).read_text()
    _, run = labels_of(tmp_path, encoder, mostly_bare(encoder), min_confidence=0.2)
    page = write_report(run).read_text()
    assert page.index("<b>Warning.</b> round-1/labels: over half of the votes") < page.index('<h2 id="learned">')
    assert "<b>bare" not in page
    markdown = progress_summary(run, [])
    block = markdown.split("**Warning**\n\n")[1].split("\n\n")[0].rstrip().split("\n")
    assert " ".join(line.removeprefix("    ") for line in block) == f"round-1/labels: {LOUD}"
    assert all(line.startswith("    ") and len(line) <= 80 for line in block)  # as wide as the UI shows at 800 pixels
