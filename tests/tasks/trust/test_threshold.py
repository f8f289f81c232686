"""A round's threshold comes from the judge's votes on calibration pairs, and its labels are those of that threshold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import StageError
from data.world import taste
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.model.strictness import Strictness, stricter_than
from tasks.run.changes import announce
from tasks.run.stage import Run
from tasks.settings import LabelSettings
from tasks.trust.precision import lower_bound
from tasks.trust.threshold import _Judged
from tests.conftest import rows_of, run_with, settings_with, shown_pair
from tests.support.calibrating import EASY, HARD, Round, pairs_of
from tests.support.recording import RecordedRun
from tests.tasks.test_votes import said

CALIBRATION, BATCH = pairs_of(90, 1, EASY), pairs_of(30, 2, EASY)


def of_domains(calibration: int, batch: int) -> tuple[Any, Any]:
    """As many pairs of each domain."""
    many = (
        pairs_of(calibration, 3, EASY),
        pairs_of(calibration, 4, HARD),
        pairs_of(batch, 5, EASY),
        pairs_of(batch, 6, HARD),
    )
    return [*many[0], *many[1]], [*many[2], *many[3]]


def outcomes(labels: Any) -> dict[str, tuple[str | None, str | None]]:
    """Label and reason by id."""
    names = ("labels.jsonl", "dropped.jsonl")
    rows = [row for name in names for row in rows_of(labels.file(name))]
    return {row["id"]: (row.get("label"), row.get("reason")) for row in rows}


def test_all_votes_are_cast_on_calibration_pairs_with_seeds_of_their_own(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 0.97}, CALIBRATION, BATCH)
    labels = made.label()
    votes, calibration = made.stage("vote").manifest, made.stage("calibration-vote").manifest
    assert calibration.name == "round-1/calibration-votes"
    assert calibration.counts.kept == 90
    assert not calibration.config.keys() & {"voting", "min_confidence", "orders_agree"}
    assert calibration.config["seed"] != votes.config["seed"]
    assert "min_confidence" not in votes.config, "it is in the input"
    assert votes.inputs["strictness"] == labels.manifest.inputs["strictness"]
    shards = made.stage("calibration-vote").path.glob("shards-*/*.jsonl")
    assert {len(r["completions"]) for shard in shards for line in rows_of(shard) for r in line["requests"]} == {4}
    metrics = made.stage("threshold").manifest.metrics
    [group] = metrics["groups"]
    assert metrics["holds"]
    assert metrics["promised"] == 0.95 <= metrics["bound"] == group["bound"]
    assert (group["domain"], group["pairs"]) == (None, 90), "too few for a threshold of their own"
    assert metrics["kept_share"] == pytest.approx(group["kept"] / 90, abs=1e-6)
    assert made.stage("audit").manifest.metrics["kept_right_in"] == {EASY: 1.0}


@pytest.mark.parametrize("orders_agree", [False, True])
def test_labels_are_those_of_all_votes_at_the_thresholds_of_their_domains(
    tmp_path: Path, encoder: ChatEncoder, orders_agree: bool
) -> None:
    """Votes that end early must know the threshold of the pair's own domain, and cast none where no label is kept."""
    exact, every = (
        Round(
            tmp_path / voting,
            encoder,
            {EASY: 0.9, HARD: 0.55},
            *of_domains(120, 20),
            voting=voting,
            target_precision=0.9,
            target_confidence=0.9,
            orders_agree=orders_agree,
        )
        for voting in ("exact", "all")
    )
    labels, of_all = exact.label(), every.label()
    strictness = Strictness.load(exact.strictness().path)
    assert set(strictness.domains) == {EASY, HARD}
    assert strictness.others is None
    assert strictness.domains[HARD] is None
    assert strictness.domains[EASY] not in (None, exact.run.settings.labels.min_confidence)
    kept = {p: found for p, found in outcomes(labels).items() if found[1] is None}
    assert kept
    assert kept == {p: found for p, found in outcomes(of_all).items() if found[1] is None}
    assert {p: why for p, (_, why) in outcomes(labels).items()} == {p: why for p, (_, why) in outcomes(of_all).items()}
    assert labels.manifest.counts.dropped["precision_not_shown"] == 20
    assert exact.stage("vote").manifest.counts.dropped == {"precision_not_shown": 20}
    assert every.run.generator.requests < 2 * exact.run.generator.requests  # type: ignore[union-attr]
    [warning] = [line for line in exact.run.warnings() if "threshold" in line]
    assert "labels.target_precision = 0.9 is not shown in the domain 'hard': " in warning
    assert warning.endswith("would do if they are judged as these are; no label is kept")


def test_a_domain_without_calibration_pairs_has_the_threshold_of_all(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 1.0, HARD: 1.0}, pairs_of(240, 1, EASY), pairs_of(20, 2, HARD))
    assert Strictness.load(made.strictness().path) == Strictness(0.5)
    assert made.stage("threshold").manifest.metrics["kept_share"] == 1


