"""How long a stage has been worked on, over all attempts at it; noted in its folder for as long as it is in progress.

``.worked.done`` is a marker, so that it goes to a remote store with the finished parts. A kill loses what came after the last
note.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import write_json
from data.store.artifacts import DONE, EARLIER, Manifest

WORKED = f".worked{DONE}"
_NOTE_EVERY_S = 30.0


@dataclass(frozen=True)
class Attempt:
    """An attempt at a stage: when it started, and the seconds that earlier ones worked."""

    started: float
    earlier_s: float

    @classmethod
    def begin(cls, work: Path) -> Attempt:
        """Begins an attempt at the stage in this folder. The first one to recreate an artifact goes on from its seconds."""
        file, earlier_s = work / WORKED, 0.0
        if file.exists():
            earlier_s = _read(file)["worked_s"]
        elif (work / EARLIER).exists():
            earlier_s = Manifest.load(work / EARLIER).seconds
        attempt = cls(time.time(), earlier_s)
        attempt._write(file)
        return attempt

    @property
    def worked_s(self) -> float:
        """Seconds worked so far, in this attempt and in earlier ones."""
        return round(self.earlier_s + time.time() - self.started, 3)

    def _write(self, file: Path) -> None:
        noted = {"started": self.started, "earlier_s": self.earlier_s, "worked_s": self.worked_s}
        write_json(file, {"files": [], **noted})


def note_work(work: Path) -> None:
    """Notes how long the attempt under way in this folder has worked, unless that was done a moment ago."""
    file = work / WORKED
    if file.exists() and time.time() - file.stat().st_mtime >= _NOTE_EVERY_S:
        known = _read(file)
        Attempt(known["started"], known["earlier_s"])._write(file)


def _read(file: Path) -> dict[str, Any]:
    noted: dict[str, Any] = json.loads(file.read_bytes())
    return noted
