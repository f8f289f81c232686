"""The column maps that `gram-r2 init` guesses: from names and values, and never a label's direction that is not clear."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.sources.columns import ColumnMap
from flows.config.recipes import ConfigError
from flows.starting.columns import guess_columns
from flows.starting.files import find
from flows.starting.showing import as_found

N = 8
PROMPTS = [f"What is {i} plus {i}?" for i in range(N)]
FIRST = [f"It is {2 * i}." for i in range(N)]
SECOND = [f"I think {2 * i + 1}." for i in range(N)]


def rows(**columns: Any) -> list[dict[str, Any]]:
    """Rows of the prompts and responses; a list of values is repeated as often as needed."""
    return [
        {name: one[i % len(one)] if isinstance(one, list) else one for name, one in columns.items()} for i in range(N)
    ]


OWN = {"question": PROMPTS, "answer1": FIRST, "answer2": SECOND}
RESPONSES = {"prompt": "question", "response_a": "answer1", "response_b": "answer2"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({**OWN, "better": [1, 2]}, {**RESPONSES, "label": "better", "label_a": [1], "label_b": [2]}),
        ({**OWN, "better": ["1", "2"]}, {**RESPONSES, "label": "better", "label_a": ["1"], "label_b": ["2"]}),
        (
            {**OWN, "winner": ["answer2", "both", "answer1"], "why": [f"Since {i}." for i in range(N)]},
            {**RESPONSES, "label": "winner", "label_a": ["answer1"], "label_b": ["answer2"], "label_tie": ["both"],
             "rationale": "why"},
        ),
        (
            {"q": PROMPTS, "left": FIRST, "right": SECOND, "pick": ["left", "right"], "id": list(range(N))},
            {"prompt": "q", "response_a": "left", "response_b": "right", "label": "pick", "label_a": ["left"],
             "label_b": ["right"], "id": "id"},
        ),
        (
            {"instruction": PROMPTS, "input": "Be brief.", "output_a": FIRST, "output_b": SECOND,
             "preference": ["model_a", "model_b"], "model_a": ["x", "y"], "model_b": ["y", "x"]},
            {"prompt": "instruction", "prompt_extra": "input", "response_a": "output_a", "response_b": "output_b",
             "label": "preference", "label_a": ["model_a"], "label_b": ["model_b"]},
        ),
        (
            {"prompt": PROMPTS, "response_0": FIRST, "response_1": SECOND, "better_response_id": [0, 1]},
            {"prompt": "prompt", "response_a": "response_0", "response_b": "response_1", "label": "better_response_id",
             "label_a": [0], "label_b": [1]},
        ),
        (
            {"prompt": PROMPTS, "answerA": FIRST, "answerB": SECOND, "winner_model_a": [1, 0, 0], "winner_model_b": [0, 1, 0],
             "winner_tie": [0, 0, 1]},
            {"prompt": "prompt", "response_a": "answerA", "response_b": "answerB", "is_a": "winner_model_a",
             "is_b": "winner_model_b", "is_tie": "winner_tie"},
        ),
        (
            {**OWN, "rating1": [3, 5, 4], "rating2": [4, 1, 2]},
            {**RESPONSES, "score_a": "rating1", "score_b": "rating2"},
        ),
        ({**OWN, "answer1_is_better": [True, False]},
         {**RESPONSES, "label": "answer1_is_better", "label_a": [True], "label_b": [False]}),
        (
            {"task": PROMPTS, "dispreferred": SECOND, "preferred": FIRST, "reason": [f"R {i}" for i in range(N)]},
            {"prompt": "task", "chosen": "preferred", "rejected": "dispreferred", "rationale": "reason"},
        ),
    ],
)  # fmt: skip
def test_a_map_is_guessed_from_names_and_values(columns: dict[str, Any], expected: dict[str, Any]) -> None:
    guess = guess_columns(rows(**columns))
    assert (guess.columns, guess.complete) == (expected, True)
    ColumnMap(**guess.columns)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("better", [0, 1]),
        ("better", [0, 1, 2]),
        ("preference", [-1, 1]),
        ("worse", ["answer1", "answer2"]),
        ("less_preferred", ["answer1", "answer2"]),
        ("dispreferred_choice", ["1", "2"]),
        ("not_selected", ["answer1", "answer2"]),
        ("answer1_is_not_better", [True, False]),
        ("more_harmful_choice", ["answer1", "answer2"]),
        ("label", [True, False]),
    ],
)
def test_values_that_do_not_say_which_is_better_are_not_guessed(name: str, values: list[Any]) -> None:
    guess = guess_columns(rows(**OWN, **{name: values}))
    assert guess.unclear == values
    assert not {"label_a", "label_b"} & guess.columns.keys()


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("worse_1", "worse_2"), "is"),
        (("loser1", "loser2"), "is"),
        (("label_worst_1", "label_worst_2"), "is"),
        (("answer1_is_not_better", "answer2_is_not_better"), "is"),
        (("toxicity_label_1", "toxicity_label_2"), "is"),
        (("toxicity_score_1", "toxicity_score_2"), "score"),
        (("harm_rating_1", "harm_rating_2"), "score"),
        (("answer1_rank", "answer2_rank"), "score"),
    ],
)
def test_marks_and_scores_that_may_be_of_the_worse_response_are_asked_for(names: tuple[str, str], keys: str) -> None:
    columns = {names[0]: [1, 0], names[1]: [0, 1]} if keys == "is" else {names[0]: [3, 5, 4], names[1]: [4, 1, 2]}
    guess = guess_columns(rows(**OWN, **columns))
    assert guess.columns == RESPONSES
    [missing] = guess.missing
    assert missing.keys == (f"{keys}_a", f"{keys}_b")
    assert missing.what.endswith(f"perhaps {names[0]} and {names[1]}")
    # Named the other way round, they say which response is better.
    said = guess_columns(rows(**OWN, **columns), {f"{keys}_a": [names[1]], f"{keys}_b": [names[0]]})
    assert said.complete


def test_scores_whose_every_word_is_known_are_taken_beside_others() -> None:
    scores = {
        "harm_score_1": [3, 4],
        "harm_score_2": [4, 5],
        "overall_gpt4_rating_1": [1, 2],
        "overall_gpt4_rating_2": [2, 1],
    }
    guess = guess_columns(rows(**OWN, **scores))
    assert guess.columns == {**RESPONSES, "score_a": "overall_gpt4_rating_1", "score_b": "overall_gpt4_rating_2"}


def test_of_several_label_columns_none_is_chosen() -> None:
    guess = guess_columns(rows(**OWN, label_model=["1", "2"], label_human=["2", "1"]))
    assert guess.columns == RESPONSES
    assert [str(one) for one in guess.missing] == [
        "label, the column that says which response is better: several could be: label_model, label_human"
    ]
    measured = guess_columns(rows(**OWN, preference=["1", "2"], preference_strength=[1, 2, 3]))
    assert measured.complete
    assert measured.columns["label"] == "preference"


def test_a_label_column_of_lists_and_a_response_alone_are_asked_for() -> None:
    votes = [{**row, "votes": [1, 2]} for row in rows(**OWN)]
    [missing] = guess_columns(votes, {"label": ["votes"]}).missing
    assert (
        str(missing)
        == "label, the column that says which response is better: the cells of 'votes' are lists or objects"
    )
    [first, *_] = guess_columns(rows(frage=PROMPTS, x=FIRST, y=SECOND, better=[1, 2]), {"response_a": ["x"]}).missing
    assert first.keys == ("response_a", "response_b")
    # An integer that no float can hold is no number, and no error either.
    assert "score_a" not in guess_columns(rows(**OWN, score1=[10**400, 1], score2=[1, 2])).columns


def test_what_is_said_counts_and_what_was_not_said_stays_open() -> None:
    labels = rows(**OWN, better=[0, 1, "tie"])
    said = guess_columns(labels, {"label_a": ["0"], "label_b": ["1"]})
    assert said.complete
    assert {key: said.columns[key] for key in ("label_a", "label_b", "label_tie")} == {
        "label_a": [0], "label_b": [1], "label_tie": ["tie"],
    }  # fmt: skip
    assert guess_columns(rows(**OWN, better=[1, 2]), {"label_a": ["2"]}).unclear == [1]
    [missing] = guess_columns(labels, {"label_a": ["7"], "label_b": ["1"]}).missing
    assert str(missing) == "label_a: the column 'better' has no value '7'"


def test_nested_columns_and_conversations_in_json_text() -> None:
    turns = [json.dumps([{"role": "user", "content": text}]) for text in PROMPTS]
    nested = rows(
        messages=turns, a=[{"text": text} for text in FIRST], b=[{"text": text} for text in SECOND], label=["A", "B"]
    )
    assert guess_columns(nested).columns == {
        "prompt": "messages", "response_a": "a.text", "response_b": "b.text", "label": "label", "label_a": ["A"],
        "label_b": ["B"], "json_columns": ["messages"],
    }  # fmt: skip


def written(path: Path, given: Sequence[Mapping[str, Any]]) -> str:
    write_jsonl(path, given)
    return str(path)


def test_a_file_that_is_not_clear_is_refused_with_the_map_so_far_and_the_option(tmp_path: Path) -> None:
    path = written(tmp_path / "own.jsonl", rows(**OWN, better=[0, 1]))
    with pytest.raises(ConfigError) as caught:
        find(path, labeled=True)
    assert str(caught.value).splitlines() == [
        f"{path}: no known format reads it, and its columns are not clear. They are question, answer1, answer2, better",
        "  known so far: prompt = question, response_a = answer1, response_b = answer2, label = better",
        "  not clear: which response is better where 'better' is 0, 1",
        "  say it with --columns label_a=VALUE for the value that means 'answer1' is better, label_b=VALUE for 'answer2', "
        "label_tie=VALUE for neither",
    ]
    found = find(path, labeled=True, given={"label_a": ["1"], "label_b": ["0"]})
    assert found.source.columns is not None
    assert (found.source.columns.label_a, found.source.columns.label_b) == ([1], [0])
    assert found.survey.examples[0].label == "B"

    path = written(tmp_path / "odd.jsonl", rows(frage=PROMPTS, x=FIRST, y=SECOND))
    with pytest.raises(
        ConfigError,
        match=r"(?s)known so far: nothing.*missing: response_a and response_b.*columns response_a=COLUMN --columns response_b=",
    ):
        find(path, labeled=True)


def test_known_formats_are_kept_unless_they_would_lose_the_rationales(tmp_path: Path) -> None:
    chosen = rows(prompt=PROMPTS, chosen=FIRST, rejected=SECOND)
    assert find(written(tmp_path / "a.jsonl", chosen), labeled=True).source.format == "chosen-rejected"
    argued = [{**row, "critique": "The chosen response is right."} for row in chosen]
    found = find(written(tmp_path / "b.jsonl", argued), labeled=True).source
    assert found.columns == ColumnMap(prompt="prompt", chosen="chosen", rejected="rejected", rationale="critique")
    said = " ".join("\n".join(as_found("labeled", "b.jsonl", find(str(tmp_path / "b.jsonl"), labeled=True))).split())
    assert "note which response is A is drawn: a rationale may say 'the chosen response'" in said


def test_labels_in_a_column_that_a_known_format_does_not_read_are_found(tmp_path: Path) -> None:
    records = rows(prompt=PROMPTS, response_a=FIRST, response_b=SECOND, winner=["a", "b"])
    found = find(written(tmp_path / "a.jsonl", records), labeled=True)
    assert found.source.columns is not None
    assert (found.source.columns.label, found.source.columns.label_a) == ("winner", ["a"])
    assert find(written(tmp_path / "a.jsonl", records), labeled=False).source.format == "records"
    path = written(tmp_path / "b.jsonl", rows(prompt=PROMPTS, response_a=FIRST, response_b=SECOND, topic="sums"))
    with pytest.raises(
        ConfigError, match=r"format records reads it, but finds no labels \(if it has none, give it as --unlab"
    ):
        find(path, labeled=True)


def test_texts_in_json_lists_are_not_shown_as_json(tmp_path: Path) -> None:
    marks = {"winner_model_a": [1, 0, 0], "winner_model_b": [0, 1, 0], "winner_tie": [0, 0, 1]}
    lists = {key: [json.dumps([text]) for text in texts]
             for key, texts in (("prompt", PROMPTS), ("response_a", FIRST), ("response_b", SECOND))}  # fmt: skip
    path = tmp_path / "arena.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [*lists, *marks])
        table.writeheader()
        table.writerows(rows(**lists, **marks))
    for labeled in (True, False):
        found = find(str(path), labeled=labeled)
        assert found.source.columns is not None
        assert sorted(found.source.columns.json_columns) == ["prompt", "response_a", "response_b"]
        assert (found.source.columns.is_tie == "winner_tie") is labeled
        assert [turn.content for turn in found.survey.examples[0].pair.prompt] == [PROMPTS[0]]
    # One list alone, such as an answer that is one, is a text.
    alone = rows(**{**lists, "prompt": PROMPTS})
    assert find(written(tmp_path / "alone.jsonl", alone), labeled=False).source.format == "records"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_cell_that_is_cut_off_leaves_the_other_cells_conversations(tmp_path: Path, indent: int | None) -> None:
    turns = [[json.dumps([{"role": "user", "content": asked}, {"role": "assistant", "content": text}], indent=indent)
              for asked, text in zip(PROMPTS, texts, strict=True)] for texts in (FIRST, SECOND)]  # fmt: skip
    turns[0][-1] = turns[0][-1][:30]
    path = written(tmp_path / "a.jsonl", rows(prompt=PROMPTS, chosen=turns[0], rejected=turns[1]))
    found = find(path, labeled=True)
    assert found.source.columns is not None
    assert found.source.columns.json_columns == ["chosen", "rejected"]
    assert (found.usable("preference"), found.malformed("preference")) == (N - 1, 1)
    assert found.survey.examples[0].pair.response_a in (FIRST[0], SECOND[0])


def test_unlabeled_rows_need_no_label_and_rows_without_one_are_allowed_for(tmp_path: Path) -> None:
    found = find(written(tmp_path / "u.jsonl", rows(**OWN, why="x")), labeled=False)
    assert found.source.columns == ColumnMap(**RESPONSES)
    some = rows(**OWN, better=[1, 2], why=[float("nan"), "It is brief."])
    some[3]["better"], some[4]["better"], some[5]["answer2"] = None, float("nan"), None
    assert guess_columns(some).unclear == []
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    found = find(str(tmp_path / "l.jsonl"), labeled=True)
    assert (found.rows, found.usable("preference"), found.malformed("preference")) == (N, N - 3, 3)
    assert (found.usable("rationale"), found.malformed("rationale")) == (2, 3)


def test_each_file_takes_the_given_columns_that_it_has(tmp_path: Path) -> None:
    path = written(
        tmp_path / "n.jsonl", rows(frage=PROMPTS, one={"x": "Yes."}, other={"x": "No."}, besser=["one", "other"])
    )
    given = {"prompt": ["question", "frage"], "response_a": ["one.x"], "response_b": ["other.x"], "label": ["besser"]}
    columns = find(path, labeled=True, given=given).source.columns
    assert columns == ColumnMap(
        prompt="frage", response_a="one.x", response_b="other.x", label="besser", label_a=["one"], label_b=["other"]
    )
