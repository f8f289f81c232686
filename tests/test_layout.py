"""The shape of the project, read from its imports: what may know of what, and what is imported only where it is needed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

MAY_IMPORT = {
    "data": {"data"},
    "prompts": {"prompts", "data"},
    "tasks": {"tasks", "prompts", "data"},
    "flows": {"flows", "tasks", "prompts", "data"},
}
HEAVY = {"torch", "vllm", "transformers", "trl", "peft", "datasets"}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """The top-level names of all modules that these nodes import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names.add((node.module or "").split(".")[0])
    return names


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not what is inside functions or under TYPE_CHECKING."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from run_at_import(other)
            continue
        yield from run_at_import(child)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@each_file
def test_imports_go_one_way_from_flows_to_tasks_to_prompts_to_data(path: Path) -> None:
    ours = imported(ast.walk(tree(path))) & {*MAY_IMPORT, "tests"}
    assert ours <= MAY_IMPORT[package_of(path)]


@each_file
def test_heavy_libraries_are_imported_where_they_are_needed_only(path: Path) -> None:
    assert not imported(run_at_import(tree(path))) & HEAVY


@each_file
def test_data_and_prompts_know_nothing_of_prefect(path: Path) -> None:
    if package_of(path) in ("data", "prompts"):
        assert "prefect" not in imported(ast.walk(tree(path)))


def test_the_reader_of_imports_sees_what_it_must() -> None:
    source = "if TYPE_CHECKING:\n import torch\nelse:\n import trl\ndef f():\n import vllm\nclass C:\n from peft.x import y\n"
    assert imported(run_at_import(ast.parse(source))) == {"trl", "peft"}
    assert imported(ast.walk(ast.parse(source))) == {"torch", "trl", "vllm", "peft"}


def test_no_flow_file_has_the_name_of_a_library() -> None:
    """A flow file's folder can come first on the import path, where its name would hide the library's."""
    for path in (ROOT / "flows").glob("*.py"):
        if path.stem.startswith("__"):
            continue
        assert path.stem not in sys.stdlib_module_names, path
        assert importlib.util.find_spec(path.stem) is None, f"{path} hides {importlib.util.find_spec(path.stem)}"


@each_file
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree(path))


# ---- deployments -----------------------------------------------------------------------------------------------------------


def prefect_yaml() -> str:
    path = ROOT / "prefect.yaml"
    if not path.is_file():
        pytest.skip("there is no prefect.yaml; `python -m flows.server.deployments` writes it")
    return path.read_text(encoding="utf-8")


def test_every_entrypoint_can_be_imported_and_is_a_flow() -> None:
    """Prefect deploys a module that fails on import without a word, and crashes at run time."""
    from prefect import Flow

    deployments = yaml.safe_load(prefect_yaml())["deployments"]
    assert deployments
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert isinstance(flow, Flow)
        given = set(deployment.get("parameters", {}))
        assert given <= set(flow.parameters.properties)
        if deployment["name"] not in ("shards", "model"):  # started by the software, which gives all of them
            assert set(flow.parameters.required) <= given


def test_prefect_yaml_is_what_the_recipes_say() -> None:
    from flows.server import deployments

    assert prefect_yaml() == deployments.prefect_yaml(), "write it again: python -m flows.server.deployments"
