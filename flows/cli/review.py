"""``gram-r2 review``: pairs of a run for people to judge, and their answers as gold labels."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.errors import InputError, command
from flows.cli.given import RunName, run_names

if TYPE_CHECKING:
    from flows.cli.folders import RunFolder

app = typer.Typer(no_args_is_help=True)


@app.callback()
def review() -> None:
    """Have people judge pairs of a run, and use their answers as gold labels.

    export writes the pairs on which a person's minute is worth most; import
    reads what people answered. The next start of the run reads the labels.

    Examples:
      gram-r2 review export my-run --n 200
      gram-r2 review import my-run-3f0c81d2.jsonl --annotator anna
    """


@app.command()
@command
def export(
    run: RunName,
    n: Annotated[int, typer.Option("--n", min=1, help="How many pairs.")] = 200,
    format: Annotated[
        Literal["jsonl", "label-studio", "potato"],
        typer.Option(help="One file of JSONL, or a folder with a Label Studio project or a Potato task."),
    ] = "jsonl",
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", show_default=False, help="Where to write. Default: named after the queue, here."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which pairs are drawn, and in which order each is shown.")] = 0,
    at_random: Annotated[
        bool, typer.Option("--at-random", help="Draw from all pairs alike: what calibration needs.")
    ] = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Also write the judge's label.")] = False,
) -> None:
    """Write the pairs of a run that are most worth a person's judgment, with the reasons.

    Drawn in turn from those on which the verdict depends on the order shown, the
    label differs between rounds, a kept label has no valid proof or a weak one,
    one vote would decide, the target precision cannot be shown for the source,
    or few of its labels are kept. Pairs that have been answered are left out.
    The same seed gives the same pairs.

    In JSONL, fill in "answer": A (response_1 is better), B (response_2), tie or
    skip, and "annotator". The run only keeps a record of what was asked.

    Examples:
      gram-r2 review export my-run --n 200
      gram-r2 review export my-run --format label-studio --out to-review/
      gram-r2 review export my-run --at-random --n 100
    """
    from tasks.trust.review_files import write_queue
    from tasks.trust.review_formats import write_for_people
    from tasks.trust.review_queue import queue_name

    folder = _run_folder(run)
    lines = _drawn(folder.path, n, seed, at_random)
    name = queue_name(lines)
    target = out or Path(f"{name}.jsonl" if format == "jsonl" else name)
    write_queue(folder.path, name, lines)
    files = write_for_people(lines, format, target, show_labels)
    for line in _about_queue(lines, n):
        print(line)
    print("written: " + ", ".join(map(str, files)))
    where = " --into calibration" if at_random else ""
    print(f"next:    gram-r2 review import FILE{where}, the file with the answers{_how(format)}")


def _run_folder(run: str) -> RunFolder:
    """The folder of a run. Raises InputError if there is none, or if it is at a URL."""
    from data.store.remote import is_remote
    from flows.cli.folders import find_run

    if is_remote(run):
        raise InputError(f"{run}: reviews are kept in a run folder on this machine, and this run is at a URL")
    return find_run(run)


def _drawn(run: Path, n: int, seed: int, at_random: bool) -> list[dict[str, Any]]:
    """The lines of the queue. Raises InputError if there is nothing to draw from."""
    from tasks.trust.review_files import answers_in
    from tasks.trust.review_queue import AT_RANDOM, draw, draw_at_random, queue_of, reasons_of, voted_pairs

    pairs, answered = voted_pairs(run), {row["pair"] for row in answers_in(run)}
    if at_random:
        reasons = {pair.id: [AT_RANDOM] for pair in pairs if pair.id not in answered}
        drawn = draw_at_random(reasons, n, seed)
    else:
        reasons = {pair: held for pair, held in reasons_of(pairs).items() if pair not in answered}
        drawn = draw(reasons, n, seed)
    if not drawn:
        raise InputError(f"{run}: nothing is left to review of {len(pairs)} votes; {len(answered)} pairs are answered")
    return queue_of(run, drawn, reasons, seed)


def _about_queue(lines: Sequence[Mapping[str, Any]], n: int) -> list[str]:
    from tasks.trust.review_queue import AT_RANDOM, REASONS

    counted = Counter(reason for line in lines for reason in line["reasons"])
    few = (
        ""
        if len(lines) == n
        else f" of the {n} asked for: no other pair has a reason"
        if not counted[AT_RANDOM]
        else ""
    )
    said = {AT_RANDOM: "drawn from all pairs alike", **REASONS}
    return [
        f"{len(lines)} pairs{few}; a pair may have several reasons",
        *(f"  {counted[name]:>5}  {name}: {what}" for name, what in said.items() if counted[name]),
    ]


def _how(format: str) -> str:
    """Where the answers will be in each format."""
    if format == "label-studio":
        return " (Label Studio: Export, JSON)"
    return " (Potato: annotation_output/exports/jsonl/annotations.jsonl)" if format == "potato" else ""


@app.command("import")
@command
def import_answers(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Filled-in JSONL, or the export of a tool."),
    ],
    into: Annotated[
        Literal["labeled", "calibration"],
        typer.Option(help="What the pairs join: those that are learned from, or those that thresholds are tested on."),
    ] = "labeled",
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            autocompletion=run_names,
            show_default=False,
            help="The run. Default: the one that the ids name.",
        ),
    ] = None,
    annotator: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="Who answered lines of JSONL that do not say."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", show_default=False, help="Only write the labeled pairs there; the run reads nothing."
        ),
    ] = None,
) -> None:
    """Read people's answers to an export, and label the pairs with them.

    FILE is the JSONL with the answers filled in, Label Studio's export as JSON,
    Potato's export as jsonl, or a user_state.json of Potato's. A pair gets the
    label of more than half of its annotators; ties and what was skipped get
    none. All answers to a pair go to the labeled or to the calibration pairs.
    Prints how far annotators agree with each other, and with the judge.

    The next start of the run reads the labels, and redoes what depends on them.
    Reading a file twice is the same as once. An answer that does not tell its
    time has that of the file.

    Examples:
      gram-r2 review import my-run-3f0c81d2.jsonl --annotator anna
      gram-r2 review import project-1.json --into calibration
    """
    from data.files import write_jsonl
    from tasks.trust.review_answers import read_answers
    from tasks.trust.review_files import answers_in, queues_in, write_answers
    from tasks.trust.review_gold import check_destination, gold_rows, in_the_run, merged, report, run_named_in

    if out is not None and out.exists():
        raise InputError(f"{out} is there already: name another file with --out")
    answers, still_open = read_answers(file, annotator)
    folder = _run_folder(run or run_named_in(answers))
    queue = {line["id"]: line for line in queues_in(folder.path)}
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    new = in_the_run(answers, queue, into, written.isoformat(timespec="seconds"))
    known = answers_in(folder.path)
    check_destination(known, new)
    all_answers, replaced = merged(known, new)
    about = {row["pair"] for row in new}
    for line in report([row for row in all_answers if row["pair"] in about], queue.values()):
        print(line)
    if still_open or replaced:
        print(f"not answered yet: {still_open}; earlier answers replaced: {replaced}")
    if into == "calibration":
        _warn_of_reasons([queue[row["item"]] for row in new])
    rows = gold_rows([row for row in all_answers if row["into"] == into], queue.values())
    if out is not None:
        write_jsonl(out, rows)
        print(f"written: {out}, {len(rows)} in all; the run does not read it: name it as a source in data.{into}")
        return
    gold = write_answers(folder.path, all_answers, into, rows)
    if not rows:
        print(f"no pair has a gold label, so the run reads no {into} pairs")
        return
    print(f"written: {gold}, {len(rows)} in all")
    if into == "calibration":
        _warn_if_nothing_is_calibrated(folder)
    print(_next(folder))


def _warn_of_reasons(lines: Sequence[Mapping[str, Any]]) -> None:
    """Says loudly that a promise needs pairs like those it is made about."""
    from tasks.trust.review_queue import AT_RANDOM

    chosen = sum(AT_RANDOM not in line["reasons"] for line in lines)
    if chosen:
        typer.echo(
            f"warning: {chosen} of {len(lines)} answers are to pairs that were chosen for their difficulty: a precision that is "
            "tested on them does not hold for the other pairs; draw pairs for calibration with --at-random",
            err=True,
        )


def _warn_if_nothing_is_calibrated(folder: RunFolder) -> None:
    """Says that the run takes these pairs out of what it learns from, and tests nothing on them."""
    data = folder.path / "data"
    if data.is_dir() and not (data / "calibration.jsonl").is_file():
        typer.echo(
            "warning: the run has set no pairs apart for calibration so far, so it tests no threshold on these: set "
            "labels.target_precision, and data.calibration or data.calibration_share, before its next start",
            err=True,
        )


def _next(folder: RunFolder) -> str:
    """What the next start of the run will do."""
    from flows.config.recipe_text import shown

    name = shlex.quote(shown(folder.path))
    if folder.state == "finished":
        return f"next:    start the run {name} with --on-change redo, as it is finished; it redoes what depends on them"
    when = "once it is started again" if folder.state == "running" else "at its next start"
    return f"next:    the run {name} reads them {when}, and redoes what depends on them (data.reviews)"
