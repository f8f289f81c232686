"""Opening a judge by name, with the prompt that it was trained with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from data.sources.fields import got
from prompts.catalog import JUDGE_PROMPTS
from tasks.model.chat import ChatEncoder
from tasks.model.endpoint import EndpointEngine, MessageEncoder, is_endpoint
from tasks.model.folder import check_model_folder, positions_of
from tasks.model.judging import JudgeQuery
from tasks.model.location import local_folder, model_folder
from tasks.model.process import EngineProcess
from tasks.model.scalar import SCALAR, is_scalar
from tasks.rank.judge import Judge
from tasks.settings import GenerationSettings, ModelSettings

RELEASED = {"gram-rr": "gram-r2", "gram-qwen": "gram", "gram-llama": "gram"}
"""Name prefixes of released checkpoints, and the prompts that they were trained with."""
DEFAULTS: dict[str, Any] = {"max_tokens": 1024, "context": 4096, "dtype": "auto"}
"""How a judge is used that does not say how it was trained."""
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class KnownJudge:
    """A judge whose folder (or URL) has been found and checked, and how it is queried. Nothing has been started."""

    name: str
    folder: str
    query: JudgeQuery
    dtype: Dtype

    @property
    def is_endpoint(self) -> bool:
        return is_endpoint(self.name)

    def models(self, dtype: Dtype | None = None) -> ModelSettings:
        """What an engine is told about the model; by default its weights have the dtype that the judge was trained for."""
        return ModelSettings(
            judge_base=self.name,
            prover_base=self.name,
            max_tokens=self.query.context,
            overlong=self.query.overlong,
            dtype=dtype or self.dtype,
        )


def find_judge(
    judge: str | Path,
    prompt: str | None = None,
    max_tokens: int | None = None,
    context: int | None = None,
    overlong: Literal["drop", "truncate"] = "drop",
    votes: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
) -> KnownJudge:
    """Finds a judge by its name, with the arguments and errors of `open_judge`. An adapter is merged with its base first."""
    name = str(judge)
    folder = name if is_endpoint(name) else model_folder(name)
    chosen = prompt or prompt_of(folder, name)
    if chosen not in (JUDGE_PROMPTS if is_endpoint(name) else (*JUDGE_PROMPTS, SCALAR)):
        raise ValueError(f"there is no judge prompt {chosen!r}; use one of {', '.join(JUDGE_PROMPTS)}")
    known = DEFAULTS if is_endpoint(name) else settings_of(folder)
    context = context or known["context"]
    query = JudgeQuery(chosen, max_tokens or known["max_tokens"], context, overlong, votes, temperature, seed=seed)
    if not is_endpoint(name) and query.by_score != is_scalar(folder):
        kind = "gives scores and takes no prompt" if is_scalar(folder) else "gives no scores and needs a prompt"
        raise ValueError(f"{name}: the checkpoint {kind}; prompt={query.prompt!r} does not fit it")
    if not is_endpoint(name):
        check_model_folder(folder, context)
    return KnownJudge(name, folder, query, known["dtype"])


@contextlib.contextmanager
def open_judge(
    judge: str | Path,
    *,
    prompt: str | None = None,
    votes: int = 1,
    temperature: float = 0.0,
    max_tokens: int | None = None,
    context: int | None = None,
    overlong: Literal["drop", "truncate"] = "drop",
    both_orders: bool = True,
    seed: int = 0,
    generation: GenerationSettings | None = None,
    dtype: Dtype | None = None,
) -> Iterator[Judge]:
    """Opens a judge: a checkpoint's folder, its hub name, or the URL of an OpenAI-compatible endpoint ("…/v1#MODEL").

    `prompt` is one of `prompts.catalog.JUDGE_PROMPTS`; by default it is read from the ``prompt.json`` of a checkpoint trained
    here, and known by name for the released GRAM-R² and GRAM checkpoints. `max_tokens` of a reply, `context` and `dtype` are
    read there too; a checkpoint that does not state them gets 1,024, 4,096 and "auto", or all its positions and a reply of
    half of them if they are fewer.

    A checkpoint runs in its own process, which ends with the ``with`` block; open it in a thread that lives at least as long.
    Raises ValueError if the prompt cannot be determined or the checkpoint's folder cannot be used, FileNotFoundError if there
    is no such checkpoint.
    """
    known = find_judge(judge, prompt, max_tokens, context, overlong, votes, temperature, seed)
    if known.is_endpoint:
        url, _, model = known.name.partition("#")
        yield Judge(EndpointEngine(url, model or None), MessageEncoder(), known.query, both_orders)
        return
    with EngineProcess(
        known.folder, known.models(dtype), generation or GenerationSettings(), known.query.by_label
    ) as engine:
        yield Judge(engine, ChatEncoder.load(known.folder), known.query, both_orders)


def prompt_of(folder: str, judge: str | None = None) -> str:
    """The prompt that a judge was trained with, from its ``prompt.json`` or released name; "scalar" for one without.

    `judge` is its name, if that is not the folder's, as in the hub's cache. Raises ValueError if unknown.
    """
    card = _card(folder)
    named = str(local_folder(judge or folder))
    if card is None and Path(named).is_dir():
        card = _card(named)
    if card is not None:
        name = card.get("name")
        if name not in JUDGE_PROMPTS:
            raise ValueError(
                f"{_card_of(folder)}: 'name' must be one of {', '.join(JUDGE_PROMPTS)}, got {name!r}: restore the file, or "
                "specify the prompt"
            )
        return str(name)
    if is_scalar(folder):
        return SCALAR
    name = named.rsplit("#", 1)[-1].rstrip("/").rsplit("/", 1)[-1].lower()
    for beginning, prompt in RELEASED.items():
        if name.startswith(beginning):
            return prompt
    raise ValueError(
        f"{judge or folder}: the prompt that this judge was trained with is unknown: it has no prompt.json, and its name is not "
        f"that of a released checkpoint. Set the prompt to one of {', '.join(JUDGE_PROMPTS)}"
    )


def settings_of(folder: str) -> dict[str, Any]:
    """How a checkpoint is used by default (the keys of `DEFAULTS`): as it was trained, if its prompt.json says so.

    Raises ValueError for a prompt.json that cannot be used.
    """
    card = _card(folder) or {}
    # A checkpoint for any length of context is still used with a moderate one, for the memory that it takes.
    most = positions_of(folder) if (Path(folder) / "config.json").is_file() else None
    context = min(DEFAULTS["context"], most or DEFAULTS["context"])
    known = {**DEFAULTS, "context": context, "max_tokens": min(DEFAULTS["max_tokens"], context // 2)}
    for name, stored in (("max_tokens", "reply_tokens"), ("context", "context")):
        number = card.get(stored, known[name])
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(
                f"{_card_of(folder)}: {stored!r} must be a number of tokens, got {number!r}: restore the file"
            )
        known[name] = number
    dtype = card.get("dtype", known["dtype"])
    if dtype not in get_args(Dtype):
        raise ValueError(f"{_card_of(folder)}: 'dtype' must be one of {', '.join(get_args(Dtype))}, got {dtype!r}")
    return {**known, "dtype": dtype}


def _card_of(folder: str) -> Path:
    return Path(folder) / "prompt.json"


def _card(folder: str) -> dict[str, Any] | None:
    """The content of a checkpoint's prompt.json; None if it has none. Raises ValueError if it is no JSON object."""
    path = _card_of(folder)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): restore the file, or specify the prompt and remove it"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must be a JSON object, got {got(found)}: restore the file, or remove it")
    return found
