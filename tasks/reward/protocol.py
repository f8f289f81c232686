"""The service's own requests and answers, by group; those of trainers are in `tasks.reward.trainer_shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data.records import Message as Turn
from data.records import RecordError
from tasks.rank.inputs import read_messages
from tasks.reward.groups import Strategy
from tasks.reward.limits import DEADLINE_S, RESPONSES, VOTES, InvalidPromptError, RefusedError

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Message(BaseModel):
    """One turn of a conversation; its role is system, user or assistant."""

    role: str
    content: str


class Asked(BaseModel):
    """What every request has: a prompt, or messages that end with a user's, and limits of its own."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(None, description="The user's only turn.")
    messages: list[Message] | None = Field(
        None, max_length=1000, description="Instead of prompt: the whole conversation."
    )
    votes: int | None = Field(
        None, ge=1, le=VOTES, description="Sampled judgments in each order. Default: the service's."
    )
    deadline_s: Seconds | None = Field(
        None,
        description=f"What is not answered by then is null. The service's own ({DEADLINE_S:g} s by default) also applies.",
    )
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of sampled judgments and random matches.")

    def turns(self) -> tuple[Turn, ...]:
        """The conversation. Raises RefusedError unless it is given once, and InvalidPromptError if it cannot be judged."""
        if (self.prompt is None) == (self.messages is None):
            raise RefusedError("give the conversation once: as prompt (a text) or as messages (a list of turns)")
        return turns_of(self.prompt if self.messages is None else [one.model_dump() for one in self.messages])


def turns_of(prompt: Any) -> tuple[Turn, ...]:
    """A conversation, as text or turns. Raises InvalidPromptError if it cannot be judged."""
    try:
        return read_messages(prompt)
    except RecordError as error:
        raise InvalidPromptError(f"the conversation: {error}") from error


class RewardsRequest(Asked):
    """A group of responses to one prompt."""

    responses: list[str] = Field(min_length=1, max_length=RESPONSES)
    reference: str | None = Field(None, description='For the strategy "reference", which it makes the default.')
    strategy: Strategy | None = Field(None, description="What the responses are compared with. Default: the service's.")
    length_slope: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Taken off for every doubling of the length beyond the group's mean. Default: the service's, 0.",
    )


class OneComparison(BaseModel):
    """Two responses of the group, by index; `second` is null for the reference. Shares are of the first's win."""

    first: int
    second: int | None
    share: float | None
    orders: list[float | None]
    reason: str | None


class RewardsAnswer(BaseModel):
    """Rewards from 0 to 1, null with a reason; `cycles` are groups whose members all beat one another."""

    rewards: list[float | None]
    reasons: list[str | None]
    strategy: str
    comparisons: list[OneComparison]
    cycles: list[list[int]]
    tokens: int
    comparisons_planned: int
    elapsed_s: float


class CompareRequest(Asked):
    """Two responses."""

    a: str
    b: str


class CompareAnswer(BaseModel):
    """`winner` is null if there is no verdict, for the `reason`; `share` is a's of the win; `rationales` are in order."""

    winner: Literal["a", "b", "tie"] | None
    share: float | None
    orders: list[float | None]
    reason: str | None
    rationales: list[str | None]
    tokens: int
    elapsed_s: float


class RankRequest(Asked):
    """Responses to put in order."""

    responses: list[str] = Field(min_length=1, max_length=RESPONSES)
    method: Literal["round-robin", "repeated-best"] = "round-robin"


class RankAnswer(BaseModel):
    """Indices, best first; null, with the reason, if a comparison has failed. Matches in `undecided` have no verdict."""

    order: list[int] | None
    reason: str | None
    wins: list[float] | None
    strengths: list[float] | None
    ties: list[tuple[int, int]]
    undecided: list[tuple[int, int]]
    cycles: list[list[int]]
    equal: list[list[int]]
    comparisons: list[OneComparison]
    tokens: int
    elapsed_s: float
