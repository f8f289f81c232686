"""Which files a folder stands for. The folders of `datasets` are written with it; a clone of the hub is imitated."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.records import PreferencePair
from data.sources.reading import count_source, name_of, read_rows
from data.sources.rows import SourceError, count_rows, local_files, sha256_by_file
from data.sources.sources import Source, read_source, source_fingerprint, unread_files
from data.sources.unread import named_unread_files
from tests.support.sources import simple_rows


def prompts_of(path: object) -> list[str]:
    items = read_source(Source(path=str(path), format="chosen-rejected"), "preference", 0)
    return [item.pair.prompt[0].content for item in items if isinstance(item, PreferencePair)]


def names(path: object, base: Path) -> list[str]:
    return [str(Path(file).relative_to(base)) for file in local_files(str(path))]


def fill(base: Path, files: Sequence[str]) -> None:
    """Writes one row, which names its file, into each of these files."""
    for name in files:
        file = base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"prompt": name, "chosen": "a", "rejected": "b"}
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([row]), file)
        else:
            file.write_text(json.dumps(row))


def refusal(path: object) -> str:
    with pytest.raises(SourceError) as caught:
        local_files(str(path))
    return str(caught.value)


def paths_in(refused: str) -> dict[str, str]:
    """The path that a refusal offers for each split."""
    return dict(part.split(": ", 1) for part in refused.split("path of one. ")[1].split("; "))  # type: ignore[misc]


# ---- folders of `datasets` -------------------------------------------------------------------------------------------


def test_a_saved_data_set_is_read_in_its_own_order(tmp_path: Path) -> None:
    from datasets import Dataset

    saved = tmp_path / "prefs"
    Dataset.from_list(simple_rows(5)).save_to_disk(str(saved), num_shards=2)
    (saved / "data-00009-of-00010.arrow").write_bytes(b"left by an earlier save")
    assert prompts_of(saved) == [row["prompt"] for row in simple_rows(5)]
    assert list(sha256_by_file(str(saved))) == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert [count_rows(file) for file in local_files(str(saved))] == [3, 2]


def test_a_saved_data_set_of_several_splits_needs_one_named(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = simple_rows(3)
    splits = {"train": Dataset.from_list(rows[:2]), "test": Dataset.from_list(rows[2:])}
    DatasetDict(splits).save_to_disk(str(tmp_path / "both"))
    DatasetDict({"train": splits["train"]}).save_to_disk(str(tmp_path / "one"))
    assert paths_in(refusal(tmp_path / "both")) == {split: f"{tmp_path}/both/{split}" for split in ("test", "train")}
    assert prompts_of(tmp_path / "both" / "train") == prompts_of(tmp_path / "one") == ["Question 0?", "Question 1?"]
    assert prompts_of(tmp_path / "both" / "test") == ["Question 2?"]
    assert len(prompts_of(tmp_path / "both" / "**")) == 3


def test_a_saved_data_set_that_is_damaged_is_named(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(simple_rows(2)).save_to_disk(str(tmp_path / "prefs"))
    (tmp_path / "prefs" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(SourceError, match=r"data-00000-of-00001.arrow: there is no such file"):
        prompts_of(tmp_path / "prefs")
    (tmp_path / "prefs" / "state.json").write_text("{")
    assert "state.json: is not JSON" in refusal(tmp_path / "prefs")


# ---- clones of hub data sets, and other folders ------------------------------------------------------------------------


def test_the_files_of_a_clone_are_in_its_sub_folders(tmp_path: Path) -> None:
    fill(tmp_path, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", ".cache/x.jsonl"])
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A set\n")
    assert names(tmp_path, tmp_path) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert prompts_of(tmp_path) == names(tmp_path, tmp_path)
    assert len(source_fingerprint(Source(path=str(tmp_path)))) == 2


SEVERAL: dict[str, tuple[list[str], dict[str, str]]] = {
    "shards": (
        ["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
        {"test": "data/test-00000-of-00001.parquet", "train": "data/train-0000*"},
    ),
    "splits of other names": (
        ["data/train_prefs-00000-of-00001.parquet", "data/train_sft-00000-of-00001.parquet"],
        {
            "train_prefs": "data/train_prefs-00000-of-00001.parquet",
            "train_sft": "data/train_sft-00000-of-00001.parquet",
        },
    ),
    "files": (["dev.jsonl", "train.jsonl"], {"train": "train.jsonl", "validation": "dev.jsonl"}),
    "folders": (["Eval/a.jsonl", "train/a.jsonl", "train/b.jsonl"], {"test": "Eval/a.jsonl", "train": "train"}),
    "files of one name": (
        ["helpful/test.jsonl", "helpful/train.jsonl", "harmless/test.jsonl", "harmless/train.jsonl"],
        {"test": "**/test*", "train": "**/train*"},
    ),
    "a test set beside other files": (
        ["more.jsonl", "test.jsonl"],
        {"without a split": "more.jsonl", "test": "test.jsonl"},
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_of_several_splits_none_is_chosen_and_each_has_a_path(tmp_path: Path, case: str) -> None:
    files, paths = SEVERAL[case]
    fill(tmp_path, files)
    refused = refusal(tmp_path)
    assert refused.startswith(f"{tmp_path}: holds several splits, and none of them is chosen for you")
    offered = paths_in(refused)
    assert offered == {split: f"{tmp_path}/{path}" for split, path in paths.items()}
    assert sorted(name for path in offered.values() for name in names(path, tmp_path)) == sorted(files)
    assert names(f"{tmp_path}/**", tmp_path) == sorted(files)


@pytest.mark.parametrize(
    "files",
    [
        ["a.jsonl", "b.jsonl"],
        ["train.jsonl", "more.jsonl"],
        ["training-1.jsonl", "train_2.jsonl"],
        ["test.jsonl", "test-hard.jsonl"],
        ["contest.jsonl", "developers.jsonl", "evaluations.jsonl"],
        ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"],
    ],
)
def test_files_that_name_one_split_or_none_are_read_together(tmp_path: Path, files: list[str]) -> None:
    fill(tmp_path, files)
    assert names(tmp_path, tmp_path) == sorted(files)


def readme(configs: str) -> str:
    return f"---\nlicense: mit\nconfigs:\n{configs}---\n# A set\n"


def test_what_the_readme_of_a_clone_declares_counts(tmp_path: Path) -> None:
    fill(tmp_path, ["a/one.jsonl", "a/two.jsonl", "b/one.jsonl"])
    one = "- config_name: default\n  data_files: a/*.jsonl\n"
    (tmp_path / "README.md").write_text(readme(one))
    assert names(tmp_path, tmp_path) == ["a/one.jsonl", "a/two.jsonl"]
    assert unread_files(Source(path=str(tmp_path))) == [f"{tmp_path}/b/one.jsonl"]

    splits = "  data_files:\n  - split: gpt\n    path: [a/one.jsonl, a/two.jsonl]\n  - split: claude\n    path: b/one.jsonl\n"
    (tmp_path / "README.md").write_text(readme(f"- config_name: default\n{splits}"))
    assert paths_in(refusal(tmp_path)) == {"claude": f"{tmp_path}/b/one.jsonl", "gpt": f"{tmp_path}/a"}

    subsets = "".join(f"- config_name: {name}\n  data_dir: {name}\n  data_files: '*.jsonl'\n" for name in "ab")
    (tmp_path / "README.md").write_text(readme(subsets))
    assert "holds several subsets" in refusal(tmp_path)
    assert paths_in(refusal(tmp_path)) == {"a/train": f"{tmp_path}/a", "b/train": f"{tmp_path}/b/one.jsonl"}


@pytest.mark.parametrize(
    "text", ["---\nconfigs: [}\n---\n", "---\nconfigs: 3\n---\n", readme("- config_name: x\n"), "# A"]
)
def test_a_readme_that_declares_nothing_usable_says_nothing(tmp_path: Path, text: str) -> None:
    fill(tmp_path, ["a.jsonl", "b.jsonl"])
    (tmp_path / "README.md").write_text(text)
    assert names(tmp_path, tmp_path) == ["a.jsonl", "b.jsonl"]


def test_files_in_the_folder_itself_come_before_those_below_and_those_are_named(tmp_path: Path) -> None:
    fill(tmp_path, ["a.jsonl", "older/b.jsonl"])
    (tmp_path / "lengths.csv").write_text("file,rows\na,1\n")
    assert names(tmp_path, tmp_path) == ["a.jsonl"]
    assert unread_files(Source(path=str(tmp_path))) == [f"{tmp_path}/lengths.csv", f"{tmp_path}/older/b.jsonl"]
    (tmp_path / "a.jsonl").unlink()
    assert names(tmp_path, tmp_path) == ["lengths.csv"]


def test_whatever_a_folder_or_glob_leaves_unread_is_named_but_what_is_for_readers_and_tools(tmp_path: Path) -> None:
    fill(tmp_path, ["a.jsonl", "B.JSONL", "e.csv", "sub/f.jsonl"])
    for name in ("c.ndjson", "d.jsonl.bz2", "README.md", "LICENSE", "dataset_infos.json", ".hidden", "_SUCCESS"):
        (tmp_path / name).write_text("x")
    source = Source(path=str(tmp_path))
    assert names(tmp_path, tmp_path) == ["B.JSONL", "a.jsonl"]
    assert named_unread_files(source) == "c.ndjson, d.jsonl.bz2, e.csv, sub/f.jsonl"
    assert named_unread_files(Source(path=f"{tmp_path}/*")) == "c.ndjson, d.jsonl.bz2, e.csv"
    assert named_unread_files(Source(path=f"{tmp_path}/a.jsonl")) == ""
    for i in range(9):
        (tmp_path / f"x{i}.txt").write_text("x")
    assert named_unread_files(source).endswith("x2.txt, x3.txt and 5 more")


@pytest.mark.parametrize("name", ["A.JSONL", "a.Json", "a.CSV", "A.JSONL.GZ", "a.PARQUET"])
def test_a_file_is_read_whatever_the_case_of_its_suffix(tmp_path: Path, name: str) -> None:
    row = {"prompt": "Why?", "response_a": "Yes.", "response_b": "No.", "label": "A"}
    path = tmp_path / name
    match name.lower().split(".", 1)[1]:
        case "jsonl":
            path.write_text(json.dumps(row))
        case "json":
            path.write_text(json.dumps([row]))
        case "csv":
            path.write_text("prompt,response_a,response_b,label\nWhy?,Yes.,No.,A\n")
        case "jsonl.gz":
            path.write_bytes(gzip.compress(json.dumps(row).encode()))
        case _:
            pq.write_table(pa.Table.from_pylist([row]), path)
    source = Source(path=str(path))
    assert [raw.value for raw in read_rows(source)] == [row]
    assert (count_source(source), name_of(source)) == (1, name.split(".")[0])


def test_a_name_that_is_not_text_is_refused_where_it_is_read_and_escaped_where_it_is_not(tmp_path: Path) -> None:
    fill(tmp_path, ["a.jsonl"])
    (tmp_path / os.fsdecode(b"n\xff.ndjson")).write_text("")
    assert named_unread_files(Source(path=str(tmp_path))) == r"n\xff.ndjson"
    odd = tmp_path / os.fsdecode(b"o\xff.jsonl")
    odd.write_text("{}")
    for path in (tmp_path, odd, f"{tmp_path}/*.jsonl"):
        assert refusal(path).endswith(r"/o\xff.jsonl': the name is not UTF-8 text: rename the file or folder")


def test_a_partitioned_table_would_lose_a_column(tmp_path: Path) -> None:
    fill(tmp_path, ["winner=a/0.parquet", "winner=b/0.parquet"])
    assert "is partitioned by 'winner' (sub-folder winner=a)" in refusal(tmp_path)
