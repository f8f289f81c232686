"""The reference of all recipe keys, made from the settings: ``python -m flows.config.reference`` writes it into its page."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from data.sources.sources import ColumnMap, Source
from flows.config.parameters import AdaptTraining, GramTraining, SelfTrainConfig
from tasks.settings import (
    BaselineSettings,
    BenchmarkSet,
    EarlyStopping,
    JudgeSettings,
    LoraSettings,
    Mechanics,
    Optimization,
    TaskSettings,
)

BEGIN, END = "<!-- recipe keys: made by `python -m flows.config.reference` -->", "<!-- end of recipe keys -->"


def reference() -> str:
    """The reference as markdown: one table per section."""
    top = {n: f for n, f in SelfTrainConfig.model_fields.items() if _section(f) is None}
    parts = [_table("top level", top)]
    for name, field in SelfTrainConfig.model_fields.items():
        section = _section(field)
        if section is not None:
            parts.append(_table(f"`[{name}]`", section.model_fields))
    parts.append(_table("a training, such as `training.judge`", Optimization.model_fields))
    parts.append(_table("early stopping, `early_stopping` of a training", EarlyStopping.model_fields))
    parts.append(_table("LoRA, `lora` of a training", LoraSettings.model_fields))
    parts.append(_table("a source, in the lists of `[data]`", Source.model_fields))
    parts.append(_table("a column map, `columns` of a source or a set", ColumnMap.model_fields))
    parts.append(_table("a set, in `benchmarks.sets`", BenchmarkSet.model_fields))
    parts.append(_table("`[judge]`, of the flows `benchmark` and `adapt`", JudgeSettings.model_fields))
    own = {name: field for name, field in GramTraining.model_fields.items() if name not in Mechanics.model_fields}
    parts.append(_table("`[training]` of the flow `gram`, besides the keys of every training", own))
    parts.append(
        _table("`[baselines]`, of the flow `baselines`, besides all of self-training", BaselineSettings.model_fields)
    )
    parts.append(_table("`[task]`, of the flow `adapt`", TaskSettings.model_fields))
    own = {name: field for name, field in AdaptTraining.model_fields.items() if name not in Mechanics.model_fields}
    parts.append(_table("`[training]` of the flow `adapt`, besides the keys of every training", own))
    return "\n\n".join(parts)


def _table(title: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {(field.description or '').replace('|', '/')} |"
        for name, field in fields.items()
    ]
    return "\n".join([f"**{title}**", "", "| key | values | default | meaning |", "|---|---|---|---|", *rows])


def _section(field: FieldInfo) -> type[BaseModel] | None:
    return field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else None


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])} → {_type(arguments[1])}"
    if origin is typing.Annotated:
        return _type(arguments[0])
    names = {int: "integer", float: "number", str: "text", bool: "true, false", Any: "any value"}
    named: dict[Any, str] = {
        Source: "sources",
        BenchmarkSet: "sets",
        Optimization: "a training",
        LoraSettings: "LoRA",
        EarlyStopping: "early stopping",
        ColumnMap: "a column map",
    }
    return {**names, **named}.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return "empty"
    if isinstance(value, Optimization):
        return ", ".join(f"{k} {v}" for k, v in value.model_dump(exclude_unset=True).items())
    if value in ((), [], {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PAGE = Path(__file__).parents[1] / "recipes" / "README.md"


def with_reference(readme: str) -> str:
    """The page with the reference between its two markers. Raises ValueError if they are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
