"""A page of a real server in Chromium, through its DevTools protocol: to look into it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.browser import CHROMIUM, FLAGS

_START_S = 30.0


@dataclass
class Tab:
    """One page of a running Chromium."""

    connection: ClientConnection
    session: str | None = None
    sent: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result. Raises RuntimeError with what Chromium says against it."""
        self.sent += 1
        told = {"id": self.sent, "method": method, "params": parameters}
        self.connection.send(json.dumps(told | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.connection.recv(timeout=_START_S))
            if answer.get("id") == self.sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, javascript: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=javascript, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", javascript))
        return found["result"].get("value")

    def go(self, url: str, until: str, width: int = 1400, height: int = 1000, seconds: float = 60.0) -> None:
        """Opens an address, and waits until an expression is true there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        self.wait(until, seconds)

    def wait(self, until: str, seconds: float = 60.0) -> None:
        """Waits until an expression is true; fails with the page's text if it does not become so."""
        deadline = time.monotonic() + seconds
        while not self.run(f"document.body !== null && ({until})"):
            assert time.monotonic() < deadline, f"{until} is not true of: {self.run('document.body.innerText')}"
            time.sleep(0.2)


@contextlib.contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """An empty page in a Chromium of its own, whose profile is in `folder`. Skips the test without Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not here: apt-get install chromium")
    command = [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        where, deadline = folder / "DevToolsActivePort", time.monotonic() + _START_S
        while not (where.exists() and len(lines := where.read_text().splitlines()) == 2):
            assert time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.1)
        with connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=None) as connection:
            page = Tab(connection)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            yield page
    finally:
        process.terminate()
        process.wait(timeout=20)
