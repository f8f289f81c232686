"""A stage in a thread of the test, as a flow carries it out, whose parts are done by workers of a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flows.server.processes import Services


class InThread(threading.Thread):
    """A stage, as a flow would carry it out; what it said, how far it came, and how it ended."""

    def __init__(self, services: Services, stage: Callable[[InThread], object]) -> None:
        super().__init__(daemon=True)
        self.services, self.stage = services, stage
        self.lines: list[str] = []
        self.done: list[int] = []
        self.stop = False
        self.result: object = None

    def progressed(self, done: int, total: int) -> None:
        self.done.append(done)
        if self.stop:
            raise KeyboardInterrupt

    def run(self) -> None:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.services.environment["PREFECT_API_URL"]}):
            try:
                self.result = self.stage(self)
            except BaseException as error:
                self.result = error
