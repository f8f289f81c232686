"""The two orders in which a pair is shown, as given and swapped: every judgment and every proof is made in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from data.records import PreferencePair, ResponsePair
from tasks.model.chat import Encoded
from tasks.model.engine import Request, Sampling
from tasks.model.requests import PROMPT_TOO_LONG, Skip

ORDERS = ("ab", "ba")

Pair = TypeVar("Pair", ResponsePair, PreferencePair)


def shown(pair: Pair, order: str) -> Pair:
    """The pair as shown in this order."""
    return pair if order == "ab" else pair.swapped()


def requests_in_both_orders(
    encode: Callable[[str], Encoded | None], sampling: Callable[[str], Sampling]
) -> list[Request] | Skip:
    """One request per order, named after it; a `Skip` if the prompt of any order does not fit."""
    requests = []
    for order in ORDERS:
        encoded = encode(order)
        if encoded is None:
            return Skip(PROMPT_TOO_LONG)
        requests.append(Request(order, encoded.ids, sampling(order), encoded.truncated, opened=encoded.opened))
    return requests
