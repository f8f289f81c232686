"""A plan for people to read: a table within 120 columns, the same in Markdown, and what it is based on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby

from tasks.plan.plan import Plan
from tasks.plan.stages import FORMULAS, PlannedStage

COLUMNS = 120
HEADINGS = ("stage", "rows in", "rows out", "prompt", "generated", "trained", "FLOPs", "GPU time", "disk")
_FIXTURE = "ESTIMATES FROM STAND-INS, not from the models and data that the recipe names, for:"
_AMOUNTS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3))
_SIZES = ((" TiB", 2.0**40), (" GiB", 2.0**30), (" MiB", 2.0**20), (" KiB", 2.0**10), (" B", 1.0))


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """One row of texts per stage, a subtotal after each round, and a total for the run: with several seeds, for all of them."""
    rows: list[tuple[str, ...]] = []
    for key, found in groupby(plan.stages, lambda stage: stage.place.round):
        stages = list(found)
        rows += [_row(stage.place.name, [stage], with_rows=True) for stage in stages]
        if key is not None:
            tuning = key > 0 and not {"prove", "select"} & {stage.place.kind for stage in stages}
            rows.append(_row("= fine-tuning" if tuning else f"= round {key}", stages))
    if plan.times == 1:
        return [*rows, _row("= total", plan.stages)]
    return [*rows, _row("= one seed", plan.stages), _row(f"= {plan.times} seeds", [*plan.stages] * plan.times)]


def _row(name: str, stages: Sequence[PlannedStage], with_rows: bool = False) -> tuple[str, ...]:
    def total(figure: Callable[[PlannedStage], float]) -> float:
        return sum(map(figure, stages))

    rows = (amount(stages[0].rows_in), amount(stages[0].rows_out)) if with_rows else ("", "")
    return (
        name,
        *rows,
        amount(total(lambda s: s.prompt_tokens)),
        amount(total(lambda s: s.generated_tokens)),
        amount(total(lambda s: s.trained_tokens)),
        flops(total(lambda s: s.flops)),
        gpu_time(total(lambda s: s.gpu_seconds)),
        size(total(lambda s: s.disk_bytes)),
    )


def amount(value: float) -> str:
    """A number of rows or tokens with K, M or B; a dash for none."""
    if value < 0.5:
        return "–"
    if value < 10_000:
        return f"{value:,.0f}"
    return _scaled(value, _AMOUNTS)


def flops(value: float) -> str:
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "–"


def gpu_time(seconds: float) -> str:
    """GPU-hours from 0.1 h up; below that, seconds and minutes."""
    if not seconds:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 360:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.{1 if seconds < 360_000 else 0}f} h"


def size(n_bytes: float) -> str:
    if not n_bytes:
        return "–"
    return _scaled(n_bytes, _SIZES)


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    """The value in the largest unit that it reaches, else in the last one, with three significant digits."""
    unit, scale = next((one for one in units if value >= 0.9995 * one[1]), units[-1])
    shown = value / scale
    return f"{shown:.{0 if shown >= 99.95 else 1 if shown >= 9.995 else 2}f}{unit}"


# ---- the whole ------------------------------------------------------------------------------------------------------------


def as_text(plan: Plan) -> str:
    """For a terminal of 120 columns."""
    rows = [HEADINGS, *plan_rows(plan)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    parts = [f"Plan of {plan.run_name}", *_warnings(plan), "\n".join(lines), *_foundations(plan)]
    return "\n\n".join(parts) + "\n"


def as_markdown(plan: Plan) -> str:
    """For Prefect's UI."""
    table = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *plan_rows(plan)]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in table)
    blocks = [f"```\n{part}\n```" for part in _foundations(plan)]
    return "\n\n".join([f"# Plan of {plan.run_name}", *_warnings(plan), lines, *blocks]) + "\n"


def _warnings(plan: Plan) -> list[str]:
    texts = [f"A RUN WOULD STOP: {stop}" for stop in plan.stops]
    texts += [f"{_FIXTURE} {', '.join(plan.stand_ins)}"] if plan.stand_ins else []
    return [textwrap.fill(text, COLUMNS, break_on_hyphens=False) for text in texts]


def _foundations(plan: Plan) -> list[str]:
    models = [f"{role:7} {facts['model']}: N = {amount(facts['parameters'])}" for role, facts in plan.models.items()]
    assumed = [
        f"{one['name']} = {_value(one['value'])} ({one['origin']}): {one['meaning']}" for one in plan.assumptions
    ]
    scratch = max((stage.scratch_bytes for stage in plan.stages), default=0.0)
    notes = [
        *plan.notes,
        f"during a training, its checkpoints and encoded examples take up to {size(scratch)} of additional disk",
    ]
    if not _measured(plan):
        notes.append(
            "GPU time is assumed, not measured: for measured rates, pass --rates FILE or --like with a finished run"
        )
    return [
        "\n".join(["Models", *models]),
        "\n".join(["Formulas", FORMULAS]),
        _listed("Assumptions (change one with --assume NAME=VALUE)", assumed),
        _listed("Notes", notes),
    ]


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _measured(plan: Plan) -> bool:
    known = {one["name"] for one in plan.assumptions}
    whose = {"judge" if role == "scalar" else role for role in plan.models}
    return all({f"{role}_training", f"{role}_generation"} <= known for role in whose)


def _listed(title: str, lines: Sequence[str]) -> str:
    wrapped = (textwrap.fill(f"- {line}", COLUMNS, subsequent_indent="  ") for line in lines)
    return "\n".join([title, *wrapped])
