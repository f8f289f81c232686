"""How trainers.py asks a reward service, without a trainer: what is sent, what is tried again, what is never a reward."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import pickle
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.model.endpoint import SPECIAL
from tasks.reward import trainers
from tasks.reward.limits import CHARACTERS
from tasks.reward.trainers import (
    Judge,
    RewardError,
    RewardUnavailable,
    Scored,
    asked,
    prompt_of,
    response_of,
    without_end,
)
from tests.conftest import free_port
from tests.support.rewarding import by_length, rewarding


def test_a_group_is_asked_about_in_one_request() -> None:
    with rewarding() as served:
        scored = Judge(api_key="k", strategy="circular", votes=2, deadline_s=9).score("Why?", ["one", "three"])
    assert scored == Scored([0.03, 0.05], [None, None], comparisons=2, tokens=7)
    sent = {"prompt": "Why?", "responses": ["one", "three"], "strategy": "circular", "votes": 2, "deadline_s": 9}
    assert served.seen == [sent]
    assert served.heads == [("/v1/rewards", "Bearer k")]


def test_a_response_that_is_far_too_long_is_not_sent_whole() -> None:
    """The service refuses a large request as a whole, and would judge none of its siblings."""
    with rewarding(lambda _: (200, {"rewards": [None, 0.5], "reasons": ["prompt_too_long", None]})) as served:
        Judge().score("Why?", [" " * 5_000_000, "one"])
    assert list(map(len, served.seen[0]["responses"])) == [CHARACTERS + 1, 3]


def test_what_is_not_set_is_left_to_the_service() -> None:
    with rewarding() as served:
        Judge().score([{"role": "user", "content": "Why?"}], ["one"], "two")
    sent = {
        "messages": [{"role": "user", "content": "Why?"}],
        "responses": ["one"],
        "reference": "two",
        "deadline_s": 100,
    }
    assert served.seen == [sent]
    assert served.heads == [("/v1/rewards", None)]


def test_the_environment_sets_what_arguments_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAM_R2_STRATEGY", "knockout")
    monkeypatch.setenv("GRAM_R2_API_KEY", "secret")
    monkeypatch.setenv("GRAM_R2_DEADLINE_S", "600")
    with rewarding() as served:
        judge = Judge()
        judge.score("Why?", ["one", "two"], "a reference, for which a knockout has no use")
    assert (served.seen[0]["strategy"], served.heads[0][1]) == ("knockout", "Bearer secret")
    assert "reference" not in served.seen[0]
    assert "secret" not in repr(judge)
    assert (served.seen[0]["deadline_s"], judge.patience_s, Judge(judge.url, deadline_s=9).patience_s) == (
        600,
        1020,
        170,
    )
    monkeypatch.setenv("GRAM_R2_DEADLINE_S", "10 min")
    with pytest.raises(ValueError, match="GRAM_R2_DEADLINE_S must be a number of seconds, got '10 min'"):
        Judge(judge.url)


@pytest.mark.parametrize("url", ["", "host:8000"])
def test_a_service_without_an_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(ValueError, match="set GRAM_R2_REWARD_URL"):
        Judge(url=url)


def test_a_deadline_that_leaves_no_time_for_an_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="below timeout_s"):
        Judge(url="http://x", deadline_s=10, timeout_s=10)


# ---- failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [(0, None), (503, {"detail": "busy"}), (429, "wait"), (200, "<html>")])
def test_what_can_pass_the_second_time_is_tried_again(failure: tuple[int, Any]) -> None:
    answers = [failure, failure]
    with rewarding(lambda body: answers.pop() if answers else by_length(body)) as served:
        assert Judge().score("Why?", ["one", "two"]).rewards == [0.03, 0.03]
    assert len(served.seen) == 3


@pytest.mark.parametrize("status", [401, 413, 422])
def test_a_request_that_is_refused_is_not_tried_again(status: int) -> None:
    with (
        rewarding(lambda _: (status, {"detail": "no strategy 'x'"})) as served,
        pytest.raises(RewardError, match=rf"refuses the request \({status}\): no strategy 'x'"),
    ):
        Judge().score("Why?", ["one", "two"])
    assert len(served.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"rewards": [0.5], "reasons": [None]},
        {"rewards": [0.5, 1.5], "reasons": [None, None]},
        {"rewards": [0.5, float("nan")], "reasons": [None, None]},
        {"rewards": [0.5, True], "reasons": [None, None]},
        {"rewards": "no", "reasons": "no"},
        {"rewards": None},
        [0.5, 0.5],
    ],
)
def test_an_answer_of_another_shape_is_no_reward(answer: Any) -> None:
    with rewarding(lambda _: (200, answer)), pytest.raises(RewardError, match="something else than 2 rewards"):
        Judge().score("Why?", ["one", "two"])


def test_a_service_that_is_not_there_is_given_up_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(RewardUnavailable, match=r"within 0\.6 s: .*refused"):
        Judge(url=f"http://127.0.0.1:{free_port()}", deadline_s=0.3, timeout_s=0.6).score("Why?", ["one", "two"])
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_a_service_that_never_ends_its_answer_is_given_up_in_time(drips: bool) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            held = []
            server.settimeout(0.02)
            while not stop.is_set():
                try:
                    held.append(server.accept()[0])
                    held[-1].sendall(b"HTTP/1.0 200 OK\r\n\r\n" if drips else b"")
                except TimeoutError:
                    pass
                for one in held if drips else []:
                    try:
                        one.sendall(b" ")
                    except OSError:
                        held.remove(one)
            for one in held:
                one.close()

        thread = threading.Thread(target=accept)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(RewardUnavailable, match=r"within 0\.4 s"):
                Judge(f"http://127.0.0.1:{server.getsockname()[1]}", deadline_s=0.2, timeout_s=0.4).score("Why?", ["x"])
            assert time.monotonic() - began < 3
        finally:
            stop.set()
            thread.join()


def test_the_deadline_of_a_later_attempt_is_within_what_is_left() -> None:
    answers: list[tuple[int, Any]] = [(503, {"detail": "busy"})]

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.3)
        return answers.pop() if answers else by_length(body)

    with rewarding(answer) as served:
        Judge(deadline_s=1, timeout_s=1.2).score("Why?", ["one", "two"])
    first, second = (body["deadline_s"] for body in served.seen)
    assert first == 1
    assert second < 0.9


def test_a_response_without_a_reward_gets_its_siblings_mean_but_nothing_from_nothing() -> None:
    assert Scored([0.2, None, 0.6], [None, "deadline", None]).filled() == [0.2, 0.4, 0.6]
    with pytest.raises(RewardError, match="deadline"):
        Scored([None, None], ["deadline", "deadline"]).filled()


# ---- callers ------------------------------------------------------------------------------------------------------------


def test_many_callers_are_asked_for_at_once() -> None:
    """More than asyncio's own threads, which are as few as the cores."""
    met = threading.Barrier(64, timeout=20)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        met.wait()
        return by_length(body)

    async def ask() -> list[Scored]:
        judge = Judge()
        return await asyncio.gather(*(judge.score_async(f"Why {i}?", ["one", "two"]) for i in range(64)))

    with rewarding(answer):
        assert len(asyncio.run(ask())) == 64


