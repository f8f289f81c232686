# Over 300 lines: one file, so that it can be copied into a trainer's environment.
"""A reward service (`gram-r2 serve`) as the reward of RLHF trainers. One file, which needs nothing but Python ≥ 3.10: copy it.

========  ==================================  ==============================================================================
trainer   what it calls                       read in
========  ==================================  ==============================================================================
TRL       JudgeReward(), AsyncJudgeReward()   trl 1.16.0: `_calculate_rewards` of the GRPO, RLOO and OnlineDPO trainers
verl      compute_score, VerlRewardManager    verl 0.9.1: verl/experimental/reward_loop (the same in verl-project/verl 1dda039)
OpenRLHF  reward_func                         openrlhf 0.11.2: openrlhf/utils/agent.py
slime     slime_reward                        THUDM/slime 624b824: slime/rollout/rm_hub, slime/rollout/sglang_rollout.py
ms-swift  gram_r2 (SwiftReward)               ms-swift 4.6.0: swift/rewards/orm.py, swift/rl_core/grpo_algorithm.py
========  ==================================  ==============================================================================

Settings are the fields of `Judge`, given as arguments or, where a trainer gives none, by the environment: GRAM_R2_REWARD_URL,
GRAM_R2_API_KEY, GRAM_R2_STRATEGY, GRAM_R2_DEADLINE_S. A response on which the judge has no verdict has no reward: TRL is told
None (where other reward functions are summed with it, see `JudgeReward.beside_others`); the other trainers get the mean of its
scored siblings, and an exception where there are none. No failure becomes a 0.
"""

# Without `from __future__ import annotations`: dataclasses look those up in sys.modules, where OpenRLHF does not put this file.
import asyncio
import contextlib
import functools
import http.client
import json
import logging
import math
import os
import random
import re
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("gram_r2.reward")
_warn_once = functools.lru_cache(log.warning)

RETRIED = {408, 425, 429, 500, 502, 503, 504}
"""The HTTP statuses that can pass the second time. Another one is a mistake of the request, and is raised at once."""
AT_ONCE = 256
"""Requests of one process at the same time."""
LONGEST = 1_000_001
"""Characters of a response that are sent. The service judges none that is so long; its siblings must not be refused with it."""
VERL_AT_ONCE = 1000
"""Samples in one reward worker of verl: ray's default max_concurrency of an actor with async methods."""
SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜\n]{1,40}｜>|\[\|(?:system|user|assistant|tool|endofturn)\|\]|</?s>|<(?:bos|eos|pad|unk|sop)>"
    r"|<(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>|\[gMASK\]|<(?:BOS|EOS|PAD|UNK)_TOKEN>|<\|(?:turn|channel)>"
    r"|<(?:turn|channel)\|>|<seed:[a-z_]{1,40}>|\]~!b\[|\]~b\]|\[e~\["
)
"""How model families write their special tokens; the same as in tasks/model/endpoint.py.

Of those in [|…|] only EXAONE's (chat_template.jinja of EXAONE 4.0): mathematics and F# write such brackets too.
"""
_MARK_LAST = re.compile(rf"(?:{SPECIAL.pattern})\w*\s*(?:<think>\s*(?:</think>\s*)?)?\Z")
"""How a prompt ends that begins with a mark and is in a chat template: with any mark, as of the user's turn that it closes."""
REPLY = re.compile(
    rf"(?:(?:{SPECIAL.pattern})(?i:assistant|model|ai)\b|[<\[][|｜]\w*(?i:assistant|chatbot)\w*[|｜][>\]])"
    rf"(?:{SPECIAL.pattern}|</?think>|\s)*\Z"
)
"""How a prompt ends that is in a chat template, however it begins: with marks that name who replies, who may think already."""

# Not through the environment's proxy, which is for the internet: the service is near.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RewardError(RuntimeError):
    """There is no reward: a request that the service refuses, or responses without any verdict."""


class RewardUnavailable(RewardError):
    """The service gave no answer in time."""


@dataclass(frozen=True)
class Scored:
    """The rewards of a group in [0, 1], None with its reason, and what they cost: comparisons (in both orders) and tokens."""

    rewards: list[float | None]
    reasons: list[str | None]
    comparisons: int = 0
    tokens: int = 0

    def filled(self) -> list[float]:
        """The rewards, each None replaced by the mean of the others. Raises RewardError if there are none."""
        known = [x for x in self.rewards if x is not None]
        if not known:
            raise RewardError(
                f"the judge has no verdict on any response of this group: {sorted(set(self.reasons), key=str)}"
            )
        return [statistics.fmean(known) if x is None else x for x in self.rewards]


