"""The recipe of each flow for what was given: which sections it has, and the values that are scaled."""

from __future__ import annotations

from typing import Any

from data.sources.sources import Kind
from flows.starting.draft import Draft, Rows, Section, source_values
from flows.starting.inputs import Asked, Inputs, Lengths, choose_prompt, lengths
from flows.starting.scale import Value, context, optimization, reply_tokens, rounds
from flows.starting.sections import (
    dtype,
    generation,
    held_out,
    heldout_rows,
    is_tiny,
    mechanics,
    model_sections,
    name_of,
    rows_of,
    training_of,
)
from tasks.settings import LABEL_TOKENS

_FINAL = 1000
"""Rationales from which on the paper's last step, fine-tuning on them alone, has enough to learn from."""


def draft(inputs: Inputs) -> Draft:
    """The recipe for these inputs."""
    makers = {"self-train": _self_train, "gram": _gram, "adapt": _adapt, "benchmark": _benchmark}
    return makers[inputs.flow](inputs)


def _title(inputs: Inputs, what: str) -> str:
    gpus = inputs.machine.gpus
    on = f"{gpus} GPU{'s' * (gpus > 1)} of {inputs.machine.memory_gb:.0f} GB" if gpus else "CPUs"
    return f"{inputs.name}: {what}, on {on}. Each value has its reason; change what you know better."


def _sizes(inputs: Inputs, asked: Asked, found: Lengths) -> tuple[Value, Value]:
    """The longest reply, and the context."""
    models = [inputs.judge, *([inputs.prover] if inputs.prover and asked.prompt.has_rationale else [])]
    reply = (
        reply_tokens(found.rationale, is_tiny(inputs))
        if asked.prompt.has_rationale
        else Value(LABEL_TOKENS, "the label and the end of the turn")
    )
    return reply, context(found.prompt, reply.value, models)


# ---- self-training ----------------------------------------------------------------------------------------------------


def _self_train(inputs: Inputs) -> Draft:
    asked, notes = choose_prompt(inputs)
    found = lengths(inputs, asked)
    reply, longest = _sizes(inputs, asked, found)
    count, pairs = rounds(inputs.unlabeled.usable("pair") if inputs.unlabeled else 0, inputs.judge, inputs.machine)
    if inputs.unlabeled is None:
        notes.append("There are no unlabeled pairs (--unlabeled FILE), so there is no self-training: rounds.count = 0.")
    models = [inputs.judge, *([inputs.prover or inputs.judge] if asked.prompt.has_rationale else [])]
    sections = (
        model_sections(inputs, asked, longest),
        _data(inputs, asked),
        *(_proofs(reply, inputs, found) if asked.prompt.has_rationale else ()),
        *(_labels(reply, inputs, asked) if count.value else _replies(reply)),
        _training(inputs, asked, found, longest.value, count.value * pairs.value if count.value else 0),
        *generation(inputs, models),
        Section(
            "rounds",
            "How often the judge labels fresh unlabeled pairs and is trained again, on all examples so far.",
            {"count": count, **({"pairs": pairs} if count.value else {})},
        ),
    )
    return Draft("self-train", inputs.name, _title(inputs, f"self-training of {inputs.judge.short}"), sections, notes)


def _data(inputs: Inputs, asked: Asked) -> Section:
    rows: list[Rows] = []
    if asked.prompt.has_rationale:
        does = "The prover learns from these to argue for a given label."
        rows += (rows_of("rationale", one, "rationale", does) for one in inputs.rationale)
    rows += (rows_of("labeled", one, "preference", "The first judge learns from these.") for one in inputs.labeled)
    if inputs.unlabeled is not None:
        rows.append(
            rows_of("unlabeled", inputs.unlabeled, "pair", "The judge labels these, a fresh part in each round.")
        )
    return Section("data", "Where the pairs come from.", held_out(inputs), (*rows, *heldout_rows(inputs)))


