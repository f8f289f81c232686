"""The FlashAttention 2 that torch contains, under the name of the package flash-attn: for GPUs where that cannot be installed.

``python -m tests.benchmarks.torch_flash FOLDER`` writes a package flash_attn; with FOLDER in PYTHONPATH, transformers takes
it for the real one. It has what training with packed examples calls, and no more. Its operator is named like the real one,
by which TRL's selective checkpointing recognizes attention.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

VERSION = "2.8.3"
"""Whose functions have these signatures."""


@torch.library.custom_op("flash_attn::_flash_attn_varlen_forward", mutates_args=())
def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor, longest: int, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of examples that follow one another, and its logsumexp. q, k, v: (tokens, heads, head size)."""
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, starts, starts, longest, longest, 0.0, causal, False, scale=scale
    )
    return out, lse


@forward.register_fake
def _(
    q: Any, k: Any, v: Any, starts: Any, longest: int, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(q), q.new_empty((q.size(1), q.size(0)), dtype=torch.float32)


@torch.library.custom_op("flash_attn::_flash_attn_varlen_backward", mutates_args=())
def backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    starts: torch.Tensor, longest: int, scale: float, causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The gradients of q, k and v."""
    rng = torch.zeros(2, dtype=torch.uint64, device=q.device)  # of dropout, which there is none of
    unused = torch.empty(0, device=q.device)
    dq, dk, dv = torch.ops.aten._flash_attention_backward(
        grad, q, k, v, out, lse, starts, starts, longest, longest, 0.0, causal, rng, unused, scale=scale
    )
    return dq, dk, dv


@backward.register_fake
def _(grad: Any, q: Any, k: Any, v: Any, *rest: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, starts, *ctx.rest = inputs
    ctx.save_for_backward(q, k, v, *output, starts)


def _gradients(context: Any, grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    return (*backward(grad.contiguous(), *context.saved_tensors, *context.rest), None, None, None, None)


forward.register_autograd(_gradients, setup_context=_keep)


def flash_attn_varlen_func(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int, max_seqlen_k: int, softmax_scale: float | None = None, causal: bool = False,
) -> torch.Tensor:  # fmt: skip
    """As flash-attn's, where queries and keys are those of the same examples."""
    scale = q.size(-1) ** -0.5 if softmax_scale is None else softmax_scale
    out: torch.Tensor = forward(q, k, v, cu_seqlens_q.int(), max_seqlen_q, scale, causal)[0]
    return out


def flash_attn_func(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, softmax_scale: float | None = None, causal: bool = False
) -> torch.Tensor:
    """As flash-attn's. q, k, v: (batch, tokens, heads, head size)."""
    batch, tokens = q.shape[:2]
    starts = torch.arange(0, (batch + 1) * tokens, tokens, dtype=torch.int32, device=q.device)
    flat = [x.flatten(0, 1) for x in (q, k, v)]
    return flash_attn_varlen_func(*flat, starts, starts, tokens, tokens, softmax_scale, causal).unflatten(
        0, (batch, -1)
    )


def write_package(folder: Path) -> None:
    package, facts = folder / "flash_attn", folder / f"flash_attn-{VERSION}.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    facts.mkdir(exist_ok=True)
    functions = f"from {__spec__.name} import flash_attn_func, flash_attn_varlen_func\n"
    (package / "__init__.py").write_text(f'__version__ = "{VERSION}"\n{functions}flash_attn_with_kvcache = None\n')
    padding = (
        "from transformers.modeling_flash_attention_utils import _pad_input as pad_input, _unpad_input as unpad_input\n"
    )
    (package / "bert_padding.py").write_text(padding)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {VERSION}\n")
    (facts / "top_level.txt").write_text("flash_attn\n")


if __name__ == "__main__":
    write_package(Path(sys.argv[1]))