def _deadline_s() -> float:
    given = os.environ.get("GRAM_R2_DEADLINE_S") or "100"
    try:
        return float(given)
    except ValueError as error:
        raise ValueError(f"GRAM_R2_DEADLINE_S must be a number of seconds, got {given!r}") from error


@dataclass(frozen=True)
class Judge:
    """A reward service. Without `strategy`: against the reference if there is one, else what the service was started with.

    `deadline_s` is the service's for one group, whose own also holds; `timeout_s` is for all attempts together, while connections
    fail or the service is overloaded, by default 170 s or 1.7 deadlines. It must be below the trainer's own limit, where it has
    one.
    """

    url: str = field(default_factory=lambda: os.environ.get("GRAM_R2_REWARD_URL", ""))
    api_key: str = field(default_factory=lambda: os.environ.get("GRAM_R2_API_KEY", ""), repr=False)
    strategy: str | None = field(default_factory=lambda: os.environ.get("GRAM_R2_STRATEGY") or None)
    votes: int | None = None
    deadline_s: float = field(default_factory=_deadline_s)
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"set GRAM_R2_REWARD_URL, or url, to the service's http://host:port, got {self.url!r}")
        if not 0 < self.deadline_s < self.patience_s:
            raise ValueError(
                f"deadline_s must be positive and below timeout_s, got {self.deadline_s}, {self.patience_s}"
            )

    @property
    def patience_s(self) -> float:
        """For how long an answer is tried for."""
        return max(170.0, 1.7 * self.deadline_s) if self.timeout_s is None else self.timeout_s

    def score(self, prompt: Any, responses: Sequence[str], reference: str | None = None) -> Scored:
        """The rewards of responses to one prompt, a text or chat messages.

        Raises RewardUnavailable, RewardError with the service's own words for a request that it refuses, and ValueError for a
        text in a chat template.
        """
        # Both: a user may write about such marks.
        if isinstance(prompt, str) and _begins(prompt) and _MARK_LAST.search(prompt[-200:]):
            raise ValueError(_in_template(prompt, "give it as messages"))
        sent = [text[:LONGEST] for text in responses]
        body: dict[str, Any] = {"responses": sent, "strategy": self.strategy, "votes": self.votes}
        body["prompt" if isinstance(prompt, str) else "messages"] = prompt
        if reference is not None and self.against(reference):
            body["reference"] = reference
        answer = self.post("/v1/rewards", {key: value for key, value in body.items() if value is not None})
        try:
            rewards, reasons = answer["rewards"], answer["reasons"]
            good = len(rewards) == len(reasons) == len(responses)
            good = good and all(x is None or (not isinstance(x, bool) and 0 <= x <= 1) for x in rewards)
        except (KeyError, TypeError):
            good = False
        if not good:
            raise RewardError(f"{self.url} answered something else than {len(responses)} rewards: {str(answer)[:200]}")
        return Scored(rewards, reasons, answer.get("comparisons_planned", 0), answer.get("tokens", 0))

    def against(self, reference: str | None) -> bool:
        """Whether each response is compared with a reference, this one or the service's own, and not with its group's others."""
        return self.strategy == "reference" or (self.strategy is None and reference is not None)

    async def score_async(self, prompt: Any, responses: Sequence[str], reference: str | None = None) -> Scored:
        """`score`, while the event loop goes on."""
        call = functools.partial(self.score, prompt, responses, reference)
        return await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), call)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The service's answer. Raises as `score` does."""
        end, pause, problem = time.monotonic() + self.patience_s, 0.1, ""
        while (left := end - time.monotonic()) > 0:
            deadline_s = min(self.deadline_s, 0.9 * left)
            try:
                return self._attempt(path, {**body, "deadline_s": deadline_s}, min(left, 1.1 * deadline_s + 1))
            except urllib.error.HTTPError as error:
                problem = _detail(error)
                if error.code not in RETRIED:
                    raise RewardError(f"{self.url} refuses the request ({error.code}): {problem}") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            log.info("no reward from %s, trying again: %s", self.url, problem)
            time.sleep(max(0.0, min(pause * random.uniform(0.5, 1.5), end - time.monotonic())))
            pause = min(2 * pause, 15)
        raise RewardUnavailable(f"no reward from {self.url} within {self.patience_s:g} s: {problem}")

    def _attempt(self, path: str, body: dict[str, Any], patience_s: float) -> Any:
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}),
        }
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers, method="POST")
        end, parts = time.monotonic() + patience_s, []
        with _opener.open(request, timeout=patience_s) as answer:
            while part := answer.read1(1 << 16):
                parts.append(part)
                if time.monotonic() > end:  # the limit of a socket is for one read
                    raise TimeoutError("the answer does not end")
        return json.loads(b"".join(parts))


