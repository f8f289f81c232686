"""The service as trainers call it by themselves, without any code of ours on their side.

Read off OpenRLHF 3c3be62 (openrlhf/utils/agent.py), slime 624b824 (slime/rollout/rm_hub) and NeMo-Gym 07d6b0d
(resources_servers/genrm_compare)::

    POST /get_reward  {"query": ["Why?Because."], "prompts": ["Why?"], "labels": ["Rayleigh."]} → {"rewards": [0.5], "scores": …}
    POST /slime       {"prompt": "Why?", "response": "Because.", "label": "Rayleigh."} → 0.5
    POST /compare     {"conversation_history": […], "response_objs": [{"output": […]}, …]} → {"rewards": [0.5, 0.5], …}

They take no null. A response without a verdict gets the mean of its group's others; without any, the answer is 503 for what
may pass, a deadline or a server that is lost, and 422 otherwise. Upon either, these trainers try again and at last stop; upon
422, `reward_func` of trainers.py stops at once.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel

from data.records import Message as Turn
from data.records import ResponsePair
from tasks.model.requests import PROMPT_TOO_LONG
from tasks.rank.inputs import pair_of
from tasks.reward.groups import NO_VERDICT
from tasks.reward.judging import DEADLINE
from tasks.reward.limits import RefusedError, UnscorableError, UnscoredError, while_caller_waits
from tasks.reward.protocol import Seconds, turns_of
from tasks.reward.service import Service
from tasks.reward.templated import conversation_of, response_of, without_end

_HOW = (
    'put one into the label, as text or as {"reference": "…"} (OpenRLHF: --data.label_key, slime: --label-key), start the '
    "service with --references, or score whole groups at /v1/rewards, which need none"
)
_MAY_PASS = re.compile(rf"{DEADLINE}$|server_(?!4)|server_429$")
"""Reasons that a second request may not have. A server's 4xx is about the request itself."""
_HELP = {
    PROMPT_TOO_LONG: "leave such rows out, or start the service with a larger --context or with --overlong truncate",
    "truncated": "start the service with more --max-tokens",
    NO_VERDICT: "start the service with --votes 4 --temperature 1, so that one reply is not all there is",
}
"""What to do about a reason; NO_VERDICT stands for all others, which are of replies that are malformed."""


def sample_of(service: Service, prompt: object, label: object, where: str) -> tuple[tuple[Turn, ...], str]:
    """The conversation of a sample, and the reference response: that of its label, or the service's for its prompt.

    A label that is an object may have "reference", and the conversation as "messages" or "prompt"; so may one that is its JSON
    text. Any other text is the reference. Where the service has references, a text may be anything. Raises RefusedError, naming
    `where`, if there is no reference.
    """
    label = label if service.references else _read(label)
    known = label if isinstance(label, Mapping) else {} if service.references else {"reference": label}
    given = next((known[name] for name in ("messages", "prompt") if known.get(name) is not None), None)
    turns = conversation_of(prompt, f"the prompt of {where}") if given is None else turns_of(given)
    reference = known.get("reference") or service.reference_of(turns)
    if not isinstance(reference, str) or not reference.strip():
        raise RefusedError(f"{where} has no reference response to compare with: {_HOW}")
    return turns, reference


def _read(label: object) -> object:
    """The object that a label's text holds, where it is one of ours; otherwise the label. As `asked` of trainers.py."""
    if isinstance(label, str) and label.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            read = json.loads(label)
            if any(name in read for name in ("reference", "messages", "prompt")):
                return read
    return label


def without_nulls(rewards: Sequence[float | None], reasons: Sequence[str | None]) -> list[float]:
    """The rewards of a group, the missing ones as the mean of the others.

    Raises UnscoredError if there are none, UnscorableError if that would be so the next time, too: a judge's seeds are fixed.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known:
        most = Counter(reason or NO_VERDICT for reason in reasons).most_common()
        why = f"none of the {len(rewards)} responses has a verdict: {', '.join(f'{n} by {one}' for one, n in most)}"
        if any(_MAY_PASS.match(reason) for reason, _ in most):
            raise UnscoredError(f"{why}. Try again")
        raise UnscorableError(f"{why}. It would be the same again: {_HELP.get(most[0][0], _HELP[NO_VERDICT])}")
    mean = sum(known) / len(known)
    return [mean if reward is None else reward for reward in rewards]


def add_trainers(app: FastAPI, service: Service) -> None:
    """Adds the endpoints of OpenRLHF, slime and NeMo-Gym."""
    _add_openrlhf(app, service)
    _add_slime(app, service)
    _add_nemo_gym(app, service)


# ---- one sample at a time, against a reference ----------------------------------------------------------------------


class OpenRLHFCall(BaseModel):
    """Texts as the policy's template has rendered them; a label is the reference, or an object with it.

    OpenRLHF sends no deadline; `reward_func` of trainers.py does.
    """

    query: list[str]
    prompts: list[str]
    labels: list[Any]
    deadline_s: Seconds | None = None


class OpenRLHFAnswer(BaseModel):
    """One of each a sample. Scores are what OpenRLHF filters groups by, from 0 to 1."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


