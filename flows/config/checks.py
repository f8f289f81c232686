"""Everything that can be known of a run before anything is spent: no GPU, no weights and no server are needed.

The plan, a run on a local server and every flow make the same checks, so that each refuses what the others do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec

from data.paths import PathError
from data.sources.rows import SourceError, expand_path
from data.sources.source import HUB
from data.sources.sources import Kind, Source, check_kind, read_source
from data.store.remote import is_remote
from flows.config.every_run import RunParameters
from flows.config.machine_checks import gpu_problems, package_problems
from flows.config.parameters import (
    AdaptConfig,
    BaselinesConfig,
    BenchmarkConfig,
    GramConfig,
    SelfTrainConfig,
)
from flows.config.recipes import ConfigError
from flows.config.trainings import training_problems
from tasks.model.chat import DATE
from tasks.model.endpoint import EndpointEngine, is_endpoint
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine_options import engine_option_problems
from tasks.model.folder import ModelError, check_model_folder, layers_of, longest_context, read_config
from tasks.model.location import local_folder, model_folder
from tasks.plan.first_rows import READ_AS
from tasks.plan.plan import roles
from tasks.rank import prompt_of
from tasks.settings import BenchmarkSettings, DataSettings, GenerationSettings, Mechanics, ModelSettings
from tasks.training.layers import not_for_text, too_many

THIS_MACHINE = "this machine"
_ENDPOINT_S = 20.0


def problems(config: RunParameters) -> dict[str, list[str]]:
    """A line for everything that would stop this run later, by what it is about; `THIS_MACHINE` lacks GPUs or packages."""
    found = {
        "store": chain(_store(config), _not_writable(config)),
        "data": _data(config),
        "models": chain(_model_problems(config), _asked(config)),
        "settings": chain(_engine(config), training_problems(config)),
        THIS_MACHINE: chain(package_problems(config), gpu_problems(config)),
    }
    return {part: list(dict.fromkeys(lines)) for part, lines in found.items()}


def check(config: RunParameters) -> None:
    """Raises ConfigError with a line for everything that would stop this run later."""
    if lines := list(chain.from_iterable(problems(config).values())):
        raise ConfigError("\n".join(lines))


def check_planned(config: RunParameters, stand_ins: Mapping[str, str] = {}) -> None:
    """The same for a plan, which reads the data itself, for a run that may use another machine's GPUs.

    `stand_ins` names the models that are not looked at.
    """
    lines = [*_store(config), *_model_problems(config, stand_ins), *package_problems(config), *_engine(config)]
    lines += training_problems(config)
    if lines:
        raise ConfigError("\n".join(dict.fromkeys(lines)))


def _store(config: RunParameters) -> Iterator[str]:
    try:
        store = config.store_here
    except PathError as error:
        yield str(error)
        return
    if is_remote(store):
        try:
            fsspec.get_filesystem_class(store.partition("://")[0])
        except (ImportError, ValueError) as error:
            yield f"store = {config.store!r}: {error}"
    elif not (there := nearest(Path(store).resolve())).is_dir():
        what = "is a file" if Path(store).exists() else f"lies below a file, {there}"
        yield f"store = {config.store!r} {what}: name a folder, or a URL such as s3://bucket/runs"


def _not_writable(config: RunParameters) -> Iterator[str]:
    """Why the run could not make its folder, or write in the one that is there; of a store at a URL nothing is known."""
    try:
        store = config.store_here
    except PathError:  # said by `_store`
        return
    there = nearest(Path(store).resolve() / config.run_name)
    if not is_remote(store) and there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        yield f"store = {config.store!r}: you may not write in {there}: name another folder, or have it made writable"


def nearest(path: Path) -> Path:
    """A path, or the nearest of its parents that is there."""
    return next(one for one in (path, *path.parents) if os.access(one, os.F_OK))


# ---- data -----------------------------------------------------------------------------------------------------------------


def _data(config: RunParameters) -> Iterator[str]:
    """Files that are not there, and sources that cannot be what they are read as. Nothing is fetched from the hub."""
    seen = set()
    for name, kind, source in sources_of(config):
        if (kind, known := source.model_dump_json()) in seen:
            continue  # seeds share sources
        seen.add((kind, known))
        try:
            if source.hub_name is None:
                read_source(source, kind, seed=0)
            else:
                check_kind(source, kind)
        except (SourceError, OSError) as error:
            yield f"{name}: {error}"
    benchmarks: BenchmarkSettings = getattr(config, "benchmarks", BenchmarkSettings())
    for i, one in enumerate(benchmarks.sets):
        try:
            path = "" if one.data.startswith(HUB) else expand_path(one.data)
        except SourceError as error:  # an environment variable that is not set
            yield f"benchmarks.sets.{i}.data: {error}"
            continue
        if path and not any(sign in path for sign in "*?[") and not Path(path).exists():
            yield f"benchmarks.sets.{i}.data: there is no file or folder {path!r}"


def sources_of(config: RunParameters) -> Iterator[tuple[str, Kind, Source]]:
    """(setting, what it is read as, source) for everything that a run reads."""
    if isinstance(config, AdaptConfig):
        for name in ("pairs", "heldout"):
            for i, source in enumerate(getattr(config.task, name)):
                yield f"task.{name}.{i}", "preference", source
    elif isinstance(config, SelfTrainConfig | GramConfig | BaselinesConfig):
        for one in config.each_seed() if isinstance(config, BaselinesConfig) else [config]:
            data: DataSettings = one.data
            for name, kind in READ_AS.items():
                for i, source in enumerate(getattr(data, name)):
                    yield f"data.{name}.{i}", kind, source


# ---- models ---------------------------------------------------------------------------------------------------------------


def _model_problems(config: RunParameters, stand_ins: Mapping[str, str] = {}) -> Iterator[str]:
    """What is wrong with the models that a run is given, except for those in `stand_ins`."""
    for name, model, context, models in models_of(config):
        if model in stand_ins:
            continue
        if is_endpoint(model):
            if not isinstance(config, BenchmarkConfig):
                yield f"{name}: {model!r} is an endpoint: only a checkpoint can be trained"
            elif problem := _endpoint_problem(model):
                yield f"{name}: {problem}"
            continue
        try:
            folder = model_folder(model, weights=False)
            check_model_folder(folder, weights=folder == str(local_folder(model)))
            longest, problem = longest_context(folder), _template_problem(Path(folder), models.system)
        except (FileNotFoundError, ModelError) as error:
            yield f"{name}: {error}"
            continue
        if longest is not None and models.max_tokens > longest:
            yield (
                f"{context} = {models.max_tokens} is more than {name} = {model!r} can read: {longest} tokens (its config.json). "
                f"Lower {context}, or use a model with a longer context"
            )
        layers, trained = layers_of(folder), getattr(config, "training", Mechanics()).trainable_layers
        if trained is not None and layers is not None and trained > layers and name != "task.prover":
            yield f"{name} = {model!r}: {too_many(trained, layers)}"
        is_trained = not isinstance(config, BenchmarkConfig) and name != "task.prover"
        if is_trained and (other := not_for_text(read_config(folder))):
            yield f"{name} = {model!r}: {other}"
        if problem:
            yield f"{name}: {problem}"


def _asked(config: RunParameters) -> Iterator[str]:
    """What is wrong with the prompt of an existing judge, which decides how it replies, and what does not go with it."""
    if not isinstance(config, AdaptConfig | BenchmarkConfig):
        return
    path = config.judge.path
    try:
        folder = path if is_endpoint(path) else model_folder(path, weights=False)
        prompt = config.judge.prompt or prompt_of(folder, path)
    except FileNotFoundError:  # said of the model already
        return
    except ValueError as error:
        yield f"judge.prompt: {error}"
        return
    try:
        config.check_room(prompt)
    except ValueError as error:
        yield str(error)


def models_of(config: RunParameters) -> Iterator[tuple[str, str, str, ModelSettings]]:
    """(setting, model, setting of the context, models as given to the stages) for every model that is not made by the run."""
    if isinstance(config, AdaptConfig | BenchmarkConfig):
        models = config.judge.as_models()
        yield "judge.path", config.judge.path, "judge.max_tokens", models
        if isinstance(config, AdaptConfig) and config.task.prover:
            yield "task.prover", config.task.prover, "judge.max_tokens", models
    elif isinstance(config, SelfTrainConfig | GramConfig | BaselinesConfig):
        settings = config.settings() if isinstance(config, GramConfig) else config
        for role, model in roles(settings).items():
            yield f"models.{role}_base", model, "models.max_tokens", settings.models


def _template_problem(folder: Path, system: str | None) -> str | None:
    """Why a model's chat template cannot be used; None if it can, or if its own code makes the prompts.

    `system` is the system turn that the run gives to every prompt: some templates refuse one.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    file, tokenizer = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    told = {**_json_in(folder / "special_tokens_map.json"), **_json_in(tokenizer)}
    template = file.read_text(encoding="utf-8") if file.is_file() else told.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = {one["name"]: one["template"] for one in template}.get("default")
    if not template:
        return f"{folder} has no chat template: use an instruction-tuned model" if "auto_map" not in told else None
    tokens = {
        name: text for name in ("bos_token", "eos_token", "pad_token") if (text := _text_of(told.get(name))) is not None
    }
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": "x"})
    try:
        render_jinja_template([turns], chat_template=template, add_generation_prompt=True, date_string=DATE, **tokens)
    except Exception as error:  # whatever the template does
        without = "; if it takes no system turn, leave out models.system" if system is not None else ""
        return f"the chat template of {folder} cannot be rendered ({error}): correct it, or use that of its base model{without}"
    return None


def _json_in(file: Path) -> dict[str, Any]:
    """The content of a tokenizer's file; empty if there is none. Raises ModelError if it is not a JSON object."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{file} is not a JSON object: copy or download it again")
    return found


def _text_of(token: object) -> str | None:
    """A special token's text: the token itself, or the content of one with options."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _endpoint_problem(judge: str) -> str | None:
    """What keeps an endpoint, URL#MODEL, from being used; None if nothing does."""
    url, _, model = judge.partition("#")
    try:
        EndpointEngine(url, model or None, timeout_s=_ENDPOINT_S, retries=1)
    except EndpointError as error:
        return str(error)
    return None


# ---- settings -------------------------------------------------------------------------------------------------------------


def _engine(config: RunParameters) -> Iterator[str]:
    """Options for vLLM that it does not have."""
    generation: GenerationSettings = getattr(config, "generation", GenerationSettings())
    yield from engine_option_problems(generation.engine)