def _detail(error: urllib.error.HTTPError) -> str:
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        said = error.read(4000).decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(said)["detail"])
        return said.strip()[:200] or str(error)
    return str(error)


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of this process: those of another one did not survive its fork. asyncio's own are as few as the cores."""
    return ThreadPoolExecutor(AT_ONCE, "gram-r2-reward")


# ---- texts ------------------------------------------------------------------------------------------------------------


def text_of(content: Any) -> str:
    """The text of a message: a string, or parts of type text. Raises ValueError for anything else, such as an image."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    raise ValueError(f"the judge reads text only, got {str(content)[:200]!r}")


def prompt_of(prompt: Any) -> str | list[dict[str, str]]:
    """A prompt as the service takes it: a text, or messages (also in a NumPy array) of role and text."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": str(message["role"]), "content": text_of(message["content"])} for message in prompt]


def response_of(completion: Any) -> str:
    """A response's text: of a text, or of one assistant message. Raises ValueError for several, as after calls of tools."""
    if isinstance(completion, str):
        return completion
    if len(completion) != 1:
        raise ValueError(
            f"a response must be one message, got {len(completion)}: give the judge a text of your own making"
        )
    return text_of(completion[0].get("content"))


def _begins(prompt: str) -> re.Match[str] | None:
    return SPECIAL.match(prompt.lstrip())


def _ends(prompt: str) -> re.Match[str] | None:
    return REPLY.search(prompt[-200:])


def _in_template(prompt: str, what_to_do: str) -> str:
    mark = _begins(prompt) or _ends(prompt)
    return (
        f"the prompt is in the policy's chat template (it has {mark and mark[0].strip()!r}), which the judge would take for the "
        f'user\'s words: {what_to_do}, as [{{"role": "user", "content": "…"}}]'
    )


def without_end(text: str) -> str:
    """A response without the special tokens that end it, as slime leaves them in the text."""
    end = len(text)
    for mark in reversed(list(SPECIAL.finditer(text))):
        if text[mark.end() : end].strip():
            break
        end = mark.start()
    return text[:end]


def asked(given: Any, prompt: Any) -> tuple[Any, str | None]:
    """The prompt and the reference of a sample: `given` is the label or the metadata of its row.

    A mapping, or the JSON text of one with any of these keys, can have "messages" (or "prompt"), for a prompt that the trainer
    has put into the policy's chat template, and "reference". Any other text that is not empty is the reference.
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            read = json.loads(given)
            given = read if any(name in read for name in ("reference", "messages", "prompt")) else given
    if isinstance(given, Mapping):
        messages, text = given.get("messages"), given.get("prompt")
        found = messages if messages is not None else text if text is not None else prompt
        return prompt_of(found), given.get("reference") or None
    return prompt_of(prompt), given if isinstance(given, str) and given else None


def check_alone(judge: Judge, reference: str | None) -> None:
    """Raises ValueError where a response that the trainer sends by itself has nothing to be compared with."""
    if not judge.against(reference):
        raise ValueError(
            "this trainer sends one response at a time, which is compared with a reference response: give each row one and "
            "leave the strategy out, or start the service with --references and use the strategy 'reference' (strategy "
            f"{judge.strategy!r}, reference {reference!r})"
        )


# ---- TRL: reward_funcs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Responses to one prompt, and their places in the batch."""

    prompt: Any
    reference: str | None
    places: list[int] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)


