"""How a judge is queried about one pair and how its answer is read: the same in benchmarks, ranking, and everywhere else.

A judge that reasons is sampled, and its reply is parsed; a judge that gives only the label is queried for the
probabilities of the two label tokens, and nothing is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from data.records import Label, Message, ResponsePair
from data.seeds import derive_seed
from prompts.catalog import JUDGE_PROMPTS
from prompts.judge import JudgePrompt
from tasks.model.chat import ChatEncoder, ChatTemplateError, Encoded
from tasks.model.engine import Completion, Request, Sampling
from tasks.model.requests import PROMPT_TOO_LONG
from tasks.model.scalar import SCALAR
from tasks.settings import LABEL_TOKENS


class JudgeEncoder(Protocol):
    """Turns a pair into an engine's input: `tasks.model.chat.ChatEncoder` or `tasks.model.endpoint.MessageEncoder`."""

    @property
    def label_ids(self) -> tuple[int, int]: ...

    def judge_ids(self, prompt: JudgePrompt, pair: ResponsePair, budget: int, overlong: str) -> Encoded | None: ...


@dataclass(frozen=True)
class JudgeQuery:
    """How a judge is queried. `context` limits prompt and reply together; each of the `votes` per order has its own seed."""

    prompt: str
    max_tokens: int
    context: int
    overlong: str = "drop"
    votes: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"the temperature must be 0 (greedy) or a number above it, got {self.temperature}")
        if self.votes < 1 or (self.votes > 1 and self.temperature <= 0 and not (self.by_label or self.by_score)):
            raise ValueError(
                f"{self.votes} votes at temperature {self.temperature}: there must be at least 1, and more than one needs a "
                "temperature above 0, as all would be identical otherwise"
            )
        if not self.by_score and not 0 < self.reply_tokens < self.context:
            raise ValueError(
                f"a reply of up to {self.reply_tokens} tokens leaves no room for a prompt in a context of {self.context}"
            )

    @property
    def by_score(self) -> bool:
        """Whether each response gets its own score, instead of two responses being compared."""
        return self.prompt == SCALAR

    @property
    def judge_prompt(self) -> JudgePrompt:
        return JUDGE_PROMPTS[self.prompt]

    @property
    def digest(self) -> str:
        """Identifies the prompt in keys."""
        return SCALAR if self.by_score else self.judge_prompt.digest

    @property
    def by_label(self) -> bool:
        """Whether the judge gives only the label, so that the probabilities of the label tokens are the answer."""
        return not self.by_score and not self.judge_prompt.has_rationale

    @property
    def reply_tokens(self) -> int:
        """Tokens of the context that are reserved for the reply: the same as in training, so that both cut prompts alike."""
        return LABEL_TOKENS if self.by_label else self.max_tokens

    @property
    def replies(self) -> int:
        """How many answers a pair gets in each order: one if nothing is sampled."""
        return 1 if self.by_label or self.by_score else self.votes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class JudgeAnswer:
    """One answer about a pair as it was shown: a verdict, the probability of A if there is one, or why there is neither.

    `failed` means that the engine did not answer, which is not the judge's fault; `detail` then has its own words.
    """

    verdict: Label | None
    p_first: float | None = None
    malformed: str | None = None
    failed: bool = False
    truncated: bool = False
    n_tokens: int = 0
    rationale: str | None = None
    detail: str = ""


def build_request(query: JudgeQuery, encoder: JudgeEncoder, pair: ResponsePair, name: str) -> Request | None:
    """The request for a pair in its given order; None if it does not fit. The seed is derived from `name` and the pair's id."""
    encoded = encoder.judge_ids(query.judge_prompt, pair, query.context - query.reply_tokens, query.overlong)
    if encoded is None:
        return None
    if query.by_label:
        sampling = Sampling(max_tokens=1, logprob_ids=encoder.label_ids)
    else:
        sampling = Sampling(
            query.votes, query.temperature, query.top_p, query.max_tokens, derive_seed(query.seed, pair.id, name)
        )
    return Request(name, encoded.ids, sampling, encoded.truncated, encoded.messages, encoded.opened)


