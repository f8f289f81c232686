"""Tokens from Prefect's secret blocks, for workers whose own environment does not have them."""

from __future__ import annotations

import contextlib
import os
from typing import cast

BLOCKS = {
    name: name.lower().replace("_", "-")
    for name in (
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "WANDB_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    )
}
"""The environment variables to set, and the secret block that each is read from."""


def tokens_from_blocks() -> list[str]:
    """Puts the tokens of the existing secret blocks into this process's environment, which its children inherit.

    A variable that is already set is kept. Returns the names of the variables it set. Does nothing outside a flow run.
    """
    from prefect.blocks.system import Secret
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is None:
        return []
    filled = []
    # Key, secret and session token belong to one account: those of two accounts must not be mixed.
    has_account = any(name in os.environ for name in BLOCKS if name.startswith("AWS_"))
    for name, block in BLOCKS.items():
        if name not in os.environ and not (has_account and name.startswith("AWS_")):
            with contextlib.suppress(ValueError):  # there is no such block
                os.environ[name] = str(cast("Secret[str]", Secret.load(block)).get())
                filled.append(name)
    return filled
