"""Both orders of a pair in one batch: how examples are put in order, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data.files import write_jsonl
from tasks.settings import TrainingSettings
from tasks.training.job import TrainingJob
from tasks.training.sides import SideBySide, keep_orders_together, side_by_side
from tests.conftest import settings_with


def row(pair: str, order: str, **origin: Any) -> dict[str, Any]:
    return {"id": f"{pair}:{order}", "origin": {"pair": pair, "order": order, "round": 0, **origin}}


def order_of(folder: Path, rows: list[dict[str, Any]], dropped: Sequence[dict[str, Any]] = ()) -> SideBySide:
    write_jsonl(folder / "examples.jsonl", rows)
    write_jsonl(folder / "dropped.jsonl", dropped)
    return side_by_side(folder / "examples.jsonl", folder / "dropped.jsonl", seed=3)


def test_both_orders_are_in_one_batch_in_every_epoch() -> None:
    """Whatever the even batch size; every example is taken once."""
    twos = [(2 * i, 2 * i + 1) for i in range(20)]
    sampler = SideBySide(twos, [40, 41, 42], seed=1)
    orders = []
    for epoch in range(3):
        sampler.epoch = epoch
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(43))
        assert len(sampler) == 43
        for size in (2, 6, 8):
            batch_of = {place: i // size for i, place in enumerate(orders[-1])}
            assert all(batch_of[a] == batch_of[b] for a, b in twos)
    assert orders[0] != orders[1] != orders[2]
    again = SideBySide(twos, [40, 41, 42], seed=1, epoch=2)
    assert list(again) == orders[2], "it depends on seed and epoch alone"
    assert list(SideBySide(twos, [40, 41, 42], seed=2)) != orders[0]


def test_pairs_are_found_by_their_origin(tmp_path: Path) -> None:
    """A repetition or another round is another pair; a human rationale and a pair with one order stand alone."""
    human = {"id": "h:human", "origin": {"pair": "h", "order": "ab", "round": None, "proof": "human"}}
    rows = [
        row("x", "ab"), row("x", "ba"), human, row("y", "ba"), row("x", "ab", round=1), row("x", "ba", round=1),
        row("x", "ab", repeat=1), row("x", "ba", repeat=2), {"id": "without origin"},
    ]  # fmt: skip
    found = order_of(tmp_path, rows)
    assert (found.twos, found.ones) == ([(0, 1), (4, 5)], [2, 3, 6, 7, 8])


def test_positions_are_those_of_the_examples_that_fit(tmp_path: Path) -> None:
    rows = [row("x", "ab"), row("x", "ba"), row("y", "ab"), row("y", "ba"), row("z", "ab"), row("z", "ba")]
    long = [{**rows[1], "line": 2, "reason": "too_long"}, {**rows[3], "line": 4, "reason": "too_long"}]
    found = order_of(tmp_path, rows, long)
    assert (found.twos, found.ones) == ([(2, 3)], [0, 1])


def test_a_dropped_example_is_no_other_one_of_its_id(tmp_path: Path) -> None:
    """Labeled pairs and those with a rationale are numbered alike."""
    rows = [row(pair, order) for _ in ("labeled", "rationale") for pair in "xyz" for order in ("ab", "ba")]
    long = [{**rows[i], "line": i + 1, "reason": "too_long"} for i in (2, 3)]
    found = order_of(tmp_path, rows, long)
    assert (found.twos, found.ones) == ([(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)], [])


def test_examples_that_the_trainer_does_not_have_are_an_error(tmp_path: Path) -> None:
    order_of(tmp_path, [row("x", "ab"), row("x", "ba")])
    job = SimpleNamespace(examples=str(tmp_path / "examples.jsonl"), out=str(tmp_path), seed=3)
    with pytest.raises(ValueError, match=r"has 2 examples without those in dropped\.jsonl, but 3 are trained on"):
        keep_orders_together(SimpleNamespace(train_dataset=range(3)), cast(TrainingJob, job))


@pytest.mark.parametrize("proofs", [{"orders": "one"}, {"both_orders": False}])
def test_pairs_must_be_proved_in_both_orders(proofs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pair_orders needs pairs that are proved in both orders"):
        settings_with(training={"pair_orders": True}, proofs=proofs)
    settings_with(training={"pair_orders": False}, proofs=proofs)


def test_packing_would_part_them() -> None:
    with pytest.raises(ValueError, match="packing sorts examples by length"):
        TrainingSettings(packing=True, pair_orders=True)


def test_settings_that_are_left_out_leave_no_trace() -> None:
    """Keys of stages and files of older runs stay valid."""
    assert not {"trainable_layers", "pair_orders"} & TrainingSettings().model_dump(mode="json").keys()
    assert {"trainable_layers", "pair_orders"} <= TrainingSettings(
        trainable_layers=2, pair_orders=True
    ).mechanics().keys()
