"""Adapting a judge: which pairs it learns from and in which order, what its report says, and one whole learning curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.records import RationalePair, pair_key, parse_pair, parse_preference
from data.sources.rows import DataError
from data.store.artifacts import Artifact
from data.world import taste
from prompts.prove import PROVE_COMPACT
from tasks.adapt import VALIDATION, task_examples, train_file
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.location import Checkpoint
from tasks.model.scalar import SCALAR
from tests.conftest import artifact, make, rows_of, run_with, shown_pair
from tests.support.adapting import pairs, task

Row = Mapping[str, Any]


LABEL = {"judge_prompt": "compact-label"}


def examples_of(
    folder: Path, encoder: ChatEncoder, rows: Sequence[Row], prompt: str = "compact-label", **changes: Any
) -> Artifact:
    """The stage "task" over these rows, for a judge that is asked by this prompt."""
    models = LABEL if prompt in ("compact-label", SCALAR) else {"judge_prompt": prompt}
    run = run_with(folder, encoder, lambda request, j: "", models=models)
    data = artifact(run, "data", {"labeled.jsonl": rows, "rationale.jsonl": rows})
    return task_examples(run, data, task(**changes), prompt)


def learned(made: Artifact, size: int) -> list[dict[str, Any]]:
    return rows_of(made.file(train_file(size)))


def pairs_in(rows: Iterable[Row]) -> list[str]:
    """The pairs of these examples, each once, in order."""
    return list(dict.fromkeys(row["origin"]["pair"] for row in rows))


# ---- which pairs ------------------------------------------------------------------------------------------------------


def test_sizes_are_exact_and_smaller_ones_begin_larger_ones(tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = pairs(20)
    made = examples_of(tmp_path, encoder, rows)
    three, six, nine = (pairs_in(learned(made, size)) for size in (3, 6, 9))
    assert (len(three), len(six), len(nine)) == (3, 6, 9)
    assert (nine[:3], nine[:6]) == (three, six)
    assert nine != [row["id"] for row in rows if row["id"] in nine], "they are drawn, not the first ones of the file"
    alone = examples_of(tmp_path / "alone", encoder, rows, sizes=[3])
    assert pairs_in(learned(alone, 3)) == three, "whatever else is asked for"
    kept = pairs_in(rows_of(made.file(VALIDATION)))
    counts = made.manifest.counts
    assert not set(kept) & set(nine)
    assert 0 < len(kept) == made.manifest.metrics["validation_pairs"] < 11
    assert (counts.rows_in, counts.kept) == (20, 9 + len(kept))
    assert counts.dropped == {"not_needed": 20 - 9 - len(kept)}


def test_nothing_is_said_to_be_left_where_all_of_it_is_needed(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = examples_of(tmp_path, encoder, pairs(5), sizes=[2, 5], validation_share=0)
    assert (made.manifest.counts.rows_in, made.manifest.counts.kept, made.manifest.counts.dropped) == (5, 5, {})
    assert made.manifest.metrics == {"validation_pairs": 0}
    assert rows_of(made.file(VALIDATION)) == []


def test_rows_of_one_prompt_stay_together(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Ten questions with three pairs each: no question is both learned from and looked at."""
    rows = [
        {**make(f"{q}-{i}", f"Question {q}?", f"a{i}", f"b{i}").to_json(), "label": "A"}
        for q in range(10)
        for i in range(3)
    ]
    made = examples_of(tmp_path, encoder, rows, overlap="prompt", sizes=[5])
    kept, taught = (
        {name.partition("-")[0] for name in pairs_in(found)}
        for found in (rows_of(made.file(VALIDATION)), learned(made, 5))
    )
    assert kept
    assert not kept & taught
    assert made.manifest.metrics["validation_pairs"] == 3 * len(kept)