def groups_of(prompts: Sequence[Any], completions: Sequence[Any], references: Sequence[Any] | None) -> list[Group]:
    """The batch by prompt and reference. TRL passes no size; OnlineDPO passes all prompts twice, one after the other."""
    groups: dict[str, Group] = {}
    for place, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        reference = response_of(references[place]) if references is not None and references[place] else None
        asked_for = prompt_of(prompt)
        group = groups.setdefault(json.dumps([asked_for, reference]), Group(asked_for, reference))
        group.places.append(place)
        group.responses.append(response_of(completion))
    return list(groups.values())


@dataclass(frozen=True)
class JudgeReward(Judge):
    """A reward function for TRL's ``reward_funcs``. A column `reference` of the data set holds reference responses.

    None for a response without a reward, which GRPO leaves out of its group. OnlineDPO takes None for 0: `fill` gives the mean
    of the group's other rewards, and raises RewardError where there are none. So does the sum of several reward functions, in
    every trainer of TRL: with `beside_others`, a response gets that mean, and None only where the whole group does, which moves
    none of its advantages.
    """

    fill: bool = False
    beside_others: bool = False

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """The rewards of a batch, one request a group, all at once. Raises ValueError if no group has two responses."""
        groups = self._groups(prompts, completions, columns)
        scored = list(_threads(os.getpid()).map(self._scored, groups))
        return self._together(groups, scored, columns)

    def _groups(self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Group]:
        groups = groups_of(prompts, completions, columns.get("reference"))
        if len({len(one.places) for one in groups if not self.against(one.reference)}) > 1:
            _warn_once(
                "the groups of a batch differ in size: each process judges its own part of a group, so that a process should get "
                "a multiple of num_generations responses at once; or a prompt occurs twice"
            )
        if groups and all(len(one.places) == 1 and not self.against(one.reference) for one in groups):
            raise ValueError(
                "no prompt of this batch has two responses to compare: make the responses that a process gets at once a "
                "multiple of num_generations (num_generations_eval in an evaluation, at least 2), or give a column `reference`"
            )
        return groups

    def _scored(self, group: Group) -> Scored:
        try:
            return self.score(group.prompt, group.responses, group.reference)
        except RewardUnavailable as error:
            if self.fill:
                raise
            log.warning("%s", error)
            return Scored([None] * len(group.places), ["unavailable"] * len(group.places))

    def _together(self, groups: list[Group], scored: list[Scored], columns: Mapping[str, Any]) -> list[float | None]:
        n = sum(len(group.places) for group in groups)
        rewards: list[float | None] = [None] * n
        reasons = [""] * n
        for group, one in zip(groups, scored, strict=True):
            some = any(value is not None for value in one.rewards)
            values = one.filled() if self.fill or (self.beside_others and some) else one.rewards
            for place, value, reason in zip(group.places, values, one.reasons, strict=True):
                rewards[place], reasons[place] = value, reason or ""
        if columns.get("log_metric"):
            for name, figure in figures_of(groups, scored).items():
                columns["log_metric"](f"gram_r2/{name}", figure)
        if columns.get("log_extra"):
            columns["log_extra"]("gram_r2_reason", reasons)
        return rewards


@dataclass(frozen=True)
class AsyncJudgeReward(JudgeReward):
    """`JudgeReward` for trainers that run their reward functions side by side."""

    async def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:  # type: ignore[override]
        """As `JudgeReward`."""
        groups = self._groups(prompts, completions, columns)
        loop, threads = asyncio.get_running_loop(), _threads(os.getpid())
        scored = await asyncio.gather(*(loop.run_in_executor(threads, self._scored, group) for group in groups))
        return self._together(groups, list(scored), columns)


def figures_of(groups: Sequence[Group], scored: Sequence[Scored]) -> dict[str, float]:
    """What a batch cost, its groups' mean size, the share without a reward, and whether rewards follow the responses' length.

    The correlation is with the logarithm of the characters, within the groups; it is left out where nothing varies.
    """
    rewards = [x for one in scored for x in one.rewards]
    pairs: list[tuple[float, float]] = []
    for group, one in zip(groups, scored, strict=True):
        known = [
            (x, math.log(max(len(text), 1)))
            for x, text in zip(one.rewards, group.responses, strict=True)
            if x is not None
        ]
        means = [statistics.fmean(values) for values in zip(*known, strict=True)]
        pairs += [(x - means[0], length - means[1]) for x, length in known]
    figures = {
        "without_reward": sum(x is None for x in rewards) / max(len(rewards), 1),
        "group_size": len(rewards) / max(len(groups), 1),
        "comparisons": float(sum(one.comparisons for one in scored)),
        "tokens": float(sum(one.tokens for one in scored)),
    }
    with contextlib.suppress(statistics.StatisticsError):
        figures["length_correlation"] = statistics.correlation([x for x, _ in pairs], [length for _, length in pairs])
    return figures


