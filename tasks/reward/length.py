"""Whether rewards follow the length of the responses, and rewards without what the length explains.

Policies grow longer where longer responses win, whether or not they are better. What is measured is the reward against the
logarithm of the length, within groups, as prompts differ in how long their answers must be. A length is a number of tokens
or characters, from 0; an empty response counts as one of length 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Rewards = Sequence[float | None]
SMALLEST = 4
"""The scored responses that a slope of a group's own needs. Ours: through two any line goes, through three nearly."""


@dataclass(frozen=True)
class LengthEffect:
    """How the rewards of a batch follow the length.

    `n` is the number of rewards in groups of at least two; `correlation` is Pearson's with the logarithm of the length, and
    `slope` the reward that one gains by being twice as long. Both are None where no group has different lengths, and the
    correlation also where none has different rewards.
    """

    n: int
    correlation: float | None
    slope: float | None


def length_effect(batch: Iterable[tuple[Rewards, Sequence[int]]]) -> LengthEffect:
    """The effect within the groups (rewards, lengths) of a batch; rewards that are None are left out.

    Raises ValueError for a group that has not as many lengths as rewards, and for a negative length.
    """
    parts = [_centered(rewards, lengths) for rewards, lengths in batch]
    values = np.concatenate([np.zeros(0), *(value for value, _ in parts)])
    logs = np.concatenate([np.zeros(0), *(log for _, log in parts)])
    of_values, of_logs, together = (float(x) for x in (values @ values, logs @ logs, values @ logs))
    slope = together / of_logs if of_logs > _NOTHING else None
    varies = slope is not None and of_values > _NOTHING
    return LengthEffect(len(values), together / (of_values * of_logs) ** 0.5 if varies else None, slope)


def length_controlled(
    rewards: Rewards, lengths: Sequence[int], slope: float | None = None
) -> list[float | None] | None:
    """The rewards of a group as if all its responses had the same length: its mean, in the logarithm.

    What is taken off is `slope` times the difference in log2 of the length: the `LengthEffect.slope` of a larger batch, or by
    default that of the group itself, a post-hoc calibration as in arXiv 2409.17407 with a line in place of a local regression.
    In a group of 8 a slope by chance alone takes a seventh of the rewards' variance, so prefer that of a batch. Results
    beyond 0 and 1 are cut off there; None stays None. Returns None where a group has fewer than four rewards, or all equally
    long, for a slope of its own. Raises ValueError as `length_effect` does.
    """
    if slope is None:
        effect = length_effect([(rewards, lengths)])
        if effect.n < SMALLEST or effect.slope is None:
            return None
        slope = effect.slope
    scored, logs = _scored(rewards, lengths)
    if not len(scored):
        return list(rewards)
    found: list[float | None] = list(rewards)
    for i, log in zip(scored, logs - logs.mean(), strict=True):
        found[i] = min(1.0, max(0.0, float(rewards[i] or 0.0) - slope * float(log)))
    return found


_NOTHING = 1e-12


def _scored(rewards: Rewards, lengths: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """The indices of the rewards that are there, and log2 of their lengths."""
    if len(rewards) != len(lengths):
        raise ValueError(f"{len(rewards)} rewards need as many lengths, got {len(lengths)}")
    if any(length < 0 for length in lengths):
        raise ValueError(f"a length must not be negative, got {min(lengths)}")
    scored = [i for i, reward in enumerate(rewards) if reward is not None]
    return scored, np.log2([max(1, lengths[i]) for i in scored]) if scored else np.zeros(0)


def _centered(rewards: Rewards, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The rewards of a group and the logarithms of their lengths, less their means; empty for fewer than two."""
    scored, logs = _scored(rewards, lengths)
    if len(scored) < 2:
        return np.zeros(0), np.zeros(0)
    values = np.array([rewards[i] for i in scored], dtype=float)
    return values - values.mean(), logs - logs.mean()
