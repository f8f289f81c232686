"""The parameters that all flows have: a run's name, its store, its seed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from data.store.run_folder import wrong_run_name
from tasks.settings import Section


class RunParameters(Section):
    """What every run has: a name, a store, a seed."""

    run_name: str = Field(title="Run name", description="Names the run folder. Reusing a name resumes that run.")
    store: str = Field(
        default="runs",
        title="Store",
        description="The folder that holds the run folders, or a URL such as s3://bucket/runs.",
    )
    seed: int = Field(default=0, ge=0, title="Seed", description="Everything random is derived from it.")
    on_change: Literal["redo", "refuse"] = Field(
        default="redo",
        title="If settings or data have changed",
        description="Since the run started. redo: the stages that read them, and all stages downstream, are redone. refuse: the "
        "run does not start. Both report what would be redone. refuse also leaves failed rows of finished stages alone, "
        "which are otherwise retried.",
    )

    @field_validator("run_name")
    @classmethod
    def _it_can_name_a_folder(cls, name: str) -> str:
        if problem := wrong_run_name(name):
            raise ValueError(problem)
        return name


class PlannedParameters(RunParameters):
    """What a run that can be planned before it starts has in addition."""

    dry_run: bool = Field(
        default=False,
        title="Only plan",
        description="Only estimate rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of the run's data: show "
        "the plan, write plan.json to the run folder, and stop.",
    )
