"""GRAM: a judge that outputs only the label, pre-trained on unlabeled responses and fine-tuned with label smoothing (METHOD 0).

It is self-training with a first judge and no rounds, so the algorithm is `flows.self_train.self_training`.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow

from flows.config.parameters import GramConfig, GramTraining, parameters_of
from flows.config.recipes import with_overrides
from flows.running.carry_out import carry_out, only_plan
from flows.self_train import finish, self_training
from tasks.settings import BenchmarkSettings, DataSettings, GenerationSettings, ModelSettings, RetentionSettings


@flow(name="gram", flow_run_name="{run_name}", log_prints=False, persist_result=False, validate_parameters=False)
def train_gram(
    models: ModelSettings,
    data: DataSettings,
    run_name: str,
    training: GramTraining = GramTraining(),
    generation: GenerationSettings = GenerationSettings(),
    benchmarks: BenchmarkSettings = BenchmarkSettings(),
    retention: RetentionSettings = RetentionSettings(),
    store: str = "runs",
    seed: int = 0,
    on_change: Literal["redo", "refuse"] = "redo",
    dry_run: bool = False,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Pre-trains a model on pairs of responses, and fine-tunes it to predict which of the two is better.

    Args:
        models: The base model of the judge, and its prompt.
        data: Labeled pairs, pairs for pre-training, and held-out pairs.
        run_name: Names the run folder. Starting a run with the same name resumes it.
        training: How pre-training and fine-tuning are done.
        generation: How vLLM runs.
        benchmarks: How the judge is measured, and on which sets besides the held-out pairs.
        retention: How much disk space to leave free.
        store: The folder that holds the run folders, or a URL such as s3://bucket/runs.
        seed: Everything random is derived from it.
        on_change: What to do if settings or data have changed since the run started: redo what reads them, or refuse to start.
            Refusing also leaves failed rows of finished stages alone.
        dry_run: Only plan: show what every stage will cost, write plan.json to the run folder, and stop.
        overrides: Single settings that override the sections, by dotted name, such as {"training.label_smoothing": 0.05}.
    """
    config = with_overrides(parameters_of(GramConfig, locals()), overrides or {}, GramConfig)
    if config.dry_run:
        return only_plan(config)
    return carry_out(config, config.settings(), self_training, finish)
