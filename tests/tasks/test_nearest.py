"""The training examples nearest to a judged pair: those that share the most of its rare words, and whose their labels are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks.preferences import of_rows
from data.files import write_jsonl
from data.store.artifacts import Artifact, Counts, Input, Outcome
from data.store.store import RunStore
from tasks.benchmark.sets import write_set
from tasks.model.location import Checkpoint
from tasks.run.stage import Run
from tasks.trust.finding import NoSuchPairError
from tasks.trust.nearest import nearest_to
from tasks.trust.stages import open_stages
from tests.conftest import artifact, settings_with

HELD = "the judge was asked about copper kettles"
COPY = f"{HELD} whose handles are all made of walnut wood and brass"


def example(pair: str, prompt: str, order: str = "ab", **origin: Any) -> dict[str, Any]:
    """A line of a training set. The pair's label is A in the order in which the data lists it."""
    a, b = ("yes", "no") if order == "ab" else ("no", "yes")
    row = {
        "prompt": [{"role": "user", "content": prompt}],
        "response_a": a,
        "response_b": b,
        "label": "A" if a == "yes" else "B",
    }
    return {
        "id": f"{pair}:{order}",
        **row,
        "rationale": "",
        "origin": {"pair": pair, "order": order, "round": 0, **origin},
    }


def stage(
    run: Run, name: str, kind: str, inputs: dict[str, Input], files: dict[str, Sequence[dict[str, Any]]]
) -> Artifact:
    def body(context: Any) -> Outcome:
        for file, rows in files.items():
            write_jsonl(context.work / file, rows)
        return Outcome(Counts(0, 0))

    round = int(name[6]) if name.startswith("round-") else None
    return run.find_or_make(name, kind, {"name": name}, inputs, body, round)


def games(wrong: bool) -> dict[str, Sequence[dict[str, Any]]]:
    game = {"id": "h", "cell": "", "order": "chosen_first", "vote": 0, "verdict": "B" if wrong else "A"}
    return {"games.jsonl": [{**game, "p_first": None, "malformed": None}]}


def judged(
    folder: Path,
    sets: Sequence[Sequence[dict[str, Any]]],
    wrong: Sequence[bool],
    prompt: str = HELD,
    adapted: bool = False,
) -> RunStore:
    """A run whose judge of round i learned from the set i, and was wrong, or right, on the held-out pair h.

    If it `adapted` a judge, that one, which is not in the run, was wrong too.
    """
    run = Run(RunStore(folder, "run"), settings_with(), 0)
    artifact(run, "data", {})
    held = {"id": "h", "prompt": prompt, "response_a": "yes", "response_b": "no", "label": "A"}
    set_of_one = of_rows([held])
    played = run.find_or_make(
        "benchmarks/held-out", "benchmark-data", {}, {}, lambda context: write_set(context.work, set_of_one)
    )
    for i, (examples, is_wrong) in enumerate(zip(sets, wrong, strict=True)):
        learned = stage(run, f"round-{i}/training-set", "training-set", {}, {"examples.jsonl": examples})
        inputs: dict[str, Input] = {"examples": learned.ref("examples.jsonl")}
        judge = stage(run, f"round-{i}/judge", "train-judge", inputs, {"checkpoint/config.jsonl": [{"i": i}]})
        stage(run, f"round-{i}/benchmark", "benchmark", {"judge": judge, "items": played}, games(is_wrong))
    if adapted:
        before: dict[str, Input] = {"judge": Checkpoint("judge", "of another run"), "items": played}
        stage(run, "before/benchmark", "benchmark", before, games(True))
    return run.store


SETS = [
    [example("plain", "the judge was asked about the weather"), example("kettle", "copper kettles boil water")],
    [example("later", HELD, round=1, confidence=0.75)],
]


def test_what_is_rare_counts_and_what_all_have_does_not(tmp_path: Path) -> None:
    common = [
        example(f"c{i}", "the judge was asked about the weather", order) for i in range(9) for order in ("ab", "ba")
    ]
    found = nearest_to(open_stages(judged(tmp_path, [[*common, SETS[0][1]]], [True])), "h", 2)
    assert [one["id"] for one in found.nearest] == ["kettle", "c0"]
    assert found.nearest[0]["similarity"] > 2 * found.nearest[1]["similarity"] > 0
    assert (found.examples, found.searched) == (10, ["round-0/training-set"])


