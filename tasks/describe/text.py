"""A survey, a catalog entry and a benchmark as plain text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from data.benchmarks.catalog import UNCHECKED
from data.benchmarks.items import Benchmark
from data.records import Message, ResponsePair
from data.sources.catalog import DataSet
from data.sources.rows import expand_path
from data.sources.sources import Source, source_files
from data.sources.unread import COLUMN_ROWS, listed, named_unread_files
from prompts.judge import JudgePrompt
from prompts.template import render_conversation
from tasks.describe.columns import Columns
from tasks.describe.layout import heading, named, paragraph, quoted, share, shortened, table
from tasks.describe.survey import Example, Found, Survey

_LONGEST = 1600
"""Characters shown of an example."""
_SHARES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def about(name: str, known: DataSet) -> list[str]:
    """What the catalog says about a data set."""
    coordinates = ", ".join([known.hub, *([f"subset {known.subset}"] if known.subset else []), f"split {known.split}"])
    facts = {
        "on the hub": coordinates,
        "licence": known.licence,
        "provides": ", ".join({"rationale": "pairs with rationale", "preference": "labeled pairs", "pair": "pairs"}[g]
                              for g in known.gives),
        "columns": known.columns,
        "label": known.label,
        "note": known.note,
        "unchecked": known.unchecked,
    }  # fmt: skip
    return [heading(name), paragraph(known.title), *(named(key, text, 14) for key, text in facts.items() if text)]


def files_of(source: Source) -> list[str]:
    """The files that a folder or a glob stands for, and those in a folder that are not read."""
    files = source_files(source)
    if not files or files == [expand_path(source.path)]:
        return []
    lines = [named("files", listed(files, os.path.commonpath([str(Path(file).parent) for file in files])), 14)]
    if unread := named_unread_files(source):
        lines.append(named("not read", f"{unread}; name them in path, or a glob", 14))
    return lines


def columns_of(columns: Columns) -> list[str]:
    which = "the first " if columns.rows >= COLUMN_ROWS else ""
    return [heading(f"Columns in {which}{columns.rows:,} rows"), *columns.lines()]


def stops(found: Survey) -> list[str]:
    """Why no run can use the rows as they are; empty if one can."""
    reasons = []
    if not found.usable["pair"]:
        why = ", ".join(f"{each.n:,} {reason}" for reason, each in found.dropped.items())
        reasons.append(f"No row is usable ({why}).")
    if found.same_ids.n:
        reasons.append(f'{found.same_ids.n:,} pairs have the id of another pair; id_from = "content" makes new ones.')
    return [paragraph(f"A run would stop: {reason}", "  ") for reason in reasons]


def summary(found: Survey, source: Source, prompt: JudgePrompt) -> list[str]:
    """Everything a survey has counted, and its examples."""
    return [
        *columns_of(found.columns),
        *_usable(found, source),
        *_dropped(found),
        *_labels(found, source),
        *_rationales(found, source, prompt),
        *_lengths(found, prompt),
        *_examples(found.examples, prompt),
    ]


def _usable(found: Survey, source: Source) -> list[str]:
    pairs = "" if found.pairs == found.rows else f", {found.pairs:,} pairs (a row can hold several)"
    kinds = [("unlabeled pairs (labels ignored)", "pair")]
    kinds += [("labeled pairs", "preference")] if source.has_labels else []
    kinds += [("labeled pairs with a rationale", "rationale")] if source.has_rationales else []
    lines = [heading(f"{found.rows:,} rows{pairs}")]
    lines += [f"  {found.usable[kind]:>9,} usable as {name}" for name, kind in kinds]
    for what, each in (
        ("duplicates of an earlier pair", found.duplicates),
        ("contradicting an earlier pair (opposite label)", found.conflicts),
    ):
        if each.n:
            lines.append(paragraph(f"{each.n:>9,} {what}; first: {_place(each.where)}", "  "))
    lines += _first(found.same_ids, "with the same id as another pair")
    lines.append(f"  {found.several_turns:>9,} with several turns, {found.system_turns:,} with a system turn")
    return lines


def _dropped(found: Survey) -> list[str]:
    if not found.dropped:
        return []
    lines = [heading("Unusable")]
    for reason, each in sorted(found.dropped.items(), key=lambda item: -item[1].n):
        lines.append(paragraph(f"{each.n:>9,} {reason}; first: {_place(each.where)}: {each.detail}", "  "))
    if "malformed" in found.dropped:
        n = found.dropped["malformed"].n
        lines.append(
            paragraph(
                f"A run stops at the first malformed row; with max_malformed = {n} it drops and counts them.", "  "
            )
        )
    return lines


def _labels(found: Survey, source: Source) -> list[str]:
    usable = sum(found.labels.values())
    if not usable:
        return []
    lines = [heading("Labels of the usable pairs, as in the file")]
    if source.names_the_better:
        text = "The better response has its own column, so the file has no positions and no label balance. "
        return [*lines, paragraph(f"{text}A run draws positions with its seed: as many A as B.", "  ")]
    names = {"A": "first is better (A)", "B": "second is better (B)", "tie": "tie", "none": "no label"}
    lines += [f"  {n:>9,}  {share(n, usable):>6}  {names[label]}" for label, n in sorted(found.labels.items())]
    if found.labels.keys() - {"none"}:
        lines.append(
            "  A run draws positions with its seed." if found.without_places else "  A run keeps the positions."
        )
    return lines


def _rationales(found: Survey, source: Source, prompt: JudgePrompt) -> list[str]:
    if not source.has_rationales or not (found.usable["rationale"] or found.no_rationale.n):
        return []
    lines = [heading("Rationales of the labeled pairs")]
    lines.append(f"  {found.usable['rationale']:>9,} with a rationale")
    lines += _first(found.no_rationale, "without a rationale")
    lines += _first(found.out_of_shape, f"not in the format that the prompt {prompt.name} requires")
    return lines


def _first(each: Found, what: str) -> list[str]:
    return [paragraph(f"{each.n:>9,} {what}; first: {_place(each.where)}: {each.detail}", "  ")] if each.n else []


def _lengths(found: Survey, prompt: JudgePrompt) -> list[str]:
    lines: list[str] = []
    for unit, lengths in (("characters", found.lengths), ("tokens", found.tokens)):
        rows = [[name, *_quantiles(values)] for name, values in lengths.items() if len(values)]
        if rows:
            header = [unit, "min", "10%", "median", "90%", "99%", "max"]
            lines += [heading(f"Lengths in {unit}, with the prompt {prompt.name}"), *table(header, rows)]
    return lines


def _place(where: str) -> str:
    """File and row without the folder, which is printed above."""
    return where.rsplit("/", 1)[-1]


def _quantiles(values: Sequence[int]) -> list[str]:
    ordered = sorted(values)
    return [f"{ordered[round(part * (len(ordered) - 1))]:,}" for part in _SHARES]


def _examples(examples: Sequence[Example], prompt: JudgePrompt) -> list[str]:
    """The first pairs as the judge sees them; the beginning that all prompts share is shown once."""
    if not examples:
        return []
    shown = [prompt.render(example.pair)[0].content for example in examples]
    other = prompt.render(ResponsePair("", (Message("user", "\x00"),), "\x01", "\x02"))[0].content
    begin = _common_lines([*shown, other])
    lines = [heading(f"The first pairs as the judge sees them, with the prompt {prompt.name}")]
    if begin.strip():
        lines += ["Every prompt begins with:", quoted(shortened(begin.rstrip(), 500)), ""]
    for example, text in zip(examples, shown, strict=True):
        lines += [f"{_place(example.where)}:", quoted(shortened(text[len(begin) :], _LONGEST))]
        if example.label is not None:
            target = prompt.target(example.rationale or "", example.label) if example.rationale else example.label
            lines += ["Correct answer:", quoted(shortened(target, _LONGEST // 2))]
        lines.append("")
    return lines[:-1]


def _common_lines(texts: Sequence[str]) -> str:
    """The lines that all texts begin with."""
    lines = zip(*(text.splitlines(keepends=True) for text in texts), strict=False)
    return "".join(same[0] for same in takewhile(lambda each: len(set(each)) == 1, lines))


def benchmark_summary(benchmark: Benchmark) -> list[str]:
    """The items of a benchmark: groups, comparisons, what was not verified, lengths, and the first item."""
    items = benchmark.items
    lines = [heading(f"{benchmark.name}: {len(items):,} items, {sum(len(i.cells) for i in items):,} comparisons")]
    rows = []
    for group in dict.fromkeys([*benchmark.groups, *(item.group for item in items)]):
        own = [item for item in items if item.group == group]
        sizes = sorted({len(item.responses) for item in own})
        rows.append([group, f"{len(own):,}", f"{sum(len(i.cells) for i in own):,}", ", ".join(map(str, sizes)) or "–"])
    lines += table(["group", "items", "comparisons", "responses per item"], rows)
    if benchmark.lacks:
        lines.append(named("missing", ", ".join(benchmark.lacks), 14))
    for reason, n in benchmark.dropped.items():
        lines.append(named("dropped", f"{n:,} {reason}", 14))
    prompts = len({item.prompt for item in items})
    if prompts < len(items):
        lines.append(named("prompts", f"{prompts:,} distinct", 14))
    orders = " and ".join(order.replace("_", " ") for order in benchmark.orders)
    lines.append(named("orders", f"each comparison is shown in both orders: {orders}", 14))
    if benchmark.name in UNCHECKED:
        lines.append(named("unchecked", UNCHECKED[benchmark.name], 14))
    lengths = {
        "prompt": [len(render_conversation(item.prompt)) for item in items],
        "response": [len(response) for item in items for response in item.responses],
    }
    header = ["characters", "min", "10%", "median", "90%", "99%", "max"]
    lines += [heading("Lengths"), *table(header, [[name, *_quantiles(values)] for name, values in lengths.items()])]
    first = items[0]
    lines += [
        heading(f"First item: {first.id}"),
        quoted(shortened(render_conversation(first.prompt), _LONGEST // 2)),
    ]
    for text, right in zip(first.responses, first.right, strict=True):
        lines += [f"{'Correct' if right else 'Incorrect'} response:", quoted(shortened(text, 300))]
    return lines
