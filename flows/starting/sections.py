"""The sections of a recipe that flows share: models, data, mechanics of training, engines."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from data.sources.sources import Kind
from flows.starting.draft import Rows, Section, source_values
from flows.starting.files import Found
from flows.starting.inputs import Asked, Inputs, Lengths
from flows.starting.models import BaseModel
from flows.starting.scale import LARGE, TINY, Training, Value, heldout_share, tensor_parallel, weight_of
from tasks.model.location import local_folder


def is_tiny(inputs: Inputs) -> bool:
    return weight_of(inputs.judge) <= TINY


def dtype(inputs: Inputs) -> Value:
    return Value("bfloat16", "half the memory of float32") if inputs.machine.gpus else Value("float32", "for CPUs")


def model_sections(inputs: Inputs, asked: Asked, context: Value) -> Section:
    """The section models; with a prover if one is trained."""
    values = {"judge_base": Value(name_of(inputs.judge), f"{inputs.judge.size} parameters")}
    if asked.prompt.has_rationale:
        prover = inputs.prover or inputs.judge
        why = "paper: Qwen3-14B" if inputs.prover else "the judge's base, as no prover was named; paper: Qwen3-14B"
        values["prover_base"] = Value(name_of(prover), f"{prover.size} parameters; {why}")
    values |= {"judge_prompt": Value(asked.prompt.name, asked.why), "max_tokens": context, "dtype": dtype(inputs)}
    does = "What is trained: the judge"
    does += ", and the prover that writes rationales." if asked.prompt.has_rationale else "."
    return Section("models", does, values)


def name_of(model: BaseModel) -> str:
    """A model as a recipe names it: a folder by its absolute path."""
    folder = local_folder(model.name)
    return str(folder.absolute()) if folder.is_dir() else model.name


def rows_of(key: str, found: Found, kind: Kind, comment: str) -> Rows:
    """A file as a source of this kind; rows that do not fit are allowed as far as they were seen."""
    values = source_values(found.source)
    n = found.malformed(kind)
    if n:
        values = {**values, "max_malformed": n}
        comment += f" Up to {n:,} rows may not fit: they are dropped and counted."
    if found.source.id_from == "content":
        comment += " Its ids are made of its rows' content: those in the file stand for other pairs, too."
    if kind != "rationale" and "columns" in values:
        unlabeled = ("label", "label_a", "label_b", "label_tie", "score_a", "score_b", "is_a", "is_b", "is_tie")
        left_out = {"rationale", *(unlabeled if kind == "pair" else ())}
        values["columns"] = {name: one for name, one in values["columns"].items() if name not in left_out}
    return Rows(key, values, comment)


def held_out(inputs: Inputs) -> dict[str, Value]:
    """How held-out pairs are kept apart, and how many are split off if no file has them."""
    values = {}
    if inputs.heldout is None:
        values["heldout_share"] = heldout_share(inputs.pairs)
    if inputs.one_prompt:
        values["overlap"] = Value("pair", "few different prompts: pairs are kept apart as a whole")
    return values


def heldout_rows(inputs: Inputs, key: str = "heldout") -> tuple[Rows, ...]:
    if inputs.heldout is None:
        return ()
    why = "Only for measuring: the judge is not trained on them."
    return (rows_of(key, inputs.heldout, "preference", why),)


def mechanics(inputs: Inputs, trainings: Mapping[str, Training]) -> tuple[bool, dict[str, Value]]:
    """Whether examples are packed, and the settings of every training's memory and speed."""
    packs = all(training.packs for training in trainings.values())
    values: dict[str, Value] = {}
    if packs:
        values["packing"] = Value(True, "no padding: several examples in a sequence")
        if importlib.util.find_spec("flash_attn") or importlib.util.find_spec("kernels"):
            values["attention"] = Value("flash_attention_2", "half as fast again as sdpa with packed sequences")
    if inputs.machine.gpus and any(weight_of(training.model) >= LARGE for training in trainings.values()):
        values["gradient_checkpointing"] = Value(True, "activations of long sequences fit")
    return packs, values


def generation(inputs: Inputs, models: list[BaseModel]) -> tuple[Section, ...]:
    """The engines' section, if anything in it differs from the default."""
    values = {}
    gpus = tensor_parallel(models, inputs.machine)
    if gpus > 1:
        values["tensor_parallel"] = Value(gpus, "GPUs of one engine: the largest model's weights do not fit fewer")
    if is_tiny(inputs) and not inputs.machine.gpus:
        values["kv_cache_mib"] = Value(64, "enough for a tiny model")
    return (Section("generation", "How the engines run.", values),) if values else ()


def training_of(
    inputs: Inputs, model: BaseModel, pairs: int, lengths: Lengths, context: int, orders: int = 2, **kind: Any
) -> Training:
    """A training on so many pairs, shown in one or both orders."""
    mean = min(lengths.mean_prompt + lengths.mean_rationale + 16, context)
    return Training(model, inputs.machine, max(orders * pairs, 1), mean, context, **kind)
