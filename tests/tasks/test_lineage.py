"""The life of a pair: every section of a trace, on a small run whose judge errs and whose prover fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.records import flip
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from tasks.benchmark import play, sets
from tasks.model.chat import ChatEncoder
from tasks.run.stage import Context, Run
from tasks.trust import rows_by_id
from tasks.trust import stages as names
from tasks.trust.finding import NoSuchPairError
from tasks.trust.lineage import trace
from tasks.trust.stages import Stages, open_stages
from tests.conftest import artifact, rows_of
from tests.support.traced_run import traced_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: ChatEncoder) -> Run:
    return traced_run(tmp_path_factory.mktemp("traced"), encoder)


@pytest.fixture
def stages(run: Run) -> Stages:
    return open_stages(RunStore(run.store.root, run.store.run_name))


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.store.path, folder / "run")
    return Run(RunStore(folder, "run"), run.settings, 0)


def stage(run: Run, name: str) -> Artifact:
    found = run.store.in_place(name)
    assert found is not None
    return found


def rows(run: Run, name: str, file: str) -> list[dict[str, Any]]:
    return rows_of(stage(run, name).file(file))


def of(traced: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [one for one in traced if one["stage"] == name]
    return found


def test_a_kept_pair_is_followed_from_its_row_to_the_judges_that_learned_it(run: Run, stages: Stages) -> None:
    kept = rows(run, "round-1/selected", "selected.jsonl")[0]
    found = trace(stages, kept["id"])
    [place] = found.read_from
    lines = Path(place["file"]).read_text().splitlines()
    source = json.loads(lines[place["row"] - 1])
    assert {source["response_a"], source["response_b"]} == {kept["response_a"], kept["response_b"]}
    assert (found.held_in, found.losses) == (["data/batch-1.jsonl"], [])
    assert {key: found.pair[key] for key in ("prompt", "response_a")} == {
        key: kept[key] for key in ("prompt", "response_a")
    }

    votes = of(found.votes, "round-1/votes")
    assert votes["judge"] == "round-0/judge"
    assert [(vote["order"], vote["verdict"]) for vote in votes["votes"]] == [
        (order, kept["label"]) for order in ("ab", "ba") for _ in range(len(votes["votes"]) // 2)
    ]
    for vote in votes["votes"]:
        said = vote["verdict"] if vote["order"] == "ab" else flip(vote["verdict"])
        assert vote["reply"].endswith(f"<answer>{said}</answer>")
    asked = next(line for line in shard_lines(run, "round-1/votes") if line["id"] == kept["id"])
    seeds = [request["seed"] + j for request in asked["requests"] for j in range(len(request["completions"]))]
    assert [vote["seed"] for vote in votes["votes"]] == seeds

    label = of(found.labels, "round-1/labels")
    assert (label["label"], label["kept"], label["origin"]) == (kept["label"], True, "pseudo of round 1")
    assert (label["confidence"], label["confidence_bounds"]) == (1.0, kept["confidence_bounds"])

    proofs = of(found.proofs, "round-1/selected")
    assert [(one["order"], one["candidate"], one["fell"]) for one in proofs["candidates"]] == [
        (order, candidate, why)
        for order in ("ab", "ba")
        for candidate, why in enumerate(("no_opening", None, "same score as the chosen one, later"))
    ]
    assert all(one["chosen"] == (one["fell"] is None) and one["score"] is not None for one in proofs["candidates"][1:3])

    training = of(found.trainings, "round-1/training-set")
    assert (training["models"], training["orders"]) == (["round-1/judge"], {"ab": 1, "ba": 1})
    assert training["labels"] == {"ab": kept["label"], "ba": flip(kept["label"])}
    assert (found.judgments, found.notes) == ([], [])


def shard_lines(run: Run, name: str) -> list[dict[str, Any]]:
    found = stage(run, name)
    return [line for file in found.manifest.files if file.startswith("shards-") for line in rows_of(found.file(file))]


def test_a_pair_without_a_label_says_what_dropped_it_and_how_the_votes_went(run: Run, stages: Stages) -> None:
    lost = rows(run, "round-1/labels", "dropped.jsonl")[0]
    found = trace(stages, lost["id"])
    assert [(one["stage"], one["reason"]) for one in found.losses] == [("round-1/labels", "tie")]
    votes = of(found.votes, "round-1/votes")["votes"]
    assert {(vote["order"], vote["verdict"]) for vote in votes} == {("ab", "A"), ("ba", "B")}
    assert not of(found.labels, "round-1/labels")["kept"]
    assert (found.proofs, found.trainings) == ([], [])


def test_a_pair_without_a_proof_has_every_candidate_and_why_it_fell(run: Run, stages: Stages) -> None:
    lost = rows(run, "round-1/selected", "dropped.jsonl")[0]
    found = trace(stages, lost["id"])
    proofs = of(found.proofs, "round-1/selected")
    assert (proofs["kept"], proofs["reason"]) == (False, "no_valid_proof")
    assert [one["fell"] for one in proofs["candidates"]] == ["no_opening"] * 6
    assert of(found.losses, "round-1/selected")["reason"] == "no_valid_proof"
    assert not found.trainings


def test_labeled_pairs_say_whose_label_it_is_and_how_often_they_were_learned(run: Run, stages: Stages) -> None:
    examples = rows(run, "round-1/training-set", "examples.jsonl")
    again = next(one["origin"] for one in examples if one["origin"].get("repeat") and one["origin"]["round"] == 0)
    found = trace(stages, again["pair"])
    assert of(found.labels, "data")["origin"] == "labeled"
    times = {order: sum(one["id"] == f"{found.id}:{order}" for one in examples) for order in ("ab", "ba")}
    assert max(times.values()) > 1
    assert of(found.trainings, "round-1/training-set")["orders"] == times
    assert of(found.trainings, "round-0/training-set")["orders"] == {"ab": 1, "ba": 1}
    assert of(found.proofs, "round-0/selected")["kept"]

    human = trace(stages, rows(run, "data", "rationale.jsonl")[0]["id"])
    assert of(human.labels, "data")["origin"] == "human"
    assert set(of(human.trainings, "human-examples")["models"]) == {"prover", "round-2/judge"}


def test_a_held_out_pair_has_every_judges_verdict_in_each_order(run: Run, stages: Stages) -> None:
    games = rows(run, "round-1/benchmark", "games.jsonl")
    asked = {game["id"] for game in games if game["order"] == "rejected_first" and game["verdict"] == "A"}
    found = trace(stages, min(asked))
    assert found.held_in == ["data/heldout.jsonl", "benchmarks/held-out/items.jsonl"]
    assert of(found.labels, "data")["origin"] == "heldout"
    assert [(one["stage"], one["judge"]) for one in found.judgments] == [
        (f"round-{i}/benchmark", f"round-{i}/judge") for i in range(3)
    ]
    for judgment in found.judgments:
        assert [(game["order"], game["verdict"], game["right"]) for game in judgment["games"]] == [
            ("chosen_first", "A", True),
            ("rejected_first", "A", False),
        ]
        assert all(game["reply"].endswith("<answer>A</answer>") for game in judgment["games"])
    assert not found.trainings


# ---- what can't be told --------------------------------------------------------------------------------------------------


def test_a_pair_is_found_by_the_beginning_of_its_id_and_by_its_row(run: Run, stages: Stages) -> None:
    identity = rows(run, "data", "batch-1.jsonl")[3]["id"]
    found = trace(stages, identity[:12])
    [place] = found.read_from
    assert found.id == identity
    for given in (place["file"], Path(place["file"]).name):
        assert trace(stages, f"{given}:{place['row']}") == found


def test_an_unknown_id_and_an_ambiguous_beginning_are_one_line(stages: Stages) -> None:
    for given in ("nowhere", "unlabeled.jsonl:9999", "nlabeled.jsonl:1", ":1"):
        with pytest.raises(
            NoSuchPairError, match=r"^run has no pair with the id '.*', .* or from such a FILE:ROW of a source$"
        ):
            trace(stages, given)
    with pytest.raises(NoSuchPairError, match=r"^several ids begin with '': (\w+, ){5}…; give one of them$"):
        trace(stages, "")


def test_surplus_pairs_are_known_though_no_file_lists_them(run: Run, stages: Stages) -> None:
    listed = {
        row["id"]
        for name in ("batch-1", "labeled", "rationale", "heldout")
        for row in rows(run, "data", f"{name}.jsonl")
    }
    surplus = next(row["id"] for row in rows(run, "data", "origins.jsonl") if row["id"] not in listed)
    found = trace(stages, surplus)
    assert (found.held_in, len(found.read_from)) == ([], 1)
    assert found.notes == ["the pair is part of the surplus that no file lists: 40 not_needed"]


def test_completions_that_have_been_removed_are_said(run: Run, tmp_path: Path) -> None:
    run = copied(run, tmp_path)
    for name in ("round-1/votes", "round-1/proofs"):
        made = stage(run, name)
        run.store.retire(made, [file for file in made.manifest.files if file.startswith("shards-")])
    kept = rows(run, "round-1/selected", "selected.jsonl")[0]
    found = trace(open_stages(run.store), kept["id"])
    assert found.notes == [
        f"round-1/{name}: its completions have been removed to save space (section retention)"
        for name in ("votes", "proofs")
    ]
    assert (found.votes, of(found.labels, "round-1/labels")["kept"]) == ([], True)
    assert [one["chosen"] for one in of(found.proofs, "round-1/selected")["candidates"]] == [True, True]
    assert of(found.trainings, "round-1/training-set")["orders"] == {"ab": 1, "ba": 1}


def test_a_row_that_was_dropped_before_it_had_an_id_is_found_by_its_place(tmp_path: Path, run: Run) -> None:
    other = Run(RunStore(tmp_path, "run"), run.settings, 0)
    lost = {"id": None, "reason": "malformed", "where": "/d/pairs.jsonl:7", "detail": "no"}
    artifact(other, "data", {"origins.jsonl": [], "dropped.jsonl": [lost]})
    found = trace(open_stages(other.store), "pairs.jsonl:7")
    assert found.id is None
    assert [(one["reason"], one["where"]) for one in found.losses] == [("malformed", "/d/pairs.jsonl:7")]


def test_two_pairs_of_one_id_are_said(tmp_path: Path, run: Run) -> None:
    other, pair = copied(run, tmp_path), rows(run, "data", "heldout.jsonl")[0]

    def body(context: Context) -> Outcome:
        write_jsonl(context.work / "batch-1.jsonl", [{**pair, "response_a": "new"}, {**pair, "source": "elsewhere"}])
        return Outcome(Counts(2, 2))

    other.find_or_make("reviewed-data", "reviewed-data", {}, {}, body)
    [note] = trace(open_stages(other.store), pair["id"]).notes
    assert note == "another pair in reviewed-data/batch-1.jsonl has the same id: what is said here may be of either"


def test_decisions_of_the_rounds_that_a_pair_was_in_are_shown(run: Run, tmp_path: Path) -> None:
    other = copied(run, tmp_path)

    def decide(name: str, round: int, metrics: Mapping[str, Any]) -> None:
        other.find_or_make(name, "x", {}, {}, lambda context: Outcome(Counts(0, 0), metrics), round)

    decide("round-1/gate", 1, {"passed": True})
    decide("round-1/threshold", 1, {"threshold": 0.75})
    decide("round-7/gate", 7, {"passed": False})
    kept = rows(other, "round-1/selected", "selected.jsonl")[0]
    found = trace(open_stages(other.store), kept["id"])
    assert [(one["stage"], one["metrics"]) for one in found.decisions] == [
        ("round-1/gate", {"passed": True}),
        ("round-1/threshold", {"threshold": 0.75}),
    ]


def test_data_that_reviews_have_joined_is_read_too_but_not_its_copies(run: Run, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    data = stage(other, "data")
    moved, stays = rows(other, "data", "batch-1.jsonl")[:2]

    def body(context: Context) -> Outcome:
        shutil.copy(data.file("heldout.jsonl"), context.work)
        write_jsonl(context.work / "batch-1.jsonl", [stays])
        write_jsonl(context.work / "labeled.jsonl", [{**moved, "label": "B"}])
        return Outcome(Counts(2, 2))

    other.find_or_make("reviewed-data", "reviewed-data", {}, {"data": data}, body)
    stages = open_stages(other.store)
    assert trace(stages, moved["id"]).held_in == ["data/batch-1.jsonl", "reviewed-data/labeled.jsonl"]
    assert of(trace(stages, moved["id"]).labels, "reviewed-data")["label"] == "B"
    assert trace(stages, stays["id"]).held_in == ["data/batch-1.jsonl", "reviewed-data/batch-1.jsonl"]
    assert "data/heldout.jsonl" in trace(stages, rows(other, "data", "heldout.jsonl")[0]["id"]).held_in
    assert len(trace(stages, rows(other, "data", "heldout.jsonl")[0]["id"]).labels) == 1


def test_examples_that_a_training_set_left_out_are_told_with_their_order(run: Run, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    example = rows(other, "round-1/training-set", "examples.jsonl")[-1]

    def body(context: Context) -> Outcome:
        write_jsonl(context.work / "examples.jsonl", [])
        write_jsonl(context.work / "dropped.jsonl", [{**example, "reason": "label_changed"}])
        return Outcome(Counts(1, 0, {"label_changed": 1}))

    other.find_or_make("round-2/training-set", "training-set", {}, {}, body, 2)
    found = trace(open_stages(other.store), example["origin"]["pair"])
    lost = of(found.losses, "round-2/training-set")
    assert (lost["reason"], lost["order"]) == ("label_changed", example["origin"]["order"])
    assert "response_a" not in lost


def test_indexes_of_files_that_the_run_has_no_more_are_removed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copied(run, tmp_path)
    folder = other.store.path / ".index"
    folder.mkdir(exist_ok=True)
    (folder / "old.sqlite").touch()
    monkeypatch.setattr(rows_by_id, "SMALL", 1000)
    identity = rows(run, "round-1/selected", "selected.jsonl")[0]["id"]
    assert trace(open_stages(other.store), identity) == trace(open_stages(run.store), identity)
    made = {path.name for path in folder.glob("*.sqlite")}
    assert made
    assert "old.sqlite" not in made


def test_the_names_of_files_are_those_of_the_benchmarks() -> None:
    assert (names.ITEMS, names.FACTS, names.GAMES) == (sets.ITEMS, sets.FACTS, play.GAMES)
