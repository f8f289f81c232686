"""Benchmarks an existing judge: a checkpoint, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from prefect import State, flow

from data.records import content_id
from data.store.store import RunStore
from flows.config.every_run import (
    NO_OVERRIDES,
    GivenName,
    OnChange,
    Overrides,
    Seed,
    naming_keys,
    parameters_of,
    shown_name,
)
from flows.config.parameters import BenchmarkConfig
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, ended
from tasks.benchmark.play import benchmark, measured, query_for, set_name
from tasks.benchmark.sets import prepare_set
from tasks.model.endpoint import is_endpoint, with_model
from tasks.model.location import Checkpoint
from tasks.page.rendering import percent
from tasks.rank import prompt_of
from tasks.report.benchmarks import summary_markdown
from tasks.report.publish import place_of
from tasks.report.ui import publish_end
from tasks.run.base_models import find_base
from tasks.run.stage import Run
from tasks.settings import BenchmarkSettings, GenerationSettings, JudgeSettings, RetentionSettings


@flow(name="benchmark", flow_run_name=shown_name, log_prints=False, persist_result=False, validate_parameters=False)
@naming_keys
def benchmark_judge(
    *,
    run_name: GivenName = "",
    overrides: Overrides = NO_OVERRIDES,
    on_change: OnChange = "auto",
    judge: JudgeSettings,
    benchmarks: BenchmarkSettings,
    generation: GenerationSettings = GenerationSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: Seed = 0,
) -> State[dict[str, Any]]:
    """Runs benchmarks on a judge, and scores its verdicts.

    Args:
        run_name: Names the run folder. If it is empty, the flow run's own name does. A start with the name of an earlier run
            resumes that run.
        overrides: Single settings that override the sections, by their dotted names, such as {"benchmarks.votes": 16}.
        on_change: What happens if settings or data have changed since the run started: auto makes the stages that read them
            again, and all stages downstream, unless the run is finished: then it refuses to start, and says what differs. redo
            and refuse do so whether or not the run is finished. Failed rows are retried where stages may be made again.
        judge: The judge's checkpoint or endpoint, and how it is prompted.
        benchmarks: Which benchmarks to run, and with how many votes.
        generation: How vLLM runs, or how an endpoint is called.
        retention: How much disk space to leave free.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
    """
    config = with_overrides(parameters_of(BenchmarkConfig, locals()), overrides or {}, BenchmarkConfig)
    return carry_out(config, config.settings(), lambda run: play_all(run, config), finish)


def play_all(run: Run, config: BenchmarkConfig) -> None:
    """Runs the judge on every set."""
    judge, benchmarks = find_judge(run.store, config.judge.path), config.benchmarks
    prompt = config.judge.prompt or prompt_of(judge.model, config.judge.path)
    query = query_for(benchmarks, prompt, run.settings.models, run.settings.reply_tokens, config.seed)
    for chosen in benchmarks.sets:
        benchmark(run, None, judge, prepare_set(run, chosen), query)


def finish(run: Run, _: None) -> State[dict[str, Any]]:
    """Shows the scores; returns the flow run's state and result."""
    publish_end(run, summary_markdown(run, run.store.run_name))
    scores = {set_name(made): made.manifest.metrics["accuracy"] for made in measured(run)}
    shown = ", ".join(f"{name} {percent(score)}" for name, score in scores.items())
    return ended(f"{shown}; games in {place_of(run.store, run.store.path)}", scores)


def find_judge(store: RunStore, path: str) -> Checkpoint:
    """The judge in a folder, on the hub, or at an endpoint. Raises FileNotFoundError if the path is none of these.

    Of a name on the hub, it is the commit that the run in `store` has found first. Raises EndpointError
    if an endpoint has to be asked for its model, and cannot be.
    """
    if is_endpoint(path):
        path = with_model(path)
        return Checkpoint(content_id("endpoint", path), path)
    folder, known = find_base(store, path)
    return Checkpoint(content_id(known), folder)
