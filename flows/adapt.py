"""Adapts a judge to a task with a few thousand labeled pairs: a learning curve, early stopping, and what it forgets."""

from __future__ import annotations

from typing import Any

from prefect import State, flow

from flows.benchmark import find_judge
from flows.config.checks import check
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
from flows.config.parameters import AdaptConfig, AdaptTraining
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, ended, only_plan
from flows.running.tokens import tokens_from_blocks
from tasks.adapt import Adapted, accuracy_of, adapt, task_examples
from tasks.benchmark.sets import prepare_heldout, prepare_set
from tasks.export import export
from tasks.model.endpoint import is_endpoint
from tasks.model.location import model_folder
from tasks.model.scalar import SCALAR
from tasks.overlap import report_overlap
from tasks.prepare import prepare
from tasks.rank import prompt_of
from tasks.report.adaptation import outcome, summary, write_adapted
from tasks.report.publish import place_of
from tasks.report.self_training import write_metrics
from tasks.report.ui import publish_end
from tasks.run.stage import Run
from tasks.settings import (
    BenchmarkSettings,
    GenerationSettings,
    JudgeSettings,
    ProofSettings,
    RetentionSettings,
    TaskSettings,
)


@flow(name="adapt", flow_run_name=shown_name, log_prints=False, persist_result=False, validate_parameters=False)
@naming_keys
def adapt_judge(
    *,
    run_name: GivenName = "",
    dry_run: bool = False,
    overrides: Overrides = NO_OVERRIDES,
    on_change: OnChange = "auto",
    judge: JudgeSettings,
    task: TaskSettings,
    training: AdaptTraining = AdaptTraining(),
    proofs: ProofSettings = ProofSettings(),
    generation: GenerationSettings = GenerationSettings(),
    benchmarks: BenchmarkSettings = BenchmarkSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: Seed = 0,
) -> State[dict[str, Any]]:
    """Trains an existing judge on the pairs of a task, and measures it on the task and on general benchmarks.

    Args:
        run_name: Names the run folder. If it is empty, the flow run's own name does. A start with the name of an earlier run
            resumes that run.
        dry_run: The run is only planned: what every stage will cost is shown and written to plan.json in the run folder. So
            that the plan does not wait for other runs, choose the work queue short under Additional Options.
        overrides: Single settings that override the sections, by their dotted names, such as {"training.optimization.epochs": 3}.
        on_change: What happens if settings or data have changed since the run started: auto makes the stages that read them
            again, and all stages downstream, unless the run is finished: then it refuses to start, and says what differs. redo
            and refuse do so whether or not the run is finished. Failed rows are retried where stages may be made again.
        judge: The judge's checkpoint, and how it is prompted.
        task: The task's pairs, and on how many of them to train.
        training: How the judge is trained.
        proofs: How the prover writes rationales, if task.prover names one.
        generation: How vLLM runs.
        benchmarks: How the judge is measured. Its sets are the general benchmarks, run before and after adaptation.
        retention: How much disk space to leave free.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
    """
    config = with_overrides(parameters_of(AdaptConfig, locals()), overrides or {}, AdaptConfig)
    if config.dry_run:
        return only_plan(config)
    tokens_from_blocks()
    check(config)  # before anything of the judge is read
    prompt = prompt_of_judge(config.judge)
    return carry_out(config, config.settings(prompt), lambda run: learning_curve(run, config, prompt), finish)


def prompt_of_judge(judge: JudgeSettings) -> str:
    """The name of the judge's prompt. Raises ValueError if the judge cannot be trained or its prompt is unknown."""
    if is_endpoint(judge.path):
        raise ValueError(f"judge.path = {judge.path!r} is an endpoint: only a checkpoint can be adapted")
    return judge.prompt or prompt_of(model_folder(judge.path, weights=False), judge.path)


def learning_curve(run: Run, config: AdaptConfig, prompt: str) -> list[Adapted]:
    """The algorithm: measures the judge as it is, and adapted on each size."""
    general = [prepare_set(run, chosen) for chosen in run.settings.benchmarks.sets]
    data = prepare(run, general)
    heldout = prepare_heldout(run, data)
    report_overlap(run, data, [heldout, *general])
    prover = find_judge(run.store, config.task.prover) if config.task.prover else None
    examples = task_examples(run, data, config.task, prompt, prover)
    made = adapt(
        run,
        find_judge(run.store, config.judge.path),
        prompt,
        examples,
        config.task,
        config.training.optimization,
        heldout,
        general,
    )
    if prompt != SCALAR:  # a scalar judge has no prompt to export
        export(run, [(one.size, one.trained, one.heldout) for one in made if one.trained], before=made[0].heldout)
    return made


def finish(run: Run, made: list[Adapted]) -> State[dict[str, Any]]:
    """Writes the report; returns the flow run's state and result."""
    write_metrics(run, ended=True)
    report = write_adapted(run, made)
    publish_end(run, summary(run, made).markdown())
    accuracy = {str(one.size): accuracy_of(one) for one in made}
    said = f"{outcome(made)}; report in {place_of(run.store, report)}"
    return ended(said, {"report": run.store.shown(report), "accuracy": accuracy})
