"""A file of reference responses, one for each prompt, such as a policy's greedy responses before its training::

{"prompt": "Why is the sky blue?", "reference": "Rayleigh scattering."}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data.records import RecordError, prompt_key
from data.sources import rows
from data.sources.rows import SourceError
from tasks.rank.inputs import read_messages, read_response
from tasks.reward.templated import without_default_system


def read_references(path: Path) -> dict[str, str]:
    """The references of a file (.jsonl, .json, .parquet, .gz), by `data.records.prompt_key` of their prompt.

    What a policy's chat template adds to a prompt by itself is left out of it.

    Raises SourceError naming the file and row, also for two references to one prompt, and for a file without any.
    """
    found: dict[str, str] = {}
    for file in rows.local_files(rows.expand_path(str(path))):
        for raw in rows.read_file(file):
            try:
                if not isinstance(raw.value, Mapping):
                    raise RecordError("", "must be an object with prompt and reference")
                turns = read_messages(raw.value.get("prompt"))
                reference = read_response(raw.value.get("reference"), "reference", turns)
            except RecordError as error:
                raise SourceError(f"{raw.file}, row {raw.number}: {error}") from error
            if found.setdefault(prompt_key(without_default_system(turns)), reference) != reference:
                raise SourceError(f"{raw.file}, row {raw.number}: its prompt has another reference already: keep one")
    if not found:
        raise SourceError(f"{path}: holds no rows")
    return found
