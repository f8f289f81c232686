"""The recipes in flows/recipes/own: they load, pass the checks, read all of their data, and are no deployments."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.sources.source import Source
from flows.config.checks import check
from flows.config.parameters import BenchmarkConfig, GramConfig, SelfTrainConfig
from flows.config.recipes import RECIPES, find_recipe, load_file, recipe_files
from prompts.catalog import JUDGE_PROMPTS
from tasks.describe.survey import survey

OWN = sorted(path for path in (RECIPES / "own").iterdir() if path.is_dir())


def test_there_are_three_and_none_is_a_deployment() -> None:
    assert [path.name for path in OWN] == ["judge", "pairs", "scores"]
    assert not [path for _, path in recipe_files() if "own" in path.parts]
    assert {find_recipe(str(path))[0] for path in OWN} == {"benchmark", "self-train", "gram"}


@pytest.mark.parametrize("folder", OWN, ids=lambda path: path.name)
def test_each_passes_the_checks_and_reads_every_row(folder: Path) -> None:
    config = load_file(*find_recipe(str(folder)))
    assert config.run_name == folder.name
    check(config)
    sources: list[tuple[Source, str]] = []
    if isinstance(config, BenchmarkConfig):
        sources = [(one.source, "preference") for one in config.benchmarks.sets]
    elif isinstance(config, SelfTrainConfig | GramConfig):
        data = config.data
        sources = [(one, "rationale") for one in data.rationale] + [(one, "preference") for one in data.labeled]
        sources += [(one, "pair") for one in data.unlabeled]
    prompt = (
        JUDGE_PROMPTS[config.models.judge_prompt] if isinstance(config, SelfTrainConfig) else JUDGE_PROMPTS["compact"]
    )
    for source, kind in sources:
        found = survey(source, prompt)
        assert not found.dropped
        assert not found.out_of_shape.n
        assert found.duplicates.n == found.conflicts.n == 0
        # Rationales are there for some of the rows only.
        assert found.usable[kind] == (24 if kind == "rationale" else found.rows)
