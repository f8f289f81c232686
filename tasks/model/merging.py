"""An adapter as a whole model: merged once with the base model that it names, and kept in the user's cache.

``python -m tasks.model.merging ADAPTER BASE OUT`` does it in a process of its own, whose memory is then free again. Engines and
trainings thus load nothing but plain folders.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from data.files import hash_folder
from data.records import content_id
from tasks.model.folder import ADAPTER, ModelError
from tasks.model.saving import PROCESSOR, make_savable

_LONGEST = 600
_SMALL_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "prompt.*",
    *PROCESSOR,
)
"""What an adapter's folder may have of its own besides the adapter."""
_TEMPLATE = "chat_template.jinja"


def merged_folder(adapter: str, base: str, base_facts: dict[str, str]) -> str:
    """The folder with the merged model, made if it is not there yet; its name is the hash of adapter and base.

    `base_facts` identify the base, as in keys. Raises ModelError, with peft's own words, if they cannot be merged.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gram-r2" / "merged"
    target = cache / content_id(hash_folder(Path(adapter)), base_facts)
    if target.is_dir():
        return str(target)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch) / "model"
        command = [sys.executable, "-m", "tasks.model.merging", adapter, base, str(made)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            words = (ended.stderr.strip().splitlines() or ["no reason given"])[-1][:_LONGEST]
            raise ModelError(f"{adapter} cannot be merged with its base model {base}: {words}")
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # another process may have been quicker
                raise
    return str(target)


def merge(adapter: Path, base: Path, out: Path) -> None:
    """Writes base and adapter as one model, in the base's dtype, with the adapter's tokenizer where it has one."""
    import peft
    import transformers

    kind = json.loads((adapter / ADAPTER).read_text(encoding="utf-8")).get("task_type")
    scalar = kind == "SEQ_CLS"
    model_class = transformers.AutoModelForSequenceClassification if scalar else transformers.AutoModelForCausalLM
    model = model_class.from_pretrained(base, dtype="auto", **({"num_labels": 1} if scalar else {}))
    make_savable(model)
    merged = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.save_pretrained(out)
    copy_small_files(adapter, base, out)


def copy_small_files(adapter: Path, base: Path, out: Path) -> None:
    """Copies tokenizer, chat template and the like: the base's, and over them the adapter's."""
    for folder in (base, adapter):
        for pattern in _SMALL_FILES:
            for file in folder.glob(pattern):
                shutil.copy(file, out)
    # A template in a file of its own goes before one in tokenizer_config.json, where older versions of transformers put it.
    template = _chat_template(adapter) or _chat_template(base)
    if template:
        (out / _TEMPLATE).write_text(template, encoding="utf-8")


def _chat_template(folder: Path) -> str | None:
    """The chat template that transformers would read in a folder; None if there is none, or several with names."""
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    stated = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    return stated if isinstance(stated, str) else None


if __name__ == "__main__":
    merge(*map(Path, sys.argv[1:4]))
