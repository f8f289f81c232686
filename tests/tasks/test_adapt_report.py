"""The report of an adaptation: the learning curve, what was forgotten, and the card of the judge that is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Artifact, Counts, Outcome
from tasks.adapt import Adapted
from tasks.export import export
from tasks.model.chat import ChatEncoder
from tasks.report.adaptation import outcome, summary, write_adapted
from tasks.run.stage import Run
from tests.conftest import run_with

LABEL = {"judge_prompt": "compact-label"}


def measured(run: Run, place: str, accuracy: float | None, kind: str = "benchmark", low_high: Any = None) -> Artifact:
    """A benchmark as the report reads it."""

    def body(context: Any) -> Outcome:
        return Outcome(Counts(50, 50), {"accuracy": accuracy, "interval": low_high})

    return run.find_or_make(f"{place}/{kind}", kind, {}, {}, body)


def curve(run: Run, before: float = 0.5) -> list[Adapted]:
    """The judge before, on 1,000 pairs, and on 2,000 without early stopping; one general set cannot be scored."""

    def trained(size: int, **metrics: Any) -> Artifact:
        def body(context: Any) -> Outcome:
            write_jsonl(context.work / "checkpoint/model.safetensors", [{"size": size}])
            return Outcome(Counts(size, size), {"steps": 40, "tokens": 5000, "epochs": 2.5, **metrics})

        return run.find_or_make(f"size-{size}/judge", "train-judge", {"seed": 1}, {}, body)

    general = {"before": (0.8, 0.6, None), "size-2000": (0.755, 0.65, 0.7)}
    sets = {
        place: tuple(
            measured(run, place, score, f"benchmark-{name}") for name, score in zip("xyz", scores, strict=True)
        )
        for place, scores in general.items()
    }
    return [
        Adapted(0, None, measured(run, "before", before), sets["before"]),
        Adapted(
            1000,
            trained(1000, best_step=20, validation_loss=0.41237),
            measured(run, "size-1000", 0.625, low_high=[0.5, 0.75]),
        ),
        Adapted(2000, trained(2000), measured(run, "size-2000", 0.61), sets["size-2000"]),
    ]


def test_what_the_report_says(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "")
    made = curve(run)
    learning, general = summary(run, made).tables
    rows = [dict(row) for row in learning.rows]
    assert all(row.pop("time").endswith(" s") for row in rows[1:])
    names = ("pairs", "held-out accuracy", "95% interval", "steps", "best step", "validation loss", "tokens trained")
    assert rows == [
        {**dict(zip(names, ("before", "50.0%", "–", "–", "–", "–", "–"), strict=True)), "time": "–"},
        dict(zip(names, ("1,000", "62.5%", "50.0% – 75.0%", "40", "20", "0.4124", "12,500"), strict=True)),
        dict(zip(names, ("2,000", "61.0%", "–", "40", "–", "–", "12,500"), strict=True)),
    ]
    assert [list(row.values()) for row in general.rows] == [
        ["x", "80.0%", "75.5%", "-4.5"],
        ["y", "60.0%", "65.0%", "+5.0"],
        ["z", "–", "70.0%", "–"],
    ]
    assert list(general.rows[0]) == ["set", "before", "after 2,000 pairs", "change (points)"]
    page = write_adapted(run, made)
    assert page == run.store.path / "report.html"
    assert ">x</td>" in page.read_text()
    assert "| x | 80.0% | 75.5% | -4.5 |" in page.with_suffix(".md").read_text()


def test_examples_that_are_dropped_are_not_learned_from(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "")
    counts = Counts(2000, 700, {"too_long": 1300})
    facts = {"steps": 4, "tokens": 5000, "epochs": 1}
    judge = run.find_or_make("size-1000/judge", "train-judge", {}, {}, lambda context: Outcome(counts, facts))
    made = [Adapted(0, None, measured(run, "before", 0.5)), Adapted(1000, judge, measured(run, "size-1000", 0.6))]
    shown = [(row["pairs"], row["examples learned from"]) for row in summary(run, made).tables[0].rows]
    assert shown == [("before", "–"), ("1,000", "700 of 2,000")]


def test_without_general_sets_nothing_is_said_of_them(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "")
    before = Adapted(0, None, measured(run, "before", 0.5))
    assert [table.title for table in summary(run, [before]).tables] == ["Learning curve"]


def test_the_card_says_that_the_judge_was_adapted(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(
        tmp_path, encoder, lambda request, j: "", models=LABEL, training={"label_loss": "labels"}, rounds={"count": 0}
    )
    judges = [(one.size, one.trained, one.heldout) for one in curve(run) if one.trained]
    before = measured(run, "before", 0.5)
    card = export(run, judges, before=before).file("README.md").read_text()
    assert "It was adapted to a task: a judge was trained on labeled pairs of it." in card
    assert "This is the judge of 1000 pairs of the task, the best of 2 on the held-out pairs." in card
    assert "| pairs of the task | accuracy on held-out pairs |" in card
    assert "| before | 50.0% | – | – | – | – |\n| 1000 (this model) | 62.5% |" in card
    assert "no better" not in card
    assert "self-training" not in card
    assert "It was made after GRAM" not in card


def test_it_says_which_size_is_exported_and_what_chose_it(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "", models=LABEL)
    made = curve(run)
    chosen = "the best of 2 sizes (chosen on the held-out pairs, so slightly optimistic)"
    assert outcome(made) == f"50.0% before and 62.5% with 1,000 pairs, {chosen}"
    assert outcome(made[:2]) == "50.0% before and 62.5% with 1,000 pairs"
    assert "final/" not in summary(run, made).markdown(with_charts=False)  # a discriminative model is not exported
    judges = [(one.size, one.trained, one.heldout) for one in made if one.trained]
    final = export(run, judges, before=made[0].heldout)
    assert final.manifest.metrics["chosen_round"] == 1000
    page = summary(run, made)
    assert not page.warnings
    learning, general = page.tables
    assert learning.notes[-1] == f"The judge with 1,000 pairs is in final/, {chosen}."
    assert general.notes[0].endswith("The judge in final/, with 1,000 pairs, did not play them.")


@pytest.mark.parametrize("before", [0.625, 0.9])
def test_an_adaptation_that_helps_nothing_is_called_so(tmp_path: Path, encoder: ChatEncoder, before: float) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "", models=LABEL)
    made = curve(run, before)
    assert outcome(made).startswith(f"no adapted judge is better: {before:.1%} before and 62.5% with 1,000 pairs, ")
    (said,) = summary(run, made).warnings
    assert said.startswith(f"No adapted judge is better on the held-out pairs than the one before: {before:.1%} before")
    judges = [(one.size, one.trained, one.heldout) for one in made if one.trained]
    card = export(run, judges, before=made[0].heldout).file("README.md").read_text()
    assert "took no part in the choice. On the held-out pairs, it is no better than the judge that was adapted." in card