def _proofs(reply: Value, inputs: Inputs, found: Lengths) -> tuple[Section, ...]:
    temperature = Value(0.8, "the paper says non-zero")
    if is_tiny(inputs):
        temperature = Value(1.0, "as in the small world")
        if found.spelled:
            temperature = Value(
                0.5, "low, as a tiny model soon goes astray in a language that it spells letter by letter"
            )
    k = Value(4, "the paper samples several and does not say how many")
    does = "The prover writes k rationales for each labeled pair; the best one that passes the rules is kept."
    return (Section("proofs", does, {"k": k, "temperature": temperature, "max_tokens": reply}),)


def _labels(reply: Value, inputs: Inputs, asked: Asked) -> tuple[Section, ...]:
    agree = Value(True, "guards against a preference for a position")
    sure = Value(0.75, "the paper uses a threshold and does not state it")
    if not asked.prompt.has_rationale:
        does = "The judge labels unlabeled pairs by the label's probability; labels below min_confidence are dropped."
        return (Section("labels", does, {"max_tokens": reply, "min_confidence": sure, "orders_agree": agree}),)
    slow = not inputs.machine.gpus and not is_tiny(inputs)
    votes = (
        Value(4, "few, as CPUs are slow")
        if slow
        else Value(8, "half in each order; the paper votes over several replies")
    )
    values = {
        "votes": votes,
        "temperature": Value(1.0, "so that votes differ"),
        "max_tokens": Value(reply.value, "as long as a rationale"),
    }
    does = "The judge labels unlabeled pairs by a vote over its replies; labels below min_confidence are dropped."
    return (Section("labels", does, {**values, "min_confidence": sure, "orders_agree": agree}),)


def _replies(reply: Value) -> tuple[Section, ...]:
    does = "How the judge replies: there are no unlabeled pairs to label."
    return (Section("labels", does, {"max_tokens": reply}),)


