"""The final judge: the best round's checkpoint with its prompt and a model card, as one Hugging Face folder.

Everything in the card comes from the stage's settings, so the same settings give the same bytes. The store's
``manifest.json`` is in the same folder; loaders ignore it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import link_tree, write_json, write_text
from data.store.artifacts import Artifact, Counts, Outcome, StageError
from prompts.judge import JudgePrompt
from tasks.model.device import resolved_dtype
from tasks.model.location import local_folder
from tasks.page.rendering import TEMPLATES, template
from tasks.run.checked import checked
from tasks.run.rounds import is_rolled_back, round_table
from tasks.run.stage import Context, Run

Candidate = tuple[int, Artifact, Artifact]
"""A round, its judge, and that judge's benchmark."""

_FIELDS = {
    "user_input": "question",
    "input": "question",
    "response_1": "response_a",
    "response_2": "response_b",
    "response_a": "response_a",
    "response_b": "response_b",
}
"""A field of a prompt template → what fills it: the user's question or one of the two responses."""


def export(
    run: Run,
    judges: Sequence[Candidate],
    facts: Mapping[str, Any] | None = None,
    before: Artifact | None = None,
) -> Artifact:
    """The stage "export": the judge with the highest held-out accuracy (the earlier one if tied) of the rounds
    that were not rolled back, ready to load.

    `facts` (JSON values) are also listed in the model card. `before` is the same benchmark of the judge that was adapted, if
    that is how these were obtained: then a round is a number of pairs. Raises StageError if there is no judge.
    """
    if not judges:
        raise StageError("there is no judge to export: give at least the first judge and its benchmark")
    passed = [candidate for candidate in judges if not is_rolled_back(run, candidate[0])]
    chosen = max(passed, key=lambda candidate: (_accuracy(candidate), -candidate[0]))
    prompt = run.settings.judge_prompt
    config: dict[str, Any] = {
        "chosen_round": chosen[0],
        "prompt": prompt_facts(prompt),
        "card": {**card_facts(run, judges, chosen, facts or {}), **_method(run, chosen, before)},
        "card_template_sha256": hashlib.sha256((TEMPLATES / "model-card.md.jinja").read_bytes()).hexdigest(),
    }
    inputs = {f"judge-{round}": judge for round, judge, _ in judges}

    def body(context: Context) -> Outcome:
        # Remove the links of an earlier attempt: an existing link cannot be overwritten.
        shutil.rmtree(context.work)
        context.work.mkdir(parents=True)
        # Weights are linked; the other files are small and copied, since users may edit them here.
        link_tree(Path(context.model(f"judge-{chosen[0]}")), context.work, linked="*.safetensors")
        write_text(context.work / "prompt.txt", prompt.template.text)
        write_json(context.work / "prompt.json", {**config["prompt"], **use_facts(run)})
        write_text(context.work / "README.md", render_card(config))
        worse = {"not_best": len(judges) - 1} if len(judges) > 1 else {}
        metrics = {"chosen_round": chosen[0], "accuracy": _accuracy(chosen)}
        return Outcome(Counts(len(judges), 1, worse), metrics)

    return run.find_or_make("final", "export", config, inputs, body)


def _method(run: Run, chosen: Candidate, before: Artifact | None) -> dict[str, Any]:
    """What the card calls the method, and the judge that was adapted: GRAM is self-training without rounds, with labels alone."""
    if before is not None:
        metrics = before.manifest.metrics
        known = {"accuracy": metrics["accuracy"], "interval": metrics.get("interval")}
        return {"method": "adaptation", "before": {**known, "beaten": _accuracy(chosen) > metrics["accuracy"]}}
    labels = not run.settings.judge_prompt.has_rationale and run.settings.training.label_loss == "labels"
    return {"method": "gram" if labels and not run.settings.rounds.count else "self-training"}


def _accuracy(candidate: Candidate) -> float:
    return float(candidate[2].manifest.metrics["accuracy"])


def prompt_facts(prompt: JudgePrompt) -> dict[str, Any]:
    """``prompt.json``: which prompt the judge was trained with, how it is filled, and what the reply looks like."""
    text = prompt.template.text
    return {
        "name": prompt.name,
        "sha256": prompt.template.sha256,
        "fields": {field: filled for field, filled in _FIELDS.items() if f"{{{field}}}" in text},
        "reply": {
            "shape": prompt.shape,
            "has_rationale": prompt.has_rationale,
            "example": prompt.target("{rationale}", "A"),
        },
    }


def use_facts(run: Run) -> dict[str, Any]:
    """The rest of ``prompt.json``: how the judge was trained, and is opened. The keys of its stages already contain these."""
    models = run.settings.models
    return {
        "context": models.max_tokens,
        "reply_tokens": run.settings.labels.max_tokens,
        "dtype": resolved_dtype(models.dtype),
    }


def card_facts(run: Run, judges: Sequence[Candidate], chosen: Candidate, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All facts in the model card. No times and no paths: they would differ between two runs of one recipe."""
    models = run.settings.models
    rows = round_table(run)
    table, rounds = {row["round"]: row for row in rows}, []
    for round, _, benchmark in judges:
        row = table.get(round, {})
        accuracy = float(benchmark.manifest.metrics["accuracy"])
        known = {key: row.get(key) for key in ("labels_kept", "labels_of", "kept_right", "examples", "examples_of")}
        name = row.get("name", str(round))
        rounds.append(
            {
                "round": round,
                "name": name,
                "accuracy": accuracy,
                "interval": benchmark.manifest.metrics.get("interval"),
                **known,
            }
        )
    data = next((a.manifest for a in run.finished if a.manifest.kind == "data"), None)
    one_order = (
        {"Orders learned": "one of each pair's two, drawn at random"} if run.settings.proofs.orders == "one" else {}
    )
    trained, play = chosen[1].manifest, run.settings.benchmarks
    # Only where they are not greedy, so that a card made before remains the same.
    sampled = {"votes": play.votes, "temperature": play.temperature} if play.temperature else {}
    return {
        "run": run.store.run_name,
        "chosen_name": next(r["name"] for r in rounds if r["round"] == chosen[0]),
        "heldout_pairs": chosen[2].manifest.counts.rows_in,
        "rounds": rounds,
        "checked": checked(run, rows, chosen[0]),
        "judge_base": base_name(models.judge_base),
        "prover_base": base_name(models.prover_base),
        "sizes": dict(data.metrics.get("sizes", {})) if data else {},
        "training": {key: trained.config[key] for key in ("optimization", "seed") if key in trained.config},
        "writes_proofs": run.settings.writes_proofs(),
        "label_source": run.settings.labels.source,
        "pretrained": run.settings.training.pretraining is not None,
        "context": models.max_tokens,
        "reply_tokens": run.settings.labels.max_tokens,
        "software": dict(trained.software),
        "facts": {**facts, **one_order},
        **({"sampled": sampled} if sampled else {}),
    }


def base_name(model: str) -> dict[str, str]:
    """How a card names a base model: a hub name in full, a folder by its last component only."""
    folder = local_folder(model)
    is_path = folder.is_dir() or folder.is_absolute() or str(folder).count("/") > 1
    return {"folder": folder.resolve().name} if is_path else {"hub": str(folder)}


def render_card(config: Mapping[str, Any]) -> str:
    """The model card: YAML front matter and Markdown."""
    return template("model-card.md.jinja").render(config)
