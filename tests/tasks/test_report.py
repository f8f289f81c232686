"""The report on a run whose rows are written by hand: three rounds' worth of files, no model and no server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from data.files import json_line, read_jsonl
from data.records import Label, flip
from data.store.artifacts import Artifact, Counts, Input, Outcome
from data.store.store import RunStore
from tasks.label import audit_labels, keep_labels
from tasks.page import charts
from tasks.prepare import batch_of, truth_of
from tasks.prove import select_proofs
from tasks.report.samples import sample_pairs
from tasks.report.self_training import (
    metrics_lines,
    progress_markdown,
    publish_round,
    short_table,
    write_metrics,
    write_report,
)
from tasks.run.rounds import best_round, round_table
from tasks.run.stage import Context, Run
from tasks.settings import Settings
from tasks.training_set import judge_examples

BATCH = 24
ROUNDS = 2
ATTACK = '<script>alert("x")</script>'


def fake_settings(**sections: Mapping[str, Any]) -> Settings:
    given: dict[str, Any] = {
        "models": {"judge_base": "org/judge", "prover_base": "org/prover", "judge_prompt": "compact"},
        "data": {
            "rationale": [{"path": "r.jsonl"}],
            "labeled": [{"path": "l.jsonl"}],
            "unlabeled": [{"path": "u.jsonl"}],
            "unlabeled_truth": True,
        },
        "labels": {"votes": 4, "min_confidence": 0.75},
        "proofs": {"k": 2},
        "rounds": {"count": ROUNDS, "pairs": BATCH},
    }
    return Settings.model_validate({**given, **sections})


def put(
    run: Run,
    name: str,
    kind: str,
    round: int | None,
    files: Mapping[str, list[dict[str, Any]]],
    metrics: Mapping[str, Any] | None = None,
    counts: Counts | None = None,
    inputs: Mapping[str, Input] | None = None,
) -> Artifact:
    """A finished stage with hand-written files."""

    def body(context: Context) -> Outcome:
        for file, rows in files.items():
            path = context.work / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json_line(row) for row in rows), encoding="utf-8")
        n_rows = sum(len(rows) for rows in files.values())
        return Outcome(counts or Counts(n_rows, n_rows), metrics or {})

    return run.find_or_make(name, kind, {"rows": files, "metrics": dict(metrics or {})}, inputs or {}, body, round)


def pair_row(identity: str, label: Label | None = None) -> dict[str, Any]:
    row = {
        "id": identity,
        "prompt": [{"role": "user", "content": f"Question of {identity} {ATTACK}?"}],
        "response_a": f"First answer {ATTACK}",
        "response_b": "Second <b>answer</b>",
        "source": "hand",
    }
    return {**row, "label": label} if label else row


def batch_rows(round: int) -> list[dict[str, Any]]:
    return [pair_row(f"r{round}p{i:02d}") for i in range(BATCH)]


def true_label(i: int) -> Label:
    return "A" if i % 2 else "B"


def vote_line(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Row 0 is too long, 1 failed, 2 ties, 3 has a null vote in two, 4 is labeled wrong; the rest are right."""
    line = {"row": i, "id": row["id"]}
    if i == 0:
        return {**line, "dropped": "prompt_too_long"}
    if i == 1:
        return {**line, "failed": "engine_abort"}
    label = flip(true_label(i)) if i == 4 else true_label(i)
    shown: dict[str, list[str | None]] = {"ab": [label, label], "ba": [flip(label), flip(label)]}
    if i == 2:
        shown["ba"] = [label, label]
    if i == 3:
        shown["ab"] = [None, None]
    requests = [{"name": o, "seed": 7, "completions": [reply(v) for v in verdicts]} for o, verdicts in shown.items()]
    return {**line, "requests": requests}


def reply(verdict: str | None) -> dict[str, Any]:
    text = f"<think> {ATTACK} So {verdict} is better. </think><answer>{verdict}</answer>" if verdict else "Hm."
    return {"text": text, "finished": True, "n_tokens": 11}


