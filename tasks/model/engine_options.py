"""Checks options for vLLM against its own arguments before a run starts.

In a process of its own, and only if there are any: importing vLLM takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, get_args

from pydantic import ConfigDict, ValidationError, create_model

from tasks.model.device import engine_environment

_LIMIT_S = 300


def engine_option_problems(options: Mapping[str, Any]) -> list[str]:
    """A line for each of `generation.engine` that vLLM's `EngineArgs` does not have, or whose value it does not take."""
    if not options:
        return []
    command = [sys.executable, "-m", "tasks.model.engine_options", json.dumps(options)]
    environment = {**os.environ, **engine_environment(on_gpus=False), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return [f"generation.engine cannot be checked, as vLLM cannot be imported here: {reason}"]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _problems(options: Mapping[str, Any]) -> list[str]:
    """Runs in the child."""
    from vllm.engine.arg_utils import EngineArgs

    known = {one.name: one.type for one in fields(EngineArgs) if not one.name.startswith("_")}
    found = []
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"generation.engine.{name}: vLLM has no such argument{hint}")
        elif problem := _refusal(known[name], value):
            found.append(f"generation.engine.{name}: {problem}, got {value!r}")
    return found


def _refusal(annotation: Any, value: Any) -> str | None:
    """Why an argument that is so annotated does not take this value; None if it does, or if that cannot be said."""
    kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, Enum)]
    names = sorted(name for kind in kinds for name in kind.__members__)
    if names and isinstance(value, str):  # vLLM looks it up by its name
        return None if value.upper() in names else f"must be one of {', '.join(names)}"
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    kind = Any if isinstance(annotation, str) else annotation
    taken: Any = create_model("EngineArgs", __config__=config, value=(kind, ...))
    try:
        taken(value=value)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return None


if __name__ == "__main__":
    print(json.dumps(_problems(json.loads(sys.argv[1]))))
