"""Self-training of a generative reward model (GRAM-R², METHOD.md stages 1 to 5), as one Prefect flow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal
from uuid import UUID

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from data.artifacts import Artifact
from data.store import RunStore
from flows.cancelling import cancellable
from flows.config import SelfTrainConfig, with_overrides
from flows.lost import crash_lost_stages
from flows.plan import write_plan
from flows.tokens import tokens_from_blocks
from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_heldout, prepare_set
from tasks.benchmark.show import slug
from tasks.changes import announce
from tasks.contamination import report_overlap
from tasks.export import Candidate, export
from tasks.label import label
from tasks.plan.begun import PlanBeside
from tasks.plan.show import as_markdown, as_text
from tasks.prepare import batch_of, prepare, truth_of
from tasks.prove import prove
from tasks.report import publish_round, write_metrics, write_report
from tasks.retention import retire
from tasks.settings import (
    BenchmarkSettings,
    DataSettings,
    GenerationSettings,
    LabelSettings,
    ModelSettings,
    ProofSettings,
    RetentionSettings,
    RoundSettings,
    TrainingSettings,
)
from tasks.stage import Run
from tasks.train import fine_tune_judge, train_judge, train_prover
from tasks.training_set import human_examples, judge_examples


@flow(name="self-train", flow_run_name="{run_name}", log_prints=False, persist_result=False)
def self_train(
    models: ModelSettings,
    data: DataSettings,
    run_name: str,
    proofs: ProofSettings = ProofSettings(),
    labels: LabelSettings = LabelSettings(),
    training: TrainingSettings = TrainingSettings(),
    generation: GenerationSettings = GenerationSettings(),
    rounds: RoundSettings = RoundSettings(),
    benchmarks: BenchmarkSettings = BenchmarkSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: int = 0,
    on_change: Literal["redo", "refuse"] = "redo",
    dry_run: bool = False,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a prover and a judge, and lets the judge teach itself round after round.

    Args:
        models: The base models of judge and prover, and the prompt.
        data: Where the pairs come from.
        run_name: Names the run folder. Starting the same name again resumes the run.
        proofs: How the prover writes rationales, and which are kept.
        labels: How the judge labels unlabeled pairs, and which labels are kept.
        training: How both models are trained.
        generation: How vLLM runs.
        rounds: How often, and on how many pairs.
        benchmarks: How each round's judge is measured, and on what besides the held-out pairs.
        retention: What is kept when it is no longer needed.
        store: The folder that holds run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
        on_change: What to do where settings or data have changed since the run was begun: make the stages that read them,
            and what follows, again; or refuse to start. Refusing also leaves failed rows of finished stages alone.
        dry_run: Only plan: show what every stage will take, write plan.json into the run folder, and end.
        overrides: Single values on top of the sections, by dotted name, such as {"labels.votes": 16}.
    """
    given = locals()
    config = with_overrides({name: given[name] for name in SelfTrainConfig.model_fields}, overrides or {})
    say = get_run_logger().warning
    tokens_from_blocks()
    if config.dry_run:
        return only_plan(config)
    with cancellable(), opened(config, say) as run:
        crash_lost_stages(UUID(str(flow_run.id)))
        announce(run, train_by_itself, config.on_change, say)
        return _finish(run, train_by_itself(run))


def only_plan(config: SelfTrainConfig) -> dict[str, Any]:
    """A dry run: the plan in the log, in Prefect's UI and in ``plan.json``; no stage is begun. Raises PlanError."""
    from prefect.artifacts import create_markdown_artifact

    plan, path = write_plan(config)
    get_run_logger().info("%s", as_text(plan))
    create_markdown_artifact(key=f"{slug(config.run_name)}-plan", markdown=as_markdown(plan))
    return {"plan": path, **plan.totals()}


@contextlib.contextmanager
def opened(config: SelfTrainConfig, say: Callable[[str], None] = print) -> Iterator[Run]:
    """A run over its folder in the store, held for this process alone."""
    run = Run(
        RunStore(config.store, config.run_name),
        config,
        config.seed,
        retry_failed=config.on_change == "redo",
        on_passed=write_metrics,
        on_data=PlanBeside(say).begin,
        on_round=_end_round,
    )
    with run.store.held(say):
        yield run


def _end_round(run: Run, round: int) -> None:
    publish_round(run, round)
    retire(run, round)


def train_by_itself(run: Run) -> list[Candidate]:
    """The algorithm. Returns each round's judge with its benchmark."""
    settings, m = run.settings, run.settings.rounds.count
    sets = [prepare_set(run, chosen) for chosen in settings.benchmarks.sets]
    data = prepare(run, sets)
    truth, heldout = truth_of(data), prepare_heldout(run, data)
    run.on_data(run, data, [heldout, *sets])
    report_overlap(run, data, [heldout, *sets])
    human = human_examples(run, data)

    prover = train_prover(run, human) if settings.writes_proofs() else None
    selected = [prove(run, 0, prover, data.ref("labeled.jsonl"))]
    judge = train_judge(run, 0, judge_examples(run, 0, selected, human))
    judges = [(0, judge, measure(run, 0, judge, heldout, sets))]
    run.on_round(run, 0)

    for i in range(1, m + 1):
        labeled = label(run, i, judge, batch_of(data, i), truth)
        selected.append(prove(run, i, prover, labeled.ref("labels.jsonl")))
        judge = train_judge(run, i, judge_examples(run, i, selected, human), previous=judge)
        judges.append((i, judge, measure(run, i, judge, heldout, sets)))
        run.on_round(run, i)

    if settings.training.final is not None:
        judge = fine_tune_judge(run, m + 1, human, judge, settings.training.final)
        judges.append((m + 1, judge, measure(run, m + 1, judge, heldout, sets)))
        run.on_round(run, m + 1)

    export(run, judges)
    return judges


def measure(run: Run, round: int, judge: Artifact, heldout: Artifact, sets: Sequence[Artifact]) -> Artifact:
    """A round's judge on the held-out pairs, which is returned, and on every other set."""
    measured = benchmark(run, round, judge, heldout)
    for played in sets:
        benchmark(run, round, judge, played)
    return measured


def _finish(run: Run, judges: list[Candidate]) -> dict[str, Any]:
    """Writes the report; returns what the flow run's result shows."""
    write_metrics(run, ended=True)
    report = write_report(run)
    final = run.passed_stage("export")
    return {
        "final": run.store.shown(final.path) if final else None,
        "report": run.store.shown(report),
        "accuracy": {str(round): result.manifest.metrics["accuracy"] for round, _, result in judges},
    }
