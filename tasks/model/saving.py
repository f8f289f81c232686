"""What else a model needs, besides weights and tokenizer, to be written and then served."""

from __future__ import annotations

from typing import Any


def make_savable(model: Any) -> None:
    """Mends the base's settings of generation where transformers would load but not write them; others stay as they are.

    Flags of sampling without `do_sample` get it. If that is not all, only the ids of tokens are kept.
    """
    if not model.can_generate() or _is_valid(model.generation_config):
        return
    import transformers

    settings = model.generation_config
    if settings.do_sample is None:
        settings.do_sample = True
        if _is_valid(settings):
            return
    ids = {name: getattr(settings, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    known = {name: found for name, found in ids.items() if not isinstance(found, int) or found >= 0}
    model.generation_config = transformers.GenerationConfig(**known)


def _is_valid(settings: Any) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True