def _training(inputs: Inputs, asked: Asked, found: Lengths, longest: int, unlabeled: int) -> Section:
    trainings = {
        "first_judge": training_of(inputs, inputs.judge, inputs.trained, found, longest),
        **(
            {"judge": training_of(inputs, inputs.judge, inputs.trained + unlabeled // 2, found, longest)}
            if unlabeled
            else {}
        ),
    }
    if asked.prompt.has_rationale:
        prover = inputs.prover or inputs.judge
        alone = training_of(
            inputs, prover, asked.rationales or 1, found, longest, orders=1, prover=True, spelled=found.spelled
        )
        trainings = {"prover": alone, **trainings}
    packs, values = mechanics(inputs, trainings)
    values |= {name: optimization(training, packs) for name, training in trainings.items()}
    if (asked.rationales or 0) >= _FINAL:
        values["final"] = _final(inputs, asked.rationales or 1, found, longest, packs)
    if not asked.prompt.has_rationale:
        values["label_loss"] = Value("labels", "over the two labels only, as in GRAM")
    does = "Rate, length and batch of each training. Pairs are shown in both orders; half of the unlabeled ones may be kept."
    return Section("training", does, values)


def _final(inputs: Inputs, rationales: int, found: Lengths, longest: int, packs: bool) -> Value:
    one = optimization(training_of(inputs, inputs.judge, rationales, found, longest, orders=1), packs)
    half = {**one.value, "learning_rate": one.value["learning_rate"] / 2}
    return Value(half, "paper: ends with fine-tuning on the human rationales")


# ---- the other flows --------------------------------------------------------------------------------------------------


def _gram(inputs: Inputs) -> Draft:
    asked, notes = choose_prompt(inputs)
    found = lengths(inputs, asked)
    _, longest = _sizes(inputs, asked, found)
    trainings = {"fine_tuning": training_of(inputs, inputs.judge, inputs.trained, found, longest.value)}
    rows = [rows_of("labeled", one, "preference", "The judge is fine-tuned on these.") for one in inputs.labeled]
    if inputs.unlabeled is not None:
        rows.append(
            rows_of("pretraining", inputs.unlabeled, "pair", "It first learns to write both responses of these.")
        )
        more = training_of(inputs, inputs.judge, inputs.unlabeled.usable("pair"), found, longest.value, orders=1)
        trainings = {"pretraining": more, **trainings}
    else:
        notes.append(
            "There are no unlabeled pairs (--unlabeled FILE), so there is no pre-training: the judge is only fine-tuned."
        )
    packs, values = mechanics(inputs, trainings)
    values |= {name: optimization(training, packs) for name, training in trainings.items()}
    values["label_smoothing"] = Value(0.1, "paper")
    sections = (
        model_sections(inputs, asked, longest),
        Section("data", "Where the pairs come from.", held_out(inputs), (*rows, *heldout_rows(inputs))),
        Section("training", "Each training's rate, length and batch.", values),
        *generation(inputs, [inputs.judge]),
    )
    return Draft("gram", inputs.name, _title(inputs, f"GRAM from {inputs.judge.short}"), sections, notes)


def _existing(inputs: Inputs, longest: Value) -> Section:
    values = {"path": Value(name_of(inputs.judge)), "max_tokens": longest, "dtype": dtype(inputs)}
    return Section("judge", "The judge as it is: a checkpoint's folder or its name on the hub.", values)


def _adapt(inputs: Inputs) -> Draft:
    asked, notes = choose_prompt(inputs)
    found = lengths(inputs, asked)
    longest = _context_of_judge(inputs, found)
    pairs = inputs.pairs
    share = 0.1 if pairs >= 500 else 0.2
    trained = round(pairs * (1 - (0 if inputs.heldout else share)) * (1 - share))
    sizes = sorted({max(1, trained // 4), max(1, trained // 2), max(1, trained * 9 // 10)})
    task = {"sizes": Value(sizes, "one judge is adapted on each size, to see whether more pairs would help")}
    task["validation_share"] = Value(share, "of the prompts, for early stopping")
    task |= {key: value for key, value in held_out(inputs).items() if key != "heldout_share"}
    if inputs.heldout is None:
        task["heldout_share"] = Value(share, "of the prompts, for measuring")
    if inputs.prover is not None:
        task["prover"] = Value(name_of(inputs.prover), "writes the rationales, if the judge gives any")
    training = training_of(inputs, inputs.judge, sizes[-1], found, longest.value, orders=1)
    packs, values = mechanics(inputs, {"optimization": training})
    own = optimization(training, packs)
    own.value["early_stopping"] = {"every": max(1, own.value.get("max_steps", 100) // 10), "patience": 3}
    kinds: list[Kind] = ["rationale" if one.source.has_rationales else "preference" for one in inputs.labeled]
    rows = [rows_of("pairs", one, kind, "The task's pairs.") for one, kind in zip(inputs.labeled, kinds, strict=True)]
    sections = (
        _existing(inputs, longest),
        Section("task", "What the judge is adapted to.", task, (*rows, *heldout_rows(inputs))),
        Section(
            "training", "How it is trained on each size; the best checkpoint counts.", {**values, "optimization": own}
        ),
        *generation(inputs, [inputs.judge]),
    )
    return Draft(
        "adapt", inputs.name, _title(inputs, f"{inputs.judge.short} adapted to one's own pairs"), sections, notes[:0]
    )


def _benchmark(inputs: Inputs) -> Draft:
    asked, _ = choose_prompt(inputs)
    longest = _context_of_judge(inputs, lengths(inputs, asked))
    source = inputs.labeled[0].source
    one: dict[str, Any] = {"benchmark": "preferences", "data": source.path, "name": "own"}
    given = source_values(source)
    one |= {key: getattr(source, key) for key in ("format", "subset", "split") if key in given or source.dataset}
    one = {key: value for key, value in one.items() if value is not None}
    if "columns" in given:
        one["columns"] = {key: value for key, value in given["columns"].items() if key != "rationale"}
    sets = Rows("sets", one, "Labeled pairs, each judged in both orders.")
    reply = Value(64 if is_tiny(inputs) else 1024, "of a judge that reasons; a label-only one needs less")
    sections = (
        _existing(inputs, longest),
        Section("benchmarks", "What the judge is measured on.", {"max_tokens": reply}, (sets,)),
        *generation(inputs, [inputs.judge]),
    )
    return Draft("benchmark", inputs.name, _title(inputs, f"{inputs.judge.short} on one's own pairs"), sections, [])


def _context_of_judge(inputs: Inputs, found: Lengths) -> Value:
    """The context of an existing judge: prompts, and a reply that may be a rationale."""
    reply = 64 if is_tiny(inputs) else 1024
    return context(round(found.prompt * 1.1), reply, [inputs.judge])