# ---- OpenRLHF: --reward.remote_url trainers.py ----------------------------------------------------------------------------


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> Any:
    """The rewards of responses against the references in their labels, from the service's own endpoint for OpenRLHF.

    OpenRLHF can call that by itself, but sends no key, and gives up after five seconds of refused connections.
    """
    return Judge().post("/get_reward", {"query": list(queries), "prompts": list(prompts), "labels": list(labels)})


# ---- slime: --custom-rm-path trainers.slime_reward --------------------------------------------------------------------------


async def slime_reward(args: Any, samples: Any, **_: Any) -> Any:
    """The reward of a sample against its reference, or with ``--group-rm`` the rewards of a group of samples.

    The reference and the messages of the prompt are in the sample's label or metadata; see `asked`.
    """
    judge = Judge()
    if not isinstance(samples, list):
        return (await _slime_group(judge, [samples]))[0]
    if getattr(args, "group_rm", False):
        return await _slime_group(judge, samples)
    return [group[0] for group in await asyncio.gather(*(_slime_group(judge, [sample]) for sample in samples))]


async def _slime_group(judge: Judge, samples: list[Any]) -> list[float]:
    if any(isinstance(sample, list) for sample in samples):
        raise TypeError("a rollout of several samples cannot be judged: reward them in a function of your own")
    prompt, reference = asked(samples[0].label, samples[0].prompt)
    prompt, other = asked(samples[0].metadata or {}, prompt)
    if isinstance(prompt, str) and (_begins(prompt) or _ends(prompt)):
        raise ValueError(_in_template(prompt, 'put it under "messages" into the row\'s metadata or label'))
    if len(samples) == 1:
        check_alone(judge, other or reference)
    scored = await judge.score_async(prompt, [without_end(sample.response) for sample in samples], other or reference)
    return scored.filled()


# ---- ms-swift: --external_plugins trainers.py --reward_funcs gram_r2 --------------------------------------------------------


class SwiftReward:
    """An outcome reward of ms-swift. It takes None for 0, so that `JudgeReward` fills them.

    A column `reference` of the data set holds reference responses.
    """

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.reward = JudgeReward(fill=True)

    def __call__(self, completions: Sequence[str], messages: Sequence[Any], **columns: Any) -> list[float | None]:
        """The rewards of a batch. The last of a row's messages is its response."""
        return self.reward([row[:-1] for row in messages], completions, **columns)


if "swift.utils" in sys.modules:  # ms-swift loads this file, and finds its rewards by name
    from swift.rewards import orms  # type: ignore[import-not-found, unused-ignore]

    orms["gram_r2"] = SwiftReward


# ---- verl: reward.custom_reward_function, reward.reward_manager -------------------------------------------------------------


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **reward_kwargs: Any,
) -> dict[str, float]:
    """The reward of a response against a reference: extra_info's "reference", or the ground truth; see `asked`.

    verl passes no prompt: extra_info must have it, as "messages" or "prompt". `reward_kwargs` are `Judge`'s fields. Raises
    RewardError if there is no reward, never a 0; verl's rate-limited manager makes a 0 of an exception, its naive one does not.
    """
    for name in ("reward_router_address", "reward_model_tokenizer"):  # of verl's own reward models
        reward_kwargs.pop(name, None)
    judge, extra = Judge(**reward_kwargs), extra_info or {}
    if extra.get("messages") is None and extra.get("prompt") is None:
        raise ValueError("verl passes no prompt: put 'messages' or 'prompt' into extra_info, or use VerlRewardManager")
    prompt, reference = asked(extra, "")
    reference = reference or asked(ground_truth, "")[1]
    check_alone(judge, reference)
    scored = await judge.score_async(prompt, [solution_str], reference)
    return {"score": scored.filled()[0], "tokens": float(scored.tokens)}


VerlGroup = list[tuple[str, asyncio.Future[dict[str, Any]]]]


