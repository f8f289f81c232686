"""What is known of a base model before it is downloaded: its size, its context, and its tokenizer if it is at hand."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flows.config.recipes import ConfigError
from tasks.describe.survey import Tokens
from tasks.machine.gpus import visible_gpus
from tasks.model.chat import load_tokenizer
from tasks.model.folder import ModelError, check_model_folder, positions_of
from tasks.model.location import local_folder, model_folder
from tasks.plan.assumptions import PlanError
from tasks.plan.sizes import model_size

CHARACTERS_A_TOKEN = 3.5
"""Of English in the vocabularies of today's models, on the low side: for lengths where no tokenizer is at hand."""
_SIZE = re.compile(r"(?:(?P<experts>\d+)x)?(?P<number>\d+(?:\.\d+)?)(?P<unit>[bm])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class BaseModel:
    """A model as it was named. `parameters` and `context` are None if unknown, `folder` if it is not on this machine."""

    name: str
    parameters: float | None = None
    context: int | None = None
    folder: str | None = None

    @property
    def short(self) -> str:
        """The name without the folders that it lies in."""
        return Path(self.name).name if local_folder(self.name).is_dir() else self.name

    @property
    def size(self) -> str:
        """Its size in words, such as "3.2B"."""
        if self.parameters is None:
            return "unknown size"
        millions = self.parameters / 1e6
        return f"{millions / 1000:.3g}B" if millions >= 1000 else f"{millions:.3g}M"

    def tokens(self) -> Tokens:
        """How many tokens texts have; an estimate from their characters where the tokenizer is not at hand."""
        if self.folder is None:
            return lambda texts: [round(len(text) / CHARACTERS_A_TOKEN) for text in texts]
        tokenizer = load_tokenizer(self.folder)
        return lambda texts: [
            len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]


def look_at(model: str) -> BaseModel:
    """What can be known of a model: from its folder or the hub, else from its name alone.

    Raises ConfigError for a folder that is not there or holds no usable model, which any name is that the hub cannot have.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = model_folder(model, weights=False)
        check_model_folder(folder, weights=local_folder(model).is_dir())
        return BaseModel(model, model_size(Path(folder)).parameters, positions_of(folder), folder)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, HfHubHTTPError | LocalEntryNotFoundError):
            return BaseModel(model, size_in_name(model))  # the machine of the run may have it
        raise ConfigError(str(error)) from error
    except (ModelError, PlanError) as error:
        raise ConfigError(str(error)) from error


def size_in_name(model: str) -> float | None:
    """The number of parameters that a name states, such as 3e9 for Llama-3.2-3B; None if it states none."""
    sizes = [
        float(found["number"]) * int(found["experts"] or 1) * (1e9 if found["unit"] in "bB" else 1e6)
        for found in _SIZE.finditer(model.rpartition("/")[2])
    ]
    return max(sizes, default=None)


@dataclass(frozen=True)
class Machine:
    """The GPUs that a run will have, and the memory of each in GB; `here` if they are those of this machine."""

    gpus: int
    memory_gb: float = 80
    here: bool = True


def this_machine(gpus: int | None) -> Machine:
    """A machine with so many GPUs, by default those that are visible here; their memory is 80 GB if none is here to ask."""
    visible = len(visible_gpus())
    n = visible if gpus is None else gpus
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split()
        return Machine(n, min(map(float, listed)) * 2**20 / 1e9, n == visible)
    except (OSError, subprocess.SubprocessError, ValueError):
        return Machine(n, here=n == visible)