def test_a_pair_that_is_there_in_both_orders_is_on_one_side(tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = pairs(20)
    swapped = [{**parse_preference(row).swapped().to_json(), "id": f"{row['id']}-again"} for row in rows]
    made = examples_of(tmp_path, encoder, [*rows, *swapped])
    kept, taught = (
        {pair_key(parse_pair(row)) for row in found} for found in (rows_of(made.file(VALIDATION)), learned(made, 9))
    )
    assert kept
    assert not kept & taught


def test_more_pairs_leave_those_there_were_in_their_order(tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = pairs(40)
    few = pairs_in(learned(examples_of(tmp_path / "few", encoder, rows[:16], sizes=[9]), 9))
    more = examples_of(tmp_path / "more", encoder, rows[::-1], sizes=[20])
    taught = pairs_in(learned(more, 20))
    both = [name for name in taught if name in few]
    assert len(both) > 3
    assert both == [name for name in few if name in both]
    assert not set(few) & set(pairs_in(rows_of(more.file(VALIDATION)))), "what was learned from stays out of validation"


def test_too_few_pairs_are_said_with_their_numbers(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(DataError) as caught:
        examples_of(tmp_path, encoder, pairs(7), sizes=[2, 3, 50])
    said = str(caught.value)
    kept = 7 - int(said.split("but ")[1].split()[0])
    assert 0 < kept < 5
    assert said == (
        f"task.sizes: 50 pairs are requested, but {7 - kept} are available for training: 7 in labeled.jsonl, {kept} of them "
        "kept for validation. Give more pairs, or sizes such as [2, 3]"
    )


def test_an_empty_validation_part_is_refused(tmp_path: Path, encoder: ChatEncoder) -> None:
    with pytest.raises(DataError, match=r"task\.validation_share = 0\.001 keeps none of 12 pairs"):
        examples_of(tmp_path, encoder, pairs(12), sizes=[3], validation_share=0.001)


# ---- what is learned of a pair ------------------------------------------------------------------------------------------


def test_a_label_is_learned_in_both_orders(tmp_path: Path, encoder: ChatEncoder) -> None:
    [first, second] = learned(examples_of(tmp_path, encoder, pairs(1), sizes=[1], validation_share=0), 1)
    [row] = pairs(1)
    assert (first["response_a"], first["response_b"]) == (row["response_a"], row["response_b"])
    assert (second["response_a"], second["response_b"]) == (row["response_b"], row["response_a"])
    assert first["label"] == row["label"] != second["label"]
    assert [one["id"] for one in (first, second)] == [f"{row['id']}:ab", f"{row['id']}:ba"]
    assert (first["rationale"], second["rationale"]) == ("", "")
    assert second["origin"] == {"pair": row["id"], "order": "ba", "source": "taste"}


def test_a_discriminative_model_needs_one_order(tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = pairs(4)
    made = learned(examples_of(tmp_path, encoder, rows, SCALAR, sizes=[4], validation_share=0), 4)
    assert sorted(one["id"] for one in made) == sorted(f"{row['id']}:ab" for row in rows)


def test_a_rationale_that_a_person_wrote_stays_in_its_order(tmp_path: Path, encoder: ChatEncoder) -> None:
    """It names the responses by their place."""
    rows = [RationalePair(p.pair, p.label, taste.rationale(p.pair)).to_json() for p in taste.draw_pairs(6, 31)]
    made = learned(examples_of(tmp_path, encoder, rows, "compact", sizes=[6], validation_share=0), 6)
    told = {row["id"]: row for row in rows}
    assert len(made) == 6
    for one in made:
        row = told[one["origin"]["pair"]]
        assert {key: one[key] for key in ("response_a", "response_b", "label", "rationale")} == {
            key: row[key] for key in ("response_a", "response_b", "label", "rationale")
        }


def test_proofs_are_learned_in_the_orders_in_which_they_are_valid(tmp_path: Path, encoder: ChatEncoder) -> None:
    """The prover fails at one order of the first pair, and at both of the second."""
    rows = pairs(5)
    first, second = (parse_pair(row) for row in rows[:2])

    def reply(request: Request, j: int) -> str:
        shown = shown_pair(encoder, request)
        bad = (shown.response_a == first.response_b) or second.response_a in (shown.response_a, shown.response_b)
        return "no" if bad else PROVE_COMPACT.to_proof(taste.rationale(shown))

    run = run_with(tmp_path, encoder, reply, proofs={"k": 1, "both_orders": False})
    data = artifact(run, "data", {"labeled.jsonl": rows})
    made = task_examples(run, data, task(sizes=[4], validation_share=0), "compact", Checkpoint("prover", "none"))
    assert made.manifest.counts.rows_in == 4, "the pair without a proof is dropped by the stage that selects"
    found = {one["id"]: one for one in learned(made, 4)}
    wanted = {f"{row['id']}:{order}" for row in (rows[0], *rows[2:]) for order in ("ab", "ba")} - {f"{first.id}:ba"}
    assert found.keys() == wanted
    for one in found.values():
        assert one["rationale"] == taste.rationale(parse_pair(one)), (
            "the proof is that of the order in which it is shown"
        )
        assert one["label"] == taste.verdict(parse_pair(one))
