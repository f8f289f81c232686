"""Small flows for the tests of what Prefect does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow


@flow(name="writes-lines")
def writes_lines(seconds: float, alive: str, nested: dict[str, Any] | None = None) -> None:
    """Writes a line to its output, and touches the file `alive`, twice a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        print("still at work", flush=True)
        Path(alive).touch()
        time.sleep(0.5)
