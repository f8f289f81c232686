"""`gram-r2 init`: the recipes it writes load and pass the checks, and what was found is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from data.files import write_jsonl
from data.world import taste
from flows.cli.asking import AtTerminal
from flows.cli.init import init
from flows.config.checks import check
from flows.config.every_run import RunParameters
from flows.config.parameters import AdaptConfig, BenchmarkConfig, GramConfig, SelfTrainConfig
from flows.config.recipes import find_recipe, load_file
from flows.starting.collect import Options
from flows.starting.writing import write
from tests.conftest import ROOT

JUDGE, PROVER = str(ROOT / "data/world/base-judge"), str(ROOT / "data/world/base-prover")
MODELS = ("--judge", JUDGE, "--prover", PROVER, "--gpus", "0")


def world_file(
    path: Path, n: int, asks: str = "{i}?", rationales: int = 0, labels: tuple[object, object] = (1, 2)
) -> str:
    """Pairs of the small world in columns of our own."""
    rows = []
    for i, one in enumerate(taste.draw_pairs(n, path.name)):
        row = {"question": asks.format(i=i), "answer1": one.pair.response_a, "answer2": one.pair.response_b}
        row["better"] = labels[0] if one.label == "A" else labels[1]  # type: ignore[assignment]
        if rationales:
            row["why"] = taste.rationale(one.pair) if i < rationales else None  # type: ignore[assignment]
        rows.append(row)
    write_jsonl(path, rows)
    return str(path)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(init)
    return CliRunner().invoke(app, arguments)


def loaded(folder: Path) -> RunParameters:
    """The recipe in a folder, which passes all checks."""
    config = load_file(*find_recipe(str(folder)))
    assert config.run_name == folder.name
    check(config)
    return config


def test_60_pairs_with_columns_of_ones_own_and_one_prompt(tmp_path: Path) -> None:
    pairs = world_file(tmp_path / "pairs.jsonl", 60, asks="Taste?", rationales=16)
    more = world_file(tmp_path / "more.jsonl", 300, asks="Taste?")
    folder = tmp_path / "my-run"
    said = run(str(folder), "--labeled", pairs, "--unlabeled", more, *MODELS)
    assert said.exit_code == 0, said.output
    config = loaded(folder)
    assert isinstance(config, SelfTrainConfig)
    assert (config.models.judge_prompt, config.models.dtype, config.data.overlap) == ("compact", "float32", "pair")
    assert (config.rounds.count, config.rounds.pairs) == (3, 100)
    assert (config.training.prover.max_steps, config.proofs.temperature) == (30, 1.0)
    assert config.training.first_judge.max_steps == config.training.judge.max_steps == 200
    # One prompt cannot be split: the rows were divided, and the pairs to learn from are those that are not held out.
    held, kept = ((folder / f"prepared/{name}.jsonl").read_text().splitlines() for name in ("heldout", "labeled"))
    assert (len(held), len(kept)) == (12, 48)
    assert sorted(held + kept) == sorted(Path(pairs).read_text().splitlines())
    assert config.data.labeled[0].path == config.data.rationale[0].path == str(folder / "prepared/labeled.jsonl")
    text = (folder / "my-run.toml").read_text()
    assert 'path = "prepared/labeled.jsonl"' in text
    assert 'path = "../more.jsonl"' in text
    assert all(len(line) <= 120 or line.startswith("judge_base") for line in text.splitlines())
    for line in ("better: A is better where it is 1, B where it is 2", "60 usable, 16 of them with a rationale", "better: A",
                 "All rows have the same prompt", "gram-r2 run"):  # fmt: skip
        assert line in said.output
    assert "must be put right" not in said.output


def test_without_rationales_and_unlabeled_pairs_the_judge_replies_with_the_label_alone(tmp_path: Path) -> None:
    pairs = world_file(tmp_path / "pairs.jsonl", 40)
    said = run(str(tmp_path / "own"), "--labeled", pairs, "--judge", JUDGE, "--gpus", "0")
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    assert (config.models.judge_prompt, config.rounds.count, config.data.heldout_share) == ("compact-label", 0, 0.2)
    assert not config.writes_proofs()
    assert "There are no pairs with rationales" in said.output
    assert "no self-training: rounds.count = 0" in " ".join(said.output.split())


def test_rationales_in_ones_own_words_are_given_their_conclusion(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 20)).read_text().splitlines()]
    write_jsonl(
        tmp_path / "x.jsonl", [{**row, "critique": f"The second one is dull {i}."} for i, row in enumerate(rows)]
    )
    said = run(str(tmp_path / "own"), "--labeled", str(tmp_path / "x.jsonl"), *MODELS)
    assert "copied to prepared/rationale.jsonl" in " ".join(said.output.split())
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    assert config.models.judge_prompt == "compact"
    # The tiny prover has no words for English: it is trained longer than on the small world's, and sampled closer.
    assert (config.training.prover.max_steps, config.proofs.temperature) == (200, 0.5)
    [source] = config.data.rationale
    written = [json.loads(line) for line in Path(source.path).read_text().splitlines()]
    assert len(written) == 20
    for row, own in zip(written, rows, strict=True):
        assert row["rationale"] == f"The second one is dull {rows.index(own)}. So {row['label']} is better."
        assert (row["response_a"], row["label"]) == (own["answer1"], "A" if own["better"] == 1 else "B")


def test_rationales_for_the_other_response_get_no_conclusion_and_most_of_them_are_an_error(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 20)).read_text().splitlines()]
    ends = [
        "Response {} is clearly better: it says more.",
        "So {} is better.",
        "I prefer {}.",
        "The other one is duller than {}.",
    ]

    def written(n_other: int) -> str:
        for i, row in enumerate(rows):
            row["why"] = f"Look at {i}. " + ends[i // 4 % 4].format("AB"[(row["better"] == 2) is (i >= n_other)])
        write_jsonl(tmp_path / "x.jsonl", rows)
        return str(tmp_path / "x.jsonl")

    said = run(str(tmp_path / "own"), "--labeled", written(12), *MODELS)
    assert said.exit_code == 2
    assert "12 of 20 rationales conclude for the other response: are the labels reversed?" in said.stderr
    assert not (tmp_path / "own").exists()
    ends[1] = ends[3]
    said = run(str(tmp_path / "own"), "--labeled", written(3), *MODELS)
    assert "3 that conclude for the other response were left out" in " ".join(said.output.split())
    assert len((tmp_path / "own/prepared/rationale.jsonl").read_text().splitlines()) == 17


def test_the_other_flows(tmp_path: Path) -> None:
    pairs, more = world_file(tmp_path / "pairs.jsonl", 60), world_file(tmp_path / "more.jsonl", 50)
    given = ("--labeled", pairs, "--judge", JUDGE, "--gpus", "0")
    for flow, extra in (("gram", ("--unlabeled", more)), ("adapt", ()), ("benchmark", ())):
        said = run(str(tmp_path / flow), "--flow", flow, *given, *extra)
        assert said.exit_code == 0, said.output
    gram = load_file(*find_recipe(str(tmp_path / "gram")))
    assert isinstance(gram, GramConfig)
    assert (gram.run_name, gram.training.pretraining is None) == ("gram", False)
    check(gram)
    adapt = load_file(*find_recipe(str(tmp_path / "adapt")))
    assert isinstance(adapt, AdaptConfig)
    assert (adapt.task.sizes, adapt.training.packing) == ((9, 19, 34), False)
    benchmark = load_file(*find_recipe(str(tmp_path / "benchmark")))
    assert isinstance(benchmark, BenchmarkConfig)
    assert benchmark.benchmarks.sets[0].data == pairs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--judge", JUDGE), "--labeled FILE is needed"),
        (("--labeled", "PAIRS"), "--judge MODEL is needed: the folder or hub name of its base model, such as HuggingFaceTB/"),
        (("--labeled", "none.jsonl", "--judge", JUDGE), "none.jsonl"),
        (("--labeled", "PAIRS", "--judge", "./none"), "'./none' is neither a local folder"),
        (("--labeled", "PAIRS", "--judge", "none/"), "'none/' is neither a local folder"),
        (("--labeled", "PAIRS", "--judge", "PAIRS"), "pairs.jsonl' is a file: give the folder"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--prover", "$UNSET/x"), "the environment variable UNSET is not set"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--columns", "label_a"), "--columns label_a: must be KEY=COLUMN"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--columns", "prompt=frage"), "no file has the column 'frage'"),
        (("--labeled", "KNOWN", "--judge", JUDGE, "--columns", "label_a=1"), "label_a=1: no file is read with a label column"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--flow", "adapt", "--unlabeled", "PAIRS"), "the flow adapt does not read it"),
        (("--labeled", "UNCLEAR", "--judge", JUDGE), "--columns label_a=VALUE"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--format", "record"), "no such format; did you mean records?"),
        (("--labeled", "PAIRS", "--judge", JUDGE, "--format", "gram-rr"), "instead (field 'output': is missing"),
        (("--labeled", "UNCLEAR", "--judge", JUDGE, "--format", "gram-rr"), "the format gram-rr does not read it ("),
    ],
)  # fmt: skip
def test_what_cannot_be_used_ends_it_with_one_message(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    files = {
        "PAIRS": world_file(tmp_path / "pairs.jsonl", 20),
        "KNOWN": str(ROOT / "flows/recipes/own/judge/preferences.jsonl"),
        "UNCLEAR": world_file(tmp_path / "0.jsonl", 20, labels=(0, 1)),
    }
    said = run(str(tmp_path / "own"), "--gpus", "0", *(files.get(one, one) for one in arguments))
    assert said.exit_code == 2, said.output
    assert message in said.stderr
    assert not (tmp_path / "own").exists()


def test_the_name_of_a_built_in_recipe_is_refused(tmp_path: Path) -> None:
    given = ("--labeled", world_file(tmp_path / "pairs.jsonl", 20), "--judge", JUDGE, "--gpus", "0")
    said = run(str(tmp_path / "demo"), *given)
    assert said.exit_code == 2
    assert "self-train/demo is the deployment of a built-in recipe: use another name" in said.stderr
    assert not (tmp_path / "demo").exists()


def test_a_recipe_is_overwritten_only_if_forced(tmp_path: Path) -> None:
    given = (str(tmp_path / "own"), "--labeled", world_file(tmp_path / "pairs.jsonl", 20), "--judge", JUDGE)
    assert run(*given).exit_code == 0
    again = run(*given)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    assert run(*given, "--force").exit_code == 0


def test_at_a_terminal_what_was_not_given_is_asked_for(tmp_path: Path) -> None:
    pairs = world_file(tmp_path / "pairs.jsonl", 30, labels=(0, 1))
    app = typer.Typer()
    app.command()(lambda: write(tmp_path / "own", Options(gpus=0), AtTerminal(True)) and None)
    # File; which is better in a row of each value; no unlabeled, rationale and held-out files; the judge.
    said = CliRunner().invoke(app, input=f"{pairs}\nmaybe\na\nB\n\n\n\n{JUDGE}\n")
    assert said.exit_code == 0, said.output
    assert "A, B or tie?" in said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    columns = config.data.labeled[0].columns
    assert columns is not None
    first = json.loads(Path(pairs).read_text().splitlines()[0])["better"]
    assert (columns.label_a, columns.label_b) == ([first], [1 - first])


def test_at_a_terminal_columns_of_any_names_are_asked_for(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(world_file(tmp_path / "x.jsonl", 20)).read_text().splitlines()]
    odd = [
        {"frage": row["question"], "x": row["answer1"], "y": row["answer2"], "besser": "xy"[row["better"] - 1]}
        for row in rows
    ]
    write_jsonl(tmp_path / "odd.jsonl", odd)
    app = typer.Typer()
    options = Options(labeled=(str(tmp_path / "odd.jsonl"),), judge=JUDGE, gpus=0)
    app.command()(lambda: write(tmp_path / "own", options, AtTerminal(True)) and None)
    # The responses (a name that is not there is asked for again), the prompt, then the label; no other files.
    said = CliRunner().invoke(app, input="x\nz\nfrage\nx\ny\nbesser\n\n\n\n")
    assert said.exit_code == 0, said.output
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    columns = config.data.labeled[0].columns
    assert columns is not None
    assert (columns.prompt, columns.response_a, columns.label, columns.label_b) == ("frage", "x", "besser", ["y"])


def test_gpus_of_another_machine_are_not_missed_here(tmp_path: Path) -> None:
    pairs = world_file(tmp_path / "pairs.jsonl", 40)
    said = run(str(tmp_path / "own"), "--labeled", pairs, "--judge", "owner/Giant-70B-Instruct", "--gpus", "8")
    assert said.exit_code == 0, said.output
    config = load_file(*find_recipe(str(tmp_path / "own")))
    assert isinstance(config, SelfTrainConfig)
    assert (config.models.dtype, config.generation.tensor_parallel) == ("bfloat16", 4)
    assert config.training.first_judge.lora is not None
    # The model itself is not available here, which is all that is said.
    problems = said.output.partition("must be put right")[2]
    assert "owner/Giant-70B-Instruct" in problems
    assert "tensor_parallel" not in problems
