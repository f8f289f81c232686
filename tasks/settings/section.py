"""What the sections of a recipe share: their base class and common types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["prover", "judge", "label-judge", "pretrained", "scalar"]
"""What a model is trained to do: write proofs; judge, by a written reply or by the label's token alone; write both responses
of a pair, before it learns to judge; give each response a score."""

NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"
"""A name that can be left out. It names a folder, so it is neither "." nor "..", and a curve, so it is not hidden by "_"."""

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One part of a recipe. An unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
