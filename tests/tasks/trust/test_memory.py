"""Memory of votes: earlier rounds' pairs are voted on again, and what was voted on them then enters their label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.records import PreferencePair, flip
from data.store.artifacts import Artifact
from data.store.store import RunStore
from data.world import taste
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.label import cast_votes, keep_labels
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.report.samples import sample_pairs
from tasks.report.self_training import write_report
from tasks.run.changes import announce
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tasks.training_set import judge_examples
from tasks.trust.memory import _votes_of as remembered_votes
from tasks.trust.memory import add_earlier, voted_on
from tests.conftest import InProcess, artifact, rows_of, run_with, settings_with, shown_pair
from tests.support.playing import world_engine
from tests.support.short_run import short_run
from tests.tasks.test_interrupted_run import copies
from tests.tasks.test_training_set import selected_row

ALL: dict[str, Any] = {"voting": "all", "max_tokens": 64, "max_one_sided": 1.0}
PAIRS = taste.draw_pairs(9, 0)


# ---- the stages --------------------------------------------------------------------------------------------------------


class Rounds:
    """Labels of one round after the other by judges that are right about all pairs but some, in a share of their votes."""

    def __init__(self, folder: Path, encoder: ChatEncoder, **labels: Any) -> None:
        self.run = run_with(folder, encoder, self.reply, labels={**ALL, "min_confidence": 0.6, **labels})
        self.encoder, self.wrong, self.unsure = encoder, list[str](), list[str]()
        self.labels: Artifact | None = None
        self.round = 0

    def reply(self, request: Request, j: int) -> str:
        pair = shown_pair(self.encoder, request)
        right = taste.verdict(pair)
        assert right is not None
        one = sorted((pair.response_a, pair.response_b))[0]
        against = one in self.wrong or (one in self.unsure and (request.sampling.seed + j) % 2)
        return f"<think> z </think><answer>{flip(right) if against else right}</answer>"

    def label(self, pairs: Sequence[PreferencePair], wrong: Any = (), unsure: Any = ()) -> Artifact:
        """The labels of the next round, for these fresh pairs."""
        self.round += 1
        self.wrong, self.unsure = ([self.name(p) for p in some] for some in (wrong, unsure))
        judge = artifact(self.run, f"judge-{self.round}", {"checkpoint/weights.jsonl": [{"round": self.round}]})
        rows = [p.pair.to_json() for p in pairs]
        fresh = artifact(self.run, f"fresh-{self.round}", {"batch.jsonl": rows}).ref("batch.jsonl")
        batch = voted_on(self.run, self.round, fresh, self.labels)
        self.labels = keep_labels(self.run, self.round, cast_votes(self.run, self.round, judge, batch), batch)
        return self.labels

    @staticmethod
    def name(preference: PreferencePair) -> str:
        return sorted((preference.pair.response_a, preference.pair.response_b))[0]


def fates(labels: Artifact) -> dict[str, tuple[str | None, float, str | None]]:
    """The label, the confidence and the reason to drop it of each pair."""
    rows = [row for name in ("labels.jsonl", "dropped.jsonl") for row in rows_of(labels.file(name))]
    return {row["id"]: (row.get("label"), row.get("confidence", 0.0), row.get("reason")) for row in rows}


def test_each_round_votes_on_all_pairs_before_it_and_weighs_what_they_had_then(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    rounds = Rounds(tmp_path, encoder, memory=0.3)
    sure, turned, tied = PAIRS[0], PAIRS[1], PAIRS[2]
    first = rounds.label(PAIRS[:3], wrong=[turned], unsure=[tied])
    assert fates(first) == {
        sure.pair.id: (sure.label, 1.0, None),
        turned.pair.id: (flip(turned.label), 1.0, None),
        tied.pair.id: (None, 0.0, "tie"),
    }
    second = rounds.label(PAIRS[3:6])
    assert (second.manifest.counts.rows_in, second.manifest.counts.kept) == (6, 6)
    assert fates(second)[sure.pair.id] == (sure.label, 1.0, None)
    assert fates(second)[turned.pair.id] == (turned.label, 0.7, None)
    assert fates(second)[tied.pair.id] == (tied.label, 0.85, None)
    assert fates(second)[PAIRS[3].pair.id] == (PAIRS[3].label, 1.0, None)
    assert second.manifest.metrics["voted_again"] == {"pairs": 3, "flips": 1, "majority_flips": 1}
    third = rounds.label(PAIRS[6:], wrong=[sure])
    assert third.manifest.counts.rows_in == 9
    assert fates(third)[sure.pair.id] == (flip(sure.label), 0.7, None)
    assert fates(third)[turned.pair.id] == (turned.label, 0.85, None), "0.7 + 0.3 × the mean of 0 and 1"
    again = {row["id"]: row.get("earlier") for row in rows_of(third.file("labels.jsonl"))}
    shares = {"A": 1.0, "B": 0.0} if turned.label == "B" else {"A": 0.0, "B": 1.0}
    assert again[turned.pair.id] == [
        {"round": 1, **shares, "label": flip(turned.label)},
        {"round": 2, "A": shares["B"], "B": shares["A"], "label": turned.label},
    ]
    assert [row["round"] for row in again[PAIRS[3].pair.id]] == [2]
    assert again[PAIRS[6].pair.id] is None
    assert {line["round"]: line["voted_again"] for line in round_table(rounds.run) if line["labels_of"]} == {
        1: {},
        2: {"pairs": 3, "flips": 1, "majority_flips": 1},
        3: {"pairs": 6, "flips": 1, "majority_flips": 1},
    }


def test_a_strong_memory_keeps_a_label_that_the_votes_are_now_against(tmp_path: Path, encoder: ChatEncoder) -> None:
    rounds = Rounds(tmp_path, encoder, memory=0.6)
    rounds.label(PAIRS[:3])
    second = rounds.label(PAIRS[3:6], wrong=[PAIRS[0]])
    assert fates(second)[PAIRS[0].pair.id] == (PAIRS[0].label, 0.6, None)
    assert second.manifest.metrics["voted_again"] == {"pairs": 3, "flips": 0, "majority_flips": 1}


def test_pairs_without_votes_are_left_out_and_counted(tmp_path: Path, encoder: ChatEncoder) -> None:
    """A prompt that did not fit does not fit later either."""
    rounds = Rounds(tmp_path, encoder, memory=0.3)
    long = PreferencePair(
        taste.make_pair(PAIRS[0].pair.response_a.split() * 2 + PAIRS[0].pair.response_b.split() * 60), "A"
    )
    first = rounds.label([PAIRS[0], long])
    assert first.manifest.counts.dropped == {"prompt_too_long": 1}
    second = rounds.label(PAIRS[1:3])
    assert second.manifest.counts.rows_in == 3
    batch = rounds.run.finished_stage("batch", 2)
    assert batch is not None
    assert (batch.manifest.counts.rows_in, batch.manifest.counts.dropped) == (4, {"no_votes": 1})
    assert batch.manifest.metrics == {"fresh": 2, "again": 1}
    [dropped] = rows_of(batch.file("dropped.jsonl"))
    assert (dropped["id"], dropped["reason"], dropped["because"]) == (long.pair.id, "no_votes", "prompt_too_long")


def test_a_pair_whose_votes_failed_keeps_those_it_had(tmp_path: Path, encoder: ChatEncoder) -> None:
    rounds = Rounds(tmp_path, encoder, memory=0.3)
    pair, earlier = PAIRS[0].pair.to_json(), [{"round": 1, "A": 1.0, "B": 0.0, "label": "A"}]
    failed = [
        {**pair, "earlier": earlier, "reason": "engine_abort"},
        {**PAIRS[1].pair.to_json(), "reason": "engine_abort"},
    ]
    labels = artifact(rounds.run, "labels", {"labels.jsonl": [], "dropped.jsonl": failed})
    fresh = artifact(rounds.run, "data", {"batch-3.jsonl": []}).ref("batch-3.jsonl")
    batch = add_earlier(rounds.run, 3, fresh, labels)
    assert rows_of(batch.file("batch.jsonl")) == [{**pair, "earlier": earlier}, PAIRS[1].pair.to_json()]
    assert batch.manifest.counts.dropped == {}


def test_without_memory_nothing_is_voted_on_again_and_the_first_round_has_the_same_keys(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    keys = []
    for memory in (0.0, 0.3):
        rounds = Rounds(tmp_path / str(memory), encoder, memory=memory)
        first, second = rounds.label(PAIRS[:3]), rounds.label(PAIRS[3:6])
        keys.append((first.manifest.key, second.manifest.key))
        assert second.manifest.counts.rows_in == (6 if memory else 3)
        assert ("memory" in second.manifest.config) == bool(memory)
        assert "memory" not in first.manifest.config
        assert (rounds.run.finished_stage("batch", 2) is None) == (not memory)
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_a_label_only_judge_remembers_probabilities(tmp_path: Path, encoder: ChatEncoder) -> None:
    rounds, of_right = Rounds(tmp_path, encoder), {1: 0.9, 2: 0.3}

    def logprobs(request: Request) -> tuple[float, float]:
        right = of_right[rounds.round]
        p_first = right if taste.verdict(shown_pair(encoder, request)) == "A" else 1 - right
        return math.log(p_first), math.log(1 - p_first)

    labels = {"max_tokens": 2, "min_confidence": 0.5, "max_one_sided": 1.0, "memory": 0.5}
    engine = FakeEngine(lambda request, j: "x", id_logprobs=logprobs)
    rounds.run = run_with(tmp_path, encoder, engine, "label", models={"judge_prompt": "compact-label"}, labels=labels)
    rounds.label(PAIRS[:2])
    second = rounds.label(PAIRS[2:4])
    label, confidence, _ = fates(second)[PAIRS[0].pair.id]
    assert (label, confidence) == (PAIRS[0].label, pytest.approx(0.6))
    assert fates(second)[PAIRS[2].pair.id][0] == flip(PAIRS[2].label)
    assert second.manifest.metrics["voted_again"] == {"pairs": 2, "flips": 0, "majority_flips": 2}


# ---- settings and training set ------------------------------------------------------------------------------------------


def test_votes_without_a_verdict_are_remembered_too() -> None:
    """Two of eight for A are no certainty."""
    remembered = remembered_votes({"votes": {"A": 2, "B": 0, "null": 6}, "label": None}, 1)
    assert remembered == {"round": 1, "A": 0.25, "B": 0.0, "label": None}


@pytest.mark.parametrize("voting", ["exact", "beta"])
def test_votes_that_end_early_cannot_be_remembered(voting: str) -> None:
    with pytest.raises(ValidationError, match=rf'labels.memory = 0.3 needs labels.voting = "all", not "{voting}"'):
        settings_with(labels={"memory": 0.3, "voting": voting})


def test_memory_needs_votes_and_some_weight_of_those_now() -> None:
    with pytest.raises(ValidationError, match=r"labels.memory is about the judge\'s votes.*leave it out"):
        settings_with(labels={**ALL, "memory": 0.3, "source": "truth"}, data={"unlabeled_truth": True})
    with pytest.raises(ValidationError, match=r"labels.memory and labels.target_precision cannot be combined"):
        settings_with(labels={**ALL, "memory": 0.3, "target_precision": 0.9}, data={"calibration_share": 0.1})
    with pytest.raises(ValidationError, match="less than 1"):
        settings_with(labels={**ALL, "memory": 1.0})
    assert "memory" not in settings_with().labels.model_dump()


def test_with_memory_the_judge_learns_only_what_the_last_round_labeled(tmp_path: Path, encoder: ChatEncoder) -> None:
    """A pair whose label was dropped when it was voted on again is learned no longer."""
    run = run_with(tmp_path, encoder, lambda request, j: "", labels={**ALL, "memory": 0.3})
    selected = [
        artifact(run, f"round-{i}/selected", {"selected.jsonl": [selected_row(p) for p in pairs]})
        for i, pairs in enumerate([PAIRS[:1], PAIRS[1:4], PAIRS[2:6]])
    ]
    made = judge_examples(run, 2, selected, None)
    assert set(made.manifest.inputs) == {"round-0", "round-2"}
    learned = [(e["origin"]["pair"], e["origin"]["round"]) for e in rows_of(made.file("examples.jsonl"))[::2]]
    assert learned == [(PAIRS[0].pair.id, 0), *((p.pair.id, 2) for p in PAIRS[2:6])]
    assert set(judge_examples(run, 1, selected[:2], None).manifest.inputs) == {"round-0", "round-1"}
    assert set(judge_examples(run, 0, selected[:1], None).manifest.inputs) == {"round-0"}


def test_a_whole_run_with_memory(tmp_path: Path, encoder: ChatEncoder) -> None:
    changes = {
        "labels.memory": 0.3,
        "labels.voting": "all",
        "rounds.count": 2,
        "rounds.pairs": 8,
        "training.final": None,
    }
    config = with_overrides(load_recipe("demo").model_dump(), {**short_run(tmp_path / "world"), **changes})
    run = Run(
        RunStore(tmp_path / "runs", "run"), config, 0,
        generator=InProcess(world_engine(encoder), encoder), trainer=copies,
    )  # fmt: skip
    self_training(run)
    table = {row["round"]: row for row in round_table(run)}
    assert [table[i]["labels_of"] for i in (1, 2)] == [8, 16]
    assert [table[i]["pseudo_labeled"] for i in (1, 2)] == [16, 32]
    assert table[2]["voted_again"] == {"pairs": 8, "flips": 0, "majority_flips": 0}
    page = write_report(run).read_text(encoding="utf-8")
    for text in ("Memory of votes", "Pairs voted on again: label changed", '<td class="n">0 of 8</td>'):
        assert text in page
    assert len(sample_pairs(run, 2)) == 16
    assert all(len(one["votes"]) == 4 for one in sample_pairs(run, 2))
    said: list[str] = []
    announce(
        Run(run.store, with_overrides(config.model_dump(), {"labels.memory": 0.4}), 0),
        self_training,
        "redo",
        said.append,
    )
    assert said[0].startswith("round-2/labels: memory 0.3 → 0.4, will redo: round-2/labels, "), said
