"""How judges are measured."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.benchmarks.catalog import BenchmarkName
from data.sources.adapters import Format
from tasks.settings.models import ModelSettings
from tasks.settings.section import Section


class JudgeSettings(Section):
    """A judge that is there: where it is, and how it is asked."""

    path: str = Field(
        title="Judge",
        min_length=1,
        description="Folder of a checkpoint, its hub name, or the URL of an OpenAI-compatible endpoint, http://host/v1#MODEL.",
    )
    prompt: Literal["", "gram-r2", "compact", "compact-label", "gram", "gram-card"] = Field(
        "",
        title="Prompt",
        description="Empty: what the checkpoint's prompt.json says, or what a released GRAM-R² or GRAM was trained with.",
    )
    max_tokens: int = Field(
        4096, ge=64, title="Context length (tokens)", description="Prompt and reply together may be this long."
    )
    overlong: Literal["drop", "truncate"] = Field(
        "drop",
        title="Prompts that are too long",
        description="drop: the game has no verdict. truncate: a fair share for each text. An endpoint refuses what is too long "
        "for it.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", title="Number format", description="auto: bfloat16 on a GPU, float32 on a CPU."
    )
    trust_remote_code: bool = Field(
        False, title="Trust remote code", description="Whether the checkpoint's own Python code may be run."
    )

    def as_models(self) -> ModelSettings:
        """The same as the models of a run."""
        trusted = (self.path,) if self.trust_remote_code else ()
        return ModelSettings(
            judge_base=self.path,
            max_tokens=self.max_tokens,
            overlong=self.overlong,
            dtype=self.dtype,
            trust_remote_code=trusted,
        )


class BenchmarkSet(Section):
    """One benchmark, and where its authors' files are."""

    benchmark: BenchmarkName = Field(title="Benchmark", description="Which one; preferences is any labeled set.")
    data: str = Field(
        title="Data",
        min_length=1,
        description="File or folder as its authors publish it, or hub:owner/name. ~ and ${VARIABLES} are expanded.",
    )
    split: Literal["gpt", "claude"] | None = Field(
        None,
        title="Split",
        description="Of JudgeBench: whose responses are compared. Empty: what a file holds; of a folder or the hub, gpt.",
    )
    format: Format = Field("records", title="Format", description="Of the rows of a preference set.")
    name: str = Field(
        "",
        title="Name",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Names its stages, tables and curves. Empty: the benchmark's name.",
    )

    @property
    def label(self) -> str:
        """The name given, or one made of the benchmark and its split."""
        return self.name or self.benchmark + ("-claude" if self.split == "claude" else "")


class BenchmarkSettings(Section):
    """How judges are measured: on the held-out pairs after each round, and on the sets named here."""

    sets: tuple[BenchmarkSet, ...] = Field(
        (),
        title="Sets",
        description="Public benchmarks and preference sets that each round's judge plays, besides the held-out pairs.",
    )
    votes: int = Field(
        1,
        ge=1,
        le=256,
        title="Votes a game (k)",
        description="Sampled judgments for each order; over 1 needs a temperature. Paper: 1, and 16 for voting@16.",
    )
    temperature: float = Field(0.0, ge=0, le=2, title="Temperature", description="0: the greedy judgment.")
    top_p: float = Field(1.0, gt=0, le=1, title="Top-p", description="1: sample from the whole distribution.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        title="Longest reply (tokens)",
        description="A reply cut off at this length is no verdict. Empty: labels.max_tokens, and 1024 in the flow benchmark.",
    )

    @model_validator(mode="after")
    def _votes_differ(self) -> Self:
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(
                f"{self.votes} votes at temperature 0 are the same vote {self.votes} times: give a temperature"
            )
        return self

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> Self:
        labels = ["held-out", *(one.label for one in self.sets)]
        doubled = {label for label in labels if labels.count(label) > 1}
        if doubled:
            raise ValueError(f"two sets are called {', '.join(sorted(doubled))}: give one of them another name")
        return self