def proof_line(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Each order has a good proof and a better one; the first row argues for the other label in one order."""
    requests = []
    for order in ("ab", "ba"):
        label = row["label"] if order == "ab" else flip(row["label"])
        claimed = flip(label) if i == 0 and order == "ba" else label
        completions = [
            {
                "text": f"Because proof {j} of {row['id']} {order}. So {claimed} is better.",
                "finished": True,
                "n_tokens": 9,
                "logprob": -10.0 + 5 * j,
                "logprob_alone": -20.0,
            }
            for j in range(2)
        ]
        requests.append({"name": order, "seed": 3, "completions": completions})
    return {"row": i, "id": row["id"], "requests": requests}


def generated(lines: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], Counts]:
    dropped = sum("dropped" in line for line in lines)
    failed = sum("failed" in line for line in lines)
    counts = Counts(
        len(lines),
        len(lines) - dropped - failed,
        {"prompt_too_long": dropped} if dropped else {},
        {"engine_abort": failed} if failed else {},
    )
    metrics = {"shard_rows": 100, "tokens_generated": 1000, "engine_seconds": 2.0, "tokens_per_s": 500.0}
    return {"shards-100/000000.jsonl": lines}, metrics, counts


def put_prepared(run: Run) -> Artifact:
    files = {f"batch-{i}.jsonl": batch_rows(i) for i in range(1, ROUNDS + 1)}
    truth = [{"id": row["id"], "label": true_label(i)} for rows in files.values() for i, row in enumerate(rows)]
    labeled = [pair_row(f"l{i}", true_label(i)) for i in range(6)]
    sizes = {"labeled.jsonl": 6, "heldout.jsonl": 50, **{name: len(rows) for name, rows in files.items()}}
    return put(run, "data", "data", None, {**files, "truth.jsonl": truth, "labeled.jsonl": labeled}, {"sizes": sizes})


def put_judge(run: Run, round: int, examples: Artifact, accuracy: float) -> tuple[int, Artifact, Artifact]:
    name = f"round-{round}/judge"
    checkpoint: dict[str, list[dict[str, Any]]] = {
        "checkpoint/config.json": [{"model_type": "llama", "round": round}],
        "checkpoint/model.safetensors": [{"weights": round}],
        "checkpoint/tokenizer.json": [{"tokens": []}],
    }
    losses = {"first_loss": 2.5, "last_loss": 0.5 + round}
    n = examples.manifest.counts.kept
    inputs = {"examples": examples.ref("examples.jsonl")}
    judge = put(run, name, "train-judge", round, checkpoint, losses, Counts(n, n), inputs)
    games = {"accuracy": accuracy, "games": 100, "position_consistency": 0.9, "mean_tokens": 12.5}
    games |= {
        "interval": [accuracy - 0.125, accuracy + 0.125],
        "parts": {},
        "missing": [],
        "malformed": {"no_answer": 5},
    }
    games |= {"truncated": 0.0, "first_shown": 0.5}
    result = put(
        run,
        f"round-{round}/benchmark",
        "benchmark",
        round,
        {"games.jsonl": []},
        games,
        Counts(50, 50),
        {"j": judge},
    )
    return round, judge, result


def put_round(run: Run, round: int, data: Artifact, before: list[Artifact]) -> Artifact:
    """Votes and proofs by hand; labels, audit, selection and training set by the real stages."""
    batch, truth = batch_of(data, round), truth_of(data)
    lines = [vote_line(i, row) for i, row in enumerate(read_jsonl(batch.path))]
    files, metrics, counts = generated(lines)
    votes = put(run, f"round-{round}/votes", "vote", round, files, metrics, counts)
    labels = keep_labels(run, round, votes, batch)
    assert truth is not None
    audit_labels(run, round, labels, truth)
    labeled = labels.ref("labels.jsonl")
    files, metrics, counts = generated([proof_line(i, row) for i, row in enumerate(read_jsonl(labeled.path))])
    proofs = put(run, f"round-{round}/proofs", "prove", round, files, metrics, counts)
    return select_proofs(run, round, proofs, labeled)


def fake_run(
    store: Path, accuracies: tuple[float, ...] = (0.6, 0.7, 0.65, 0.7)
) -> tuple[Run, list[tuple[int, Artifact, Artifact]]]:
    """Rounds 0 to 2 and a final fine-tuning, gone through in a run folder; what is there already is found again."""
    run = Run(RunStore(store, "hand"), fake_settings(), 5)
    data = put_prepared(run)
    human = put(run, "human-examples", "human-examples", None, {"examples.jsonl": [pair_row("h", "A")]})
    labeled = [
        {**row, "proofs": {o: {"rationale": "z"} for o in ("ab", "ba")}}
        for row in read_jsonl(data.file("labeled.jsonl"))
    ]
    first = put(run, "round-0/selected", "select", 0, {"selected.jsonl": labeled}, {"candidates": 0})
    selected, judges = [first], []
    for round in range(ROUNDS + 1):
        if round:
            selected.append(put_round(run, round, data, selected))
        examples = judge_examples(run, round, selected, human)
        judges.append(put_judge(run, round, examples, accuracies[round]))
    judges.append(put_judge(run, ROUNDS + 1, human, accuracies[ROUNDS + 1]))
    return run, judges


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake_run(tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_report(run, {"Recipe": "by hand"}).read_text(encoding="utf-8")


# ---- numbers ----------------------------------------------------------------------------------------------------------


def test_round_table_has_a_row_for_each_round_and_the_final_fine_tuning(run: Run) -> None:
    assert [(row["round"], row["name"]) for row in round_table(run)] == [(0, "0"), (1, "1"), (2, "2"), (3, "final")]


def test_round_table_numbers(run: Run) -> None:
    row = round_table(run)[1]
    assert row["accuracy"] == 0.7
    assert row["interval"] == pytest.approx([0.575, 0.825])
    assert (row["labels_kept"], row["labels_of"]) == (20, 24)
    assert row["labels_dropped"] == {"prompt_too_long": 1, "engine_abort": 1, "tie": 1, "low_confidence": 1}
    assert row["label_balance"] == {"A": 11, "B": 9}
    assert row["malformed_share"] == pytest.approx(2 / 88)
    assert row["kept_right"] == pytest.approx(19 / 20)
    assert row["all_right"] == pytest.approx(20 / 21)
    assert (row["proofs_valid"], row["proof_candidates"]) == (78, 80)
    assert row["proofs_rejected"] == {"concludes_for_other": 2}
    assert row["pairs_dropped"] == {"no_valid_proof_in_one_order": 1}
    assert (row["labeled"], row["pseudo_labeled"], row["repeated"]) == (12, 38, 0)
    assert (row["examples"], row["first_loss"], row["last_loss"]) == (50, 2.5, 1.5)
    assert row["tokens_per_s"] == 500.0


def test_the_final_fine_tuning_counts_the_human_examples(run: Run) -> None:
    row = round_table(run)[3]
    assert (row["examples"], row["labels_of"], row["proofs_valid"], row["last_loss"]) == (1, None, None, 3.5)


def test_the_best_round_is_the_earliest_of_equals(run: Run) -> None:
    best = best_round(round_table(run))
    assert best is not None
    assert best["round"] == 1


def test_what_became_of_a_rounds_pairs_adds_up_to_the_batch(run: Run) -> None:
    for row in round_table(run)[1:3]:
        assert sum(charts.pair_fates(row).values()) == BATCH


# ---- metrics.jsonl ----------------------------------------------------------------------------------------------------


def test_metrics_have_one_line_a_stage_after_resuming(tmp_path: Path) -> None:
    first, _ = fake_run(tmp_path)
    before = [json.loads(line) for line in write_metrics(first).read_text().splitlines()]
    again, _ = fake_run(tmp_path)
    after = [json.loads(line) for line in write_metrics(again).read_text().splitlines()]
    assert len({line["name"] for line in after}) == len(after) == len(first.passed)
    assert not any(line["reused"] for line in before)
    assert all(line["reused"] for line in after)
    assert [{**line, "reused": True} for line in before] == after


def test_a_metrics_line_holds_counts_and_metrics_side_by_side(run: Run) -> None:
    lines = {line["name"]: line for line in metrics_lines(run)}
    assert lines["round-1/benchmark"]["accuracy"] == 0.7
    label = lines["round-1/labels"]
    assert (label["run"], label["stage"], label["round"]) == ("hand", "label", 1)
    assert (label["rows_in"], label["kept"], label["failed"]) == (24, 20, {"engine_abort": 1})
    assert label["votes"] == 88


def test_a_stage_passed_twice_has_one_line(run: Run) -> None:
    twice = Run(run.store, run.settings, run.seed, passed=[*run.passed, run.passed[0]])
    assert len(metrics_lines(twice)) == len(run.passed)


# ---- sampled pairs ----------------------------------------------------------------------------------------------------


def test_samples_are_seeded_and_bounded(run: Run) -> None:
    some = [pair["id"] for pair in sample_pairs(run, 1, n=5)]
    assert len(some) == 5
    assert some == [pair["id"] for pair in sample_pairs(run, 1, n=5)]
    assert len(sample_pairs(run, 1, n=1000)) == BATCH
    assert sample_pairs(run, 0) == []


def test_every_pair_shows_its_fate(run: Run) -> None:
    fates = [pair["fate"] for pair in sample_pairs(run, 2, n=BATCH)]
    assert fates[:6] == [
        "dropped at labels: prompt_too_long",
        "dropped at labels: engine_abort",
        "dropped at labels: tie",
        "dropped at labels: low_confidence",
        "dropped at select: no_valid_proof_in_one_order",
        "kept",
    ]
    assert set(fates[5:]) == {"kept"}


def test_a_pair_is_joined_with_votes_label_truth_and_proofs(run: Run) -> None:
    pairs = sample_pairs(run, 1, n=BATCH)
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


def test_the_page_shows_every_sampled_pair_with_its_fate(page: str, run: Run) -> None:
    for round in (1, 2):
        for pair in sample_pairs(run, round):
            article = page[page.index(f'id="pair-{round}-{pair["id"]}"') :].split("</article>")[0]
            assert pair["fate"].replace("_", " ") in article


def test_the_page_shows_headline_rounds_and_stages(page: str, run: Run) -> None:
    assert "by hand" in page
    assert "60.0%" in page
    assert "+10.0" in page
    assert "20 of 24" in page
    for artifact in run.passed:
        assert artifact.manifest.key[:12] in page


@pytest.mark.parametrize("n_stages", [0, 7, 10])
def test_a_run_under_way_can_be_reported(run: Run, tmp_path: Path, n_stages: int) -> None:
    part = Run(RunStore(tmp_path, "part"), run.settings, run.seed, passed=run.passed[:n_stages])
    assert write_report(part).read_text(encoding="utf-8").startswith("<!doctype html>")
    short_table(round_table(part))


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


# ---- charts and Prefect -----------------------------------------------------------------------------------------------


def test_charts_are_deterministic_xml_without_a_date(run: Run) -> None:
    drawn = charts.draw(round_table(run))
    assert drawn == charts.draw(round_table(run))
    assert len(drawn) == 3
    for _, svg in drawn:
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "<dc:date>" not in svg


def test_charts_label_their_values(run: Run) -> None:
    accuracy, right, fates = (svg for _, svg in charts.draw(round_table(run)))
    assert ">70.0<" in accuracy
    assert "held-out accuracy (%)" in accuracy
    assert ">95.0<" in right
    assert ">19<" in fates


def test_progress_markdown_carries_its_charts(run: Run) -> None:
    markdown = progress_markdown(run, round_table(run))
    images = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert len(images) == 3
    assert all(b"<svg" in base64.b64decode(image) for image in images)
    assert "Best so far: round 1 with 70.0%" in markdown


def test_short_table_is_text(run: Run) -> None:
    row = short_table(round_table(run))[1]
    assert (row["round"], row["held-out accuracy"], row["labels kept"]) == ("1", "70.0%", "20 of 24")
    assert json.dumps(row)


def test_nothing_is_published_outside_a_flow(run: Run) -> None:
    publish_round(run, 1)
