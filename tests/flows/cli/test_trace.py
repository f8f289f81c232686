"""``gram-r2 trace``: what it prints of a pair, as text and as JSON, and one line for what it cannot trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Counts, Outcome
from data.store.store import RunStore
from flows.cli.tracing import lines_of
from tasks.model.chat import ChatEncoder
from tasks.run.stage import Context, Run
from tasks.trust.lineage import Trace
from tests.conftest import rows_of
from tests.support.commands import gram_r2
from tests.support.traced_run import traced_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: ChatEncoder) -> Run:
    return traced_run(tmp_path_factory.mktemp("traced"), encoder)


def first(run: Run, name: str, file: str, **facts: Any) -> str:
    """The id of the first row with these facts."""
    found = run.store.in_place(name)
    assert found is not None
    rows = rows_of(found.file(file))
    return str(next(row["id"] for row in rows if all(row[key] == value for key, value in facts.items())))


def test_a_kept_pair_is_told_from_its_source_to_its_trainings(run: Run) -> None:
    identity = first(run, "round-1/selected", "selected.jsonl")
    done = gram_r2("trace", str(run.store.path), identity)
    lines = done.out.splitlines()
    assert (done.code, done.err, lines[0]) == (0, "", identity)
    assert lines[1].startswith("read from ")
    assert "unlabeled.jsonl, row " in lines[1]
    heads = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert heads[2:] == [
        "in data/batch-1.jsonl",
        "true label A" if "true label A" in lines else "true label B",
        "round-1/votes",
        "round-1/labels",
        "round-1/selected",
        "round-1/training-set",
    ]
    assert any(line.startswith("  ab, seed ") and line.endswith("</answer>") for line in lines)
    assert any(line.startswith("  ab, candidate 0, no score: no_opening") for line in lines)
    assert lines[-1].endswith("; learned by round-1/judge")


def test_a_wrong_judgment_is_followed_back_to_the_nearest_examples(run: Run) -> None:
    games = {"order": "rejected_first", "verdict": "A"}
    identity = first(run, "round-1/benchmark", "games.jsonl", **games)
    done = gram_r2("trace", str(run.store.path), identity, "--nearest", "2")
    lines = done.out.splitlines()
    assert "round-2/benchmark: 1 of 2 games right, by round-2/judge" in lines
    assert any(line.startswith("  rejected_first, vote 0: A, wrong: <think>") for line in lines)
    [head] = [i for i, line in enumerate(lines) if line.startswith("nearest of the ")]
    assert "in human-examples, round-1/training-set, from which round-2/judge learned" in lines[head]
    nearest = [line for line in lines[head:] if line.startswith("  0.")]
    assert len(nearest) == 2
    assert all(line.endswith(("human", "labeled")) or "pseudo of round 1" in line for line in nearest)
    assert lines[-1].startswith(f"  follow one: gram-r2 trace {run.store.path} ")
    told = json.loads(gram_r2("trace", str(run.store.path), identity, "--nearest", "2", "--json").out)
    assert [one["id"] for one in told["nearest"]["nearest"]] == [line.split()[1].rstrip(":") for line in nearest]
    assert told["judgments"][-1]["games"][1]["right"] is False
    assert json.loads(gram_r2("trace", str(run.store.path), identity, "--json").out)["nearest"] is None


def test_what_cannot_be_traced_is_one_line(run: Run, tmp_path: Path) -> None:
    for pair, said in (
        ("nowhere", "run has no pair with the id 'nowhere', with an id that begins so, or from such a FILE:ROW of a"),
        ("", "several ids begin with ''"),
    ):
        done = gram_r2("trace", str(run.store.path), pair)
        assert (done.code, done.out) == (2, "")
        assert (done.err[: len(said)], done.err.count("\n")) == (said, 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert gram_r2("trace", str(empty), "x").err == f"{empty} has no finished stage, so there is nothing to trace yet\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_pair_that_no_judge_was_measured_on_is_traced_before_that_is_said(run: Run, options: tuple[str, ...]) -> None:
    unlabeled = first(run, "data", "batch-1.jsonl")
    traced = gram_r2("trace", str(run.store.path), unlabeled, *options)
    done = gram_r2("trace", str(run.store.path), unlabeled, *options, "--nearest", "1")
    assert (done.code, done.out) == (2, traced.out)
    assert done.err == f"no judge of this run was measured on '{unlabeled}': there is no judgment to look behind\n"


def test_a_run_in_a_store_at_a_url_is_traced_as_one_on_this_machine(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").put(str(run.store.path), "/traced/run", recursive=True)
    identity = first(run, "round-1/selected", "selected.jsonl")
    done = gram_r2("trace", "memory://traced/run", identity)
    assert done.out == gram_r2("trace", str(run.store.path), identity).out
    assert done.err.startswith("fetching ")
    assert gram_r2("trace", "memory://traced/run", identity).err == ""
    shards = list(RunStore("memory://traced", "run").path.glob("round-1/votes/shards-*/*.jsonl"))
    assert len(shards) == 1, "of the completions only the shard with the pair is fetched"


def test_texts_cannot_write_to_the_terminal_and_lines_of_a_text_go_below_it() -> None:
    lines = list(
        lines_of(Trace("x", {"prompt": [{"role": "user", "content": "a\nb"}], "response_a": "", "response_b": "c"}))
    )
    assert lines == ["x", "  user:", "    a", "    b", "  response A", "  response B: c"]


def test_control_characters_are_not_printed(tmp_path: Path, run: Run) -> None:
    row = {"id": "e", "prompt": [{"role": "user", "content": "\x1b[2J"}], "response_a": "x", "response_b": "y"}

    def body(context: Context) -> Outcome:
        write_jsonl(context.work / "labeled.jsonl", [row])
        return Outcome(Counts(1, 1))

    Run(RunStore(tmp_path, "run"), run.settings, 0).find_or_make("data", "data", {}, {}, body)
    out = gram_r2("trace", str(tmp_path / "run"), "e").out
    assert "\x1b" not in out
    assert "\ufffd[2J" in out
