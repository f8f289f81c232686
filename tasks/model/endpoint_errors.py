"""What an endpoint's errors mean: for one request, for all of them, or only for the moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY_VARIABLE = "OPENAI_API_KEY"
TOO_BUSY = 429
_MAY_PASS = (408, 409, TOO_BUSY, *range(500, 600))
_NO_MODEL = "model_not_found"
_FOR_ALL, _FOR_ALL_CODES = (401, 403, 404), (_NO_MODEL, "insufficient_quota")


class EndpointError(OSError, ValueError):
    """An endpoint that cannot be used as given: what the server said, and what to do. Never the fault of a row."""


def refuses_all(error: Any) -> bool:
    """Whether every request would get this answer, not just this one."""
    return error.status_code in _FOR_ALL or error.code in _FOR_ALL_CODES


def may_pass(error: Any) -> bool:
    """Whether the same request may be answered later."""
    return error.status_code in _MAY_PASS and not refuses_all(error)


def explained(url: str, error: Exception) -> str:
    """What a request's failure means for the endpoint as a whole, in one line: the server's words, and what to do."""
    from openai import APIConnectionError, APIStatusError

    said = words(error)
    if isinstance(error, APIConnectionError):
        return f"nothing answers at {url} ({said}): is the server running, and are host and port right?"
    if not isinstance(error, APIStatusError):
        return f"{url} does not answer as an OpenAI-compatible server ({said}): check the URL"
    code = error.status_code
    if code in (401, 403):
        return f"{url} refuses the API key (HTTP {code}: {said}): set {KEY_VARIABLE} to one that it accepts"
    if code == 404 or error.code == _NO_MODEL:
        ending = "" if url.rstrip("/").endswith("/v1") else ', and most servers\' URLs end with "/v1"'
        return (
            f"{url} does not know what was asked for (HTTP {code}: {said}): check the URL and the model's name{ending}"
        )
    if may_pass(error):
        return f"{url} fails again and again (HTTP {code}: {said}): once it works, start again; what is done is kept"
    return f"{url} refuses every request (HTTP {code}: {said})"


def words(error: Exception) -> str:
    """The server's own words in an error, in one line."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    text = str(body or error) if not isinstance(error.__cause__, OSError) else f"{error} {error.__cause__}"
    return " ".join(text.split())[:300] or type(error).__name__
