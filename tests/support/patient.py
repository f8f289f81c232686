"""Requests that change something on a Prefect server: its SQLite database is locked now and then, which it answers with 503."""

from __future__ import annotations

import time
from typing import Any

import httpx

_TRIES = 20


def send(method: str, url: str, content: Any = None) -> httpx.Response:
    """The answer to a request with this JSON, which is made again while the server is busy.

    Raises httpx.HTTPStatusError for any other error.
    """
    for _ in range(_TRIES):
        answer = httpx.request(method, url, json=content, timeout=30)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1.0)
    return answer.raise_for_status()
