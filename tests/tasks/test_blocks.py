"""The stages without a model: their work on a block of rows can be sent elsewhere, and its results add up whatever the blocks."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.sources.rows import SourceError
from data.store.artifacts import Artifact, Counts, Outcome
from prompts.judge import join_headings
from prompts.prove import PROVE
from tasks.benchmark.sets import prepare_set
from tasks.label import keep_labels
from tasks.model.chat import ChatEncoder
from tasks.overlap import report_overlap
from tasks.prepare import prepare
from tasks.prove import select_proofs
from tasks.run.stage import Context, Run
from tasks.settings import BenchmarkSet
from tasks.training_set import judge_examples
from tests.conftest import run_with
from tests.support.preparing import row

N = 700  # three blocks
SENTENCE = (
    "The question of row {} is answered at some length here so that a benchmark can be found to hold a copy of it"
)


def sent(work: Callable[[Any], Any], blocks: Iterable[Any]) -> Iterator[Any]:
    """As `tasks.machine.parallel.over_blocks`, everything going through a pipe, without the processes at its ends."""
    for block in blocks:
        received, itself = pickle.loads(pickle.dumps((work, block)))
        yield pickle.loads(pickle.dumps(received(itself)))


def source_rows() -> Iterator[dict[str, Any]]:
    """Among them copies of the row before, with its label or the other one, empty prompts and malformed labels."""
    for i in range(N):
        n = i - 1 if i % 50 == 7 else i
        made = row(n, prompt=SENTENCE.format(n), response_a=f"a {n % 90}", response_b=f"b {n % 90}", id=f"row-{i}")
        if i % 100 == 57:
            made |= {"label": "B"}
        if i % 200 == 109:
            made |= {"label": "neither"}
        yield {**made, "prompt": "  "} if i % 60 == 11 else made


def generated(
    run: Run, kind: str, rows: Artifact, completions: Callable[[int, str], list[dict[str, Any]]], shard_rows: int
) -> Artifact:
    """A finished stage that generated for these rows, some of which failed or were dropped."""

    def body(context: Context) -> Outcome:
        lines = []
        for i in range(N):
            made: dict[str, Any] = {
                "requests": [{"name": o, "seed": 1, "completions": completions(i, o)} for o in ("ab", "ba")]
            }
            made = (
                {"failed": "engine_abort"} if i % 97 == 3 else {"dropped": "prompt_too_long"} if i % 97 == 5 else made
            )
            lines.append({"row": i, "id": f"row-{i}", **made})
        folder = context.work / f"shards-{shard_rows}"
        for start in range(0, N, shard_rows):
            write_jsonl(folder / f"{start // shard_rows:06d}.jsonl", lines[start : start + shard_rows])
        return Outcome(Counts(N, N), {"shard_rows": shard_rows, "attempts": 1})

    return run.find_or_make(f"round-1/{kind}", kind, {}, {"rows": rows.ref("rows.jsonl")}, body)


def vote(i: int, order: str) -> list[dict[str, Any]]:
    side = "AB"[(i * 7 // 3 + (order == "ba")) % 2]
    texts = [
        f"<think>\nx\n</think>\n<answer>\n{label}\n</answer>"
        for label in (side, side, "AB"[i % 2], "C" if i % 5 else side)
    ]
    return [{"text": text, "finished": i % 11 != 0, "n_tokens": 5, "logprob": -1.0} for text in texts]


def proof(i: int, order: str) -> list[dict[str, Any]]:
    label = "AB"[(i + (order == "ba")) % 2]
    quoted = f"a {i % 90}" if i % 3 else "nowhere to be found"
    texts = [join_headings(f'It says "{quoted}".', "c", f"Response {one} is better.") for one in (label, "A")]
    return [
        {
            "text": PROVE.opening + text,
            "finished": True,
            "n_tokens": 9 + j,
            "logprob": -0.1 * (i % 7) - j,
            "logprob_alone": -3.3,
        }
        for j, text in enumerate(texts)
    ]


def made_in(encoder: ChatEncoder, shard_rows: int) -> dict[str, Artifact]:
    """The five stages in the current folder."""
    write_jsonl(Path("rows.jsonl"), source_rows())
    write_jsonl(
        Path("fresh.jsonl"), (one if i % 10 else {**one, "response_b": "c"} for i, one in enumerate(source_rows()))
    )
    known = [{"prompt": SENTENCE.format(i), "chosen": "yes", "rejected": "no"} for i in range(20, N, 100)]
    write_jsonl(Path("known.jsonl"), known)
    one = {"path": "rows.jsonl", "max_malformed": 10}
    data = {
        "rationale": [{**one, "cap": 100}],
        "labeled": [one],
        "unlabeled": [{**one, "path": "fresh.jsonl"}],
        "heldout": [],
    }
    run = run_with(
        Path("runs"), encoder, lambda request, j: "", data={**data, "unlabeled_truth": True, "heldout_share": 0.1},
        models={"judge_base": "none", "prover_base": "none", "judge_prompt": "gram-r2"}, rounds={"count": 1, "pairs": 100},
        proofs={"both_orders": False, "max_tokens": 64}, training={"labeled_share": 0.7},
    )  # fmt: skip
    sets = [prepare_set(run, BenchmarkSet(benchmark="preferences", data="known.jsonl", format="chosen-rejected"))]
    found = {"data": prepare(run, sets)}
    found["overlap"] = report_overlap(run, found["data"], sets)
    rows = run.find_or_make("rows", "rows", {}, {}, lambda context: write_rows(context.work))
    found["labels"] = keep_labels(run, 1, generated(run, "votes", rows, vote, shard_rows), rows.ref("rows.jsonl"))
    found["selected"] = select_proofs(run, 1, generated(run, "proofs", rows, proof, shard_rows), rows.ref("rows.jsonl"))
    few = run.find_or_make("few", "few", {}, {"all": found["selected"]}, first_selected)
    found["training-set"] = judge_examples(run, 2, [few, found["selected"], few], None)
    return found


def write_rows(folder: Path) -> Outcome:
    write_jsonl(folder / "rows.jsonl", ({**row(i, response_a=f"a {i % 90}"), "label": "AB"[i % 2]} for i in range(N)))
    return Outcome(Counts(N, N))


def first_selected(context: Context) -> Outcome:
    lines = context.artifact("all").file("selected.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (context.work / "selected.jsonl").write_text("".join(islice(lines, 150)), encoding="utf-8")
    return Outcome(Counts(150, 150))


def test_a_malformed_row_is_named_by_file_and_line_wherever_it_is_read(
    tmp_path: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", source_rows())
    one = {"path": str(tmp_path / "rows.jsonl"), "max_malformed": 1}
    data = {kind: [one] for kind in ("rationale", "labeled", "unlabeled")}
    run = run_with(tmp_path / "runs", encoder, lambda request, j: "", data={**data, "heldout": []})
    for _ in range(2):
        with pytest.raises(SourceError, match=r"rows\.jsonl, row 310: .*'neither'.*\(the 1 malformed row"):
            prepare(run)
        monkeypatch.setattr("tasks.prepare.over_blocks", sent)


def test_files_and_counts_do_not_depend_on_the_blocks_or_on_where_they_are_worked_on(
    tmp_path: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []
    for name, block_rows, shard_rows in (("whole", 10 * N, N), ("blocks", 256, 30)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)  # dropped rows name their file
        monkeypatch.setattr("data.files.BLOCK_ROWS", block_rows)
        made = made_in(encoder, shard_rows)
        found.append({stage: (one.content, one.manifest.counts, one.manifest.metrics) for stage, one in made.items()})
        for module in ("prepare", "overlap", "label", "prove", "training_set"):
            monkeypatch.setattr(f"tasks.{module}.over_blocks", sent)
    assert found[0]["data"][1].dropped["pair_is_labeled"] > 0
    assert found[1] == found[0]
