"""What the pages say of the software is what the software says: commands can be given, links lead somewhere, nothing is missing.

Commands are parsed by the programs that they are for, and their recipes and settings are checked as before a run. Those that need
nothing are run here; ``tests/server`` runs the others' kinds on a real server.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.cli._app import _app as prefect
from typer.main import get_command

from flows.cli.app import app
from flows.cli.values import values
from flows.config.recipes import find_recipe, load_run, recipe_files
from flows.config.reference import PAGE, with_reference
from flows.server.entries import POOLS, SHORT
from tasks.rank import Judge
from tests.conftest import ROOT
from tests.support.commands import gram_r2

FOLDERS = ("data", "flows", "prompts", "tasks", "tests")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("README.md")),
]
SPAN = re.MULTILINE | re.DOTALL
BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```|((?:^    .*\n)+)", SPAN)
INLINE = re.compile(r"`((?:gram-r2|make|python -m) [^`]+)`")
VARIABLE = re.compile(r"[A-Z_0-9]+=.*")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
OF_THE_SYSTEM = {"cd", "docker", "export", "git", "moto_server", "source"}
OURS = ("my-", "hub:", "~", "rows.jsonl", "s3://", "http")
"""How what a reader puts in begins: there is no such thing here."""


def texts() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        yield page, page.read_text(encoding="utf-8")


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every line in a block that begins with a program; variables before it are left out."""
    for page, text in texts():
        for fenced, indented in BLOCK.findall(text):
            for line in re.sub(r"\\\n\s*", " ", fenced or indented).splitlines():
                for part in line.strip().removeprefix("$ ").removesuffix(" &").split(" && "):
                    words = part.split()
                    while words and VARIABLE.fullmatch(words[0]):
                        words = words[1:]
                    if words and words[0] in CHECKS.keys() | OF_THE_SYSTEM:
                        yield page.relative_to(ROOT).as_posix(), part[part.index(words[0]) :]


def check_gram_r2(words: list[str]) -> None:
    found = get_command(app)
    while hasattr(found, "commands"):
        found, words = found.commands[words[0]], words[1:]
    given = found.make_context("gram-r2", words).params
    recipe = given.get("recipe")
    if recipe and not recipe.startswith(OURS):
        load_run(*find_recipe(recipe), {"overrides": values(given.get("changes"))})


def check_make(words: list[str]) -> None:
    assert next(word for word in words if not VARIABLE.fullmatch(word)) in TARGETS


def check_prefect(words: list[str]) -> None:
    function, bound, _ = prefect.parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    if function.__module__.endswith("deployment") and words[1] == "run" and "my-run" not in given["name"]:
        flow, path = find_recipe(given["name"])
        load_run(flow, path, values([pair for pair in given.get("params", ()) if "<" not in pair]))
    if words[:2] == ["worker", "start"]:
        assert given["work_pool_name"] in POOLS
        assert set(given.get("work_queues") or ()) <= {"default", SHORT}


def check_python(words: list[str]) -> None:
    assert words[0] == "-c" or importlib.util.find_spec(words[1]), words


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(.*?)\]", " ".join(words))) <= extras.keys()


CHECKS = {
    "gram-r2": check_gram_r2,
    "make": check_make,
    "prefect": check_prefect,
    "python": check_python,
    "pip": check_pip,
}


@pytest.mark.parametrize(("page", "command"), list(dict.fromkeys(commands())), ids=lambda text: text)
def test_a_command_can_be_given_as_it_stands(page: str, command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    if program in CHECKS:
        CHECKS[program](words)


def test_commands_are_found_on_the_pages() -> None:
    found = list(commands())
    for page, command in (
        ("README.md", "gram-r2 run my-run/"),
        ("README.md", "make demo"),
        ("flows/README.md", "prefect worker start --pool ctl --work-queue short --limit 2"),
        ("data/README.md", "gram-r2 describe rows.jsonl"),
    ):
        assert (page, command) in found
    with pytest.raises(Exception, match="votess"):
        check_gram_r2(["run", "demo", "--set", "labels.votess=2"])
    with pytest.raises(Exception, match="parm"):
        check_prefect(["deployment", "run", "self-train/demo", "--parm", "a=1"])


def test_commands_within_sentences_exist() -> None:
    for page, text in texts():
        for command in INLINE.findall(text):
            program, *words = command.split()
            if program == "gram-r2":
                assert options(words) >= {word for word in words if word.startswith("--")}, f"{page}: {command}"
            elif program == "make":
                assert words[0] in TARGETS, f"{page}: {command}"
            else:
                assert words[1].endswith("*") or importlib.util.find_spec(words[1]), f"{page}: {command}"


def options(words: list[str]) -> set[str]:
    """The options of the command that these words name. Raises KeyError if there is none."""
    found = get_command(app)
    while hasattr(found, "commands") and words and not words[0].startswith("--"):
        found, words = found.commands[words[0]], words[1:]
    return {name for parameter in found.params for name in parameter.opts}


def test_python_on_the_pages_uses_what_there_is() -> None:
    blocks = [(page, block) for page, text in texts() for block in re.findall(r"^```python\n(.*?)^```", text, SPAN)]
    assert blocks
    for page, block in blocks:
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FOLDERS:
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), f"{page}: {ast.unparse(node)}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "judge":
                assert hasattr(Judge, node.attr), f"{page}: judge.{node.attr}"


@pytest.mark.parametrize(
    "command",
    ["recipes", "list", "check flows/recipes/own/pairs", "plan flows/recipes/own/pairs"],
)
def test_commands_that_need_nothing_run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = gram_r2(*command.split())
    assert done.code == 0, done.err


def test_every_link_leads_somewhere() -> None:
    for page, text in texts():
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", text):
            assert not target or target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"


def test_every_part_of_a_page_that_is_linked_to_is_there() -> None:
    for page, text in texts():
        for target, part in re.findall(r"\]\(([^)#\s]*)#([^)]*)\)", text):
            if target.startswith("http"):
                continue
            there = (page.parent / target if target else page).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert part in slugs, f"{page}: {target}#{part}"


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_recipe_key_is_explained_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_reference(page) == page, "run `python -m flows.config.reference`"


def test_every_recipe_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for flow, path in recipe_files():
        assert f"`{path.stem}`" in page or f"`{flow}/{path.stem}`" in page, path


def test_no_placeholder_is_left() -> None:
    for page, text in texts():
        assert not re.search(r"\b[A-Z]+_(?:MINUTES|OUTPUT|TABLE|SECONDS)\b", text), page
