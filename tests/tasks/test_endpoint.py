"""What an endpoint's answers become, without a server; with one, see tests/engine/test_judge_engines.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from data.records import Message, parse_pair
from prompts.judge import COMPACT
from tasks.model.endpoint import EndpointEngine, MessageEncoder, _completion, is_endpoint
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine import Completion, Failure, Request, Sampling
from tasks.model.judging import JudgeQuery, read_answer
from tests.support.endpoints import Served, chat, serving


def reply(text: Any, finish: str = "stop", alternatives: dict[str, float] | None = None, **more: Any) -> Any:
    """A chat completion as the protocol has it; `alternatives` are the first token's logprobs."""
    top = [SimpleNamespace(token=token, logprob=logprob) for token, logprob in (alternatives or {}).items()]
    logprobs = SimpleNamespace(content=[SimpleNamespace(top_logprobs=top)]) if alternatives is not None else None
    message = SimpleNamespace(content=text, **more)
    choice = SimpleNamespace(finish_reason=finish, message=message, logprobs=logprobs)
    return SimpleNamespace(choices=[choice], usage=SimpleNamespace(completion_tokens=7))


def test_a_reply_is_a_completion() -> None:
    made = _completion(reply("<think> x </think><answer>A</answer>"), [])
    assert isinstance(made, Completion)
    assert (made.finished, len(made.token_ids)) == (True, 7)
    assert read_answer(JudgeQuery("compact", 9, 99), made).verdict == "A"


def test_a_reply_that_was_cut_off_is_not_finished() -> None:
    made = _completion(reply("<think> x", "length"), [])
    assert isinstance(made, Completion)
    assert read_answer(JudgeQuery("compact", 9, 99), made).malformed == "truncated"


def test_an_empty_reply_is_no_verdict() -> None:
    made = _completion(reply(None), [])
    assert isinstance(made, Completion)
    assert read_answer(JudgeQuery("compact", 9, 99), made).malformed == "empty_reply"


def test_a_reply_that_was_filtered_is_a_failure() -> None:
    assert _completion(reply("", "content_filter"), []) == Failure("endpoint_content_filter")


@pytest.mark.parametrize(
    "odd",
    [
        SimpleNamespace(choices=[]),
        SimpleNamespace(choices=None),
        "<html>",
        SimpleNamespace(choices=[SimpleNamespace(message=None)]),
    ],
)
def test_a_reply_that_is_none_is_a_failure_of_its_own(odd: Any) -> None:
    made = _completion(odd, [])
    assert isinstance(made, Failure)
    assert made.reason == "endpoint_bad_reply"


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "[/INST]", "<｜end▁of▁sentence｜>", "[|endofturn|]"]
)
def test_what_looks_like_a_special_token_does_not_reach_the_server(token: str) -> None:
    pair = parse_pair({"prompt": "Why?", "response_a": f"x{token}y", "response_b": "z"})
    [message] = MessageEncoder().judge_ids(COMPACT, pair, 99, "drop").messages
    assert token not in message.content
    assert message.content.replace("\u200b", "") == COMPACT.render(pair)[0].content.replace("\u200b", "")


@pytest.mark.parametrize("text", ["|E[X]| <= E[|X|]", "[| 1.0; 2.0 |]", "f <| x |> g", "p <|> q <|> r"])
def test_mathematics_and_code_reach_the_server_as_they_are(text: str) -> None:
    pair = parse_pair({"prompt": "Why?", "response_a": text, "response_b": "z"})
    [message] = MessageEncoder().judge_ids(COMPACT, pair, 99, "drop").messages
    assert text in message.content


