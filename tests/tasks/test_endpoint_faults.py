"""A server that fails: what may pass is asked again, what cannot ends all with the server's words, and no row is blamed."""

from __future__ import annotations

from contextlib import nullcontext
from threading import Condition, Event
from typing import Any

import pytest

from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine import Failure
from tests.support.endpoints import chat, serving
from tests.tasks.test_endpoint import ask


def text_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def broken(status: int, words: str = "try later", **more: Any) -> tuple[int, Any]:
    return status, {"error": {"message": words, **more}}


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_passes_costs_no_row(code: int) -> None:
    """Every request fails twice."""
    asked: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked[text_of(body)] = asked.get(text_of(body), 0) + 1
        return (200, chat("x")) if asked[text_of(body)] == 3 else broken(code)

    with serving(answer) as served:
        made = ask(served, 3, concurrency=1, pauses_s=(0.0, 0.0))
    assert [[one.text for one in answer] for answer in made] == [["x"]] * 3


def test_a_connection_that_breaks_is_made_again() -> None:
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return (0, None) if len(asked) < 3 else (200, chat("x"))

    with serving(answer) as served:
        [[made]] = ask(served, pauses_s=(0.0, 0.0))
    assert (made.text, len(asked)) == ("x", 3)


@pytest.mark.parametrize(
    ("answer", "message", "times"),
    [
        (
            broken(500, "out of memory"),
            r"fails again and again \(HTTP 500: out of memory\): once it works, start again",
            3,
        ),
        (broken(429, "slow down"), r"fails again and again \(HTTP 429: slow down\)", 3),
        (broken(401, "bad key"), r"refuses the API key \(HTTP 401: bad key\)", 1),
        (broken(404, "no such model"), r"does not know what was asked for \(HTTP 404: no such model\)", 1),
        (
            broken(400, "what model?", code="model_not_found"),
            r"does not know what was asked for \(HTTP 400: what model\?",
            1,
        ),
        (broken(429, "pay first", code="insufficient_quota"), r"refuses every request \(HTTP 429: pay first\)", 1),
    ],
)
def test_what_does_not_pass_ends_all_with_the_servers_words(answer: tuple[int, Any], message: str, times: int) -> None:
    with serving(lambda body: answer) as served, pytest.raises(EndpointError, match=message):
        ask(served, pauses_s=(0.0, 0.0))
    assert len(served.seen) == times


def test_an_error_for_one_request_while_others_are_answered_is_that_ones_own() -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return broken(500, "cannot read this") if text_of(body) == "0" else (200, chat("x"))

    with serving(answer) as served:
        first, *others = ask(served, 8, concurrency=2, pauses_s=(0.0, 0.05))
    assert first == Failure("endpoint_500", "cannot read this")
    assert all(isinstance(one, list) for one in others)


def test_being_too_busy_for_one_request_is_never_its_own_fault() -> None:
    asked: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    one_more = Condition()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        with one_more:
            if text_of(body) != "0":
                others.append(body)
                one_more.notify()
                return 200, chat("x")
            asked.append(body)
            # The second other one is asked after the first one's answer has arrived.
            before = len(others)
            assert one_more.wait_for(lambda: len(others) >= before + 2, 30)
            return (200, chat("x")) if len(asked) == 4 else broken(429)

    with serving(answer) as served:
        made = ask(served, 40, concurrency=2, pauses_s=(0.001, 0.001))
    assert all(isinstance(one, list) for one in made)
    assert len(asked) == 4


@pytest.mark.parametrize(("slow", "given_up"), [("01234567", True), ("67", False)])
def test_a_server_that_answers_none_of_its_requests_is_given_up(slow: str, given_up: bool) -> None:
    """Whereas the last replies may just be too long."""
    over = Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if text_of(body) in slow:
            over.wait(10)
        return 200, chat("x")

    message = r"/v1 has answered none of the last 3 requests within 1 s: once it does, start again"
    with serving(answer) as served:
        with pytest.raises(EndpointError, match=message) if given_up else nullcontext():
            made = ask(served, 8, concurrency=3, timeout_s=1.0)
            assert [str(i) for i, one in enumerate(made) if isinstance(one, Failure)] == list(slow)
        over.set()