def test_a_large_domain_does_not_speak_for_the_others(tmp_path: Path, encoder: ChatEncoder) -> None:
    """The easy one has a threshold of its own; the hard one, with few pairs, is tested on these and not on all."""
    calibration, batch = (
        [*pairs_of(300, 1, EASY), *pairs_of(60, 2, HARD)],
        [*pairs_of(20, 3, EASY), *pairs_of(20, 4, HARD)],
    )
    made = Round(tmp_path, encoder, {EASY: 1.0, HARD: 0.5}, calibration, batch)
    assert Strictness.load(made.strictness().path) == Strictness(None, {EASY: 0.5})
    metrics = made.stage("threshold").manifest.metrics
    assert [(group["domain"], group["pairs"]) for group in metrics["groups"]] == [(EASY, 300), (None, 60)]
    assert metrics["holds"], "of all labels that are kept"
    assert metrics["kept_share"] == pytest.approx(300 / 360, abs=1e-6)


def test_each_domain_is_tested_at_its_share_of_the_error(tmp_path: Path, encoder: ChatEncoder) -> None:
    calibration = [*pairs_of(150, 3, EASY), *pairs_of(150, 4, HARD)]
    batch = [*pairs_of(3, 5, EASY), *pairs_of(3, 6, HARD)]
    made = Round(tmp_path, encoder, {EASY: 1.0, HARD: 1.0}, calibration, batch, target_precision=0.9)
    made.strictness()
    easy, hard = made.stage("threshold").manifest.metrics["groups"]
    for one in (easy, hard):
        assert one["bound"] == pytest.approx(lower_bound(one["right"], one["kept"], 0.05 / 2))


@pytest.mark.parametrize(("grounded", "kept"), [(False, 1), (True, 0)])
def test_calibration_votes_count_as_the_votes_of_labels_do(grounded: bool, kept: int) -> None:
    row = taste.draw_pairs(1, 0)[0].to_json()
    requests = [
        {
            "name": order,
            "seed": 0,
            "completions": [said(f"<think> « zzz » is better. </think><answer>{verdict}</answer>")],
        }
        for order, verdict in (("ab", "A"), ("ba", "B"))
    ]
    judged = _Judged(JudgeQuery("compact", 99, 999), LabelSettings(grounded_votes=grounded, thresholds=(0.5,)), False)
    judged.add(row, {"requests": requests})
    assert judged.kept.total() == kept


def test_of_the_pairs_with_one_prompt_the_first_counts(tmp_path: Path, encoder: ChatEncoder) -> None:
    """All pairs of the small world share one."""
    made = Round(tmp_path, encoder, {EASY: 1.0}, CALIBRATION, BATCH, overlap="prompt")
    with pytest.raises(StageError, match="at most 1 of 1 calibration pairs are kept"):
        made.strictness()


def test_what_cannot_be_shown_stops_the_run_and_says_what_would_do(tmp_path: Path, encoder: ChatEncoder) -> None:
    few = Round(tmp_path / "few", encoder, {EASY: 1.0}, CALIBRATION[:40], BATCH)
    with pytest.raises(
        StageError,
        match=r"^labels.target_precision = 0.95 is not shown: at most 40 of 40 calibration pairs are kept, and 59 without an "
        r"error are needed; about 19 more would do if they are judged as these are; no label is kept\nLower labels.target_",
    ):
        few.strictness()
    poor = Round(tmp_path / "poor", encoder, {EASY: 0.5}, pairs_of(150, 1, EASY), BATCH, votes=2)
    with pytest.raises(StageError, match=r"of \d+ calibration pairs kept at 0.95, \d+ are labeled right, which shows 0\.\d{3};"
                       " not even a hundred times as many would do"):  # fmt: skip
        poor.strictness()


def test_what_cannot_be_shown_may_be_kept_at_the_strictest_threshold(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 1.0}, CALIBRATION[:40], BATCH, if_infeasible="strictest")
    assert made.label().manifest.counts.kept == 30
    assert Strictness.load(made.strictness().path) == Strictness(0.95)
    metrics = made.stage("threshold").manifest.metrics
    assert (metrics["holds"], metrics["bound"], metrics["kept_share"]) == (False, None, 1)
    [warning] = made.run.warnings()
    assert warning.endswith("labels are kept from 0.95, the strictest")


def test_votes_are_made_again_only_if_the_threshold_changes(tmp_path: Path, encoder: ChatEncoder) -> None:
    keys = [
        (made := Round(tmp_path / f"{i}", encoder, {EASY: 0.97}, CALIBRATION, BATCH, **changes)).label().manifest.key
        for i, changes in enumerate(({}, {"target_precision": 0.94}, {"thresholds": [0.95, 0.9]}))
    ]
    assert keys[0] == keys[1] != keys[2]
    assert made.stage("threshold").manifest.config["thresholds"] == [0.95, 0.9]


def test_every_stage_reads_only_its_inputs(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 0.97}, CALIBRATION, BATCH)
    made.run = recorded = RecordedRun.of(made.run, tmp_path)
    made.label()
    assert set(recorded.opened) >= {"round-1/calibration-votes", "round-1/threshold", "round-1/votes", "round-1/labels"}
    assert not recorded.forgotten


