"""A run's whole configuration: recipes on disk, and dotted overrides on top of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from tasks.settings import BenchmarkSettings, GenerationSettings, JudgeSettings, RetentionSettings, Section, Settings

RECIPES = Path(__file__).parent / "recipes"
BENCHMARKS = RECIPES / "benchmark"


class ConfigError(ValueError):
    """A configuration that cannot be run: each wrong value with what was got and why it is wrong."""


class SelfTrainConfig(Settings):
    """The parameters of the flow ``self-train``, one section a concern."""

    run_name: str = Field(title="Run name", description="Names the run folder. The same name again resumes the run.")
    store: str = Field(
        default="runs",
        title="Store",
        description="The folder that holds run folders, or a URL such as s3://bucket/runs.",
    )
    seed: int = Field(default=0, ge=0, title="Seed", description="Everything random is derived from it.")
    on_change: Literal["redo", "refuse"] = Field(
        default="redo",
        title="When settings or data have changed",
        description="Since the run was begun. redo: the stages that read them, and what follows, are made again. refuse: "
        "the run does not start. Both say what would be redone. refuse also leaves failed rows of finished stages alone, "
        "which are otherwise tried again.",
    )
    dry_run: bool = Field(
        default=False,
        title="Only plan",
        description="The run only plans: rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of its data. It "
        "shows the plan, writes plan.json into the run folder, and ends.",
    )


class BenchmarkConfig(Section):
    """The parameters of the flow ``benchmark``, one section a concern."""

    judge: JudgeSettings
    benchmarks: BenchmarkSettings
    generation: GenerationSettings = GenerationSettings()
    retention: RetentionSettings = RetentionSettings()
    run_name: str = Field(title="Run name", description="Names the run folder. The same name again resumes the run.")
    store: str = Field(
        default="runs",
        title="Store",
        description="The folder that holds run folders, or a URL such as s3://bucket/runs.",
    )
    seed: int = Field(default=0, ge=0, title="Seed", description="Everything random is derived from it.")

    @model_validator(mode="after")
    def _something_is_played(self) -> Self:
        if not self.benchmarks.sets:
            raise ValueError("benchmarks.sets is empty: name at least one benchmark")
        if self.generation.workers:
            raise ValueError(
                "generation.workers: a judge that is not in the store is played on the machine of the run, by an engine "
                "for each of its GPUs; leave it at 0"
            )
        return self


Config = TypeVar("Config", SelfTrainConfig, BenchmarkConfig)


def load_recipe(name: str, **changes: Any) -> SelfTrainConfig:
    """The recipe ``flows/recipes/<name>.toml``; its run name is its own unless it gives one."""
    return checked({**_read_recipe(RECIPES, name), **changes})


def load_benchmark(name: str, **changes: Any) -> BenchmarkConfig:
    """The recipe ``flows/recipes/benchmark/<name>.toml``; its run name is "benchmark-" and its own unless it gives one."""
    recipe = _read_recipe(BENCHMARKS, name)
    return checked({**recipe, "run_name": f"benchmark-{recipe['run_name']}", **changes}, BenchmarkConfig)


def _read_recipe(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ConfigError(f"there is no recipe {name!r}; there are {known}")
    return {"run_name": name, **tomllib.loads(path.read_text(encoding="utf-8"))}


def with_overrides(
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    kind: type[Config] = SelfTrainConfig,  # type: ignore[assignment]
) -> Config:
    """The configuration with dotted keys replaced, such as ``{"labels.votes": 16}``.

    Prefect replaces nested objects whole, so that a single value in a section cannot be given with ``--param``.
    """
    changed = checked(config, kind).model_dump(mode="json")
    for dotted, value in overrides.items():
        *sections, last = dotted.split(".")
        place = changed
        for section in sections:
            inner = place.get(section)
            if inner is None and section in place:
                inner = place[section] = {}  # a section that may be empty, such as training.final
            if not isinstance(inner, dict):
                raise ConfigError(f"override {dotted!r}: {section!r} is no section; there are {', '.join(place)}")
            place = inner
        place[last] = value
    return checked(changed, kind)


def checked(values: Mapping[str, Any], kind: type[Config] = SelfTrainConfig) -> Config:  # type: ignore[assignment]
    """The values as a configuration. Raises ConfigError that lists every wrong one by its dotted name."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}"
            + ("" if e["type"] in ("missing", "value_error") else f" (got {e['input']!r})")
            for e in errors
            # A list whose only element is wrong is also called empty; the element's own complaint is the true one.
            if not any(other["loc"][: len(e["loc"])] == e["loc"] and other is not e for other in errors)
        ]
        raise ConfigError("the configuration cannot be run:\n" + "\n".join(lines)) from error
