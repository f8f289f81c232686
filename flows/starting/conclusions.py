"""Rationales in the writer's own words, given the last sentence by which a judge's prompt tells what they argue for.

::

    "The second one names its source."                        of a pair whose second response is better, becomes
    "The second one names its source. So B is better."
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.sources.source import Source
from data.sources.sources import Dropped, read_source
from flows.starting.copies import CONCLUDED, write_copies
from flows.starting.files import LOOKED_AT, find, shapes
from flows.starting.inputs import Inputs


def lacks_conclusions(inputs: Inputs) -> bool:
    """Whether there are rationales for self-training, none in a form that a prompt asks for."""
    if inputs.rationale is None or inputs.flow != "self-train":
        return False
    return bool(inputs.rationale.usable("rationale")) and not any(shapes(inputs.rationale).values())


def with_conclusions(inputs: Inputs, folder: Path) -> Inputs:
    """The inputs with the rationales copied to the folder, as records, each with its conclusion."""
    assert inputs.rationale is not None
    write_copies(folder, {CONCLUDED: _concluded(inputs.rationale.source)})
    return replace(inputs, rationale=find(str((folder / CONCLUDED).absolute()), labeled=True))


def _concluded(source: Source) -> Iterator[Mapping[str, Any]]:
    for item in read_source(source.model_copy(update={"max_malformed": 20 * LOOKED_AT}), "rationale", seed=0):
        if not isinstance(item, Dropped):
            text = item.rationale.rstrip()
            end = "" if text.endswith((".", "!", "?")) else "."
            yield {**item.to_json(), "rationale": f"{text}{end} So {item.label} is better."}
