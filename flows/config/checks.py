"""Everything that can be known of a run before anything is spent: no GPU, no weights and no server are needed.

The plan, a run on a local server and every flow make the same checks, so that each refuses what the others do.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec

from data.sources.rows import SourceError, expand_path
from data.sources.source import HUB
from data.sources.sources import Kind, Source, check_kind, read_source
from data.store.remote import is_remote
from flows.config.every_run import RunParameters
from flows.config.parameters import (
    AdaptConfig,
    BaselinesConfig,
    BenchmarkConfig,
    GramConfig,
    SelfTrainConfig,
)
from flows.config.recipes import ConfigError
from flows.config.trainings import training_problems
from tasks.machine.gpus import visible_gpus
from tasks.model.chat import DATE
from tasks.model.endpoint import EndpointEngine, is_endpoint
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine_options import engine_option_problems
from tasks.model.folder import ModelError, check_model_folder, longest_context
from tasks.model.location import model_folder
from tasks.plan.first_rows import READ_AS
from tasks.plan.plan import roles
from tasks.rank import prompt_of
from tasks.settings import BenchmarkSettings, DataSettings, GenerationSettings, Mechanics, ModelSettings
from tasks.settings.mechanics import KERNELS

_ENDPOINT_S = 20.0


def check(config: RunParameters) -> None:
    """Raises ConfigError with a line for everything that would stop this run later."""
    problems = [*_store(config), *_data(config), *_model_problems(config), *_asked(config)]
    problems += [*_packages(config), *_engine(config), *training_problems(config), *_gpus(config)]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def check_planned(config: RunParameters, stand_ins: Mapping[str, str] = {}) -> None:
    """The same for a plan, which reads the data itself, for a run that may use another machine's GPUs.

    `stand_ins` names the models that are not looked at.
    """
    problems = [*_store(config), *_model_problems(config, stand_ins), *_packages(config), *_engine(config)]
    problems += training_problems(config)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def _store(config: RunParameters) -> Iterator[str]:
    if is_remote(config.store):
        try:
            fsspec.get_filesystem_class(config.store.partition("://")[0])
        except (ImportError, ValueError) as error:
            yield f"store = {config.store!r}: {error}"
    elif (folder := Path(config.store).expanduser()).exists() and not folder.is_dir():
        yield f"store = {config.store!r} is a file: name a folder, or a URL such as s3://bucket/runs"


# ---- data -----------------------------------------------------------------------------------------------------------------


def _data(config: RunParameters) -> Iterator[str]:
    """Files that are not there, and sources that cannot be what they are read as. Nothing is fetched from the hub."""
    seen = set()
    for name, kind, source in _sources(config):
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


def _sources(config: RunParameters) -> Iterator[tuple[str, Kind, Source]]:
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
    for name, model, context, models in _models(config):
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
            check_model_folder(folder, weights=folder == str(Path(model).expanduser()))
            longest, problem = longest_context(folder), _template_problem(Path(folder), models.system)
        except (FileNotFoundError, ModelError) as error:
            yield f"{name}: {error}"
            continue
        if longest is not None and models.max_tokens > longest:
            yield (
                f"{context} = {models.max_tokens} is more than {name} = {model!r} can read: {longest} tokens (its config.json). "
                f"Lower {context}, or use a model with a longer context"
            )
        if problem:
            yield f"{name}: {problem}"


def _asked(config: RunParameters) -> Iterator[str]:
    """What is wrong with the prompt of an existing judge, which decides how long its replies are."""
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


def _models(config: RunParameters) -> Iterator[tuple[str, str, str, ModelSettings]]:
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


# ---- this machine ---------------------------------------------------------------------------------------------------------


def _packages(config: RunParameters) -> Iterator[str]:
    """Services that the trainings report to on this machine, and that are not installed."""
    training: Mechanics = getattr(config, "training", Mechanics())
    for service in () if training.in_pool else training.report_to:
        modules = ("tensorboard", "tensorboardX") if service == "tensorboard" else (service,)
        if not any(map(importlib.util.find_spec, modules)):
            yield f"training.report_to names {service}, which is not installed: pip install {service}, or leave it out"


def _engine(config: RunParameters) -> Iterator[str]:
    """Options for vLLM that it does not have."""
    generation: GenerationSettings = getattr(config, "generation", GenerationSettings())
    yield from engine_option_problems(generation.engine)


def _gpus(config: RunParameters) -> Iterator[str]:
    """What the run wants of this machine's GPUs and cannot get."""
    training: Mechanics = getattr(config, "training", Mechanics())
    generation: GenerationSettings = getattr(config, "generation", GenerationSettings())
    gpus = visible_gpus()
    in_fp8 = {"kv_cache_dtype": generation.kv_cache_dtype, "quantization": generation.quantization}
    for name, value in in_fp8.items() if not gpus and not generation.workers else ():
        if value not in ("auto", None):
            yield f'generation.{name} = "{value}" needs a GPU that computes in fp8, but no GPU is visible: leave it out'
    if gpus and not training.in_pool and training.processes > len(gpus):
        yield f"training.processes = {training.processes}, but {len(gpus)} GPUs are visible: {', '.join(gpus)}"
    if not generation.workers and generation.tensor_parallel > max(len(gpus), 1):
        visible = f"{len(gpus)} GPUs are visible: {', '.join(gpus)}" if gpus else "no GPU is visible"
        yield f"generation.tensor_parallel = {generation.tensor_parallel}, but {visible}"
    yield from () if training.in_pool else _kernels(training)


_FLASH = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}
"""The modules of what transformers finds under these names; where one is missing, it takes a kernel of the hub."""


def _kernels(training: Mechanics) -> Iterator[str]:
    """Faster kernels that trainings are to use, and that are not installed."""
    from_hub = importlib.util.find_spec("kernels") is not None
    if training.attention.startswith(KERNELS) and not from_hub:
        yield f'training.attention = "{training.attention}" is a kernel of the hub: pip install "kernels>=0.17,<0.18"'
    module = _FLASH.get(training.attention)
    if module is not None and not from_hub and not importlib.util.find_spec(module):
        yield (
            f'training.attention = "{training.attention}" needs flash-attn: pip install flash-attn --no-build-isolation; or a '
            'kernel of the hub: pip install "kernels>=0.17,<0.18"'
        )
    if training.liger_kernels and not importlib.util.find_spec("liger_kernel"):
        yield "training.liger_kernels needs liger-kernel: pip install liger-kernel, or leave it out"
