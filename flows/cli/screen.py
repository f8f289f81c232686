"""How a flow run is shown at a terminal, and how to whatever else reads the output: a pipe, a file, a CI's log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from flows.cli.reading import ENDED, Line, Look, Stage

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WARNING, _ERROR = 30, 40
_PREFECTS_OWN = (
    "Beginning ", "Finished in state", "Created task run", "View at ", "Downloading flow", "Executing ", "Opening ",
    "Running 1 deployment pull step", "Deployment step ", "All deployment steps",
)  # fmt: skip
"""How lines begin that Prefect itself writes to the logs of flow and task runs."""
_BAR = 24
_WARNED = "; WARNING: "


class Screen(Protocol):
    """Shows looks at a flow run, one after the other."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, look: Look) -> None: ...

    def show_silence(self, seconds: float, why: str) -> None:
        """The server has not answered for some time."""
        ...

    def say(self, line: str) -> None: ...


def told(lines: Sequence[Line]) -> Iterator[Line]:
    """Lines worth showing: what stages and the run report about themselves, all warnings and all errors."""
    for line in lines:
        ours = line.logger in ("prefect.task_runs", "prefect.flow_runs") and not line.text.startswith(
            ("[", *_PREFECTS_OWN)
        )
        if line.level >= _WARNING or ours:
            yield line


def waiting_for(look: Look) -> str | None:
    """What a run that does not run waits for; None if it is not waiting for anything."""
    if look.type == "PAUSED":
        return f"the run is {look.state.lower()}: the button Resume in the UI lets it go on"
    if look.listening is None:
        return None
    place = f"the work pool {look.pool!r}, queue {look.queue!r}"
    if look.listening:
        return f"waiting until a worker of {place} is free"
    start = f"prefect worker start --pool {look.pool} --work-queue {look.queue} --limit 1"
    return f"no worker is listening to {place}: the run waits until one is started: {start}"


def accuracies(stages: Sequence[Stage], rounds: int | None) -> dict[str, str]:
    """The accuracy on held-out pairs of each round, or of whatever else has a judge of its own, such as a size."""
    return {_judge_of(stage, rounds): stage.accuracy for stage in stages if stage.accuracy}


def _judge_of(stage: Stage, rounds: int | None) -> str:
    if stage.round is None:
        return stage.name.rpartition("/")[0] or "held-out"
    return "final" if rounds and stage.round > rounds else f"round {stage.round}"


class PlainScreen:
    """Lines only: what the run logs, with the time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.waited = ""
        self.silent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, look: Look) -> None:
        if self.silent:
            self.silent = False
            self.say("the Prefect server answers again")
        if (waits := waiting_for(look) or "") != self.waited:
            self.waited = waits
            if waits:
                self.say(waits)
        for line in told(look.lines):
            self.say(f"{line.at.astimezone():%H:%M:%S}  {line.text}")

    def show_silence(self, seconds: float, why: str) -> None:
        if not self.silent:
            self.silent = True
            self.say(f"the Prefect server does not answer ({why}); the run itself goes on without it")

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


class LiveScreen:
    """A line for each stage that has ended and, below them, what runs now, with the accuracy so far."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.console = console
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.ended: set[str] = set()
        self.last: Look | None = None

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def show(self, look: Look) -> None:
        for stage in look.stages:
            if stage.type in ENDED and stage.id not in self.ended:
                self.ended.add(stage.id)
                self._tell(stage)
        for line in told(look.lines):
            self._tell_line(line)
        self.last = look
        self.live.update(self._below(look))

    def _tell(self, stage: Stage) -> None:
        said, *warnings = stage.said.split(_WARNED)
        if stage.type == "COMPLETED":
            sign, style = ("↺", "dim") if stage.state == "Reused" else ("✓", "")
        else:
            sign, style, said = "✗", "red", f"{stage.state}: {said}"
        self.console.print(f"{sign} {stage.name:<22} {said}", style=style, markup=False)
        for warning in warnings:
            self.console.print(f"  warning: {warning}", style="yellow", markup=False)

    def _tell_line(self, line: Line) -> None:
        """What stages say is in their lines and bars; of the rest, warnings stand out."""
        if line.level < _WARNING and line.logger == "prefect.task_runs":
            return
        if _WARNED not in line.text:  # else it is said with its stage
            style = "red" if line.level >= _ERROR else "yellow" if line.level >= _WARNING else ""
            self.console.print(line.text, style=style, markup=False)

    def _below(self, look: Look, note: str = "") -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        running = [stage for stage in look.stages if stage.type == "RUNNING"]
        parts: list[RenderableType] = [_bars(running)] if running else []
        state = "" if running else waiting_for(look) or f"{look.state} …"
        at = [_judge_of(stage, look.rounds) for stage in running if stage.round is not None]
        where = f"{at[-1]} of {look.rounds}" if at and look.rounds and at[-1] != "final" else at[-1] if at else ""
        measured = ", ".join(f"{who} {what}" for who, what in accuracies(look.stages, look.rounds).items())
        facts = [state, where, f"accuracy: {measured}" if measured else ""]
        parts.append(Text(" · ".join(fact for fact in facts if fact), style="cyan"))
        if note:
            parts.append(Text(note, style="yellow"))
        return Group(*parts)

    def show_silence(self, seconds: float, why: str) -> None:
        from rich.text import Text

        note = f"the Prefect server has not answered for {seconds:.0f} s ({why}); the run itself goes on without it"
        self.live.update(self._below(self.last, note) if self.last else Text(note, style="yellow"))

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)


def _bars(running: Sequence[Stage]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    for stage in running:
        bar = ProgressBar(total=100, completed=stage.percent or 0.0, width=_BAR)
        table.add_row(stage.name, bar, f"{stage.percent or 0:3.0f}%", stage.doing or "starting")
    return table
