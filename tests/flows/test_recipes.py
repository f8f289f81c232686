"""Recipe files: found by name or path, read with any mistake named by file, line and key, and deployed without bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config.recipe_text import line_of
from flows.config.recipes import ConfigError, find_recipe, load_file
from flows.server import entries
from tests.conftest import ROOT
from tests.support.checking import check_run

DEMO = (ROOT / "flows/recipes/demo.toml").read_text(encoding="utf-8")


def line_with(text: str) -> int:
    return next(n for n, line in enumerate(DEMO.splitlines(), start=1) if text in line)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_file(*find_recipe(str(path)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            DEMO.encode() + b"count = 3 pairs = 5\n",
            f"line {len(DEMO.splitlines()) + 1}: is not TOML (Cannot overwrite a value)",
        ),
        (b"# a\nx = [\n", "line 2: is not TOML (Invalid value)"),
        (b"# first\n# caf\xe9\n", "line 2: is not UTF-8 text (byte 0xe9); save the file as UTF-8"),
        (DEMO.encode("utf-16"), "line 1: the file is UTF-16 text; save it as UTF-8"),
        (
            DEMO.replace("votes = 8", "vote = 8").encode(),
            f"line {line_with('votes = 8')}: labels.vote: no such setting; did you mean labels.votes?",
        ),
        (
            DEMO.replace("votes = 8", "votes = 7").encode(),
            f"line {line_with('votes = 8')}: labels.votes: must be a multiple of 2, got 7",
        ),
        (
            DEMO.replace("batch_size = 12", 'batch_size = "x"').encode(),
            f"line {line_with('batch_size = 12')}: training.prover.batch_size: must be a whole number, got 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    assert refusal(tmp_path / "mine.toml") == f"{tmp_path}/mine.toml, {message}"


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + DEMO.encode())
    assert load_file(*find_recipe(str(tmp_path / "mine.toml"))).run_name == "mine"


def test_the_line_of_a_value_in_tables_inline_tables_and_lists_of_tables() -> None:
    text = "run_name = 'x'\n[training]\njudge = { lora = { r = 0 } }\n"
    text += "[[benchmarks.sets]]\ndata = 1\n[[benchmarks.sets]]\ndata = 2\n"
    places = {
        ("run_name",): 1,
        ("training", "judge", "lora", "r"): 3,
        ("training", "packing"): 2,
        ("benchmarks", "sets", 0, "data"): 5,
        ("benchmarks", "sets", 1, "data"): 7,
        ("benchmarks", "sets", 1, "name"): 6,
        ("models",): None,
    }
    assert {place: line_of(text, place) for place in places} == places


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("demo", ("self-train", "demo.toml")),
        ("demo.toml", ("self-train", "demo.toml")),
        ("./flows/recipes/demo.toml", ("self-train", "demo.toml")),
        ("flows/recipes/adapt/demo.toml", ("adapt", "adapt/demo.toml")),
        ("adapt/demo", ("adapt", "adapt/demo.toml")),
        ("world", ("baselines", "baselines/world.toml")),
    ],
)
def test_a_recipe_is_found_by_its_name_or_its_path(
    name: str, found: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    flow, path = find_recipe(name)
    assert (flow, path.resolve()) == (found[0], ROOT / "flows/recipes" / found[1])


def test_a_recipe_elsewhere_belongs_to_the_flow_of_its_folder_or_of_its_sections(tmp_path: Path) -> None:
    for name in ("adapt", "gram"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.toml").write_text("")
        assert find_recipe(str(tmp_path / name / "x.toml"))[0] == name
    for flow, text in {
        "adapt": "[judge]\n[task]\n",
        "baselines": "seeds = [1]\n[models]\n",
        "self-train": DEMO,
    }.items():
        (tmp_path / "mine.toml").write_text(text)
        assert find_recipe(str(tmp_path / "mine.toml"))[0] == flow


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapts/demo", "adapts/demo: there is no flow 'adapts'; did you mean adapt/demo?"),
        *((name, f"{name}: there is no such file") for name in ("/none/x.toml", "x.toml", "gram/x.toml")),
        *(
            (name, f"{name}: there is no such folder")
            for name in ("my-new-run/", "./demo", "~/none", "/demo", "../none")
        ),
        ("adapt/dmeo", "there is no recipe 'dmeo' of adapt; did you mean demo? available: demo, helpsteer3-code"),
    ],
)
def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_recipe(name)
    assert str(caught.value).startswith(message)


def test_a_bad_recipe_does_not_stop_the_deployment_of_the_others(tmp_path: Path) -> None:
    files = []
    named = f"run_name = 'kept'\n{DEMO}"
    for name, text in {"a": "", "good": DEMO, "named": named, "plain": DEMO.partition("\n\n")[2], "z": "x ="}.items():
        files.append(("self-train", tmp_path / f"{name}.toml"))
        files[-1][1].write_text(text)
    made, problems = entries.recipe_deployments(files)
    assert [(one["name"], one["description"], one["parameters"].get("run_name")) for one in made] == [
        ("good", DEMO.partition("\n")[0].removeprefix("# ") + f"\n\nRecipe: `{tmp_path}/good.toml`", None),
        ("named", f"The recipe named.toml.\n\nRecipe: `{tmp_path}/named.toml`", "kept"),
        ("plain", f"The recipe plain.toml.\n\nRecipe: `{tmp_path}/plain.toml`", None),
    ]
    assert problems == [
        f"{tmp_path}/a.toml: models: is required",
        f"{tmp_path}/a.toml: data: is required",
        f"{tmp_path}/z.toml, line 1: is not TOML (Invalid value)",
    ]
    assert "name: good" in entries.prefect_yaml(made)


@pytest.mark.parametrize(
    ("deployment", "parameters", "message"),
    [
        ("self-train/dmeo", {}, "there is no recipe 'dmeo'; did you mean demo?"),
        (
            "self-train/demo",
            {"overrides": {"labels.vote": 4}},
            "labels.vote: no such setting; did you mean labels.votes?",
        ),
        ("self-train/demo", {"overrides": "labels.votes=4"}, "overrides: must be a table"),
        ("self-train/demo", {"override": {}}, "override: no such setting"),
        ("self-train/demo", {"labels": {"votes": 3}}, "labels.votes: must be a multiple of 2, got 3"),
        (
            "self-train/demo",
            {"models": {"judge_base": "/no/model"}},
            "models.prover_base: proofs are written by a prover",
        ),
    ],
)
def test_a_deployments_run_is_refused_before_a_server_starts(
    deployment: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_run(deployment, parameters)
    assert message in str(caught.value)
