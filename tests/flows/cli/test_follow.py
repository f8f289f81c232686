"""A flow run is followed: what is shown of it, what a silent server does, and what Ctrl-C does."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest
from rich.console import Console

from flows.cli.errors import ServerError
from flows.cli.follow import Answer, Interrupted, asker, follow, signals_as_interrupts, watch
from flows.cli.reading import FlowRun, Look
from flows.cli.screen import LiveScreen, PlainScreen, Screen
from tests.support.answering import RUN, Answers, Moment, not_found

TASK, FLOW = "prefect.task_runs", "prefect.flow_runs"
DATA = ("data", "COMPLETED", "data: done in 0.1 s; 482 in, 482 kept", None)
JUDGE = ("round-0/judge", "COMPLETED/reused", "round-0/judge: reused; 120 in, 120 kept", None)
FIRST = ("round-0/benchmark", "COMPLETED", "round-0/benchmark: done in 18.3 s; 500 in, 500 kept; accuracy 76.9%", None)
VOTES = ("round-1/votes", "RUNNING", "", (45.0, "round-1/votes: 540 of 1,200, 30.1/s, 22 s left"))
LABELS = (
    "round-1/labels",
    "COMPLETED",
    "round-1/labels: done in 0.1 s; 150 in, 140 kept, lost 10 tie; WARNING: 90% of the labels are A",
    None,
)
LINES = [
    (20, TASK, "data: started, key 12ab"),
    (20, TASK, "[engine 0] loaded"),
    (20, FLOW, "Beginning flow run 'demo' for flow 'self-train'"),
    (20, FLOW, "Deployment step 'enter_project' completed successfully"),
    (20, TASK, "data: done in 0.1 s; 482 in, 482 kept"),
    (30, FLOW, "labels.votes 8 → 16, will redo: round-1/votes"),
    (40, FLOW, "Encountered an exception during execution: no space left"),
    (10, TASK, "a detail"),
]


def console(terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), record=True, width=120, force_terminal=terminal, highlight=False)


def followed(answers: Answers, screen: Screen, sleep: Callable[[float], None] = lambda seconds: None) -> Look:
    return follow(FlowRun(answers, RUN), screen, sleep=sleep)


def test_a_terminal_shows_a_line_for_each_stage_that_ended_and_what_runs_below() -> None:
    shown = console()
    below = []
    screen = LiveScreen(shown)
    begun = Moment(tasks=[DATA, JUDGE, FIRST, VOTES], lines=LINES[:6])
    ended = Moment(
        "COMPLETED",
        message="93.6% after 3 rounds",
        tasks=[DATA, JUDGE, FIRST, (*VOTES[:1], "COMPLETED", "", None), LABELS],
    )

    def sleep(seconds: float) -> None:
        aside = console()
        aside.print(screen.live.get_renderable())
        below.append(aside.export_text())

    last = followed(Answers([begun, ended]), screen, sleep)
    assert (last.type, last.message, last.rounds) == ("COMPLETED", "93.6% after 3 rounds", 3)
    text = shown.export_text()
    assert "✓ data                   done in 0.1 s; 482 in, 482 kept" in text
    assert "↺ round-0/judge          reused; 120 in, 120 kept" in text
    assert "✓ round-1/labels         done in 0.1 s; 150 in, 140 kept, lost 10 tie" in text
    assert "  warning: 90% of the labels are A" in text
    assert text.count("round-0/benchmark") == 1, "once, however often it is seen"
    assert "labels.votes 8 → 16" in text
    assert "key 12ab" not in text
    assert "round-1/votes" in below[0]
    assert " 45% 540 of 1,200, 30.1/s, 22 s left" in below[0]
    assert "round 1 of 3 · accuracy: round 0 76.9%" in below[0]


def test_a_stage_that_failed_stands_out() -> None:
    shown = console()
    failed = ("round-0/judge", "FAILED", "round-0/judge: ChildError('out of memory')", None)
    last = followed(Answers([Moment("FAILED", message="out of memory", tasks=[DATA, failed])]), LiveScreen(shown))
    assert last.type == "FAILED"
    assert "✗ round-0/judge          Failed: ChildError('out of memory')" in shown.export_text()


def test_the_round_after_the_last_is_the_final_fine_tuning() -> None:
    shown = console()
    screen = LiveScreen(shown)
    final = ("round-4/judge", "RUNNING", "", (10.0, "round-4/judge: 10 of 100"))
    look = FlowRun(Answers([Moment(tasks=[final])]), RUN).look()
    screen.show(look)
    shown.print(screen.live.get_renderable())
    assert "\nfinal" in shown.export_text()


@pytest.mark.parametrize(
    ("parameters", "rounds"),
    [
        ({"rounds": {"count": 3}}, 3),
        ({"rounds": {"count": 3}, "overrides": {"rounds.count": 5}}, 5),
        ({"rounds": {"count": 3}, "overrides": {"rounds": {"count": 4}}}, 4),
        ({"overrides": None}, None),
    ],
)
def test_the_rounds_are_those_that_the_run_was_started_with(parameters: dict[str, object], rounds: int | None) -> None:
    assert FlowRun(Answers([Moment(parameters=parameters)]), RUN).look().rounds == rounds


def test_what_is_no_terminal_gets_the_lines_of_the_log_once_each() -> None:
    shown = console(terminal=False)
    moments = [Moment(lines=LINES[:5]), Moment(lines=LINES[:5]), Moment("COMPLETED", lines=LINES)]
    followed(Answers(moments), PlainScreen(shown))
    lines = [line.partition("  ")[2] for line in shown.export_text().splitlines()]
    assert lines == [
        "data: started, key 12ab",
        "data: done in 0.1 s; 482 in, 482 kept",
        "labels.votes 8 → 16, will redo: round-1/votes",
        "Encountered an exception during execution: no space left",
    ]


def test_what_was_seen_is_not_asked_for_again() -> None:
    many = [(f"round-{i}/labels", "COMPLETED", "", None) for i in range(250)]
    answers = Answers([Moment(tasks=many), Moment("COMPLETED", tasks=[*many, DATA])])
    last = followed(answers, PlainScreen(console(terminal=False)))
    assert len(last.stages) == 251
    assert [stage.name for stage in last.stages][-2:] == ["round-249/labels", "data"]
    limits = [body["limit"] for path, body in answers.asked if path == "/task_runs/filter" and body]
    assert limits[:3] == [200, 200, 50]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_server_that_does_not_answer_is_shown_and_waited_for(terminal: bool) -> None:
    shown = console(terminal)
    screen: Screen = LiveScreen(shown) if terminal else PlainScreen(shown)
    silent = httpx.ConnectError("connection refused")
    noted = []

    def sleep(seconds: float) -> None:
        if isinstance(screen, LiveScreen):
            aside = console()
            aside.print(screen.live.get_renderable())
            noted.append(aside.export_text())

    last = followed(Answers([Moment(), silent, silent, Moment("COMPLETED")]), screen, sleep)
    assert last.type == "COMPLETED"
    if terminal:
        assert "the Prefect server has not answered for 0 s (connection refused)" in noted[1]
        assert "not answered" not in noted[3]
    else:
        said = shown.export_text().splitlines()
        assert said == [
            "the Prefect server does not answer (connection refused); the run itself goes on without it",
            "the Prefect server answers again",
        ]


def test_a_run_that_no_worker_takes_says_how_to_start_one() -> None:
    shown = console(terminal=False)
    waiting = Moment("SCHEDULED", name="Scheduled", workers=0)
    new = [Moment("SCHEDULED", workers=0)] * 15
    moments = [*new, waiting, waiting, Moment("SCHEDULED", workers=2), Moment("COMPLETED")]
    answers = Answers(moments)
    followed(answers, PlainScreen(shown))
    assert sum(path.endswith("/workers/filter") for path, _ in answers.asked) == 3, "not while one may just be starting"
    said = shown.export_text().splitlines()
    assert said[0].endswith("prefect worker start --pool ctl --work-queue default --limit 1")
    assert said[0].startswith("no worker is listening to the work pool 'ctl', queue 'default'")
    assert said[1:] == ["waiting until a worker of the work pool 'ctl', queue 'default' is free"]


def test_a_run_that_was_deleted_or_whose_worker_has_died_is_not_waited_for() -> None:
    with pytest.raises(ServerError, match="no longer knows the flow run"):
        followed(Answers([Moment(), not_found()]), PlainScreen(console()))
    flow_run = FlowRun(Answers([Moment()]), RUN)
    with pytest.raises(ServerError, match="has exited"):
        follow(flow_run, PlainScreen(console()), lambda: "the worker has exited", sleep=lambda seconds: None)


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------------


class Interrupting:
    """Looks that are interrupted as often as there are `interrupts`, and then end in a state."""

    def __init__(self, ends: str, *interrupts: KeyboardInterrupt) -> None:
        self.looking = iter(interrupts)
        self.last = FlowRun(Answers([Moment(ends)]), RUN).look()
        self.cancelled = 0
        self.said: list[str] = []

    def __call__(self) -> Look:
        for interrupt in self.looking:
            raise interrupt
        return self.last

    def cancel(self) -> None:
        self.cancelled += 1

    def watch(self, *answers: Answer) -> tuple[str | None, bool]:
        given: Iterator[Answer] = iter(answers)
        watched = watch(self, self.cancel, lambda interrupt: next(given), self.said.append)
        return watched.last.type if watched.last else None, watched.cancelled


def test_ctrl_c_asks_and_the_run_is_cancelled_left_alone_or_watched_on() -> None:
    ctrl_c = KeyboardInterrupt()
    cancelled = Interrupting("CANCELLED", ctrl_c)
    assert cancelled.watch("cancel") == ("CANCELLED", True)
    assert cancelled.cancelled == 1
    assert "what is done is kept" in cancelled.said[0]
    detached = Interrupting("COMPLETED", ctrl_c)
    assert detached.watch("detach") == (None, False)
    assert detached.cancelled == 0
    assert Interrupting("COMPLETED", ctrl_c, ctrl_c).watch("watch", "watch") == ("COMPLETED", False)
    impatient = Interrupting("CANCELLED", ctrl_c, ctrl_c)
    assert impatient.watch("cancel") == (None, True), "the second time it is not asked again, nor waited for"


def test_a_cancellation_that_cannot_be_sent_leaves_the_run_watched() -> None:
    run = Interrupting("COMPLETED", KeyboardInterrupt())

    def cancel() -> None:
        raise httpx.ConnectError("refused")

    run.cancel = cancel  # type: ignore[method-assign]
    assert run.watch("cancel") == ("COMPLETED", False)
    assert "could not be sent (refused)" in run.said[0]


@pytest.mark.parametrize(
    ("typed", "answer"), [("c\n", "cancel"), ("d\n", "detach"), ("w\n", "watch"), ("x\n\n", "watch"), ("", "detach")]
)
def test_the_question_takes_one_letter(typed: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    shown = console()
    assert asker(shown)(KeyboardInterrupt()) == answer
    assert "Cancel the run (c), let it go on without you (d), or go on watching (w)?" in shown.export_text()


def test_ctrl_c_at_the_question_lets_the_run_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pressed(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Pressed())
    assert asker(console())(KeyboardInterrupt()) == "detach"


def test_without_a_terminal_nothing_is_asked() -> None:
    plain = asker(console(terminal=False))
    assert plain(KeyboardInterrupt()) == "cancel"
    for choose in (plain, asker(console())):
        assert choose(Interrupted(signal.SIGTERM)) == "cancel"
        assert choose(Interrupted(signal.SIGHUP)) == "detach"


def test_a_closed_terminal_interrupts_and_afterwards_does_what_it_did() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with signals_as_interrupts():
            with pytest.raises(Interrupted) as caught:
                signal.raise_signal(signal.SIGHUP)
            assert caught.value.number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
