"""`gram-r2 init` with several files, and with files that lie where it would write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.files import write_jsonl
from data.sources.columns import ColumnMap
from data.sources.source import Source
from data.sources.sources import SourceError
from flows.config.findings import findings
from flows.config.parameters import SelfTrainConfig
from flows.config.recipes import ConfigError, load_file
from flows.starting.collect import given_columns
from flows.starting.copies import HELDOUT, LABELED, copied_rows, write_copies
from flows.starting.files import find
from flows.starting.inputs import Inputs
from flows.starting.models import look_at, this_machine
from flows.starting.setting_apart import must_be_set_apart
from flows.starting.showing import as_found
from tests.flows.cli.test_init import JUDGE, MODELS, loaded, run, world_file


def test_files_with_different_columns_each_have_their_own_map(tmp_path: Path) -> None:
    pairs, more = world_file(tmp_path / "pairs.jsonl", 30), world_file(tmp_path / "more.jsonl", 40)
    rows = [json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 30)).read_text().splitlines()]
    chosen = [{"task": row["question"], "good": row["answer1"], "bad": row["answer2"]} for row in rows]
    write_jsonl(tmp_path / "chosen.jsonl", chosen)
    argued, held = world_file(tmp_path / "argued.jsonl", 20, rationales=20), world_file(tmp_path / "held.jsonl", 10)
    said = run(
        *(str(tmp_path / "own"), "--labeled", pairs, "--labeled", str(tmp_path / "chosen.jsonl"), "--unlabeled", more),
        *("--rationale", argued, "--heldout", held, *MODELS),
    )
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    data = config.data
    assert [Path(one.path).name for one in data.labeled] == ["pairs.jsonl", "chosen.jsonl"]
    assert data.labeled[1].columns == ColumnMap(prompt="task", chosen="good", rejected="bad")
    names = [Path(found[0].path).name for found in (data.unlabeled, data.rationale, data.heldout)]
    assert names == ["more.jsonl", "argued.jsonl", "held.jsonl"]
    assert data.rationale[0].columns is not None
    assert data.rationale[0].columns.rationale == "why"
    # 60 labeled pairs in both orders, and half of 40 unlabeled ones.
    assert "# 120 examples" in (tmp_path / "own/own.toml").read_text()


def test_rationales_of_every_labeled_file_are_used(tmp_path: Path) -> None:
    pairs, argued = world_file(tmp_path / "pairs.jsonl", 30), world_file(tmp_path / "argued.jsonl", 20, rationales=20)
    more = world_file(tmp_path / "more.jsonl", 20, rationales=12)
    said = run(str(tmp_path / "own"), *(f"--labeled={path}" for path in (pairs, argued, more)), *MODELS)
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    assert [Path(one.path).name for one in config.data.rationale] == ["argued.jsonl", "more.jsonl"]
    # In one's own words, all of them get their conclusion. Files that both number their rows get ids of their content.
    for path in (argued, more):
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        write_jsonl(Path(path), [{"id": i, **row, "why": row["why"] and "It is short."} for i, row in enumerate(rows)])
    assert run(str(tmp_path / "two"), *(f"--labeled={path}" for path in (argued, more)), *MODELS).exit_code == 0
    config = loaded(tmp_path / "two")
    assert isinstance(config, SelfTrainConfig)
    assert [one.id_from for one in config.data.labeled] == ["row", "content"]
    assert not [one.line for one in findings(config) if one.stops]
    clash = config.model_copy(update={"data": config.data.model_copy(update={"labeled": tuple(
        one.model_copy(update={"id_from": "row"}) for one in config.data.labeled
    )})})  # fmt: skip
    [problem] = [one.line for one in findings(clash) if one.kind == "problem"]
    assert problem.startswith(f"data.labeled: {more}: two different pairs have the id '0'")
    assert len((tmp_path / "two/prepared/rationale.jsonl").read_text().splitlines()) == 32


@pytest.mark.parametrize(
    ("option", "name", "asks"),
    [("--labeled", "labeled", "Taste?"), ("--labeled", "rationale", "{i}?"), ("--rationale", "rationale", "Taste?"),
     ("--unlabeled", "heldout", "Taste?"), ("--rationale", "heldout", "Taste?")],
)  # fmt: skip
def test_a_given_file_is_never_overwritten_by_copies(tmp_path: Path, option: str, name: str, asks: str) -> None:
    (tmp_path / "own/prepared").mkdir(parents=True)
    path = Path(world_file(tmp_path / f"own/prepared/{name}.jsonl", 30, asks=asks))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [{**row, "why": "The first is dull."} for row in rows])
    before = path.read_bytes()
    labeled = () if option == "--labeled" else ("--labeled", world_file(tmp_path / "pairs.jsonl", 30, asks=asks))
    said = run(str(tmp_path / "own"), option, str(path), *labeled, *MODELS)
    assert (said.exit_code, path.read_bytes()) == (2, before)
    assert f"{name}.jsonl: lies where init would write copies of rows: move it, or choose another folder" in said.stderr
    assert [one.name for one in (tmp_path / "own").rglob("*") if one.is_file()] == [path.name]


def test_copies_of_which_one_cannot_be_written_leave_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"id": "1"}
        raise SourceError("the file ends here")

    write_copies(tmp_path, {LABELED: [{"id": "0"}]})
    with pytest.raises(SourceError, match="ends here"):
        write_copies(tmp_path, {LABELED: [{"id": "1"}], HELDOUT: broken()})
    assert [(one.name, one.read_text()) for one in (tmp_path / "prepared").iterdir()] == [
        ("labeled.jsonl", '{"id": "0"}\n')
    ]


def test_rows_of_a_table_are_set_apart_without_the_columns_that_are_not_read(tmp_path: Path) -> None:
    rows = [
        json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 30, asks="Taste?")).read_text().splitlines()
    ]
    junk = {"at": datetime(2024, 5, 1, tzinfo=UTC), "price": Decimal("1.5"), "raw": b"\x00", "weight": float("nan")}
    nested = [{**row, **junk, "question": {"text": row["question"], **junk}} for row in rows]
    pq.write_table(pa.Table.from_pylist(nested), tmp_path / "pairs.parquet")
    said = run(str(tmp_path / "own"), "--labeled", str(tmp_path / "pairs.parquet"), *MODELS)
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    copied = [json.loads(line) for line in (tmp_path / "own/prepared/labeled.jsonl").read_text().splitlines()]
    assert len(copied) == 24
    assert {*copied[0]} == {"question", "answer1", "answer2", "better"}
    assert copied[0]["question"] == {"text": "Taste?", "at": None, "price": 1.5, "raw": None, "weight": None}


def test_half_a_surrogate_pair_is_copied_as_it_is(tmp_path: Path) -> None:
    row = {"prompt": "Taste?", "response_a": "Yes \ud83d.", "response_b": "No.", "label": "A"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    [copied] = copied_rows(Source(path=str(tmp_path / "pairs.jsonl")))
    write_copies(tmp_path, {LABELED: [copied]})
    assert json.loads((tmp_path / LABELED).read_text()) == row


def test_too_many_rows_of_one_prompt_are_not_copied_but_a_file_is_asked_for(tmp_path: Path) -> None:
    found = find(world_file(tmp_path / "pairs.jsonl", 30, asks="Taste?"), labeled=True)
    inputs = Inputs("own", "self-train", (found,), look_at(JUDGE), this_machine(0))
    assert must_be_set_apart(inputs)
    with pytest.raises(ConfigError, match=r"all rows have the same prompt, so pairs cannot .* with --heldout FILE"):
        must_be_set_apart(replace(inputs, labeled=(replace(found, rows=200_000),)))


def test_files_of_a_folder_that_are_not_read_are_said(tmp_path: Path) -> None:
    world_file(tmp_path / "pairs.jsonl", 20)
    (tmp_path / "more.ndjson").write_text("")
    said = as_found("labeled", str(tmp_path), find(str(tmp_path), labeled=True))
    assert "  not read      the files more.ndjson" in said


def test_rows_that_are_not_usable_are_said_with_the_reason(tmp_path: Path) -> None:
    labels = ["A", "B", "A", "tie", "", "B", "A", "A"]
    rows = [{"prompt": f"{i}?", "one": "x", "two": "y", "better": label} for i, label in enumerate(labels)]
    rows += [rows[0], {**rows[1], "better": "A"}, {**rows[2], "two": "x"}]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    given = {
        "prompt": ["prompt"],
        "response_a": ["one"],
        "response_b": ["two"],
        "label": ["better"],
        "label_tie": ["tie"],
    }
    found = find(str(tmp_path / "pairs.jsonl"), True, given)
    said = " ".join("\n".join(as_found("labeled", "pairs.jsonl", found)).split())
    assert (
        "rows 11 rows, 6 usable "
        "dropped 1 malformed; the first: pairs.jsonl:5: field 'better': has a value that the map does not list: str ''"
    ) in said
    assert (
        " dropped 1 equal_responses; the first: pairs.jsonl:11: the two responses are equal "
        "dropped 1 repeating an earlier pair; the first: pairs.jsonl:9 "
        "dropped 1 with the label opposite to that of an earlier pair; the first: pairs.jsonl:10 "
        "dropped 1 tied The first pair"
    ) in said


def test_rows_without_a_rationale_column_are_allowed_for(tmp_path: Path) -> None:
    pairs = Path(world_file(tmp_path / "pairs.jsonl", 30, rationales=12))
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    write_jsonl(pairs, [{key: value for key, value in row.items() if value is not None} for row in rows])
    assert run(str(tmp_path / "own"), "--labeled", str(pairs), *MODELS).exit_code == 0
    config = load_file("self-train", tmp_path / "own/own.toml")
    assert isinstance(config, SelfTrainConfig)
    assert (config.data.rationale[0].max_malformed, config.data.labeled[0].max_malformed) == (18, 0)


def test_a_column_map_can_be_given_as_pairs_or_as_json() -> None:
    told = {"prompt": ["q"], "label_a": ["0"], "label_b": ["1", "2"]}
    assert given_columns(["prompt=q", "label_a=0", "label_b=1", "label_b=2"]) == told
    assert given_columns(['{"prompt": "q", "label_a": [0], "label_b": [1, 2]}']) == told
    with pytest.raises(ConfigError, match="label: must be one column"):
        given_columns(['{"label": ["one", "other"]}'])
    with pytest.raises(ConfigError, match=r"--columns \{prompt: is not JSON"):
        given_columns(["{prompt"])


def test_of_few_prompts_what_is_said_is_of_the_rows_that_were_given(tmp_path: Path) -> None:
    pairs = world_file(tmp_path / "pairs.jsonl", 2)
    said = run(str(tmp_path / "own"), "--labeled", pairs, *MODELS)
    assert said.exit_code == 0, said.output
    assert "The rows have only 2 different prompts, so pairs cannot be held out by their prompt" in " ".join(
        said.output.split()
    )
    assert 'overlap = "pair"' in (text := (tmp_path / "own/own.toml").read_text())
    assert "few different prompts: pairs are kept apart as a whole" in text


def test_one_usable_pair_cannot_be_divided(tmp_path: Path) -> None:
    pairs = str(tmp_path / "pairs.jsonl")
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "x", "rejected": "y"}])
    said = run(str(tmp_path / "own"), "--labeled", pairs, *MODELS)
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert f"{pairs}: has 1 usable pair, and one to learn from and one for measuring are needed" in said.stderr
    assert not (tmp_path / "own").exists()


def test_the_commands_that_are_printed_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--labeled", world_file(tmp_path / "pairs.jsonl", 20), *MODELS)
    (tmp_path / "with space").mkdir()
    monkeypatch.chdir(tmp_path / "with space")
    for folder, typed in {
        f"{tmp_path}/with space/own": f"'{tmp_path}/with space/own'",
        "own-2": "own-2",
        "gram-qwen3-1.7b": "./gram-qwen3-1.7b",
    }.items():
        said = run(folder, *given)
        assert said.exit_code == 0, said.output
        assert f"gram-r2 check {typed} " in said.output


@pytest.mark.parametrize("array", [False, True])
def test_conversations_written_as_python_text_are_refused_where_they_are_read(tmp_path: Path, array: bool) -> None:
    def written(*texts: str) -> str:
        turns = [{"content": text, "role": role} for text, role in zip(texts, ("user", "assistant"), strict=False)]
        return str(turns).replace("}, {", "}\n {") if array else str(turns)

    rows = [{"chosen": written(f"{i}?", "Yes."), "rejected": written(f"{i}?", "No.")} for i in range(8)]
    plain = [{"prompt": f"{i}?", "chosen": "Yes.", "rejected": "No."} for i in range(8)]
    path = tmp_path / "pairs.jsonl"
    for i, given in enumerate((rows, [{**row, **own} for row, own in zip(plain, rows, strict=True)])):
        write_jsonl(path, given)
        with pytest.raises(
            ConfigError, match=r"the column 'chosen' has conversations written as Python text.*as \.jsonl or"
        ):
            find(str(path), labeled=i == 0)
    # A column that is not read may hold anything.
    write_jsonl(path, [{**row, "messages": own["chosen"]} for row, own in zip(plain, rows, strict=True)])
    assert find(str(path), labeled=True).source.format == "chosen-rejected"
