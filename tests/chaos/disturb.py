"""Injects faults into runs at seeded moments, resumes the runs as a person would, and counts."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows.server.processes import Services
from tests.chaos.check import Checked, Evidence, check, logged_tokens
from tests.chaos.faults import ENDING, OF_MACHINES, possible, strike
from tests.chaos.subject import Subject

_FINISHES_WITHIN_S = 900.0
_SEEN_S = 150.0


@dataclass
class Kill:
    """One fault, the stage it hit, how the run continued, and what the run looked like in the end."""

    fault: str
    stage: str
    went_on: str
    run: str
    checked: Checked | None = None


def chaos(
    services: Services,
    folder: Path,
    faults: Sequence[str],
    seed: int,
    per_run: int = 5,
    undisturbed: Subject | None = None,
    changes: Mapping[str, Any] = {},
    at: Collection[str] = (),
) -> list[Kill]:
    """Injects all of these faults in a seeded order, `per_run` into each run, and compares with an undisturbed run.

    At any moment, or if stages are named in `at`, once in each of them while it is under way.

    If none is given, a first run is left undisturbed. `changes` are overrides of all runs that are started here; they may leave
    out stages of a given undisturbed one.
    """
    rng = random.Random(seed)
    first = undisturbed or Subject(services, folder, "undisturbed", changes=changes)
    if undisturbed is None:
        first.start()
        _finish(first, rng)
    tokens = logged_tokens(first.folder)
    found = check(first, Evidence(), None)
    print(f"undisturbed: {tokens.total()} tokens, {found}", flush=True)
    assert found.is_sound(), found
    wanted = list(faults)
    rng.shuffle(wanted)
    kills: list[Kill] = []
    runs = 0
    while wanted:
        runs += 1
        spread = not set(OF_MACHINES).isdisjoint(wanted[:per_run])
        subject = Subject(services, folder, f"run-{runs}", spread, changes)
        struck, evidence = _disturb(subject, wanted, per_run, rng, at)
        checked = check(subject, evidence, tokens, len(struck))
        for kill in struck:
            kill.checked = checked
        kills += struck
        if at and not struck:
            raise AssertionError(f"no run came to a stage of {', '.join(at)} that {wanted} could strike")
        print(f"{subject.name}: {len(struck)} kills, {checked}", flush=True)
    return kills


def _disturb(
    subject: Subject, wanted: list[str], per_run: int, rng: random.Random, at: Collection[str]
) -> tuple[list[Kill], Evidence]:
    """One run with up to `per_run` of the wanted faults, taken from the list when their targets exist."""
    kills: list[Kill] = []
    evidence = Evidence()
    left = set(at)
    subject.start()
    while len(kills) < per_run and wanted and not subject.ended() and (left or not at):
        _wait(subject, rng.uniform(2.0, 20.0) if not at else rng.uniform(0.0, 2.0))
        deadline = time.monotonic() + (60 if not at else _FINISHES_WITHIN_S)
        while not subject.ended() and time.monotonic() < deadline:
            if at and subject.stage() not in left:
                time.sleep(0.05)
                continue
            now = possible(subject, rng)
            fault = next((fault for fault in wanted if fault in now), None)
            if fault is None:
                time.sleep(0.2)
                continue
            kill = Kill(fault, subject.stage(), "", subject.name)
            try:
                evidence.problems += strike(subject, now[fault])
            except psutil.NoSuchProcess:
                continue  # it ended at this very moment
            evidence.take(subject)
            wanted.remove(fault)
            left.discard(kill.stage)
            kill.went_on = _go_on(subject, fault in ENDING, rng)
            kills.append(kill)
            print(f"{subject.name}: {kill.fault} at {kill.stage}; continued: {kill.went_on}", flush=True)
            break
    try:
        _finish(subject, rng)
    except TimeoutError as error:
        evidence.problems.append(str(error))
    return kills, evidence


def _go_on(subject: Subject, ends: bool, rng: random.Random) -> str:
    """Gets the run to continue after a fault; returns how. `ends`: the fault has ended the run's flow."""
    subject.mend()
    deadline = time.monotonic() + _SEEN_S
    while not subject.ended() and time.monotonic() < deadline:
        time.sleep(2.0)
        if subject.state() in ("SCHEDULED", "PENDING", "unknown"):
            continue  # a worker will pick it up, or the server will be back
        if subject.flow() is None:
            time.sleep(5.0)  # the worker reports it to the server; if it was killed too, nobody does
            break
        if not ends:
            return "by itself"
    return _start_again(subject, rng)


def _start_again(subject: Subject, rng: random.Random) -> str:
    """Restarts the run, as a person does on finding it ended or without a process."""
    state = subject.state()
    if state == "COMPLETED" or (subject.flow() is not None and state == "RUNNING"):
        return "by itself"
    if state in ("FAILED", "CRASHED") and rng.random() < 0.5:
        subject.retry()
        return f"{state.lower()}, then flow-run retry"
    subject.start()
    return f"{state.lower()}, then deployment run"


def _wait(subject: Subject, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not subject.ended():
        time.sleep(0.5)


def _finish(subject: Subject, rng: random.Random) -> None:
    """Waits for the end of the run, restarting it if necessary."""
    deadline = time.monotonic() + _FINISHES_WITHIN_S
    gone = 0
    while (state := subject.state()) != "COMPLETED":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the run {subject.name} is {state} and does not finish")
        gone = gone + 1 if subject.flow() is None else 0
        if subject.ended() or (gone > 30 and state == "RUNNING"):
            _start_again(subject, rng)
            gone = 0
        time.sleep(1.0)
