"""How judges are benchmarked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from data.benchmarks.catalog import BenchmarkName
from data.benchmarks.judgebench import SPLITS
from data.sources.adapters import Format
from data.sources.columns import ColumnMap
from data.sources.source import HUB, Source
from tasks.settings.models import ModelSettings
from tasks.settings.section import NAME, Section


class JudgeSettings(Section):
    """An existing judge: where it is, and how it is prompted."""

    path: str = Field(
        title="Judge",
        min_length=1,
        description="Folder of a checkpoint, its hub name, with a revision or without (NAME@REVISION), or the URL of an "
        "OpenAI-compatible endpoint, http://host/v1#MODEL.",
    )
    prompt: Literal["", "gram-r2", "compact", "compact-label", "gram", "gram-card"] = Field(
        "",
        title="Prompt",
        description="Empty: the prompt named in the checkpoint's prompt.json, or the one that a released GRAM-R² or GRAM "
        "checkpoint was trained with.",
    )
    max_tokens: int = Field(
        4096, ge=64, title="Context length (tokens)", description="Prompt and reply together may have this many tokens."
    )
    overlong: Literal["drop", "truncate"] = Field(
        "drop",
        title="Overlong prompts",
        description="drop: the game counts as having no verdict, and in the flow adapt the pair is left out of training. "
        "truncate: question and responses are shortened to a fair share each. No effect on an endpoint, which itself rejects "
        "prompts that are too long for it, or on a judge that gives scores: it drops them.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", title="Data type", description="auto: bfloat16 on a GPU, float32 on a CPU."
    )
    trust_remote_code: bool = Field(
        False, title="Trust remote code", description="Allow the checkpoint's own Python code to run."
    )

    def as_models(self) -> ModelSettings:
        """These settings as the section models of a run."""
        trusted = (self.path,) if self.trust_remote_code else ()
        return ModelSettings(
            judge_base=self.path,
            max_tokens=self.max_tokens,
            overlong=self.overlong,
            dtype=self.dtype,
            trust_remote_code=trusted,
        )

    def check_room(self, reply_tokens: int, setting: str = "benchmarks.max_tokens") -> None:
        """Raises ValueError if a reply, whose length a setting limits, leaves no room for its prompt."""
        if reply_tokens >= self.max_tokens:
            raise ValueError(
                f"judge.max_tokens = {self.max_tokens} leaves no room for a prompt beside a reply of {reply_tokens} tokens: "
                f"raise it, or set a smaller {setting}"
            )


class BenchmarkSet(Section):
    """One benchmark, and where to find its authors' files."""

    benchmark: BenchmarkName = Field(
        title="Benchmark", description="Name of the benchmark. preferences: any labeled preference set."
    )
    data: str = Field(
        title="Data",
        min_length=1,
        description="File or folder as its authors publish it, or hub:owner/name. ~ and ${VARIABLES} are expanded.",
    )
    split: str | None = Field(
        None,
        title="Split",
        description="JudgeBench: gpt or claude, the model whose responses are compared; empty: the split that a file contains, "
        "gpt for a folder or the hub. A preference set on the hub: its split; empty: train.",
    )
    subset: str | None = Field(
        None,
        title="Subset",
        description="Subset (configuration) of a preference set on the hub.",
        exclude_if=lambda value: value is None,
    )
    format: Format = Field(
        "records", title="Format", description="Row format of a preference set; 'columns' needs a column map."
    )
    columns: ColumnMap | None = Field(
        None,
        title="Column map",
        description="Which column contains what; only for a preference set of the format 'columns'.",
        exclude_if=lambda value: value is None,
    )
    limit: int | None = Field(
        None,
        ge=1,
        title="Limit (prompts)",
        description="Play at most this many items, drawn at random so that every part of the benchmark keeps its share. The "
        "scores then are estimates, and are marked as such; only the drawn items are checked for leaks. Empty: all.",
        exclude_if=lambda value: value is None,
    )
    seed: int = Field(
        0,
        title="Seed of the draw",
        description="Changes which items a limit draws.",
        exclude_if=lambda value: value == 0,
    )
    name: str = Field(
        "",
        title="Name",
        pattern=NAME,
        description="It is used in the names of its stages, tables and curves. Empty: the benchmark's name, with -claude for "
        "that split of JudgeBench.",
    )

    @property
    def source(self) -> Source:
        """Where and how a preference set is read."""
        return Source(
            path=self.data, format=self.format, columns=self.columns, split=self.split or "train", subset=self.subset
        )

    @model_validator(mode="after")
    def _keys_of_this_benchmark(self) -> Self:
        if self.benchmark == "preferences":
            self._check_source()
            return self
        if self.format != "records" or self.columns is not None or self.subset is not None:
            raise ValueError(
                f"format, columns and subset are only for preferences, but the benchmark is {self.benchmark}"
            )
        if self.split is not None and self.benchmark != "judgebench":
            raise ValueError(f"split is only for judgebench and preferences, but the benchmark is {self.benchmark}")
        if self.split not in (None, *SPLITS):
            raise ValueError(f"split: judgebench has {' and '.join(SPLITS)}, got {self.split!r}")
        return self

    def _check_source(self) -> None:
        if (self.split or self.subset) and not self.data.startswith(HUB):
            raise ValueError("split and subset are only for data sets on the hub; name the local file itself in data")
        try:
            source = self.source
        except ValidationError as error:
            problems = (one["msg"].removeprefix("Value error, ") for one in error.errors())
            raise ValueError("; ".join(problems)) from error
        if not source.has_labels:
            raise ValueError(
                "columns: label, or chosen and rejected, is needed: a benchmark has labeled pairs"
                if self.columns
                else f"format: {self.format!r} has no labels, and a benchmark has labeled pairs"
            )

    @property
    def label(self) -> str:
        """The given name, or one derived from the benchmark and its split."""
        return self.name or self.benchmark + ("-claude" if self.split == "claude" else "")


class BenchmarkSettings(Section):
    """How judges are benchmarked: on the held-out pairs after each round, and on the sets listed here."""

    sets: tuple[BenchmarkSet, ...] = Field(
        (),
        title="Benchmark sets",
        description="Public benchmarks and preference sets that each round's judge is tested on, besides the held-out pairs.",
    )
    votes: int = Field(
        1,
        ge=1,
        le=256,
        title="Votes per game (k)",
        description="Each order is judged this many times; more than 1 needs a temperature above 0. Paper: 1, and 16 for "
        "voting@16.",
    )
    temperature: float = Field(
        0.0,
        ge=0,
        le=2,
        title="Temperature",
        description="Judgments are sampled at this temperature. 0: greedy decoding.",
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Top-p",
        description="Tokens are sampled from this share of the distribution. 1: the whole of it.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        title="Maximum reply length (tokens)",
        description="A reply cut off at this length gives no verdict. Empty: labels.max_tokens; 1024 in the flow benchmark.",
    )

    @model_validator(mode="after")
    def _votes_differ(self) -> Self:
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(
                f"{self.votes} votes at temperature 0 are the same vote {self.votes} times: set a temperature above 0"
            )
        return self

    @model_validator(mode="after")
    def _set_names_are_unique(self) -> Self:
        labels = ["held-out", *(one.label for one in self.sets)]
        doubled = {label for label in labels if labels.count(label) > 1}
        if doubled:
            raise ValueError(f"two sets are called {', '.join(sorted(doubled))}: give one of them another name")
        return self