def test_a_phrase_tells_more_than_its_words_and_no_phrase_runs_from_one_text_into_the_next(tmp_path: Path) -> None:
    examples = [
        example("words", "kettles asked was copper about the judge"),
        example("phrase", "about copper kettles was the judge asked"),
        {**example("split", "asked was judge about copper"), "response_a": "kettles the yes"},
    ]
    found = nearest_to(open_stages(judged(tmp_path, [examples], [True])), "h", 3)
    assert [one["id"] for one in found.nearest] == ["phrase", "words", "split"]


def test_a_copy_is_nearest_also_where_there_is_nothing_else_and_what_shares_no_word_is_not_near(tmp_path: Path) -> None:
    copy, other = example("copy", HELD), {**example("x", "green hills"), "response_a": "1", "response_b": "2"}
    [found] = nearest_to(open_stages(judged(tmp_path / "a", [[copy, other]], [True])), "h", 3).nearest
    assert (found["id"], found["similarity"]) == ("copy", 1.0)
    assert nearest_to(open_stages(judged(tmp_path / "b", [[other]], [True])), "h", 3).nearest == []


def test_only_what_the_last_wrong_judge_learned_is_searched(tmp_path: Path) -> None:
    found = nearest_to(open_stages(judged(tmp_path / "a", SETS, [True, False])), "h", 5)
    assert (found.judgment["judge"], found.searched) == ("round-0/judge", ["round-0/training-set"])
    assert {one["id"] for one in found.nearest} == {"plain", "kettle"}
    found = nearest_to(open_stages(judged(tmp_path / "b", SETS, [False, False])), "h", 5)
    assert found.judgment["judge"] == "round-1/judge", "where none is wrong, the last"


def test_a_judge_that_is_not_in_the_run_is_passed_over(tmp_path: Path) -> None:
    for name, wrong, behind in (("a", [True, False], "round-0/judge"), ("b", [False, False], "round-1/judge")):
        found = nearest_to(open_stages(judged(tmp_path / name, SETS, wrong, adapted=True)), "h", 5)
        assert found.judgment["judge"] == behind
    with pytest.raises(NoSuchPairError, match=r"^no judge of this run was measured on 'h'"):
        nearest_to(open_stages(judged(tmp_path / "c", [], [], adapted=True)), "h", 5)


def test_each_pair_is_named_once_with_its_label_as_listed_and_whose_label_it_is(tmp_path: Path) -> None:
    examples = [
        example("pseudo", HELD, round=2, confidence=0.75),
        example("pseudo", HELD, "ba", round=2, confidence=0.75),
        example("swapped", "copper kettles were asked about", "ba"),
        example("labeled", "copper kettles"),
        example("labeled", "copper kettles", repeat=1),
        {**example("human", "kettles"), "origin": {"pair": "human", "order": "ab", "round": None, "proof": "human"}},
    ]
    found = nearest_to(open_stages(judged(tmp_path, [examples], [True])), "h", 9)
    assert [(one["id"], one["label"], one["label_from"], one["times"]) for one in found.nearest] == [
        ("pseudo", "A", "pseudo of round 2", 1),
        ("swapped", "A", "labeled", 1),
        ("labeled", "A", "labeled", 2),
        ("human", "A", "human", 1),
    ]
    assert all((one["response_a"], one["response_b"]) == ("yes", "no") for one in found.nearest)
    assert [one["similarity"] for one in found.nearest] == sorted(
        (one["similarity"] for one in found.nearest), reverse=True
    )
    assert found.nearest[0]["confidence"] == 0.75


def test_copies_and_shared_passages_are_marked(tmp_path: Path) -> None:
    examples = [
        example("copy", COPY),
        example("quotes", f"{COPY}, and many other things that nobody asked about"),
        example("no", HELD),
    ]
    found = nearest_to(open_stages(judged(tmp_path, [examples], [True], prompt=COPY)), "h", 3)
    assert {one["id"]: one["overlap"] for one in found.nearest} == {"copy": "exact", "quotes": "near", "no": None}


def test_what_was_not_judged_has_no_judgment_to_look_behind(tmp_path: Path) -> None:
    stages = open_stages(judged(tmp_path, [[example("x", "green hills")]], [True]))
    with pytest.raises(
        NoSuchPairError, match=r"^no judge of this run was measured on 'x': there is no judgment to look behind$"
    ):
        nearest_to(stages, "x", 3)