def _add_openrlhf(app: FastAPI, service: Service) -> None:
    @app.post("/get_reward")
    async def get_reward(body: OpenRLHFCall, request: Request) -> OpenRLHFAnswer:
        """For OpenRLHF's --reward.remote_url: how much the judge prefers each response to the reference in its label."""
        if not len(body.query) == len(body.prompts) == len(body.labels):
            lengths = f"{len(body.query)}, {len(body.prompts)} and {len(body.labels)}"
            raise RefusedError(f"query, prompts and labels must be equally long, got {lengths}")
        pairs = []
        for i, (query, prompt, label) in enumerate(zip(body.query, body.prompts, body.labels, strict=True)):
            turns, reference = sample_of(service, prompt, label, f"labels[{i}]")
            pairs.append(pair_of(turns, response_of(query, prompt, f"query[{i}]"), reference))
        shares, tokens = await _against_references(service, request, pairs, body.deadline_s)
        logs = {"response_characters": [float(len(pair.response_a)) for pair in pairs], "judge_tokens": tokens}
        return OpenRLHFAnswer(rewards=shares, scores=shares, extra_logs=logs)


async def _against_references(
    service: Service, request: Request, pairs: list[ResponsePair], deadline_s: float | None = None
) -> tuple[list[float], list[float]]:
    """The share of each pair's first, and the tokens that it took. Raises UnscoredError if one has none.

    The samples of a call are no group: the others say nothing about one without a verdict.
    """
    deadline = service.deadline(deadline_s)
    found = await while_caller_waits(request, service.compare(pairs, service.judge.query, deadline))
    service.metrics.count_null_rewards([one.reason for one in found])
    shares = [reward for one in found for reward in without_nulls([one.share], [one.reason])]
    return shares, [float(one.tokens) for one in found]


class SlimeCall(BaseModel):
    """A sample: its prompt as text or messages, and the reference as its label.

    slime leaves the token that ends a response in it (`no_stop_trim` in slime/rollout/sglang_rollout.py).
    """

    prompt: str | list[dict[str, Any]]
    response: str
    label: Any = None


def _add_slime(app: FastAPI, service: Service) -> None:
    @app.post("/slime")
    async def slime(body: SlimeCall, request: Request) -> float:
        """For slime's --rm-type remote_rm: how much the judge prefers the response to the reference in the label."""
        turns, reference = sample_of(service, body.prompt, body.label, "label")
        pair = pair_of(turns, without_end(body.response), reference)
        [share], _ = await _against_references(service, request, [pair])
        return share


# ---- a whole group --------------------------------------------------------------------------------------------------


class NeMoGymCall(BaseModel):
    """A group: a conversation, and responses in the form of the Responses API."""

    conversation_history: list[dict[str, Any]]
    response_objs: list[dict[str, Any]]
    principle: str | None = None


class NeMoGymAnswer(BaseModel):
    """Rewards from 0 to 1. In the results, scores are from 1 to 5 and rankings from 1 (the first is better) to 6."""

    rewards: list[float]
    comparison_results: list[dict[str, float]]
    metrics: dict[str, float]


def _add_nemo_gym(app: FastAPI, service: Service) -> None:
    @app.post("/compare")
    async def compare(body: NeMoGymCall, request: Request) -> NeMoGymAnswer:
        """As NeMo-Gym's genrm_compare: a group, scored by the service's strategy."""
        if body.principle is not None:
            raise RefusedError("principle: this judge has none; leave it out (use_principle: false)")
        if len(body.response_objs) < 2:
            raise RefusedError(f"response_objs: a group needs at least two responses, got {len(body.response_objs)}")
        texts = [output_text(one) for one in body.response_objs]
        group = service.group(turns_of(body.conversation_history), texts)
        scored = await while_caller_waits(request, service.score(group, service.judge.query, service.deadline()))
        results = [
            {
                "response_i": i,
                "response_j": j,
                "judge_idx": 0,
                "score_1": 1 + 4 * found.share,
                "score_2": 5 - 4 * found.share,
                "ranking": 6 - 5 * found.share,
            }
            for (i, j), found in scored.comparisons.items()
            if found.share is not None
        ]
        missing = len(scored.comparisons) - len(results)
        metrics = {
            "comparisons": len(scored.comparisons),
            "comparisons_without_verdict": missing,
            "tokens": scored.tokens,
        }
        return NeMoGymAnswer(
            rewards=without_nulls(scored.rewards, scored.reasons), comparison_results=results, metrics=metrics
        )


def output_text(response: Mapping[str, Any]) -> str:
    """The text of a response's messages: what it says, without its reasoning. Raises RefusedError for another form."""
    try:
        return "".join(
            part["text"]
            for item in response["output"]
            if item.get("type") == "message"
            for part in item["content"]
            if part.get("type") == "output_text"
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RefusedError(
            'response_objs: expected {"output": [{"type": "message", "content": [{"type": "output_text", "text": "…"}]}]}'
        ) from error
