"""Self-training of a generative reward model (GRAM-R², METHOD stages 0 to 5), as one Prefect flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import State, flow

from data.store.artifacts import Artifact
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
from flows.config.parameters import SelfTrainConfig
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, ended, only_plan
from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_heldout, prepare_set
from tasks.export import Candidate, export
from tasks.label import label, none_kept
from tasks.overlap import report_overlap
from tasks.prepare import batch_of, prepare, truth_of
from tasks.prove import prove
from tasks.report.self_training import write_metrics, write_report
from tasks.report.ui import outcome, publish_round
from tasks.run.stage import Run
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
from tasks.train import fine_tune_judge, pretrain, train_judge, train_prover
from tasks.training_set import human_examples, judge_examples
from tasks.trust.audit_proofs import audit_proofs
from tasks.trust.gate import Standing, gate
from tasks.trust.join_reviews import join_reviews
from tasks.trust.memory import voted_on
from tasks.trust.threshold import set_strictness


@flow(name="self-train", flow_run_name=shown_name, log_prints=False, persist_result=False, validate_parameters=False)
@naming_keys
def self_train(
    *,
    run_name: GivenName = "",
    dry_run: bool = False,
    overrides: Overrides = NO_OVERRIDES,
    on_change: OnChange = "auto",
    models: ModelSettings,
    data: DataSettings,
    proofs: ProofSettings = ProofSettings(),
    labels: LabelSettings = LabelSettings(),
    training: TrainingSettings = TrainingSettings(),
    generation: GenerationSettings = GenerationSettings(),
    rounds: RoundSettings = RoundSettings(),
    benchmarks: BenchmarkSettings = BenchmarkSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: Seed = 0,
) -> State[dict[str, Any]]:
    """Trains a prover and a judge, then self-trains the judge round after round.

    Args:
        run_name: Names the run folder. If it is empty, the flow run's own name does. A start with the name of an earlier run
            resumes that run.
        dry_run: The run is only planned: what every stage will cost is shown and written to plan.json in the run folder. So
            that the plan does not wait for other runs, choose the work queue short under Additional Options.
        overrides: Single settings that override the sections, by their dotted names, such as {"labels.votes": 16}.
        on_change: What happens if settings or data have changed since the run started: auto makes the stages that read them
            again, and all stages downstream, unless the run is finished: then it refuses to start, and says what differs. redo
            and refuse do so whether or not the run is finished. Failed rows are retried where stages may be made again.
        models: The base models of judge and prover, and the prompt.
        data: Where the pairs come from.
        proofs: How the prover writes rationales, and which of them are kept.
        labels: How the judge labels unlabeled pairs, and which labels are kept.
        training: How both models are trained.
        generation: How vLLM runs.
        rounds: How many rounds of self-training there are, how many pairs each takes, and what follows if one harms.
        benchmarks: How each round's judge is measured, and on which sets besides the held-out pairs.
        retention: What is kept on disk when it is no longer needed.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
    """
    config = with_overrides(parameters_of(SelfTrainConfig, locals()), overrides or {})
    if config.dry_run:
        return only_plan(config)
    return carry_out(config, config, self_training, finish)


def self_training(run: Run) -> list[Candidate]:
    """The algorithm. Returns each round's judge with its benchmark."""
    settings, m = run.settings, run.settings.rounds.count
    sets = [prepare_set(run, chosen) for chosen in settings.benchmarks.sets]
    data = prepare(run, sets)
    truth, heldout = truth_of(data), prepare_heldout(run, data)
    run.on_data(run, data, [heldout, *sets])
    report_overlap(run, data, [heldout, *sets])
    human = human_examples(run, data) if settings.data.rationale else None
    base = pretrain(run, data)
    data = join_reviews(run, data)

    prover = train_prover(run, human) if human and settings.writes_proofs() else None
    selected = [prove(run, 0, prover, data.ref("labeled.jsonl"))]
    judge = train_judge(run, 0, judge_examples(run, 0, selected, human), base)
    judges = [(0, judge, measure(run, 0, judge, heldout, sets))]
    audit_proofs(run, 0, prover, judge, data.ref("labeled.jsonl"))
    run.on_round(run, 0)

    standing = Standing(judge, selected, best=judges[0])
    for i in range(1, m + 1):
        batch = voted_on(run, i, batch_of(data, i), standing.labels)
        strictness = set_strictness(run, i, standing.judge, data, batch, standing.stricter)
        labeled = label(run, i, standing.judge, batch, truth, strictness)
        if none_kept(labeled):
            break
        proved = prove(run, i, prover, labeled.ref("labels.jsonl"))
        if none_kept(proved):
            break
        selected = [*standing.selected, proved]
        audit_proofs(run, i, prover, standing.judge, labeled.ref("labels.jsonl"), truth)
        judge = train_judge(run, i, judge_examples(run, i, selected, human), base, previous=standing.judge)
        judges.append((i, judge, measure(run, i, judge, heldout, sets)))
        standing = gate(run, heldout, judges[-1], selected, standing)
        run.on_round(run, i)
        if standing.stopped:
            break

    if human and settings.training.final is not None:
        judge = fine_tune_judge(run, m + 1, human, standing.judge, settings.training.final)
        judges.append((m + 1, judge, measure(run, m + 1, judge, heldout, sets)))
        run.on_round(run, m + 1)

    export(run, judges)
    return judges


def measure(run: Run, round: int, judge: Artifact, heldout: Artifact, sets: Sequence[Artifact]) -> Artifact:
    """Benchmarks a round's judge on the held-out pairs and every other set; returns the benchmark on the held-out pairs."""
    measured = benchmark(run, round, judge, heldout)
    for played in sets:
        benchmark(run, round, judge, played)
    return measured


def finish(run: Run, judges: list[Candidate]) -> State[dict[str, Any]]:
    """Writes the report; returns the flow run's state and result."""
    write_metrics(run, ended=True)
    report = write_report(run)
    publish_round(run, judges[-1][0], ended=True)
    final = run.finished_stage("export")
    result = {
        "final": run.store.shown(final.path) if final else None,
        "report": run.store.shown(report),
        "accuracy": {str(round): result.manifest.metrics["accuracy"] for round, _, result in judges},
    }
    return ended(outcome(run), result)
