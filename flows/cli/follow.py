"""A flow run is followed to its end; Ctrl-C asks whether to cancel it, to let it go on alone, or to go on watching."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Literal

import httpx

from flows.cli.errors import ServerError
from flows.cli.reading import FlowRun, Look
from flows.cli.screen import Screen

if TYPE_CHECKING:
    from rich.console import Console

Answer = Literal["cancel", "detach", "watch"]
Lost = Callable[[], str | None]
Sleep = Callable[[float], None]

_ANSWERS: dict[str, Answer] = {"c": "cancel", "d": "detach", "w": "watch"}
_POLL_S = 1.0
_QUIET_LOOKS = 2


@dataclass(frozen=True)
class Watched:
    """How the watching ended: with the run's end or, if `last` is None, before it."""

    last: Look | None
    cancelled: bool


class Interrupted(KeyboardInterrupt):
    """A signal that ends a program by default."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def follow(run: FlowRun, screen: Screen, lost: Lost = lambda: None, sleep: Sleep = time.sleep) -> Look:
    """Shows the run until it has ended; returns the last look at it. A server that does not answer is asked again.

    Raises ServerError if the server no longer knows the run, or `lost` says that something that the run needs has died.
    """
    heard, quiet = time.monotonic(), 0
    with screen:
        while True:
            look = None
            try:
                look = run.look()
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    raise ServerError(
                        f"the Prefect server no longer knows the flow run {run.id}: it was deleted"
                    ) from error
                why = str(error)
            except (httpx.HTTPError, ValueError) as error:  # also what a proxy says instead of the server
                why = str(error) or type(error).__name__
            if look is None:
                screen.show_silence(time.monotonic() - heard, why)
            else:
                heard = time.monotonic()
                screen.show(look)
                # The last log lines reach the server a little after the run's final state.
                quiet = quiet + 1 if look.ended and not look.lines else 0
                if quiet > _QUIET_LOOKS:
                    return look
            if (look is None or not look.ended) and (problem := lost()):
                raise ServerError(problem)
            sleep(_POLL_S)


def watch(
    looking: Callable[[], Look],
    cancel: Callable[[], None],
    choose: Callable[[KeyboardInterrupt], Answer],
    say: Callable[[str], None],
) -> Watched:
    """Looks at the run until it ends; `choose` decides what to do when that is interrupted. A cancelled run is waited for."""
    cancelled = False
    while True:
        try:
            return Watched(looking(), cancelled)
        except KeyboardInterrupt as interrupt:
            answer = "detach" if cancelled else choose(interrupt)
            if answer == "detach":
                return Watched(None, cancelled)
            if answer == "cancel":
                try:
                    cancel()
                except httpx.HTTPError as error:
                    say(f"the run goes on: its cancellation could not be sent ({error})")
                    continue
                cancelled = True
                say("cancelling the run; what is done is kept. Ctrl-C again does not wait for its end")


def asker(console: Console) -> Callable[[KeyboardInterrupt], Answer]:
    """What to do when a program that may have a terminal is interrupted.

    Without one, Ctrl-C and a kill cancel the run. A terminal that is closed leaves it alone.
    """

    def choose(interrupt: KeyboardInterrupt) -> Answer:
        number = interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT
        if number == signal.SIGHUP:
            return "detach"
        return _asked(console) if number == signal.SIGINT and console.is_terminal else "cancel"

    return choose


def _asked(console: Console) -> Answer:
    from rich.prompt import Prompt

    question = "\nCancel the run (c), let it go on without you (d), or go on watching (w)?"
    try:
        answer = Prompt.ask(question, console=console, choices=list(_ANSWERS), default="w")
    except (KeyboardInterrupt, EOFError):
        return "detach"
    return _ANSWERS[answer]


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """A kill, and the closing of the terminal, raise `Interrupted` where the program is."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    wanted = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in wanted}  # nohup ignores SIGHUP, and means it
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
