"""How many rows a source has, and what an earlier run says of the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.files import json_line, write_json, write_jsonl
from data.sources.rows import SourceError, count_rows, declared_rows, read_file
from flows.config.recipes import load_recipe
from tasks.plan.assumptions import PlanError, assume
from tasks.plan.measured import measured_in
from tasks.plan.plan import Plan
from tests.support.commands import gram_r2
from tests.support.planning import demo, planned

# ---- what the sample must hold ------------------------------------------------------------------------------------------------


def test_rationales_of_another_shape_are_refused(world: Path) -> None:
    with pytest.raises(PlanError, match=r"none of the 12 sampled rows .* in the format of the prompt 'gram-r2'"):
        planned(demo(world, **{"models.judge_prompt": "gram-r2", "models.max_tokens": 4000}))


# ---- rows -------------------------------------------------------------------------------------------------------------------


def hub_set(folder: Path, world: Path, declared: str) -> str:
    """A data set as the hub holds it, in a folder."""
    folder.mkdir()
    (folder / "train.jsonl").write_text((world / "labeled.jsonl").read_text())
    (folder / "README.md").write_text(f"---\n{declared}---\n")
    return f"hub:{folder}"


DECLARED = "dataset_info:\n  features: []\n  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 77016\n"


def test_the_rows_of_a_hub_set_are_those_that_its_page_declares(world: Path, tmp_path: Path) -> None:
    path = hub_set(tmp_path / "declared", world, DECLARED)
    assert declared_rows(path.removeprefix("hub:"), None, "train", None) == 77016


def test_rows_that_nobody_declares_are_asked_for_or_bounded_by_the_limit(world: Path, tmp_path: Path) -> None:
    path = hub_set(tmp_path / "silent", world, "license: mit\n")
    with pytest.raises(PlanError, match=r"the number of rows in hub:.* is unknown .*--assume rows_labeled=N"):
        planned(demo(world, **{"data.labeled": [{"path": path}]}))
    limited = planned(demo(world, **{"data.labeled": [{"path": path, "limit": 5000}]}))
    assert limited.stages[2].rows_in == 5000
    assert any("5,000 rows in hub:" in note and "its limit, assumed to be reached" in note for note in limited.notes)
    drawn = planned(demo(world, **{"data.labeled": [{"path": path, "sample": 4000}]}))
    assert drawn.stages[2].rows_in == 4000
    assert any("4,000 rows in hub:" in note and "its sample, assumed to be reached" in note for note in drawn.notes)
    assert any(
        "lengths come from the first" in note and "draws its rows from all of them" in note for note in drawn.notes
    )
    given = planned(demo(world, **{"data.labeled": [{"path": path}]}), assume(("given", {"rows_labeled": 300})))
    assert given.stages[2].rows_in == 300
    assert "data.labeled: 300 rows, as given" in given.notes


def test_columns_and_files_that_nothing_reads_are_noted(world: Path, tmp_path: Path) -> None:
    rows = [{**json.loads(line), "context": "c"} for line in (world / "labeled.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "more/pairs.jsonl", rows)
    (tmp_path / "more/others.ndjson").write_text("")
    notes = planned(demo(world, **{"data.labeled": [{"path": str(tmp_path / "more")}]})).notes
    assert f"data.labeled: nothing reads the columns context of {tmp_path / 'more'}" in notes
    assert f"data.labeled: nothing reads the files others.ndjson of {tmp_path / 'more'}" in notes
    assert not any("nothing reads" in note for note in planned(demo(world)).notes)


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"a": i} for i in range(5)]
    (tmp_path / "x.jsonl").write_text("".join(map(json_line, rows)) + "\n \nbroken\n")
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert count_rows(str(path)) == sum(1 for _ in read_file(str(path)))
    (tmp_path / "x.parquet").write_bytes(b"none")
    with pytest.raises(SourceError, match="cannot be read"):
        count_rows(str(tmp_path / "x.parquet"))


# ---- like a run that is there -------------------------------------------------------------------------------------------------


def run_folder(folder: Path, judge: str = "data/world/base-judge", has_rationale: bool = True) -> Path:
    lines: list[dict[str, Any]] = [
        {
            "stage": "vote",
            "round": 1,
            "tokens_generated": 4800,
            "tokens_per_s": 600.0,
            "engines": 2,
            "gpus_an_engine": 2,
        },
        {"stage": "benchmark", "round": 1, "tokens_generated": 1200, "tokens_per_s": 100.0, "engines": 1},
        {
            "stage": "label",
            "round": 1,
            "votes": 160,
            "rows_in": 30,
            "kept": 10,
            "dropped": {"prompt_too_long": 10},
            "votes_planned": 200,
        },
        {"stage": "prove", "round": 1, "tokens_generated": 900, "tokens_per_s": None},
        {"stage": "select", "round": 0, "rows_in": 5, "kept": 5, "dropped": {}, "candidates": 0},
        {"stage": "select", "round": 1, "rows_in": 10, "kept": 9, "dropped": {"no_valid_proof": 1}, "candidates": 90},
        {"stage": "train-judge", "round": 0, "train_tokens_per_s": 100.0, "train_seconds": 10.0},
        {"stage": "train-judge", "round": 1, "train_tokens_per_s": 800.0, "train_seconds": 30.0, "processes": 4},
    ]
    write_jsonl(folder / "metrics.jsonl", ({"name": str(i), **line} for i, line in enumerate(lines)))
    card = {"judge_base": {"folder": Path(judge).name}, "prover_base": {"hub": "org/other"}}
    prompt = {"reply": {"has_rationale": has_rationale}}
    write_json(folder / "final" / "manifest.json", {"config": {"card": card, "prompt": prompt}})
    return folder


def test_what_a_run_measured_replaces_what_is_assumed(tmp_path: Path) -> None:
    found, notes = measured_in(run_folder(tmp_path), load_recipe("demo"))
    assert found == pytest.approx(
        {
            "kept_labels": 0.5,
            "votes_cast": 0.8,
            "kept_proofs": 0.9,
            "reply_share": 4800 / 160 / 64,
            "proof_share": 900 / 90 / 64,
            # 1,000 tokens in 10 s of one GPU, 24,000 in 30 s of four.
            "judge_training": 25_000 / (10 + 4 * 30),
            # 8 s on 4 GPUs, 12 s on one.
            "judge_generation": 6000 / (4800 / 600 * 4 + 12),
        }
    )
    assert len(notes) == 1
    assert "has the prover base org/other: its rates are not used for data/world/base-prover" in notes[0]


def test_rates_of_other_models_are_not_taken(tmp_path: Path) -> None:
    found, notes = measured_in(run_folder(tmp_path, judge="another"), load_recipe("demo"))
    assert not {"judge_training", "judge_generation"} & found.keys()
    assert len(notes) == 2


def test_rates_of_labels_alone_are_not_those_of_rationales(tmp_path: Path) -> None:
    demo = load_recipe("demo")
    labels = demo.with_label_judge("compact-label", "labels")
    reasons, alone = run_folder(tmp_path / "reasons"), run_folder(tmp_path / "labels", has_rationale=False)
    for folder, to_plan, who in (
        (reasons, labels, "the planned judge replies"),
        (alone, demo, f"the judge of {alone} replies"),
        (alone, labels, f"the judge of {alone} and the planned one reply"),
    ):
        found, notes = measured_in(folder, to_plan)
        assert "judge_generation" not in found
        assert found["judge_training"] == pytest.approx(25_000 / 130)
        assert notes[0].startswith(f"{who} with the label alone: ")
    lines = (alone / "metrics.jsonl").read_text().replace('"tokens_generated": 4800', '"tokens_generated": 160')
    (alone / "metrics.jsonl").write_text(lines)
    assert "reply_share" not in measured_in(alone, demo)[0], "one token a vote"


def test_given_rates_win_over_measured_ones(world: Path, tmp_path: Path) -> None:
    (tmp_path / "rates.toml").write_text("judge_training = 50\nprover_training = 40\n")
    sources = {
        part: json.dumps([{"path": f"{world}/{part}.jsonl"}])
        for part in ("rationale", "labeled", "unlabeled", "heldout")
    }
    settings = [word for part, value in sources.items() for word in ("--set", f"data.{part}={value}")]
    like = ["--like", str(run_folder(tmp_path / "run")), "--rates", str(tmp_path / "rates.toml")]
    done = gram_r2("plan", "demo", *settings, *like, "--assume", "prover_training=20", "--json")
    plan = Plan.from_json(json.loads(done.out))
    taken = {one["name"]: (one["value"], one["origin"]) for one in plan.assumptions}
    assert taken["judge_training"] == (50, f"given in {tmp_path}/rates.toml")
    assert taken["prover_training"] == (20, "given")
    assert taken["kept_labels"] == (0.5, f"measured in {tmp_path}/run")
    judge = next(stage for stage in plan.stages if stage.place.name == "round-1/judge")
    assert judge.gpu_seconds == pytest.approx(judge.trained_tokens / 50)
    votes = next(stage for stage in plan.stages if stage.place.name == "round-1/votes")
    assert votes.rows_out == 75
    assert any("its rates are not used for data/world/base-prover" in note for note in plan.notes)