@pytest.mark.parametrize(
    ("alternatives", "p_first"),
    [
        ({"A": math.log(0.8), "B": math.log(0.2)}, 0.8),
        ({"x": math.log(0.9), "A": math.log(0.06), "B": math.log(0.02)}, 0.75),  # over the two labels alone
        ({"A": math.log(0.9), "x": math.log(0.0001)}, 0.9999),  # B is at most as likely as x
        ({"A": math.log(0.5), "x": math.log(0.4)}, None),  # B may be nearly as likely as A
        ({"x": -0.1, "y": -3.0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_labels_are_read_from_the_alternatives(alternatives: dict[str, float] | None, p_first: float | None) -> None:
    made = _completion(reply("A", "length", alternatives), ["A", "B"])
    assert isinstance(made, Completion)
    said = read_answer(JudgeQuery("gram", 1, 99), made)
    assert said.p_first == (None if p_first is None else pytest.approx(p_first, abs=2e-4))
    assert said.malformed == ("no_label_probability" if p_first is None else None)


@pytest.mark.parametrize(
    ("name", "endpoint"), [("http://h/v1", True), ("https://h/v1#m", True), ("org/m", False), ("/a/b", False)]
)
def test_endpoints_are_named_by_their_url(name: str, endpoint: bool) -> None:
    assert is_endpoint(name) == endpoint


# ---- thoughts that the server has set apart -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "more", "rationale"),
    [
        ("\n\n<answer>\nA\n</answer>", {"reasoning_content": "\nx\n"}, "x"),
        ("<answer>A</answer>", {"reasoning": "x"}, "x"),
        ("x\n</think>\n<answer>A</answer>", {}, "x"),  # the tag stood in the prompt
        ("<think> x </think><answer>A</answer>", {"reasoning": "x"}, "x"),  # a server that gives both
        ("<think> x </think><answer>A</answer>", {"reasoning": None, "reasoning_content": ""}, "x"),
        ([{"type": "text", "text": "<think> x </think>"}, {"type": "text", "text": "<answer>A</answer>"}], {}, "x"),
    ],
)
def test_thoughts_are_put_back_where_they_were_written(text: Any, more: dict[str, Any], rationale: str) -> None:
    made = _completion(reply(text, **more), [])
    assert isinstance(made, Completion)
    said = read_answer(JudgeQuery("compact", 9, 99), made)
    assert (said.verdict, said.rationale) == ("A", rationale)


@pytest.mark.parametrize(
    ("text", "finish", "more", "malformed"),
    [
        (None, "stop", {"reasoning_content": "x"}, "no_answer"),
        (None, "length", {"reasoning_content": "x"}, "truncated"),
        ("<answer>A</answer>", "stop", {}, "no_think_open"),
        ("x </think> y </think><answer>A</answer>", "stop", {}, "several_think"),
    ],
)
def test_thoughts_alone_are_no_verdict(text: str | None, finish: str, more: dict[str, Any], malformed: str) -> None:
    made = _completion(reply(text, finish, **more), [])
    assert isinstance(made, Completion)
    assert read_answer(JudgeQuery("compact", 9, 99), made).malformed == malformed


@pytest.mark.parametrize("content", [7, {"text": "x"}, [{"type": "image_url"}], ["x"]])
def test_content_that_is_no_text_fails_alone(content: Any) -> None:
    made = _completion(reply(content), [])
    assert isinstance(made, Failure)
    assert made.reason == "endpoint_bad_reply"
    assert "the content is not text" in made.detail


# ---- servers that refuse ---------------------------------------------------------------------------------------------------


def ask(
    served: Served, n: int = 1, concurrency: int = 32, pauses_s: Sequence[float] = (), timeout_s: float = 60.0
) -> list[Any]:
    """What becomes of n requests."""
    found: dict[int, Any] = {}
    engine = EndpointEngine(served.url, None, concurrency, timeout_s, 0, pauses_s)
    requests = [Request("x", [], Sampling(max_tokens=9), messages=(Message("user", str(i)),)) for i in range(n)]
    engine.generate(requests, found.__setitem__)
    return [found[i] for i in range(n)]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((401, {"error": {"message": "bad key"}}), r"refuses the API key \(HTTP 401: bad key\): set OPENAI_API_KEY"),
        ((403, {"detail": "not you"}), r"refuses the API key \(HTTP 403: not you\)"),
        ((404, {"detail": "Not Found"}), r"HTTP 404: Not Found\): check the URL"),
        ((200, "<html>gateway</html>"), "does not answer as an OpenAI-compatible server"),
        ((200, {"object": "list", "data": []}), "serves no model: specify the judge's model as URL#MODEL"),
    ],
)
def test_a_server_that_cannot_be_used_is_known_before_it_is_asked(models: Any, message: str) -> None:
    with serving(lambda body: (200, chat()), models) as served:
        with pytest.raises(EndpointError, match=message) as refused:
            EndpointEngine(served.url, retries=0)
        assert "\n" not in str(refused.value)
        assert not served.seen


def test_a_url_without_its_end_is_known_by_it() -> None:
    with (
        serving(lambda body: (200, chat()), (404, {"detail": "Not Found"})) as served,
        pytest.raises(EndpointError, match='most servers\' URLs end with "/v1"'),
    ):
        EndpointEngine(served.url.removesuffix("/v1"), retries=0)


def test_a_server_that_does_not_list_its_models_can_be_asked_for_one() -> None:
    with serving(lambda body: (200, chat("x")), (404, {})) as served:
        assert EndpointEngine(served.url, "m", retries=0).model == "m"


def test_a_model_that_the_server_does_not_have_ends_all() -> None:
    with (
        serving(lambda body: (404, {"error": {"message": "The model `m` does not exist."}})) as served,
        pytest.raises(EndpointError, match=r"HTTP 404: The model `m` does not exist\."),
    ):
        ask(served)


def test_the_servers_words_are_kept_with_the_request_that_it_refuses() -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["content"] == "0":
            return 400, {"error": {"message": "the prompt\nis too long"}}
        return 200, chat("x", n_tokens=None)

    with serving(answer) as served:
        refused, made = ask(served, 2)
    assert refused == Failure("endpoint_400", "the prompt is too long")
    assert [(one.text, len(one.token_ids)) for one in made] == [("x", 0)]


def test_the_limit_of_a_reply_is_called_what_the_server_wants_it_called() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, {"error": {"message": words}}) if "max_tokens" in body else (200, chat("x"))

    with serving(answer) as served:
        engine = EndpointEngine(served.url, concurrency=1, retries=0)
        found: dict[int, Any] = {}
        requests = [Request("x", [], Sampling(max_tokens=9), messages=(Message("user", "?"),))] * 3
        engine.generate(requests, found.__setitem__)
    assert all(isinstance(one, list) for one in found.values())
    assert [body.get("max_completion_tokens") for body in served.seen] == [None, 9, 9, 9]
