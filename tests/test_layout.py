"""The shape of the project, read from its imports: what may know of what, and what is imported only where it is needed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

LEVELS: list[set[str]] = [
    {"data"},
    {"prompts"},
    {"tasks.settings", "tasks.page", "tasks.machine"},
    {"tasks.model"},
    {"tasks.generation", "tasks.training", "tasks.rank"},
    {"tasks.run", "tasks.reward"},
    {"tasks.benchmark"},
    {"tasks"},  # the steps: modules of tasks/ itself
    {"tasks.plan", "tasks.describe", "tasks.hub", "tasks.trust"},
    {"tasks.report"},
    {"flows"},
]
"""Lowest first. A module imports from its own package and from lower levels; packages of one level know nothing of each other."""
STEPS = {
    "tasks.prepare": {"tasks.overlap"},
    "tasks.adapt": {"tasks.prove", "tasks.train", "tasks.training_set"},
    "tasks.baselines": {"tasks.train", "tasks.training_set"},
}
"""Which steps know of which others."""
REASON = "# Over 300 lines: "
LONGEST, MOST_STEPS = 300, 10
PACKAGES = ("data", "prompts", "tasks", "flows")
HEAVY = {"torch", "vllm", "transformers", "trl", "peft", "datasets"}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """The top-level names of all modules that these nodes import."""
    return {name.split(".")[0] for name in modules(nodes)}


def modules(nodes: Iterator[ast.AST]) -> set[str]:
    """The full names of all modules that these nodes import; of ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of_ours(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it."""
    return (modules(ast.walk(tree(path))) & OURS.keys()) - {name_of(path)}


def package_with_level(module: str) -> str:
    """The package of a module whose level is given: a sub-package of tasks, or a package."""
    parts = module.split(".")
    if parts[0] == "tasks" and len(parts) > 1 and (ROOT / "tasks" / parts[1]).is_dir():
        return f"tasks.{parts[1]}"
    return parts[0]


def level(module: str) -> int:
    return next(i for i, packages in enumerate(LEVELS) if package_with_level(module) in packages)


def upward(module: str, imports: set[str]) -> set[str]:
    """The imports that do not lead down: to a higher level, or to another package of the same one."""
    return {
        other
        for other in imports
        if package_with_level(other) != package_with_level(module) and level(other) >= level(module)
    }


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        found = next((found for other in sorted(graph[module]) if (found := visit(other, [*path, module]))), [])
        done.add(module)
        return found

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


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


OURS = {name_of(path): path for path in FILES}


@each_file
def test_imports_go_one_way(path: Path) -> None:
    assert "tests" not in imported(ast.walk(tree(path)))
    assert not upward(name_of(path), imports_of_ours(path))


def test_no_modules_import_each_other_in_a_circle() -> None:
    # A package's own module only re-exports, as tasks.rank does; who imports one of its modules does not need it.
    graph = {name: imports_of_ours(path) for name, path in OURS.items() if path.stem != "__init__"}
    assert not circle({name: others & graph.keys() for name, others in graph.items()})


def test_what_the_tests_of_imports_must_see() -> None:
    assert upward("tasks.run.stage", {"tasks.report.samples", "tasks.settings", "data.records"}) == {
        "tasks.report.samples"
    }
    assert upward("tasks.rank.judge", {"tasks.generation.worker", "tasks.rank.files"}) == {"tasks.generation.worker"}
    assert upward("tasks.export", {"tasks.report.publish", "tasks.run.rounds"}) == {"tasks.report.publish"}
    assert upward("data.files", {"prompts.judge"}) == {"prompts.judge"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert modules(ast.walk(ast.parse("from a.b import c"))) == {"a.b", "a.b.c"}


def test_steps_know_only_the_steps_that_they_are_made_of() -> None:
    steps = {name: path for name, path in OURS.items() if package_with_level(name) == "tasks" and name != "tasks"}
    known = {name: {other for other in imports_of_ours(path) if other in steps} for name, path in steps.items()}
    assert {name: others for name, others in known.items() if others} == STEPS


def test_a_judge_in_use_needs_no_run_no_store_and_no_server() -> None:
    """Who only ranks does not pay for Prefect, and needs nothing of what runs stand on."""
    program = "import sys, tasks.rank; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    names = loaded.stdout.split()
    assert "tasks.rank.judge" in names
    unwanted = ("tasks.run", "data.store", "prefect", "httpx")
    assert not [name for name in names if name in unwanted or name.startswith(tuple(f"{one}." for one in unwanted))]


def test_no_shelf_is_too_full() -> None:
    """A reader must see what a step is, and be done with a file in one sitting; a longer one says why at its top."""
    assert len(list((ROOT / "tasks").glob("*.py"))) <= MOST_STEPS
    for path in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= LONGEST or any(line.startswith(REASON) for line in lines[:12]), (
            f"{path}: {len(lines)} lines"
        )


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
    for path in (ROOT / "flows").rglob("*.py"):
        if path.stem.startswith("__"):
            continue
        assert path.stem not in sys.stdlib_module_names, path
        found = importlib.util.find_spec(path.stem)
        # A folder without modules of its own, such as runs/ of the checkout, is no library.
        assert found is None or found.loader is None, f"{path} hides {found}"


@each_file
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree(path))


# ---- deployments -----------------------------------------------------------------------------------------------------------


def prefect_yaml() -> str:
    return (ROOT / "prefect.yaml").read_text(encoding="utf-8")


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
    from flows.config.recipes import recipe_files
    from flows.server import entries

    recipes, problems = entries.recipe_deployments(recipe_files())
    assert not problems
    assert prefect_yaml() == entries.prefect_yaml(recipes), "write it again: python -m flows.server.deployments"


def test_the_hooks_run_what_the_checks_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    target = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck: $(READY)\n")[1].split("\n\n")[0]
    assert [hook["entry"] for hook in hooks] == [
        line.strip().replace("$(BIN)", ".venv/bin") for line in target.splitlines()
    ]
