"""What the commands print, whatever the encoding of their output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from flows import plan
from flows.server import local
from tasks.benchmark import __main__ as benchmark
from tasks.describe import command as describe
from tasks.machine.terminal import print_anything
from tasks.rank import files as rank


def ascii_output(monkeypatch: pytest.MonkeyPatch) -> io.TextIOWrapper:
    """Not a fixture: pytest sets stdout again between a test's fixtures and the test."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    return output


def test_what_cannot_be_encoded_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    output = ascii_output(monkeypatch)
    with pytest.raises(UnicodeEncodeError):
        print("–", flush=True)
    print_anything()
    print("50 – 60%: 字, \ud83d", flush=True)
    assert output.buffer.getvalue() == b"50 ? 60%: ?, ?\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("main", [plan.main, local.main, benchmark.main, describe.main, rank.main])
def test_every_command_prints_to_any_output(main: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    output = ascii_output(monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, output.errors) == (0, "replace")
