"""The charts of a run, each as one SVG text that is identical for identical numbers.

The background is transparent and the ink a medium grey, so an image is legible on light and dark pages; in our own
pages, `inline` makes the ink follow the text colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.page.words import KEPT, reason

INK = "#7d8590"
_BLUE, _GREY = KEPT, "#8a8f98"
_SEGMENTS = ("#3d8bd4", "#e07b39", "#b5658f", "#4f9d69", "#c2a12c", "#8172b3", "#5aa7a7", "#a0714f")
"""Of lines and points, in order of appearance; reasons have colours of their own, see `tasks.page.words`."""


def accuracy_curve(points: Sequence[tuple[str, float, float, float]], along: str = "round") -> str:
    """Held-out accuracy by round. A point is (round's name, accuracy, low and high end of its interval), in 0…1.

    `along` names the x-axis if the points are not rounds.
    """
    figure, axes = _figure(height=3.2)
    xs, accuracy = range(len(points)), [100 * point[1] for point in points]
    spread = [[100 * (p[1] - p[2]) for p in points], [100 * (p[3] - p[1]) for p in points]]
    axes.errorbar(xs, accuracy, yerr=spread, color=_BLUE, marker="o", linewidth=2, capsize=4, elinewidth=1)
    for x, value in zip(xs, accuracy, strict=True):
        # Beside the interval's line, on the side away from the curve's next segment.
        rises = value <= accuracy[min(x + 1, len(accuracy) - 1)]
        place = (7, -13 if rises else 7)
        axes.annotate(f"{value:.1f}", (x, value), place, textcoords="offset points", color=INK, fontsize=10)
    _chance(axes)
    _rounds(axes, [point[0] for point in points])
    axes.set_xlabel(along)
    _percent(axes, [100 * p[2] for p in points] + [100 * p[3] for p in points])
    axes.set_ylabel("held-out accuracy (%)")
    return _svg(figure)


def label_accuracy(points: Sequence[tuple[str, float | None, float | None]]) -> str:
    """Accuracy of pseudo-labels by round. A point is (round's name, of kept labels, of all), in 0…1 or None."""
    figure, axes = _figure(height=3.0)
    seen: list[float] = []
    for column, name, color, above in ((1, "kept", _BLUE, True), (2, "all", _GREY, False)):
        line = [(x, 100 * float(p[column])) for x, p in enumerate(points) if p[column] is not None]  # type: ignore[arg-type]
        if not line:
            continue
        seen += [value for _, value in line]
        axes.plot(*zip(*line, strict=True), color=color, marker="o", linewidth=2)
        for x, value in line:
            axes.annotate(
                f"{value:.1f}",
                (x, value),
                (0, 8 if above else -16),
                textcoords="offset points",
                color=color,
                ha="center",
                fontsize=10,
            )
        place = (18, 4 if above else -11)
        axes.annotate(f"{name} labels", line[-1], place, textcoords="offset points", color=color, fontsize=10)
    _chance(axes)
    _rounds(axes, [point[0] for point in points], right=0.75)
    _percent(axes, seen)
    axes.set_ylabel("correct labels (%)")
    return _svg(figure)


def kept_and_dropped(rounds: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """How many of each round's unlabeled pairs were kept or dropped. A round is (its name, "kept" or reason → pairs)."""
    figure, axes = _figure(height=1.6 + 0.4 * len(rounds))
    fates = list(dict.fromkeys(["kept", *(fate for _, counts in rounds for fate in counts)]))
    widest = max((sum(counts.values()) for _, counts in rounds), default=0) or 1
    left = [0] * len(rounds)
    for fate in fates:
        widths = [counts.get(fate, 0) for _, counts in rounds]
        color = reason(fate).color
        axes.barh(range(len(rounds)), widths, left=left, color=color, height=0.62, label=fate.replace("_", " "))
        for y, width in enumerate(widths):
            if width > 0.016 * len(f"{width:,}") * widest:  # a number wider than its segment would overlap the next
                axes.text(left[y] + width / 2, y, f"{width:,}", color="white", ha="center", va="center", fontsize=9)
            left[y] += width
    axes.set_yticks(range(len(rounds)), [f"round {name}" for name, _ in rounds])
    axes.invert_yaxis()
    axes.set_xlim(0, widest * 1.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("unlabeled pairs")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9, handlelength=1.0)
    return _svg(figure)


def benchmark_curves(names: Sequence[str], curves: Mapping[str, Sequence[float | None]]) -> str:
    """A line per benchmark over the rounds; a number is in 0…1, or None if a round has none."""
    figure, axes = _figure(height=3.2 + 0.16 * len(curves))
    seen: list[float] = []
    for i, (benchmark, numbers) in enumerate(curves.items()):
        line = [(x, 100 * number) for x, number in enumerate(numbers) if number is not None]
        seen += [value for _, value in line]
        color = _SEGMENTS[i % len(_SEGMENTS)]
        axes.plot(*zip(*line, strict=True), color=color, marker="o", linewidth=2, label=benchmark)
        x, value = line[-1]
        axes.annotate(f"{value:.1f}", (x, value), (7, -4), textcoords="offset points", color=INK, fontsize=10)
    _rounds(axes, names)
    _percent(axes, seen)
    axes.set_ylabel("score (%)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9, handlelength=1.0)
    return _svg(figure)


def accuracy_by_cost(points: Sequence[tuple[str, float, float]]) -> str:
    """Held-out accuracy over tokens, on a logarithmic scale. A point is (method, tokens, accuracy in 0…1)."""
    from matplotlib.ticker import LogLocator

    figure, axes = _figure(height=3.4)
    for i, (method, tokens, accuracy) in enumerate(points):
        color = _SEGMENTS[i % len(_SEGMENTS)]
        # The numbers are in the legend: at points of nearly equal cost, they would overlap.
        label = f"{method}: {100 * accuracy:.1f}"
        axes.plot([tokens], [100 * accuracy], color=color, marker="o", linestyle="none", label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(_short_number)
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.15)
    _chance(axes)
    _percent(axes, [100 * point[2] for point in points])
    axes.set_xlabel("tokens trained and generated")
    axes.set_ylabel("held-out accuracy (%)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9, handlelength=1.0)
    return _svg(figure)


def _short_number(value: float, _: int) -> str:
    """1.2K, 30M: at most three significant digits."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def differences(rows: Sequence[tuple[str, float, float, float]], label: str) -> str:
    """Differences between two judges, one per line. A row is (name, difference, low and high end of its interval)."""
    figure, axes = _figure(height=1.2 + 0.28 * len(rows))
    ys, values = range(len(rows)), [row[1] for row in rows]
    spread = [[row[1] - row[2] for row in rows], [row[3] - row[1] for row in rows]]
    axes.errorbar(values, ys, xerr=spread, color=_BLUE, marker="o", linestyle="none", capsize=3, elinewidth=1)
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 4)))
    axes.set_yticks(ys, [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    return _svg(figure)


def draw(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(title, SVG) of each chart for which the rounds so far have numbers."""
    return [*of_learning(table), *of_dropping(table)]


def of_learning(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """How accurate the judges of the rounds are, and the labels that they gave."""
    drawn = []
    measured = [(r["name"], r["accuracy"], *r["interval"]) for r in table if r["interval"]]
    if measured:
        title = "Held-out accuracy, with 95% intervals (bootstrap over prompts)"
        drawn.append((title, accuracy_curve(measured)))
    audited = [(r["name"], r["kept_right"], r["all_right"]) for r in table if r["kept_right"] is not None]
    if audited:
        drawn.append(("Correct pseudo-labels, where the true label is known", label_accuracy(audited)))
    return drawn


def of_dropping(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What became of the pairs of the rounds."""
    fates = [(r["name"], pair_fates(r)) for r in table if r["labels_of"]]
    return [("Unlabeled pairs kept and dropped in each round", kept_and_dropped(fates))] if fates else []


def pair_fates(row: Mapping[str, Any]) -> dict[str, int]:
    """How many of a round's unlabeled pairs were kept, and how many were dropped for each reason, at labels or at select."""
    lost = dict(row["labels_dropped"])
    for fate, n in row["pairs_dropped"].items():
        lost[fate] = lost.get(fate, 0) + n
    kept = row["labels_kept"] if row["pairs_selected"] is None else row["pairs_selected"]
    return {"kept": kept, **lost}


def as_markdown(title: str, svg: str) -> str:
    """A chart under its title, as an embedded image that renders without network access."""
    return f"## {title}\n\n![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def inline(svg: str) -> str:
    """The SVG for a page with its own text colour: without prolog, with the page's ink."""
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


# ---- drawing ----------------------------------------------------------------------------------------------------------


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=INK, labelcolor=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(visible=True, color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _rounds(axes: Any, names: Sequence[str], right: float = 0.45) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.35, len(names) - 1 + right)
    axes.set_xlabel("round")
    axes.grid(visible=False, axis="x")


def _percent(axes: Any, values: Sequence[float]) -> None:
    """A range that always includes 50 (guessing) and leaves room for the labels."""
    axes.set_ylim(max(0.0, min([50.0, *values]) - 4), min([106.0, max([55.0, *values]) + 6]))


def _chance(axes: Any) -> None:
    axes.axhline(50, color=INK, linewidth=1, linestyle=(0, (4, 4)))
    axes.annotate(
        "guessing",
        (1, 50),
        (-2, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=INK,
        ha="right",
        fontsize=9,
    )


def _svg(figure: Any) -> str:
    import matplotlib

    out = io.StringIO()
    # A fixed salt for ids and no date: identical numbers give identical bytes.
    with matplotlib.rc_context({"svg.hashsalt": "gram-r2", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return out.getvalue()
