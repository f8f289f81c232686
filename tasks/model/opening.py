"""Opening a model by its name: in vLLM, as a discriminative model, or at an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.model.chat import ChatEncoder
from tasks.model.endpoint import EndpointEngine, is_endpoint
from tasks.model.scalar import ScalarEngine, is_scalar
from tasks.settings import GenerationSettings, ModelSettings

if TYPE_CHECKING:
    from tasks.model.engine import Engine


def open_engine(
    model: str,
    models: ModelSettings,
    generation: GenerationSettings,
    encoder: ChatEncoder | None,
    scoring: bool = False,
    by_label: bool = False,
) -> Engine:
    """The engine for a model; `encoder` is the model's, or None for an endpoint. Two vLLM engines never share a process.

    `scoring` and `by_label` are as in `VLLMEngine`.
    """
    if is_endpoint(model):
        url, _, name = model.partition("#")
        return EndpointEngine(url, name or None, generation.endpoint_requests)
    assert encoder is not None, "only an endpoint has no tokenizer here"
    trusted = bool(models.trust_remote_code)
    if is_scalar(model):
        return ScalarEngine(model, models.dtype, encoder.end_id, trusted)
    from tasks.model.vllm import VLLMEngine

    return VLLMEngine(model, models, generation, encoder.end_id, scoring, by_label)
