"""What the commands print, whatever the encoding of their output."""

from __future__ import annotations

import io
import os
import sys

import pytest

from tasks.machine.terminal import print_anything, printing


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


def test_only_an_output_without_a_reader_ends_a_command_early(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(BrokenPipeError, match="to an engine"), printing():
            raise BrokenPipeError("to an engine")
        os.close(reader)
        with printing():
            print("x" * 1_000_000)
            pytest.fail("goes on")
