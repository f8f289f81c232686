"""What benchmarks hold of the training data: planted copies, edited ones, quotations, and a known overlap of real files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.benchmarks import judgebench
from data.benchmarks.items import Benchmark
from data.files import write_jsonl
from data.overlap import Hit, Index, N, leaked
from data.records import ResponsePair
from data.store.artifacts import Artifact
from tasks.benchmark.sets import prepare_set
from tasks.model.chat import ChatEncoder
from tasks.overlap import report_overlap
from tasks.prepare import prepare
from tasks.run.stage import Run
from tasks.settings import BenchmarkSet
from tests.conftest import REAL, make, real_file, rows_of, run_with
from tests.support.preparing import WORLD, row
from tests.support.scoring_rows import Row, judgebench_row, write_rows

QUESTION = (
    "A farmer keeps seventeen sheep on a hill beside the river. One night all but nine of them cross the old stone bridge "
    "and do not come back before morning. How many sheep are left on the hill, and how many bridges must be guarded?"
)
ANSWER = "Nine sheep are left on the hill, because all but nine of them went away; a single bridge has to be guarded at night."


def one_item(**changes: Any) -> Row:
    return judgebench_row("p1", question=QUESTION, response_A=ANSWER, response_B="Eight.", **changes)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index({"jb": judgebench.load(write_rows(tmp_path / "a.jsonl", [one_item(), judgebench_row("p2")]))})


def kinds(hits: Sequence[Hit]) -> set[tuple[str, str, str]]:
    return {(hit.field, hit.part, hit.kind) for hit in hits}


def test_a_copy_is_exact_whatever_its_case_and_punctuation(index: Index) -> None:
    copied = QUESTION.upper().replace(",", " —").replace("?", " ?!")
    [hit] = index.find(make(question=copied))
    assert hit == Hit("jb", "p1", "prompt", "prompt", "exact")
    assert leaked([hit]) == hit


def test_a_lightly_edited_copy_is_near(index: Index) -> None:
    edited = QUESTION.replace("seventeen", "eighteen").replace("morning", "noon") + " Explain."
    assert kinds(index.find(make(question=edited))) == {("prompt", "prompt", "near")}


def test_a_response_of_a_benchmark_is_found_in_any_field(index: Index) -> None:
    assert kinds(index.find(make(b=ANSWER))) == {("response_b", "response 0", "exact")}
    assert kinds(index.find(make(question=ANSWER))) == {("prompt", "response 0", "exact")}


def test_a_quotation_is_a_passage_and_no_leak(index: Index) -> None:
    quoting = f"My teacher began like this: {' '.join(QUESTION.split()[:N])}. " + "I asked what she meant by it. " * 9
    hits = index.find(make(a=quoting))
    assert kinds(hits) == {("response_a", "prompt", "passage")}
    assert leaked(hits) is None


def test_words_of_a_benchmark_scattered_over_a_longer_text_are_a_passage(tmp_path: Path) -> None:
    """A run of them, and most of the others one by one: near is what shares 80% of the longer text, not of the shorter."""
    known = [f"word{i}" for i in range(40)]
    path = write_rows(tmp_path / "a.jsonl", [judgebench_row("p1", question=" ".join(known)), judgebench_row("p2")])
    scattered = [word for i in range(20, 36) for word in (f"filler{i}", known[i], f"more{i}", f"and{i}")]
    hits = Index({"jb": judgebench.load(path)}).find(make(a=" ".join([*known[:20], *scattered])))
    assert kinds(hits) == {("response_a", "prompt", "passage")}


def test_a_copy_inside_a_longer_text_is_near(index: Index) -> None:
    longer = (
        f"Please think about the following riddle, and take your time. {QUESTION} Then explain at length. "
        + "And on. " * 60
    )
    assert kinds(index.find(make(question=longer))) == {("prompt", "prompt", "near")}


def test_one_word_less_than_thirteen_is_nothing(index: Index) -> None:
    quoting = f"Begin: {' '.join(QUESTION.split()[: N - 1])} stop. " + "Other words follow here now. " * 9
    assert index.find(make(a=quoting)) == []


def test_short_texts_are_compared_as_a_whole_and_shortest_ones_not_at_all(tmp_path: Path) -> None:
    rows = [judgebench_row("p1", question="Why is the sky blue?", response_A="Thank you.", response_B="x")]
    short = Index({"jb": judgebench.load(write_rows(tmp_path / "a.jsonl", rows))})
    assert kinds(short.find(make(question="why is the sky BLUE", a="Thank you."))) == {("prompt", "prompt", "exact")}
    assert short.find(make(question="So why is the sky blue?")) == []


def test_an_index_of_nothing_finds_nothing() -> None:
    assert Index({}).find(make(question=QUESTION)) == []


@given(seed=st.integers(0, 10**6))
def test_what_is_found_is_what_a_search_word_by_word_finds(seed: int) -> None:
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(3)]
    known, text = ([rng.choice(vocabulary) for _ in range(rng.randrange(5, 40))] for _ in range(2))
    if rng.random() < 0.7:
        start = rng.randrange(len(known))
        text = text[:5] + known[start : start + rng.randrange(8, 20)] + text[5:]
    rows = [judgebench_row("p", question=" ".join(known), response_A="x", response_B="y")]
    benchmark = Benchmark("jb", ("AB", "BA"), ("knowledge",), tuple(judgebench._item(one, None) for one in rows))
    found = Index({"jb": benchmark}).find(make(question=" ".join(text), a="x", b="y"))

    def runs(words: list[str]) -> set[tuple[str, ...]]:
        n = min(N, len(words))
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    assert bool(found) == bool(runs(known) & runs(text))


def test_the_questions_that_both_splits_of_judgebench_share_are_found() -> None:
    """91, by comparing their strings; here by words alone."""
    real_file(f"judgebench/dataset=judgebench,response_model={judgebench.SPLITS['gpt']}.jsonl")
    gpt, claude = (judgebench.load(str(REAL / "judgebench"), split) for split in judgebench.SPLITS)
    index = Index({"gpt": gpt})
    same = set()
    for item in claude.items:
        hits = index.find(item.pair(item.cells[0]))
        if any((hit.field, hit.part, hit.kind) == ("prompt", "prompt", "exact") for hit in hits):
            same.add(item.prompt[-1].content)
    assert len(same) == 91


# ---- in a run --------------------------------------------------------------------------------------------------------------


def leaky_run(tmp_path: Path, encoder: ChatEncoder, **data: Any) -> tuple[Run, list[Artifact]]:
    """A run of which one labeled prompt, one unlabeled response and one rationale's prompt are a benchmark's."""
    leaks: dict[str, Row] = {
        "labeled": row(500, prompt=QUESTION),
        "unlabeled": row(501, response_b=ANSWER.replace("single", "lone")),
        "rationale": row(
            502, prompt="He said: " + " ".join(QUESTION.split()[:20]) + ". " + "And then he said more. " * 9
        ),
    }
    sources = {}
    for kind, rows in WORLD.items():
        write_jsonl(tmp_path / f"{kind}.jsonl", [*rows, *([leaks[kind]] if kind in leaks else [])])
        sources[kind] = [{"path": str(tmp_path / f"{kind}.jsonl")}]
    rounds = {"count": 1, "pairs": 21}
    run = run_with(tmp_path / "runs", encoder, lambda r, j: "", data={**sources, **data}, rounds=rounds)
    path = write_rows(tmp_path / "jb.jsonl", [one_item()])
    return run, [prepare_set(run, BenchmarkSet(benchmark="judgebench", data=path))]


def test_leaks_are_reported_with_where_they_are(tmp_path: Path, encoder: ChatEncoder) -> None:
    run, sets = leaky_run(tmp_path, encoder)
    made = report_overlap(run, prepare(run, sets), sets)
    assert made.manifest.metrics["training_rows"] == {"judgebench": {"passage": 1, "exact": 1, "near": 1}}
    hits = [(hit["file"], hit["id"], hit["field"], hit["kind"]) for hit in rows_of(made.file("hits.jsonl"))]
    assert sorted(hits) == [
        ("batch-1.jsonl", "row-501", leaked_side(tmp_path, run, sets), "near"),
        ("labeled.jsonl", "row-500", "prompt", "exact"),
        ("rationale.jsonl", "row-502", "prompt", "passage"),
    ]
    assert made.manifest.counts.kept == made.manifest.counts.rows_in == 4 + 21 + 21


def leaked_side(tmp_path: Path, run: Run, sets: list[Artifact]) -> str:
    """Unlabeled pairs are shown in a seeded order: the side that the planted response is on."""
    [found] = [one for one in rows_of(prepare(run, sets).file("batch-1.jsonl")) if one["id"] == "row-501"]
    return "response_b" if "lone" in found["response_b"] else "response_a"


def test_leaks_are_dropped_and_counted_where_the_settings_say_so(tmp_path: Path, encoder: ChatEncoder) -> None:
    run, sets = leaky_run(tmp_path, encoder, contamination="drop")
    data = prepare(run, sets)
    assert data.manifest.counts.dropped["in_judgebench"] == 2
    dropped = {one["id"]: one for one in rows_of(data.file("dropped.jsonl")) if one["reason"] == "in_judgebench"}
    assert {identity: (one["field"], one["kind"], one["item"]) for identity, one in dropped.items()} == {
        "row-500": ("prompt", "exact", "p1"),
        "row-501": ("response_b", "near", "p1"),
    }
    left = report_overlap(run, data, sets).manifest.metrics["training_rows"]
    assert left == {"judgebench": {"passage": 1}}


def test_a_benchmark_is_part_of_the_datas_key_only_where_it_changes_the_data(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    run, sets = leaky_run(tmp_path, encoder)
    assert prepare(run, sets).manifest.key == prepare(run, []).manifest.key
    other, others = leaky_run(tmp_path / "other", encoder, contamination="drop")
    assert prepare(other, others).manifest.key != prepare(other, []).manifest.key


def test_multi_turn_prompts_are_searched_in_every_turn(index: Index) -> None:
    pair = make()
    first = ResponsePair("x", (*make(question=QUESTION).prompt, *pair.prompt), "a", "b")
    assert kinds(index.find(first)) == {("prompt", "prompt", "near")}
