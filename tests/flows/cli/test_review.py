"""``gram-r2 review``: what is exported comes back as gold labels through every format, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.files import write_jsonl
from tests.conftest import rows_of
from tests.support.commands import Ended, gram_r2
from tests.support.reviewing import label_studio_export, potato_export, potato_state
from tests.support.written_run import BATCH, batch_rows, fake_run

ANSWERS = ("A", "B", "tie", "skip")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("runs"))[0].store.path


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the run, with its folder's parent as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    copy = Path(shutil.copytree(made, tmp_path / "runs" / "hand"))
    (copy / "metrics.jsonl").touch()  # what a run is known by
    return copy


def exported(*arguments: str, n: int = 8, out: str = "out") -> Path:
    ended = gram_r2("review", "export", "hand", "--n", str(n), "--out", out, *arguments)
    assert ended.code == 0, ended.err
    return Path(out)


def imported(file: Path, *arguments: str) -> Ended:
    return gram_r2("review", "import", str(file), *arguments)


def answered(queue: Path, out: str, **answers: str) -> Path:
    """The lines of a queue with one answer for all of them, or the answers by the pair's id."""
    rows = [
        {**row, "answer": answers.get(row["pair"], answers.get("all")), "annotator": "anna"} for row in rows_of(queue)
    ]
    write_jsonl(Path(out), rows)
    return Path(out)


def refused(ended: Ended) -> str:
    assert ended.code == 2, (ended.out, ended.err)
    (line,) = ended.err.splitlines()
    return line


# ---- export ----------------------------------------------------------------------------------------------------------------


def test_an_export_has_what_people_need_and_nothing_of_what_the_judge_said(run: Path) -> None:
    rows = rows_of(exported())
    assert len(rows) == 8
    given = {row["id"]: row for i in (1, 2) for row in batch_rows(i)}
    for row in rows:
        assert list(row) == [
            "id", "prompt", "response_1", "response_2", "reasons", "run", "round", "pair", "order", "answer", "annotator",
        ]  # fmt: skip
        first, second = ("a", "b") if row["order"] == "ab" else ("b", "a")
        pair = given[row["pair"]]
        assert (row["response_1"], row["response_2"]) == (pair[f"response_{first}"], pair[f"response_{second}"])
        assert (row["answer"], row["annotator"]) == (None, None)
    shown = rows_of(exported("--show-labels", out="shown"))
    assert [{k: v for k, v in row.items() if k not in ("judge_label", "confidence")} for row in shown] == rows
    assert {row["judge_label"] for row in shown} > {"A", "B"}


def test_the_same_seed_gives_the_same_export_and_another_seed_another(run: Path) -> None:
    first, again = exported(out="one").read_bytes(), exported(out="two").read_bytes()
    assert first == again != exported("--seed", "1", out="three").read_bytes()
    alike = rows_of(exported("--at-random", n=100, out="four"))
    assert len(alike) == 2 * (BATCH - 2)
    assert {tuple(row["reasons"]) for row in alike} == {("at_random",)}


@pytest.mark.parametrize("format", ["label-studio", "potato"])
def test_no_format_gives_the_judge_s_label_away(run: Path, format: str) -> None:
    hidden, shown = (exported("--format", format, *more, out=f"out{len(more)}") for more in ((), ("--show-labels",)))
    for folder, told in ((hidden, False), (shown, True)):
        texts = " ".join(path.read_text() for path in folder.rglob("*.*"))
        assert ("The judge" in texts, '"judge": ' in texts) == (told, told)
        assert "0.75" not in texts or told


def test_potato_is_given_a_task_with_the_pairs_and_the_question(run: Path) -> None:
    folder = exported("--format", "potato")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    rows = rows_of(folder / config["data_files"][0])
    shown = {field["key"] for field in config["instance_display"]["fields"]}
    assert all(shown | set(config["item_properties"].values()) <= row.keys() for row in rows)
    (question,) = config["annotation_schemes"]
    assert (question["name"], question["annotation_type"], question["labels"]) == ("answer", "radio", list(ANSWERS))
    ids = [row["id"] for row in rows_of(exported(out="lines"))]
    assert [row["id"] for row in rows] == ids, "whatever the format, the same queue"


# ---- and back --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["jsonl", "label-studio", "potato", "potato-state"])
def test_answers_come_back_as_gold_labels_of_the_run_s_own_pairs(run: Path, tmp_path: Path, format: str) -> None:
    """On every format, somebody prefers "First answer", which is the run's response_a, wherever it was shown."""
    lines = rows_of(exported(out="lines"))
    best = {row["id"]: "A" if row["response_1"].startswith("First") else "B" for row in lines}
    assert set(best.values()) == {"A", "B"}
    best |= dict(zip(sorted(best), ("tie", "skip"), strict=False))
    file = tmp_path / "answers"
    if format == "jsonl":
        write_jsonl(file, [{**row, "answer": best[row["id"]], "annotator": "anna"} for row in lines])
    elif format == "label-studio":
        label_studio_export(file, {item: [(1, answer)] for item, answer in best.items()})
    else:
        (potato_export if format == "potato" else potato_state)(file, best)
    ended = imported(file)
    assert ended.code == 0, ended.err
    assert "answers: 8, by 1 annotator; pairs: 8\ngold labels: 6 (6 A, 0 B); left out: 1 tied, 1 skipped" in ended.out
    assert "the judge's labels agree with the gold ones in " in ended.out
    gold = rows_of(run / "review" / "labeled.jsonl")
    given = {row["id"]: row for i in (1, 2) for row in batch_rows(i)}
    assert [{k: row[k] for k in given[row["id"]]} for row in gold] == [given[row["id"]] for row in gold]
    assert {row["label"] for row in gold} == {"A"}
    assert {tuple(row["review"]["annotators"]) for row in gold} == {("1",) if format == "label-studio" else ("anna",)}
    assert all(row["review"]["time"].endswith("+00:00") for row in gold)
    before = (run / "review" / "labeled.jsonl").read_bytes()
    assert imported(file).code == 0
    assert (run / "review" / "labeled.jsonl").read_bytes() == before, "twice is as once, or the run would be made again"


