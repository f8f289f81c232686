"""A started run plans itself during its first stages: its rows are known, and its files are the sample.

Planning has its own process: the tokenizers import torch, 4 s and 330 MiB that the flow's process can do without. A plan
is only a view: any failure is logged and does not affect the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from data.files import write_json
from data.records import content_id
from data.store.artifacts import Artifact
from tasks.benchmark.sets import ITEMS
from tasks.machine import child
from tasks.model.device import resolved_dtype
from tasks.plan.assumptions import assume, rates_of
from tasks.plan.baselines import plan_baselines
from tasks.plan.compare import read_plan
from tasks.plan.first_rows import Part
from tasks.plan.plan import PLAN, Plan, plan_self_training, roles, sections, settings_id
from tasks.plan.sample import sample_run
from tasks.plan.sizes import locate
from tasks.run.stage import Run
from tasks.settings import BaselineSettings, Settings

SAMPLE = 100
"""Rows of each file: enough for a mean, and a second or two of tokenizing if rows are long."""
_FILES: Mapping[Part, str] = {
    "rationale": "rationale.jsonl",
    "labeled": "labeled.jsonl",
    "unlabeled": "batch-1.jsonl",
    "pretraining": "pretraining.jsonl",
    "calibration": "calibration.jsonl",
}


@dataclass(frozen=True)
class PlanningJob:
    """Input of the planning child: the settings, and where the rows are. `sets` are the benchmarks to play."""

    run_name: str
    settings: Mapping[str, Any]
    dtype: str
    files: Mapping[Part, str]
    sizes: Mapping[Part, int]
    read: int
    sets: Sequence[Mapping[str, Any]]
    out: str


def planning_job(run: Run, data: Artifact, sets: Sequence[Artifact]) -> PlanningJob:
    """The job for a run with this data. Raises StoreError if its files are not available."""
    sizes = data.manifest.metrics["sizes"]
    files = {part: name for part, name in _FILES.items() if name in data.manifest.files and sizes[name]}
    played = [
        {
            "label": made.manifest.name.removeprefix("benchmarks/"),
            "items": str(made.file(ITEMS)),
            "total": made.manifest.counts.kept,
            "candidates": made.manifest.metrics["candidates"] if made.manifest.metrics["benchmark"] == "ppe" else None,
        }
        for made in sets
    ]
    return PlanningJob(
        run.store.run_name,
        sections(run.settings),
        resolved_dtype(run.settings.models.dtype),
        {part: str(data.file(name)) for part, name in files.items()},
        # All unlabeled rows of all rounds count: the first batch is a fair sample of them.
        {part: sizes["unlabeled" if part == "unlabeled" else name] for part, name in files.items()},
        data.manifest.counts.rows_in,
        played,
        str(run.store.path / PLAN),
    )


def plan_begun(job: PlanningJob) -> Plan:
    """Makes the plan; runs in the child."""
    known = dict(job.settings)
    baselines = known.pop("baselines", None)
    settings = Settings.model_validate(known)
    here = settings.model_copy(update={"models": settings.models.model_copy(update={"dtype": job.dtype})})
    sample = replace(sample_run(job.files, job.sizes, job.sets, SAMPLE), read=job.read)
    located = {role: locate(model, {}) for role, model in roles(here).items()}
    assumptions = assume(rates_of(here.models.dtype))
    if baselines is None:
        plan = plan_self_training(here, job.run_name, sample, located, assumptions)
    else:
        compared = BaselineSettings.model_validate(baselines)
        plan = plan_baselines(here, compared, job.run_name, sample, located, assumptions)
    return replace(plan, settings=content_id(job.settings))


class BackgroundPlanner(threading.Thread):
    """Plans a run while it is running. `say` receives error messages."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(name="planning", daemon=True)
        self.say = say
        self.work: Callable[[], None] = lambda: None

    def begin(self, run: Run, data: Artifact, sets: Sequence[Artifact]) -> None:
        """Starts planning, unless the run already has a plan for its settings."""
        try:
            known = read_plan(run)
            if known is not None and known.settings == settings_id(run.settings):
                return
            job, log_file = planning_job(run, data, sets), run.store.path / "logs" / "plan.log"
            job_file = log_file.with_suffix(".job.json")
            write_json(job_file, asdict(job))
        except Exception as error:  # of any kind: the run does not need a plan
            self.say(f"this run has no plan: {error}")
            return
        # It needs only tokenizers and shapes.
        command = child.Command("tasks.plan", [str(job_file)], {"CUDA_VISIBLE_DEVICES": ""}, "planning")

        def work() -> None:
            child.run_children([command], log_file, lambda line: None, lambda label, facts: None)
            run.store.share(run.store.path / PLAN)

        self.work = work
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.say(f"this run has no plan: {error}")
