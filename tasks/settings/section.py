"""What a section of a recipe is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["prover", "judge", "label-judge", "pretrained", "scalar"]
"""What a model is trained for: to write proofs; to judge, in its own words or by its label's token alone; to write both
responses of a pair, before it judges; to give each response a score."""

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One part of a recipe. An unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
