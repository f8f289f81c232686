"""Does a proof prove? A prover that proves only truths is told apart from one that proves anything; the numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl
from data.records import PreferencePair, flip
from data.world import taste
from flows.config.parameters import AdaptConfig
from prompts.catalog import JUDGE_PROMPTS
from tasks.generation.worker import reads_labels
from tasks.model.chat import ChatEncoder, ChatTemplateError
from tasks.model.judging import JudgeQuery, before_verdict, build_readings
from tasks.prove import write_proofs
from tasks.settings import ModelSettings
from tasks.training.examples import encode_example
from tasks.trust.audit_proofs import CLAIMS, PROOFS
from tests.conftest import artifact, make, rows_of, run_with, settings_with
from tests.support.arguing import Arguing, anything, audited, only_truths
from tests.support.families import FAMILIES, THINKERS, Family, build_tokenizer
from tests.support.recording import RecordedRun
from tests.support.templates import TEXTS

PAIRS = taste.draw_pairs(6, 0)
MANY = taste.draw_pairs(30, 3)


def values(figures: dict[str, Any]) -> tuple[float, float]:
    return figures["right"]["value"], figures["wrong"]["value"]


def test_a_prover_that_proves_only_truths_by_hand(tmp_path: Path, encoder: ChatEncoder) -> None:
    """6 pairs, 2 orders, 4 proofs each: all 48 of right labels pass, of wrong ones the first of 4, at a lower score."""
    engine = Arguing(encoder, only_truths, odds=lambda true: 2.0 if true else 1.0, reply=lambda true: -2.0 - true)
    found = audited(tmp_path, engine, PAIRS)
    made = found["audit-proofs"]
    assert values(made.metrics["passed"]) == (1.0, 12 / 48)
    assert (made.metrics["passed"]["wrong"]["of"], made.metrics["pairs"]) == (48, 6)
    assert values(made.metrics["proved"]) == (1.0, 1.0)
    assert made.metrics["rejected"] == {"right": {}, "wrong": {"concludes_for_other": 36}}
    assert made.metrics["score"]["value"] == 1.0
    assert (made.metrics["score"]["right"], made.metrics["score"]["wrong"]) == (48, 12)
    assert not made.warnings
    judged = found["judge-proofs"]
    assert judged.counts.rows_in == judged.counts.kept == 60
    assert judged.metrics["judge"] == "judge"
    assert judged.metrics["p_label"]["value"] == 1.0
    assert judged.metrics["p_label"]["mean_right"] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)
    assert judged.metrics["p_label"]["mean_wrong"] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)
    assert judged.metrics["reply"]["value"] == 0.0, "here the judge finds proofs of wrong labels likelier"
    assert (judged.metrics["reply"]["mean_right"], judged.metrics["reply"]["mean_wrong"]) == (-3, -2)


def test_a_prover_that_proves_anything_is_a_warning_and_the_other_is_not(tmp_path: Path, encoder: ChatEncoder) -> None:
    honest = audited(tmp_path / "1", Arguing(encoder, only_truths), MANY, k=2)["audit-proofs"]
    liar = audited(tmp_path / "2", Arguing(encoder, anything), MANY, k=2)
    assert honest.metrics["passed"]["wrong"]["value"] == 0.5
    assert honest.metrics["score"]["interval"][0] > 0.85
    assert not honest.warnings
    metrics = liar["audit-proofs"].metrics
    assert values(metrics["passed"]) == (1.0, 1.0)
    low, high = metrics["score"]["interval"]
    assert low < 0.5 < high
    [said] = liar.run.warnings()
    assert said.startswith(
        "round-0/audit-proofs: the prover proves anything: its proofs of wrong labels pass the rules nearly as often as those "
        "of right ones (100.0% and 100.0%), and Eq. 5 does not tell them apart (AUC 0.5"
    )
    assert "30 pairs" in said


def test_proofs_of_wrong_labels_that_score_lower_are_no_warning(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, lambda true, request, j: ("asked", -40.0 if true else -41.0))
    made = audited(tmp_path, engine, MANY, k=1)["audit-proofs"]
    assert values(made.metrics["passed"]) == (1.0, 1.0)
    assert not made.warnings


def test_a_prover_that_argues_better_for_wrong_labels_is_said_to(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, lambda true, request, j: ("asked", -41.0 if true else -40.0))
    [said] = audited(tmp_path, engine, PAIRS, k=1)["audit-proofs"].warnings
    assert "and Eq. 5 prefers them (AUC 0.00, 95% interval 0.00 to 0.46; 6 pairs)" in said


def test_a_pair_is_proved_as_the_selection_has_it(tmp_path: Path, encoder: ChatEncoder) -> None:
    """In the order ba nothing is proved: the pair is lost, unless one order is enough."""

    def argues(true: bool, request: Any, j: int) -> tuple[str, float]:
        return ("asked" if true or request.name == "ab" else "other"), -40.0

    for both, share in ((True, 0.0), (False, 1.0)):
        found = audited(tmp_path / f"{both}", Arguing(encoder, argues), PAIRS, both_orders=both)
        assert found["audit-proofs"].metrics["proved"]["wrong"]["value"] == share


def test_the_bound_on_the_score_is_not_applied(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, lambda true, request, j: ("asked", -40.0 if true else -80.0))
    made = audited(tmp_path, engine, PAIRS, min_score=-0.5)["audit-proofs"]
    assert values(made.metrics["passed"]) == (1.0, 1.0)
    assert made.metrics["score"]["value"] == 1.0


def test_right_is_the_true_label_where_it_is_known_else_the_kept_one(tmp_path: Path, encoder: ChatEncoder) -> None:
    """All six pseudo-labels are wrong, and of four of them the data tells."""
    wrong = [PreferencePair(one.pair, flip(one.label)) for one in PAIRS]
    truth = [{"id": one.pair.id, "label": one.label} for one in [*PAIRS[:4], *MANY]]
    found = audited(tmp_path, Arguing(encoder, only_truths), wrong, round=1, truth=truth)
    assert found["audit-claims"].metrics["right_by"] == {"true label": 4, "pseudo-label": 2}
    made = found["audit-proofs"].metrics
    assert values(made["passed"]) == (pytest.approx((32 + 4) / 48, abs=1e-4), pytest.approx((8 + 16) / 48, abs=1e-4))
    first = audited(tmp_path / "first", Arguing(encoder, only_truths), PAIRS)
    assert first["audit-claims"].metrics["right_by"] == {"label of the data": 6}


def test_a_seeded_sample_of_the_pairs_is_audited_in_the_orders_that_are_proved(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    found = audited(tmp_path, Arguing(encoder, only_truths), MANY, audit_pairs=7, orders="one", k=2)
    drawn = found["audit-claims"]
    assert (drawn.counts.rows_in, drawn.counts.kept, drawn.metrics["sampled_from"]) == (7, 7, 30)
    assert found["audit-proofs"].metrics["passed"]["right"]["of"] == 14
    again = audited(tmp_path / "again", Arguing(encoder, only_truths), MANY, audit_pairs=7)
    other = audited(tmp_path / "other", Arguing(encoder, only_truths), MANY, round=1, audit_pairs=7)
    chosen = [
        rows_of(one.run.finished_stage("audit-claims", one.run_round).file(CLAIMS)) for one in (found, again, other)
    ]  # type: ignore[union-attr]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [row["right"] for row in chosen[0]] == [True, False] * 7
    assert len({row["id"] for row in chosen[0]}) == 7


def test_the_right_labels_get_the_very_proofs_of_the_round(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, only_truths)
    audited(tmp_path, engine, PAIRS, orders="one")
    in_audit = {(tuple(one.prompt_ids), one.sampling) for one in engine.seen if one.name in ("ab", "ba")}
    run = run_with(tmp_path / "round", encoder, engine, proofs={"max_tokens": 64, "orders": "one"})
    prover = artifact(run, "prover", {"checkpoint/weights.jsonl": []})
    labeled = artifact(run, "data", {"labeled.jsonl": [one.to_json() for one in PAIRS]}).ref("labeled.jsonl")
    engine.seen.clear()
    write_proofs(run, 0, prover, labeled)
    in_round = {(tuple(one.prompt_ids), one.sampling) for one in engine.seen if one.name in ("ab", "ba")}
    assert len(in_round) == 6
    assert in_round < in_audit
    assert len(in_audit) == 12


def test_the_stages_read_nothing_but_their_inputs(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, only_truths)
    found = audited(tmp_path, engine, PAIRS, 1, [], lambda run: RecordedRun.of(run, tmp_path))
    assert found.run.forgotten == {}  # type: ignore[attr-defined]
    names = [a.manifest.name for a in found.run.finished_stages()][-3:]
    assert names == ["round-1/audit-claims", "round-1/audit-proofs", "round-1/judge-proofs"]
    proofs = found.run.finished_stage("audit-proofs", 1)
    assert proofs is not None
    assert len({row["id"] for row in read_jsonl(proofs.file(PROOFS))}) == 60


def test_where_no_proof_passes_the_judge_is_not_started(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = Arguing(encoder, lambda true, request, j: ("other", -40.0))
    found = audited(tmp_path, engine, PAIRS)
    assert found["audit-proofs"].metrics["score"]["value"] is None
    assert not found["audit-proofs"].warnings
    assert found["judge-proofs"].counts.rows_in == 0
    assert not any(one.name == "label" for one in engine.seen)


@pytest.mark.parametrize(
    ("proofs", "round"), [({"audit_pairs": 0}, 0), ({"write_for": "labeled"}, 1)], ids=["off", "nothing written"]
)
def test_without_an_audit_there_is_no_stage_of_it(
    tmp_path: Path, encoder: ChatEncoder, proofs: dict[str, Any], round: int
) -> None:
    engine = Arguing(encoder, only_truths)
    found = audited(tmp_path, engine, PAIRS, round, **proofs)
    assert [a.manifest.name for a in found.run.finished] == ["prover", "judge", "data"]
    assert not engine.seen


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        (
            {"models": {"judge_prompt": "compact-label"}},
            'the judge of models.judge_prompt = "compact-label" gives only the label',
        ),
        ({"proofs": {"write_for": "nothing"}}, 'proofs.write_for = "nothing"'),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(sections: dict[str, Any], why: str) -> None:
    sections = {**sections, "proofs": {"audit_pairs": 200, "max_tokens": 64, **sections.get("proofs", {})}}
    with pytest.raises(ValueError, match=r"proofs\.audit_pairs = 200, but there are no proofs to audit: ") as error:
        settings_with(**sections)
    assert f"{why}. Leave it out" in str(error.value)


def test_only_rounds_of_self_training_are_audited() -> None:
    given = {"judge": {"path": "j"}, "task": {"pairs": [{"path": "p.jsonl"}]}, "proofs": {"audit_pairs": 200}}
    with pytest.raises(
        ValueError, match=r"proofs\.audit_pairs: only the rounds of self-training are audited; leave it out"
    ):
        AdaptConfig.model_validate({**given, "store": "runs", "run_name": "r"})


def test_settings_without_an_audit_are_what_they_were() -> None:
    """So that a plan of a run that has begun is still the plan of its settings."""
    assert "audit_pairs" not in settings_with().model_dump()["proofs"]


# ---- what the judge reads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gram-r2", "compact"])
@pytest.mark.parametrize("family", [*FAMILIES, *THINKERS], ids=lambda family: family.name)
def test_the_judge_reads_a_proof_in_the_tokens_of_its_training(family: Family, name: str) -> None:
    """Each is the beginning of a training example; the next token of that is its label."""
    encoder, judge = ChatEncoder(build_tokenizer(family, TEXTS)), JUDGE_PROMPTS[name]
    models = ModelSettings(judge_base="b", judge_prompt=judge.name, max_tokens=2000)  # type: ignore[arg-type]
    for label, rationale in (("A", " A names the cause. So A is better.\n"), ("B", "So B is better.")):
        row = {**make().to_json(), "label": label, "rationale": rationale}
        trained = encode_example(row, "judge", encoder, models, 100)
        asked = build_readings(JudgeQuery(name, 100, 2000), encoder, make(), rationale)
        assert trained is not None
        assert asked is not None
        whole = [*trained.prompt, *trained.completion]
        of_label, reply = asked
        n = len(of_label.prompt_ids)
        assert list(of_label.prompt_ids) == list(reply.prompt_ids) == whole[:n]
        assert of_label.sampling.logprob_ids["AB".index(label)] == whole[n]
        assert len({*of_label.sampling.logprob_ids}) == 2
        assert reply.score_from == len(trained.prompt)


def test_a_proof_that_does_not_fit_the_judges_context_is_dropped_and_counted(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    n = len(build_readings(JudgeQuery("compact", 64, 256), encoder, PAIRS[0].pair, "x")[0].prompt_ids)  # type: ignore[index]
    assert build_readings(JudgeQuery("compact", 2, n + 1), encoder, PAIRS[0].pair, "x")
    assert build_readings(JudgeQuery("compact", 2, n), encoder, PAIRS[0].pair, "x") is None
    found = audited(tmp_path, Arguing(encoder, only_truths), PAIRS, context=64, reply=45, max_tokens=8)["judge-proofs"]
    assert found.counts.dropped == {"prompt_too_long": 60}
    assert found.metrics["p_label"]["value"] is None


@pytest.mark.parametrize(
    ("params", "reads"),
    [
        ({"prompt": "compact", "read": "label and reply"}, True),
        ({"prompt": "compact"}, False),
        ({"prompt": "compact-label"}, True),
        ({"prompt": "prove-compact"}, False),
        ({}, False),
    ],
)
def test_where_labels_are_read_the_engine_is_told(params: dict[str, str], reads: bool) -> None:
    """Then its head computes in float32, as bfloat16 would round log odds of 13 to steps of 0.06."""
    assert reads_labels(params) == reads


def test_labels_that_are_no_single_token_are_refused() -> None:
    """A tokenizer that cuts after the label's first letter, were there more of it."""

    class Words:
        name_or_path = "words"

    class OneToken:
        tokenizer = Words()

        def reply_ids(self, reply: str) -> list[int]:
            return [1, 2] if "<answer>A" in reply else [3, 2, 4]

    with pytest.raises(ChatTemplateError, match=r"do not differ in one token in 'words': they end with \[1, 2\]"):
        before_verdict(OneToken(), JUDGE_PROMPTS["compact"], "x")  # type: ignore[arg-type]