def test_without_a_target_nothing_is_calibrated_and_no_key_changes(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 0.97}, CALIBRATION, BATCH, target_precision=None)
    assert made.strictness() is None
    labels = made.label()
    assert labels.manifest.config == {
        "prompt": made.run.settings.judge_prompt.digest, "min_confidence": 0.75, "orders_agree": False,
        "max_one_sided": 1.0, "votes": 8,
    }  # fmt: skip
    assert set(labels.manifest.inputs) == {"votes", "batch"}
    assert set(made.stage("vote").manifest.inputs) == {"judge", "batch"}
    assert made.stage("audit").manifest.config == {}
    assert not made.run.finished_stage("threshold", 1)


def test_a_target_that_is_set_later_is_announced_with_what_it_replaces(tmp_path: Path, encoder: ChatEncoder) -> None:
    Round(tmp_path, encoder, {EASY: 0.97}, CALIBRATION, BATCH, target_precision=None).label()
    later, said = Round(tmp_path, encoder, {EASY: 0.97}, CALIBRATION, BATCH), list[str]()
    started = later.run

    def algorithm(run: Run) -> None:
        later.run = run
        later.label()

    announce(started, algorithm, "auto", said.append)
    later.run = started
    follow = "will redo: round-1/votes, round-1/labels, round-1/audit"
    assert said[0] == f"round-1/votes: min_confidence 0.75 → none, input strictness has changed, {follow}"
    later.label()
    assert later.stage("label").manifest.inputs["strictness"]


# ---- stricter than the settings ask for -----------------------------------------------------------------------------------


def test_a_round_can_be_made_stricter(tmp_path: Path, encoder: ChatEncoder) -> None:
    chosen = Round(tmp_path / "target", encoder, {EASY: 0.97}, CALIBRATION, BATCH)
    loose, strict = (Strictness.load(chosen.strictness(steps).path).others for steps in (0, 1))
    assert loose is not None
    assert strict is not None
    assert strict > loose
    fixed = Round(tmp_path / "fixed", encoder, {EASY: 0.97}, CALIBRATION, BATCH, target_precision=None)
    assert Strictness.load(fixed.strictness(1).path) == Strictness(0.8), "7 of 8 votes"
    assert fixed.label(1).manifest.inputs["strictness"] == fixed.strictness(1).content


@pytest.mark.parametrize(
    ("threshold", "steps", "votes", "expected"),
    [
        (0.75, 1, 8, 0.8),
        (0.75, 2, 8, 0.9),
        (0.75, 9, 8, 0.9),
        (0.75, 1, None, 0.8),
        (0.97, 1, 8, 0.97),
        (0.5, 0, 8, 0.5),
    ],
)
def test_a_step_asks_for_more_votes(threshold: float, steps: int, votes: int | None, expected: float) -> None:
    thresholds = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
    assert stricter_than(threshold, thresholds, steps, votes) == expected


# ---- a judge of probabilities, and settings -------------------------------------------------------------------------------


def probabilities(encoder: ChatEncoder) -> FakeEngine:
    """A judge that gives the better response 80%."""

    def logprobs(request: Request) -> list[float]:
        p = 0.8 if taste.verdict(shown_pair(encoder, request)) == "A" else 0.2
        return [math.log(p), math.log(1 - p)]

    return FakeEngine(lambda request, j: "x", id_logprobs=logprobs)


def test_a_judge_of_probabilities_has_thresholds_too(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 1.0}, CALIBRATION, BATCH)
    made.run = run_with(
        tmp_path / "label-only", encoder, probabilities(encoder), labels={"target_precision": 0.95, "max_tokens": 64},
        models={"judge_prompt": "compact-label"}, data={"calibration_share": 0.1, "overlap": "pair"},
        generation={"shard_rows": 100},
    )  # fmt: skip
    assert made.label().manifest.counts.kept == 30
    [group] = made.stage("threshold").manifest.metrics["groups"]
    assert group["threshold"] == 0.5
    assert [one["threshold"] for one in group["tested"]] == [0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5], (
        "above, nothing is kept"
    )
    assert "strictness" not in made.stage("vote").manifest.inputs, "its votes do not end early"


def test_settings_that_cannot_be_tested_are_refused_in_a_line() -> None:
    with pytest.raises(
        ValueError, match=r"labels\.target_precision = 0\.95 is tested on labeled pairs .* data\.calibration_share"
    ):
        settings_with(labels={"target_precision": 0.95})
    with pytest.raises(ValueError, match=r'labels\.voting = "beta" ends votes'):
        settings_with(labels={"target_precision": 0.95, "voting": "beta"}, data={"calibration_share": 0.1})
    with pytest.raises(ValueError, match="tested from strict to loose"):
        settings_with(labels={"thresholds": [0.7, 0.8]})
    unread = settings_with(data={"calibration_share": 0.1}).warnings()
    assert any("nothing is calibrated on them" in line for line in unread)
    assert not settings_with(labels={"target_precision": 0.95}, data={"calibration_share": 0.1}).warnings()
