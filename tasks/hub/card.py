"""The model card as the hub shows it: the exported one, with more metadata.

The metadata is added when the judge is sent, and not in its export: what it says depends on benchmarks, which the export does
not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.benchmark.play import set_name
from tasks.hub.exported import Exported, PushError

CARD = "README.md"


def hub_card(exported: Exported, licence: str | None = None) -> str:
    """The text of the model card, with licence, data sets and results in its metadata.

    Raises PushError if the exported card's metadata cannot be read.
    """
    from huggingface_hub import ModelCard

    path = exported.final.path / CARD
    try:
        card = ModelCard(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PushError(
            f"the metadata of {path} cannot be read ({error}): start the run again to export it anew"
        ) from error
    if licence is not None:
        card.data["license"] = licence
    if exported.datasets:
        card.data["datasets"] = list(exported.datasets)
    card.data["model_name"] = f"{exported.run_name}-judge"
    card.data["eval_results"] = list(_results(exported))
    return str(card)


def _results(exported: Exported) -> Iterator[Any]:
    """The judge's accuracy on held-out pairs, and on every benchmark that has a total."""
    config = exported.final.manifest.config
    rounds = config["card"]["rounds"]
    chose = ", which also chose this judge" if len(rounds) > 1 else ""
    yield _result(
        "held-out", f"{config['card']['heldout_pairs']:,} held-out pairs of the run{chose}", exported.accuracy
    )
    for played, hub_name in exported.benchmarks:
        metrics = played.manifest.metrics
        if metrics["accuracy"] is not None:  # without a total, parts are missing
            label = played.manifest.kind.removeprefix("benchmark-")
            yield _result(hub_name or metrics["benchmark"], set_name(played), metrics["accuracy"], label)


def _result(data: str, name: str, accuracy: float, part: str | None = None) -> Any:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation",
        task_name="Preference judgment",
        dataset_type=data,
        dataset_name=name,
        dataset_config=part,  # two sets of one benchmark are two data sets
        metric_type="accuracy",
        metric_name="Accuracy, each pair judged in both orders",
        metric_value=accuracy,
    )
