"""GRAM: a judge that outputs only the label, pre-trained on unlabeled responses and fine-tuned with label smoothing (METHOD 0).

It is self-training with a first judge and no rounds, so the algorithm is `flows.self_train.self_training`.
"""

from __future__ import annotations

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
from flows.config.parameters import GramConfig, GramTraining
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, only_plan
from flows.self_train import finish, self_training
from tasks.settings import BenchmarkSettings, DataSettings, GenerationSettings, ModelSettings, RetentionSettings


@flow(name="gram", flow_run_name=shown_name, log_prints=False, persist_result=False, validate_parameters=False)
@naming_keys
def train_gram(
    *,
    run_name: GivenName = "",
    dry_run: bool = False,
    overrides: Overrides = NO_OVERRIDES,
    on_change: OnChange = "auto",
    models: ModelSettings,
    data: DataSettings,
    training: GramTraining = GramTraining(),
    generation: GenerationSettings = GenerationSettings(),
    benchmarks: BenchmarkSettings = BenchmarkSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: Seed = 0,
) -> State[dict[str, Any]]:
    """Pre-trains a model on pairs of responses, and fine-tunes it to predict which of the two is better.

    Args:
        run_name: Names the run folder. If it is empty, the flow run's own name does. A start with the name of an earlier run
            resumes that run.
        dry_run: The run is only planned: what every stage will cost is shown and written to plan.json in the run folder. So
            that the plan does not wait for other runs, choose the work queue short under Additional Options.
        overrides: Single settings that override the sections, by their dotted names, such as {"training.label_smoothing": 0.05}.
        on_change: What happens if settings or data have changed since the run started: auto makes the stages that read them
            again, and all stages downstream, unless the run is finished: then it refuses to start, and says what differs. redo
            and refuse do so whether or not the run is finished. Failed rows are retried where stages may be made again.
        models: The base model of the judge, and its prompt.
        data: Labeled pairs, pairs for pre-training, and held-out pairs.
        training: How pre-training and fine-tuning are done.
        generation: How vLLM runs.
        benchmarks: How the judge is measured, and on which sets besides the held-out pairs.
        retention: How much disk space to leave free.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
    """
    config = with_overrides(parameters_of(GramConfig, locals()), overrides or {}, GramConfig)
    if config.dry_run:
        return only_plan(config)
    return carry_out(config, config.settings(), self_training, finish)