def test_what_spawned_processes_need_can_be_pickled() -> None:
    for one in (trainers.JudgeReward("http://x", "k", votes=2), trainers.AsyncJudgeReward("http://x")):
        assert pickle.loads(pickle.dumps(one)) == one


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with rewarding():
        assert loaded().Judge(deadline_s=2, timeout_s=3).score("Why?", ["one", "two"]).rewards == [0.03, 0.03]


# ---- texts --------------------------------------------------------------------------------------------------------------


def test_texts_of_messages() -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]
    assert prompt_of([{"role": "user", "content": parts, "name": "x"}]) == [{"role": "user", "content": "Why?"}]
    assert response_of([{"role": "assistant", "content": "because", "reasoning_content": "hm"}]) == "because"
    for wrong in ([{"role": "user", "content": [{"type": "image"}]}], [{"role": "user", "content": None}]):
        with pytest.raises(ValueError, match="reads text only"):
            prompt_of(wrong)
    with pytest.raises(ValueError, match="must be one message, got 2"):
        response_of([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}])


def test_marks_of_the_end_are_cut_off_at_the_end_only() -> None:
    assert without_end("a <|im_end|> b<|im_end|>\n<|endoftext|>") == "a <|im_end|> b"
    assert without_end("a</s>") == without_end("a<｜end▁of▁sentence｜>") == "a"
    assert without_end("a < b >\n") == "a < b >\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ("P", None)),
        (None, ("P", None)),
        ("42", ("P", "42")),
        ({"reference": "42"}, ("P", "42")),
        ('{"messages": [{"role": "user", "content": "Q"}]}', ([{"role": "user", "content": "Q"}], None)),
        ({"prompt": "Q", "reference": "R"}, ("Q", "R")),
        ("{x} is a set", ("P", "{x} is a set")),
        ('{"name": "Bo"}', ("P", '{"name": "Bo"}')),
    ],
)
def test_a_label_holds_the_reference_and_may_hold_the_prompt(given: Any, expected: tuple[Any, Any]) -> None:
    assert asked(given, "P") == expected


def test_special_tokens_are_those_that_the_judge_s_own_side_knows() -> None:
    assert trainers.SPECIAL == SPECIAL


# ---- one file -----------------------------------------------------------------------------------------------------------


def test_the_file_needs_nothing_but_an_older_python() -> None:
    tree = ast.parse(Path(trainers.__file__).read_text(encoding="utf-8"), feature_version=(3, 10))
    top = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert top <= sys.stdlib_module_names


def loaded() -> Any:
    """The file as OpenRLHF and verl load it: by its path, under another name, which nobody can import."""
    spec = importlib.util.spec_from_file_location("reward_func", trainers.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_can_be_loaded_by_its_path() -> None:
    with rewarding():
        assert loaded().JudgeReward()(["Why?"] * 2, ["one", "two"]) == [0.03, 0.03]
