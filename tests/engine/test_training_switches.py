"""What the switches of a training set: in the trainer's configuration, and in each layer of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.settings import LoraSettings, Optimization, Role, TrainingSettings
from tasks.settings.mechanics import ATTENTIONS
from tasks.training.objectives import build_trainer
from tests.support.training_jobs import BASE, Setup, example_rows, models_for

pytestmark = pytest.mark.train


def test_the_attentions_are_those_of_transformers() -> None:
    from transformers.integrations.hub_kernels import is_kernel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    named = {name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if not name.startswith("paged|") and "/" not in name}
    assert {"auto", "eager", *named} == set(ATTENTIONS)
    assert is_kernel("kernels-community/flash-attn2@v1.2:flash_attn_varlen_func")


def arguments(folder: Path, role: Role = "judge", **training: Any) -> Any:
    how = Setup(models_for(), Optimization(max_steps=1), TrainingSettings.model_validate(training), role)
    return how.arguments(folder, ChatEncoder.load(str(BASE)))


def test_switches_reach_the_trainer(tmp_path: Path) -> None:
    default = arguments(tmp_path)
    assert (default.torch_compile, default.use_liger_kernel, default.packing, default.max_length) == (
        False,
        False,
        False,
        128,
    )
    assert arguments(tmp_path, compile=True).torch_compile
    packed = arguments(tmp_path, packing=True, pack_tokens=512)
    assert (packed.packing, packed.max_length) == (True, 512)
    assert arguments(tmp_path, role="scalar", packing=True, pack_tokens=512).max_length is None, "it is never packed"
    for role in ("judge", "scalar"):  # its own loss would take the place of TRL's
        liger = arguments(tmp_path, role=role, liger_kernels=True)
        assert (liger.use_liger_kernel, liger.liger_kernel_config) == (True, {"fused_linear_cross_entropy": False})


@pytest.mark.parametrize(
    ("how", "layers", "role", "lora"),
    [
        (False, [0, 0, 0], "judge", None),
        (True, [1, 1, 1], "judge", None),
        (0.5, [1, 0, 1], "judge", None),
        (0.33, [1, 0, 0], "scalar", None),
        ("selective", [1, 1, 1], "judge", None),
        ("selective", [1, 1, 1], "judge", LoraSettings(r=4, alpha=8)),
    ],
)
def test_layers_that_are_computed_again(
    tmp_path: Path, how: Any, layers: list[int], role: Role, lora: LoraSettings | None
) -> None:
    """Counted in a step: the feed-forward part runs once more in each of them, the attention only where it is not kept."""
    from datasets import Dataset
    from torch.utils._python_dispatch import TorchDispatchMode

    attended: list[str] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            attended.extend(
                ["forward"] * str(func).startswith("aten._scaled_dot_product_flash_attention_for_cpu.default")
            )
            return func(*args, **(kwargs or {}))

    training = TrainingSettings(log_every=1, gradient_checkpointing=how)
    setup = Setup(models_for(), Optimization(max_steps=1, batch_size=2, lora=lora), training, role)
    rows, encoder = example_rows(2), ChatEncoder.load(str(BASE))
    examples = Dataset.from_list(setup.features(tmp_path, rows, encoder))
    trainer = build_trainer(setup.job(tmp_path, rows), encoder, examples, None, str(tmp_path))
    begun: list[str] = []
    parts = [name for name, _ in trainer.model.named_modules() if name.endswith(".mlp")]
    for name in parts:
        trainer.model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: begun.append(name))
    with Seen():
        trainer.train()
    assert [begun.count(name) for name in parts] == [1 + again for again in layers]
    assert len(attended) == len(layers) + (0 if how == "selective" else sum(layers))
