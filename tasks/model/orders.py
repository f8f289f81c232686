"""The two orders in which a pair is shown, as given and swapped: every judgment is made in both, and by default every proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from data.records import PreferencePair, ResponsePair
from data.seeds import derive_seed
from tasks.model.chat import Encoded
from tasks.model.engine import Request, Sampling
from tasks.model.requests import PROMPT_TOO_LONG, Skip

ORDERS = ("ab", "ba")

Pair = TypeVar("Pair", ResponsePair, PreferencePair)


def shown(pair: Pair, order: str) -> Pair:
    """The pair as shown in this order."""
    return pair if order == "ab" else pair.swapped()


def orders_of(which: str, seed: int, identity: str) -> Sequence[str]:
    """Both orders of a pair, or the one that a fair coin draws: then A is the label shown about as often as B."""
    return ORDERS if which == "both" else (ORDERS[derive_seed(seed, identity, "order") % 2],)


def requests_in_orders(
    orders: Sequence[str], encode: Callable[[str], Encoded | None], sampling: Callable[[str], Sampling]
) -> list[Request] | Skip:
    """One request per order, named after it; a `Skip` if the prompt of any order does not fit."""
    requests = []
    for order in orders:
        encoded = encode(order)
        if encoded is None:
            return Skip(PROMPT_TOO_LONG)
        requests.append(Request(order, encoded.ids, sampling(order), encoded.truncated, opened=encoded.opened))
    return requests