class VerlRewardManager:
    """Rewards within the groups of verl, found by uid: the samples of a prompt wait for each other, in one reward worker.

    Its settings are those of `Judge`, as ``+reward.reward_kwargs.strategy=…``, and `group_wait_s`, after which a group is judged
    without those that have not come. What is compared with a reference, such as that of a row's extra_info, does not wait. Raises
    ValueError for settings of verl with which groups do not meet.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        settings = dict(config.reward.get("reward_kwargs") or {})
        self.group_wait_s = float(settings.pop("group_wait_s", 1800))
        self.judge, self.tokenizer = Judge(**settings), tokenizer
        self.n = int(config.actor_rollout_ref.rollout.n)
        self.groups: dict[Any, VerlGroup] = {}
        self.judging: set[asyncio.Task[None]] = set()
        if self.judge.strategy != "reference":
            _check_verl(config, self.n)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one sample, once its group is judged; of several sequences of a rollout the last one's."""
        item = data[-1]
        ids, columns = item.batch["responses"], item.non_tensor_batch
        ids = ids[: int(item.batch["attention_mask"][-ids.shape[-1] :].sum())]
        response = self.tokenizer.decode(ids, skip_special_tokens=True)
        prompt, reference = prompt_of(columns["raw_prompt"]), (columns.get("extra_info") or {}).get("reference")
        if self.judge.against(reference):
            return _verl_rewards(await self.judge.score_async(prompt, [response], reference))[0]
        loop, uid = asyncio.get_running_loop(), columns["uid"]
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        group = self.groups.setdefault(uid, [])
        group.append((response, future))
        if len(group) == 1:
            loop.call_later(self.group_wait_s, self._close, uid, prompt, group)
        if len(group) == self.n:
            self._close(uid, prompt, group)
        return await future

    def _close(self, uid: Any, prompt: Any, group: VerlGroup) -> None:
        """Has a group judged, if it was not yet: in a task of its own, which nobody cancels with one of the samples."""
        if self.groups.get(uid) is group:
            del self.groups[uid]
            task = asyncio.get_running_loop().create_task(self._judge(prompt, group))
            self.judging.add(task)
            task.add_done_callback(self.judging.discard)

    async def _judge(self, prompt: Any, group: VerlGroup) -> None:
        try:
            results = _verl_rewards(await self.judge.score_async(prompt, [response for response, _ in group]))
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: list[float]) -> Any:
        """As verl's own managers do."""
        from verl.experimental.reward_loop.reward_manager.base import (  # type: ignore[import-not-found, unused-ignore]
            RewardManagerBase,
        )

        return RewardManagerBase.assemble_rm_scores(data, scores)


def _verl_rewards(scored: Scored) -> list[dict[str, Any]]:
    """Each with the same keys: verl reads those of a batch's first sample, and wants them of every one."""
    return [
        {"reward_score": value, "reward_extra_info": {"score": value, "filled": float(x is None)}}
        for value, x in zip(scored.filled(), scored.rewards, strict=True)
    ]


def _check_verl(config: Any, n: int) -> None:
    """Raises ValueError where samples of one prompt go to several workers, wait in vain, or are more than one worker takes."""
    if config.reward.num_workers != 1:
        raise ValueError("verl sends the samples of a group to any reward worker: set reward.num_workers=1")
    trainer, data, validated_n = config.trainer, config.data, config.actor_rollout_ref.rollout.val_kwargs.n
    if trainer.test_freq > 0 or trainer.val_before_train:
        without = "or validate nothing: trainer.test_freq=-1 trainer.val_before_train=False"
        if validated_n != n:
            raise ValueError(
                f"the groups of the validation have {validated_n} responses and would wait for {n}: set "
                f"actor_rollout_ref.rollout.val_kwargs.n={n}, {without}"
            )
        if not data.get("val_batch_size") or data.val_batch_size * n > VERL_AT_ONCE:  # null: the whole set at once
            raise ValueError(
                f"a batch of the validation (data.val_batch_size={data.get('val_batch_size')}; null is the whole set) may have "
                f"no more than the {VERL_AT_ONCE:,} responses that can wait in a reward worker of verl: set "
                f"data.val_batch_size={VERL_AT_ONCE // n} or less, {without}"
            )
    at_once = (data.get("gen_batch_size") or data.train_batch_size) * n
    if at_once > VERL_AT_ONCE:
        raise ValueError(
            f"a batch of {at_once:,} responses is more than the {VERL_AT_ONCE:,} that can wait in a reward worker of verl"
        )
