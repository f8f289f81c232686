"""Is reasoning worth its price? Five ways to a judge on the same labeled pairs, side by side in one report."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow

from flows.config.parameters import BaselinesConfig, parameters_of
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, only_plan
from flows.self_train import finish, self_training
from tasks.baselines import Method, discriminative, gram, label_only, labeled_pairs, of_rounds
from tasks.benchmark.sets import prepare_heldout, prepare_set
from tasks.export import Candidate
from tasks.prepare import batch_of, prepare
from tasks.report.baselines import publish_comparison, write_comparison
from tasks.run.stage import Run
from tasks.settings import (
    BaselineSettings,
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


@flow(name="baselines", flow_run_name="{run_name}", log_prints=False, persist_result=False)
def compare_methods(
    models: ModelSettings,
    data: DataSettings,
    run_name: str,
    baselines: BaselineSettings = BaselineSettings(),
    seeds: tuple[int, ...] = (),
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
    """Trains a discriminative judge, a label-only one, GRAM, one with rationales, and that one by itself; compares them.

    Args:
        models: The base models of judge and prover, and the prompt of the judges that reason.
        data: Where the pairs come from.
        run_name: Names the run folder. Starting the same name again resumes the run.
        baselines: How the judges without rationales are trained.
        seeds: Everything is done once for each.
        proofs: How the prover writes rationales, and which are kept.
        labels: How the judge labels unlabeled pairs, and which labels are kept.
        training: How prover and judges with rationales are trained.
        generation: How vLLM runs.
        rounds: How often self-training goes round, and on how many pairs.
        benchmarks: How each judge is measured, and on what besides the held-out pairs.
        retention: What is kept when it is no longer needed.
        store: The folder that holds run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it, where seeds are not given.
        on_change: What to do where settings or data have changed since the run was begun: redo what reads them, or refuse.
        dry_run: Only plan: show what every stage will take, write plan.json into the run folder, and end.
        overrides: Single values on top of the sections, by dotted name, such as {"training.label_smoothing": 0.05}.
    """
    config = with_overrides(parameters_of(BaselinesConfig, locals()), overrides or {}, BaselinesConfig)
    if config.dry_run:
        return only_plan(config)
    found: dict[int, list[dict[str, Any]]] = {}
    for one in config.each_seed():

        def finished(run: Run, made: tuple[list[Method], list[Candidate]], seed: int = one.seed) -> None:
            methods, judges = made
            finish(run, judges)
            found[seed] = [method.to_json() for method in methods]

        carry_out(one, one, lambda run, one=one: side_by_side(run, one.baselines), finished)  # type: ignore[misc]
    report = write_comparison(config.store, config.run_name, found)
    publish_comparison(config.run_name, found)
    return {"report": str(report), "accuracy": {row["method"]: row["accuracy"] for row in found[min(found)]}}


def side_by_side(run: Run, baselines: BaselineSettings) -> tuple[list[Method], list[Candidate]]:
    """The five methods, from the cheapest to the dearest, and the judges of self-training among them."""
    sets = [prepare_set(run, chosen) for chosen in run.settings.benchmarks.sets]
    data = prepare(run, sets)
    played = [prepare_heldout(run, data), *sets]
    pairs = labeled_pairs(run, data)
    batches = [batch_of(data, i) for i in range(1, run.settings.rounds.count + 1)]
    methods = [
        discriminative(run, baselines.discriminative, pairs, played),
        label_only(run, baselines, pairs, played),
        gram(run, baselines, pairs, batches, played),
    ]
    judges = self_training(run)
    methods.append(of_rounds(run, "rationale", 0))
    if len(judges) > 1:
        methods.append(of_rounds(run, "self-trained", judges[-1][0]))
    return methods, judges