def before_verdict(encoder: ChatEncoder, prompt: JudgePrompt, rationale: str) -> tuple[list[int], tuple[int, int]]:
    """The tokens of a judge's reply with this rationale as far as its label, as in training, and the tokens of A and B there.

    Raises ChatTemplateError if the replies for A and for B do not differ in one token.
    """
    a, b = (encoder.reply_ids(prompt.target(rationale, label)) for label in ("A", "B"))
    places = [i for i, (of_a, of_b) in enumerate(zip(a, b, strict=False)) if of_a != of_b]
    if len(a) != len(b) or len(places) != 1:
        raise ChatTemplateError(
            f"replies for A and for B do not differ in one token in {encoder.tokenizer.name_or_path!r}: they end with "
            f"{a[-8:]} and {b[-8:]}. What a judge thinks of a label after a rationale cannot be read with this tokenizer"
        )
    return a[: places[0]], (a[places[0]], b[places[0]])


def build_readings(query: JudgeQuery, encoder: ChatEncoder, pair: ResponsePair, rationale: str) -> list[Request] | None:
    """Two requests about a rationale as the judge's own reply to a pair in its given order; None if they do not fit.

    "label" asks for the logprobs of the labels A and B after it, "reply" for that of the reply up to there.
    """
    encoded = encoder.judge_ids(query.judge_prompt, pair, query.context - query.reply_tokens, query.overlong)
    if encoded is None:
        return None
    reply, labels = before_verdict(encoder, query.judge_prompt, rationale)
    ids = [*encoded.ids, *reply]
    if len(ids) >= query.context:
        return None
    return [
        Request("label", ids, Sampling(max_tokens=1, logprob_ids=labels), encoded.truncated),
        Request("reply", ids, Sampling(max_tokens=1), encoded.truncated, score_from=len(encoded.ids)),
    ]


def read_answer(query: JudgeQuery, completion: Completion | Mapping[str, Any]) -> JudgeAnswer:
    """The answer in one completion, given as the engine returned it or as stored in a shard."""
    fields = completion if isinstance(completion, Mapping) else _fields(completion)
    n_tokens = int(fields["n_tokens"])
    if query.by_label:
        return _by_probability(fields["id_logprobs"], n_tokens)
    if not fields["finished"]:
        return JudgeAnswer(None, malformed="truncated", truncated=True, n_tokens=n_tokens)
    judgement = query.judge_prompt.parse(fields["text"])
    return JudgeAnswer(
        judgement.verdict, malformed=judgement.malformed, n_tokens=n_tokens, rationale=judgement.rationale
    )


def build_score_request(
    query: JudgeQuery, encoder: ChatEncoder, prompt: Sequence[Message], response: str, name: str
) -> Request | None:
    """The request for a discriminative model's score of one response; None if it does not fit. It is never shortened."""
    ids = encoder.response_ids(prompt, response)
    return None if len(ids) > query.context else Request(name, ids, Sampling(max_tokens=1))


def compare_scores(first: float | None, second: float | None) -> JudgeAnswer:
    """The answer from the scores of two responses: P(A) = σ(first − second). If a score is missing, there is no verdict."""
    if first is None or second is None or not math.isfinite(first - second):
        return JudgeAnswer(None, malformed=PROMPT_TOO_LONG if first is None or second is None else "no_score")
    p_first = softmax_first(first, second)
    return JudgeAnswer(None if first == second else "A" if first > second else "B", p_first)


def _fields(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "finished": completion.finished,
        "n_tokens": len(completion.token_ids),
        "id_logprobs": completion.id_logprobs,
    }


def _by_probability(logprobs: Sequence[float] | None, n_tokens: int) -> JudgeAnswer:
    """P(A) is the softmax over only the two label tokens; exactly one half is no verdict."""
    if logprobs is None or not math.isfinite(max(logprobs)) or any(map(math.isnan, logprobs)):
        return JudgeAnswer(None, malformed="no_label_probability", n_tokens=n_tokens)
    p_first = softmax_first(*logprobs)
    verdict: Label | None = None if p_first == 0.5 else "A" if p_first > 0.5 else "B"
    return JudgeAnswer(verdict, p_first, n_tokens=n_tokens)


def softmax_first(first: float, second: float) -> float:
    """exp(first) ÷ (exp(first) + exp(second)), without overflow."""
    gap = second - first
    return 1 / (1 + math.exp(gap)) if gap < 0 else math.exp(-gap) / (1 + math.exp(-gap))
