"""Where rows come from: the configuration of one source.

::

    Source(path="seed.jsonl")
    Source(dataset="helpsteer3", path="~/data/helpsteer3", cap=20_000)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.sources.adapters import RATIONALE_FORMATS, UNLABELED_FORMATS, Format
from data.sources.catalog import DATASETS, DatasetName
from data.sources.columns import ColumnMap, Scalar

HUB = "hub:"


class Source(BaseModel):
    """Where rows come from, how they are read, and how many of them a mixture takes.

    Fields that are omitted from dumps at their default were added later: keys of older stages stay valid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetName | None = Field(
        default=None,
        title="Data set",
        description="Name of a known data set, short for its hub name, subset, split and format; the keys below override "
        "them. With a path, the path is a local copy of it.",
        exclude_if=lambda value: value is None,
    )
    path: str = Field(
        default="",
        title="Path",
        description="A file (.jsonl, .json, .csv or .tsv, also .gz or .zst; .parquet or .arrow), a folder of such files, also "
        "one of save_to_disk or a clone of a hub data set, a glob, or hub:owner/name for a data set on the hub. "
        "~ and ${VARIABLES} are expanded. Required if no dataset is named.",
    )
    format: Format = Field(
        default="records",
        title="Format",
        description="Format of the rows; 'columns' needs a column map. With a dataset, 'records' means its own format.",
    )
    columns: ColumnMap | None = Field(
        default=None, title="Column map", description="Which column contains what; only for the format 'columns'."
    )
    id_from: Literal["row", "content"] = Field(
        default="row",
        title="Ids",
        description="row: the row's own id, if it has one. content: always a hash of the row's content, for ids that are not "
        "unique among the sources of a kind.",
        exclude_if=lambda value: value == "row",
    )
    split: str = Field(default="train", title="Split", description="Split of a hub data set.")
    subset: str | None = Field(default=None, title="Subset", description="Subset (configuration) of a hub data set.")
    revision: str | None = Field(
        default=None,
        title="Revision",
        description="Commit, tag or branch of a hub data set. Pin a commit: without one, finished stages do not notice "
        "when the data set changes on the hub.",
    )
    where: dict[str, tuple[Scalar, ...]] = Field(
        default={},
        title="Only rows where",
        description='Column → its allowed values, such as {domain = ["stem"]}. Other rows are dropped as filtered. '
        'Dots reach into nested columns. 1 and 1.0 are equal; 1, true and "1" are not.',
        exclude_if=lambda value: not value,
    )
    limit: int | None = Field(
        default=None,
        title="Limit",
        description="At most this many rows are read, in file order, including those that are dropped.",
        ge=1,
    )
    sample: int | None = Field(
        default=None,
        title="Sample",
        description="At most this many rows are read, drawn at random from the whole source (from its first rows, if there is "
        "a limit), in file order, including those that are dropped. The rows must be counted first: a hub data set is "
        "streamed twice.",
        ge=1,
        exclude_if=lambda value: value is None,
    )
    cap: int | None = Field(
        default=None,
        title="Cap",
        description="At most this many usable pairs are kept, drawn at random; the others are counted as over_cap.",
        ge=1,
        exclude_if=lambda value: value is None,
    )
    weight: float | None = Field(
        default=None,
        title="Weight",
        description="The source's share of the mixture of its kind, relative to the other weights; set it for all sources "
        "of a kind or for none. No pair is repeated: surplus pairs are dropped at random and counted as over_weight.",
        gt=0,
        allow_inf_nan=False,
        exclude_if=lambda value: value is None,
    )
    seed: int = Field(
        default=0,
        title="Seed of the draw",
        description="Changes which rows sample draws, and which pairs cap and weight keep from this source; other sources are "
        "not affected.",
        exclude_if=lambda value: value == 0,
    )
    max_chars: int | None = Field(
        default=None,
        title="Longest row",
        description="Rows whose prompt and responses together have more characters are dropped as too_long.",
        ge=1,
    )
    max_malformed: int = Field(
        default=0,
        title="Malformed rows allowed",
        description="Up to this many malformed rows are dropped and counted; one more raises an error that names it.",
        ge=0,
    )

    @model_validator(mode="before")
    @classmethod
    def _what_the_name_stands_for(cls, given: Any) -> Any:
        known = DATASETS.get(str(given.get("dataset"))) if isinstance(given, Mapping) else None  # type: ignore[call-overload]
        if known is None:
            return given
        own: dict[str, str | None] = {"path": HUB + known.hub, "format": known.format}
        if str(given.get("path") or HUB).startswith(HUB):
            own |= {"subset": known.subset, "split": known.split}
        # A value at its default counts as not given: the UI's form sends the defaults too.
        return {**given, **{k: v for k, v in own.items() if given.get(k) in (None, cls.model_fields[k].default)}}

    @model_validator(mode="after")
    def _fields_that_belong_together(self) -> Source:
        if not self.path:
            raise ValueError("give a path, or the name of a data set in dataset")
        if (self.format == "columns") != (self.columns is not None):
            raise ValueError(
                "format 'columns' needs a column map, since only the map states what the columns mean: give it in columns"
                if self.columns is None
                else f"a column map is only for format 'columns', but the format is {self.format!r}; change it or remove the map"
            )
        if self.hub_name is None and (self.subset, self.revision, self.split) != (None, None, "train"):
            raise ValueError(
                "split, subset and revision are only for hub data sets; name the local file itself in path"
            )
        if self.hub_name == "":
            raise ValueError("hub: must be followed by the data set's name, such as hub:nvidia/HelpSteer3")
        return self

    @property
    def hub_name(self) -> str | None:
        """The name after ``hub:``, not expanded; None for local files."""
        return self.path.removeprefix(HUB) if self.path.startswith(HUB) else None

    @property
    def has_labels(self) -> bool:
        return self.columns.has_label if self.columns else self.format not in UNLABELED_FORMATS

    @property
    def has_rationales(self) -> bool:
        return self.columns.rationale is not None if self.columns else self.format in RATIONALE_FORMATS

    @property
    def names_the_better(self) -> bool:
        """Whether every row has the better response in its own column, so that the file assigns no positions to the two."""
        if self.columns is None:
            return self.format == "chosen-rejected"
        return self.columns.chosen is not None and self.columns.score_a is None
