"""What others build on: the wheel's types, the extras, the image, the workflow. Each must agree with what it names."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tasks.settings import Mechanics
from tests.conftest import ROOT


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT: dict[str, Any] = tomllib.loads(read("pyproject.toml"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PYTHON = re.search(r"^PYTHON \?= python(3\.\d+)$", read("Makefile"), re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


def instructions() -> Iterator[tuple[str, str]]:
    """(name, value) of each instruction of the Dockerfile, with continued lines joined."""
    lines = [line for line in read("Dockerfile").splitlines() if not line.startswith("#")]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, value = line.partition(" ")
            yield name, value


def the(name: str) -> str:
    """The value of an instruction that there is once."""
    [value] = [value for one, value in instructions() if one == name]
    return value


ARGUMENTS = dict(value.split("=", 1) for name, value in instructions() if name == "ARG")
ENVIRONMENT = dict(pair.split("=", 1) for pair in shlex.split(the("ENV")))


def test_each_package_says_that_it_is_typed() -> None:
    assert PACKAGES == ["data", "prompts", "tasks", "flows"]
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"].keys() == {"packages"}, "something may be left out"


def test_there_is_an_extra_for_each_service_that_trainings_report_to() -> None:
    services = get_args(get_args(Mechanics.model_fields["report_to"].annotation)[0])
    assert set(services) - EXTRAS.keys() == {"trackio"}  # installed under its own name


# ---- the image -----------------------------------------------------------------------------------------------------------


def test_the_image_is_set_up_as_a_machine_is() -> None:
    assert PYTHON is not None
    packages = next(value for name, value in instructions() if "apt-get install" in value).split()
    assert {f"python{PYTHON[1]}-venv", f"python{PYTHON[1]}-dev", "python3-pip", "make", "util-linux"} <= set(packages)
    assert "bookworm" in the("FROM")  # the Debian whose Python this is
    [setup] = [value for name, value in instructions() if "make setup" in value]
    assert PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["."]  # else the install would miss the packages
    target, *given = shlex.split(setup.partition("make ")[2])
    assert target in TARGETS
    assert {one.partition("=")[0] for one in given} == {"VENV", "EXTRA", "EXTRAS"}
    assert all(f"$({one.partition('=')[0]})" in read("Makefile") for one in given)
    assert f"{ENVIRONMENT['PATH'].partition('/bin:')[0]}" == dict(one.split("=", 1) for one in given)["VENV"]


def test_the_image_has_extras_that_there_are() -> None:
    assert {"cpu", "gpu", ARGUMENTS["EXTRA"], *ARGUMENTS["EXTRAS"].split(",")} <= EXTRAS.keys()
    said = job_template()["variables"]["properties"]["image"]["description"]
    assert re.search(r"docker build", said)
    assert {"s3", "kubernetes"} <= set(ARGUMENTS["EXTRAS"].split(","))


def job_template() -> dict[str, Any]:
    template: dict[str, Any] = json.loads(read("flows/server/kubernetes/gpu-pool.json"))
    return template


def test_the_image_suits_the_jobs_of_kubernetes() -> None:
    [container] = job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    # Its arguments are Prefect's command; a command of the container would take the place of the entrypoint.
    assert "command" not in container
    assert json.loads(the("ENTRYPOINT"))[-1] == "--"
    assert json.loads(the("CMD"))[0] in PROJECT["project"]["scripts"]
    assert int(the("USER")) > 0
    assert ENVIRONMENT["GRAM_R2_HOME"] == the("WORKDIR")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert ENVIRONMENT["GRAM_R2_CACHE"] == mounts["cache"]
    assert ENVIRONMENT["HF_HOME"].startswith(f"{mounts['cache']}/")
    assert f"{ENVIRONMENT['GRAM_R2_HOME']} {mounts['cache']}" in next(v for _, v in instructions() if "useradd" in v)


def test_the_image_gets_what_it_needs_and_nothing_of_a_checkout_s_own() -> None:
    kept = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert "*" in read(".dockerignore").splitlines()
    assert {*PACKAGES, "prefect.yaml", "pyproject.toml", "Makefile"} <= kept
    copied = [path for name, value in instructions() if name == "COPY" for path in value.split()[:-1]]
    assert {path for path in copied if path != "." and not path.startswith("--")} <= kept
    assert all((ROOT / name).exists() for name in kept)
    assert not {name for name in kept if any(fnmatch(name, one) for one in ("runs", ".*", "tests"))}
    assert {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= kept


# ---- the workflow --------------------------------------------------------------------------------------------------------


def steps() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(job, step) of the workflow."""
    for job in yaml.safe_load(read(".github/workflows/checks.yml"))["jobs"].values():
        for step in job["steps"]:
            yield job, step


def test_the_workflow_runs_checks_that_there_are() -> None:
    [(job, step)] = [(job, step) for job, step in steps() if ".ci/run" in step.get("run", "")]
    assert step["run"] == ".ci/run ${{ matrix.target }}"
    assert job["strategy"]["matrix"]["target"] == ["check", "test", "test-slow"]
    assert set(job["strategy"]["matrix"]["target"]) <= TARGETS
    assert os.access(ROOT / ".ci/run", os.X_OK)
    [python] = [step["with"]["python-version"] for _, step in steps() if "setup-python" in step.get("uses", "")]
    assert PYTHON is not None
    assert python == PYTHON[1]


def test_the_workflow_builds_the_image_and_runs_it() -> None:
    commands = [shlex.split(step["run"]) for _, step in steps() if step.get("run", "").startswith("docker")]
    build, *runs = commands
    assert build[:2] == ["docker", "build"]
    assert build[build.index("--build-arg") + 1].partition("=")[0] in ARGUMENTS
    tag = build[build.index("--tag") + 1]
    assert runs
    assert all(run[:4] == ["docker", "run", "--rm", tag] for run in runs)


@pytest.mark.parametrize(
    ("given", "made"), [((), "test-all"), (("check",), "check"), (("test", "chaos"), "test chaos")]
)
def test_ci_makes_the_targets_that_it_is_given(given: tuple[str, ...], made: str, tmp_path: Path) -> None:
    for name in ("make", "apt-get"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / ".ci/run", *given], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == f"make {made}"


# ---- how it is cited -----------------------------------------------------------------------------------------------------


def test_the_citation_is_of_this_version_and_of_the_papers_in_the_readme() -> None:
    cited = yaml.safe_load(read("CITATION.cff"))
    assert (cited["version"], cited["license"]) == (PROJECT["project"]["version"], PROJECT["project"]["license"])
    papers = {paper["url"] for paper in cited["references"]}
    assert papers == {"https://arxiv.org/abs/2509.02492", "https://arxiv.org/abs/2506.14175"}
    assert papers == set(re.findall(r"https://arxiv\.org/abs/(?:2509\.02492|2506\.14175)", read("README.md")))