def test_annotators_may_hand_in_their_answers_one_by_one(run: Path) -> None:
    queue = exported(n=3)
    rows = rows_of(queue)
    for who, answer in (("anna", "A"), ("ben", "B"), ("eve", "A")):
        write_jsonl(Path(who), [{**row, "answer": answer, "annotator": who} for row in rows])
        ended = imported(Path(who))
    assert "answers: 9, by 3 annotators; pairs: 3\ngold labels: 3 " in ended.out
    assert "annotators agree in 3 of 9 (33.3%), Krippendorff's alpha -0.20; pairs on which they differ: 3" in ended.out
    assert {row["review"]["answers"]["A"] for row in rows_of(run / "review" / "labeled.jsonl")} <= {1, 2}
    assert "replaced" not in ended.out


def test_what_has_been_answered_is_not_asked_again(run: Path) -> None:
    queue = exported(n=5)
    imported(answered(queue, "filled", all="tie"))
    more = rows_of(exported(n=100, out="more"))
    assert more
    assert not {row["pair"] for row in more} & {row["pair"] for row in rows_of(queue)}


def test_a_pair_joins_the_calibration_pairs_or_the_labeled_ones(run: Path) -> None:
    filled = answered(exported(), "filled", all="A")
    ended = imported(filled, "--into", "calibration")
    assert "warning: 8 of 8 answers are to pairs that were chosen for their difficulty" in ended.err
    assert "--at-random" in ended.err
    line = refused(imported(filled))
    assert "cannot join the labeled pairs: an earlier import has an answer to its pair for the calibration ones" in line
    assert not (run / "review" / "labeled.jsonl").exists()
    assert len(rows_of(run / "review" / "calibration.jsonl")) == 8


def test_pairs_drawn_at_random_join_the_calibration_pairs_without_a_warning(run: Path) -> None:
    filled = answered(exported("--at-random"), "filled", all="A")
    ended = imported(filled, "--into", "calibration")
    assert ended.code == 0
    assert "warning: the run has set no pairs apart for calibration so far" in ended.err
    (run / "data" / "calibration.jsonl").touch()
    ended = imported(filled, "--into", "calibration")
    assert (ended.code, ended.err) == (0, "")


def test_with_out_the_labels_are_only_written_there(run: Path) -> None:
    filled = answered(exported(), "filled", all="A")
    ended = imported(filled, "--out", "gold.jsonl")
    assert "the run does not read it: name it as a source in data.labeled" in ended.out
    assert len(rows_of(Path("gold.jsonl"))) == 8
    assert not (run / "review" / "labeled.jsonl").exists()
    assert imported(filled, "--into", "calibration").code == 0, "the run knows nothing of it"
    assert "gold.jsonl is there already" in refused(imported(filled, "--into", "calibration", "--out", "gold.jsonl"))


def test_only_ties_leave_no_file_that_a_run_would_read(run: Path) -> None:
    queue = exported()
    imported(answered(queue, "filled", all="A"))
    assert (run / "review" / "labeled.jsonl").exists()
    ended = imported(answered(queue, "again", all="tie"))
    assert "not answered yet: 0; earlier answers replaced: 8" in ended.out
    assert ended.out.endswith("no pair has a gold label, so the run reads no labeled pairs\n")
    assert not (run / "review" / "labeled.jsonl").exists()


# ---- refused ---------------------------------------------------------------------------------------------------------------


def test_what_may_hold_answers_is_not_written_over(run: Path) -> None:
    exported()
    line = refused(gram_r2("review", "export", "hand", "--out", "out"))
    assert line == "out is there already, and may hold answers: name another file or folder with --out"


def test_answers_about_another_run_or_no_run_are_refused_with_their_line(run: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**row, "answer": "A", "annotator": "anna"} for row in rows_of(exported())]
    file = tmp_path / "answers.jsonl"
    write_jsonl(file, [rows[0], {**rows[1], "id": "hand-00000000-0001"}])
    assert refused(imported(file)) == f"{file}, line 2: the id 'hand-00000000-0001' is in no review queue of this run"
    write_jsonl(file, [{**rows[0], "id": "nowhere-00000000-0001"}])
    assert "there is no run 'nowhere'" in refused(imported(file))
    file.write_text(json.dumps(rows[0]) + "\n{")
    assert f"{file}, line 2: is not JSON" in refused(imported(file))
    assert not (run / "review" / "answers.jsonl").exists()


def test_a_run_without_votes_has_nothing_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no round has labels from votes yet" in refused(gram_r2("review", "export", "empty"))
