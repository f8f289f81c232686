"""What else a model needs, besides weights and tokenizer, to be written and then served."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

PROCESSOR = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files of a model that also takes images: engines read them as they start, even if they are only ever given text."""


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


def copy_processor(base: Path, out: Path) -> None:
    """Copies what the base has for other input than text, which neither the model nor the tokenizer writes."""
    for name in PROCESSOR:
        if (base / name).is_file():
            shutil.copy(base / name, out)
