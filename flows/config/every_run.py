"""The parameters that all flows have: a run's name, its store, its seed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator

from data.paths import PathError, expanded
from data.store.run_folder import RUN_NAME, wrong_run_name
from tasks.settings import Section

Flow = TypeVar("Flow", bound=Callable[..., Any])

GivenName = Annotated[str, Field(pattern=f"^({RUN_NAME})?$")]
"""A run name as a flow's parameter: empty stands for the flow run's own name."""
Seed = Annotated[int, Field(ge=0)]
OnChange = Literal["auto", "redo", "refuse"]
Overrides = dict[str, Any]
NO_OVERRIDES: Overrides = {}
"""Not None: the UI's form would have its type chosen before anything can be written."""


class RunParameters(Section):
    """What every run has: a name, a store, a seed."""

    run_name: str = Field(
        title="Run name",
        description="Names the run folder. A start with the same name resumes that run. Not given: the name of the flow run in "
        "Prefect; at the command line, the name of the recipe.",
    )
    store: str = Field(
        default="runs",
        title="Store",
        description="The folder that holds the run folders, or a URL such as s3://bucket/runs.",
    )
    seed: Seed = Field(
        default=0,
        title="Seed",
        description="Everything random is derived from it. Repeated on the same CPU, a run gives the same weights; on GPUs, "
        "rounding varies, and with it weights and labels.",
    )
    on_change: OnChange = Field(
        default="auto",
        title="If settings or data have changed",
        description="What happens if settings or data have changed since the run started. auto: the stages that read them are "
        "redone, and all stages downstream, while the run is unfinished; once it is finished, the start is refused. redo: they "
        "are redone either way. refuse: the start is refused either way. Each says what differs. Failed rows are retried where "
        "stages may be redone, else left alone.",
    )

    @field_validator("run_name")
    @classmethod
    def _it_can_name_a_folder(cls, name: str) -> str:
        if problem := wrong_run_name(name):
            raise ValueError(problem)
        return name

    @property
    def store_here(self) -> str:
        """The store as this machine finds it, with ``~`` and ``${VARIABLES}`` replaced. Raises PathError if that cannot be."""
        try:
            return expanded(self.store)
        except PathError as error:
            raise PathError(f"store: {error}") from error


class PlannedParameters(RunParameters):
    """What a run that can be planned before it starts has in addition."""

    dry_run: bool = Field(
        default=False,
        title="Only plan",
        description="Only estimate rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of the run's data: show "
        "the plan, write plan.json to the run folder, and stop.",
    )


# ---- the parameters of a flow's function -----------------------------------------------------------------------------------


def shown_name() -> str:
    """The name that a flow run gets in Prefect: that of its run folder. For a flow's `flow_run_name`."""
    from prefect.runtime import flow_run

    return _name_among(flow_run.parameters)


def _name_among(given: Mapping[str, Any]) -> str:
    """The run name given as an override or as a parameter, else the flow run's own; empty outside a flow run."""
    from prefect.runtime import flow_run

    overrides = given.get("overrides")
    override = overrides.get("run_name") if isinstance(overrides, Mapping) else None
    return str(override or given.get("run_name") or flow_run.name or "")


def parameters_of(kind: type[RunParameters], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a flow function's local variables that are parameters of the flow, with the run's name."""
    return {**{name: given[name] for name in kind.model_fields}, "run_name": _name_among(given)}


def naming_keys(function: Flow) -> Flow:
    """Adds the names of its keys to the description of each section in a flow function's docstring.

    The UI's form shows the docstring beside a section, and its settings only by their titles; overrides need the names.
    """
    described = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Section):
            keys = ", ".join(parameter.annotation.model_fields)
            described = re.sub(rf"(?m)^    {name}: .*(\n {{8}}.*)*", rf"\g<0> Keys: {keys}.", described)
    function.__doc__ = described
    return function
