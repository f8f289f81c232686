"""Is reasoning worth its cost? Five ways to train a judge on the same labeled pairs, compared in one report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import State, flow

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
from flows.config.parameters import BaselinesConfig
from flows.config.recipes import ConfigError, with_overrides
from flows.running.carry_out import carry_out, ended, only_plan
from flows.self_train import finish, self_training
from tasks.baselines import Method, discriminative, gram, label_only, labeled_pairs, of_rounds
from tasks.benchmark.sets import prepare_heldout, prepare_set
from tasks.export import Candidate
from tasks.prepare import batch_of, prepare
from tasks.report.baselines import compared_seeds, write_comparison
from tasks.report.ui import best_method, publish_comparison
from tasks.run.rounds import is_rolled_back
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
from tasks.trust.join_reviews import join_reviews


@flow(name="baselines", flow_run_name=shown_name, log_prints=False, persist_result=False, validate_parameters=False)
@naming_keys
def compare_methods(
    *,
    run_name: GivenName = "",
    dry_run: bool = False,
    overrides: Overrides = NO_OVERRIDES,
    on_change: OnChange = "auto",
    models: ModelSettings,
    data: DataSettings,
    baselines: BaselineSettings = BaselineSettings(),
    seeds: tuple[Seed, ...] = (),
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
    """Trains five judges and compares them: discriminative, label-only, GRAM, with rationales, and self-trained.

    Args:
        run_name: Names the run folder. If it is empty, the flow run's own name does. A start with the name of an earlier run
            resumes that run.
        dry_run: The run is only planned: what every stage will cost is shown and written to plan.json in the run folder. So
            that the plan does not wait for other runs, choose the work queue short under Additional Options.
        overrides: Single settings that override the sections, by their dotted names, such as {"training.label_smoothing": 0.05}.
        on_change: What happens if settings or data have changed since the run started: auto makes the stages that read them
            again, and all stages downstream, unless the run is finished: then it refuses to start, and says what differs. redo
            and refuse do so whether or not the run is finished. Failed rows are retried where stages may be made again.
        models: The base models of judge and prover, and the prompt of the judges that write rationales.
        data: Where the pairs come from.
        baselines: How the judges without rationales are trained.
        seeds: The whole comparison is run once per seed.
        proofs: How the prover writes rationales, and which of them are kept.
        labels: How the judge labels unlabeled pairs, and which labels are kept.
        training: How the prover and the judges with rationales are trained.
        generation: How vLLM runs.
        rounds: How many rounds of self-training there are, how many pairs each takes, and what follows if one harms.
        benchmarks: How each judge is measured, and on which sets besides the held-out pairs.
        retention: What is kept on disk when it is no longer needed.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it, if no seeds are given.
    """
    config = with_overrides(parameters_of(BaselinesConfig, locals()), overrides or {}, BaselinesConfig)
    if config.dry_run:
        return only_plan(config)
    keeps_its_seeds(config)
    found = compare_seeds(config, carry_out)
    report = write_comparison(config.store_here, config.run_name, found)
    publish_comparison(config.run_name, found, report)
    result = {"report": report, "accuracy": {row["method"]: row["accuracy"] for row in found[min(found)]}}
    return ended(f"{best_method(found)}; report in {report}", result)


def keeps_its_seeds(config: BaselinesConfig) -> None:
    """Raises ConfigError if a comparison that is there has seeds which this one would leave out, unless that was asked for."""
    left_out = compared_seeds(config.store_here, config.run_name) - {one.seed for one in config.each_seed()}
    if left_out and config.on_change != "redo":
        raise ConfigError(
            f"the comparison {config.run_name!r} has seeds that this start would leave out: "
            f"{', '.join(map(str, sorted(left_out)))}. Name all seeds, set on_change='redo' to replace the comparison, or use "
            "another run_name"
        )


def compare_seeds(config: BaselinesConfig, carry: Callable[..., object]) -> dict[int, list[dict[str, Any]]]:
    """The rows of the comparison by seed; `carry` runs each seed as a run of its own, as `carry_out` does."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in config.each_seed():

        def finished(run: Run, made: tuple[list[Method], list[Candidate]], seed: int = one.seed) -> None:
            methods, judges = made
            finish(run, judges)
            found[seed] = [method.to_json() for method in methods]

        carry(one, one, lambda run, one=one: side_by_side(run, one.baselines), finished)
    return found


def side_by_side(run: Run, baselines: BaselineSettings) -> tuple[list[Method], list[Candidate]]:
    """Trains by the five methods, cheapest first. Returns the methods, and the judges of the self-training among them."""
    sets = [prepare_set(run, chosen) for chosen in run.settings.benchmarks.sets]
    data = join_reviews(run, prepare(run, sets))
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
        last = max(round for round, _, _ in judges if not is_rolled_back(run, round))
        methods.append(of_rounds(run, "self-trained", last))
    return methods, judges
