"""Mixtures of sources: caps, weights and seeds. What is not taken is counted, and no draw depends on another source's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data.files import write_jsonl
from data.sources.mixture import Take, takes
from data.sources.rows import DataError
from data.sources.sources import Source
from data.store.artifacts import Artifact
from tasks.model.chat import ChatEncoder
from tasks.prepare import prepare
from tasks.settings import DataSettings
from tests.conftest import rows_of, run_with

Rows = Sequence[Mapping[str, Any]]


def rows(name: str, n: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}-{i}",
            "prompt": f"{name} {i}?",
            "response_a": f"yes {i}",
            "response_b": f"no {i}",
            "label": "A",
            "source": name,
            "rationale": "So A is better.",
        }
        for i in range(n)
    ]


class Mix:
    """Runs the stage on labeled (or other) sources with these rows and settings."""

    def __init__(self, folder: Path, encoder: ChatEncoder) -> None:
        self.folder, self.encoder, self.n = folder, encoder, count()
        for kind, size in (("rationale", 3), ("heldout", 4), ("unlabeled", 8), ("labeled", 3)):
            write_jsonl(folder / f"{kind}.jsonl", rows(f"own {kind}", size))

    def __call__(
        self,
        given: Mapping[str, Rows],
        settings: Mapping[str, Mapping[str, Any]],
        kind: str = "labeled",
        seed: int = 0,
        **data: Any,
    ) -> Artifact:
        sources: dict[str, Any] = {
            other: [{"path": str(self.folder / f"{other}.jsonl")}]
            for other in ("rationale", "heldout", "unlabeled", "labeled")
        }
        sources[kind] = []
        for name, own in given.items():
            write_jsonl(self.folder / f"{name}.jsonl", own)
            sources[kind].append({"path": str(self.folder / f"{name}.jsonl"), **settings.get(name, {})})
        run = run_with(
            self.folder / f"run-{next(self.n)}",
            self.encoder,
            lambda r, j: "",
            data={**sources, **data},
            rounds={"count": 1, "pairs": 6},
        )
        run.seed = seed
        return prepare(run)


@pytest.fixture
def mix(tmp_path: Path, encoder: ChatEncoder) -> Mix:
    return Mix(tmp_path, encoder)


def by_source(data: Artifact, file: str = "labeled.jsonl") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows_of(data.file(file)):
        found.setdefault(row["source"], []).append(row["id"])
    return found


def reconciled(data: Artifact) -> dict[str, int]:
    """What was dropped, by reason, after a look at the sums: of the manifest, and of the list of dropped rows."""
    counts = data.manifest.counts
    assert counts.rows_in == counts.kept + sum(counts.dropped.values())
    listed: Counter[str] = Counter()
    for row in rows_of(data.file("dropped.jsonl")):
        listed[row["reason"]] += row.get("rows", 1)
    assert listed == counts.dropped
    return {reason: n for reason, n in counts.dropped.items() if reason != "not_needed"}


# ---- caps ------------------------------------------------------------------------------------------------------------


def test_a_cap_keeps_so_many_usable_pairs_and_counts_the_others(mix: Mix) -> None:
    """Rows that cannot be used do not count against the cap, and neither do duplicates."""
    bad = [{**rows("a", 31)[30], "response_b": " "}, {**rows("a", 1)[0], "id": "again"}]
    data = mix({"a": [*bad, *rows("a", 30)], "b": rows("b", 5)}, {"a": {"cap": 10}, "b": {"cap": 10}})
    assert {name: len(ids) for name, ids in by_source(data).items()} == {"a": 10, "b": 5}
    assert reconciled(data) == {"empty_response": 1, "duplicate": 1, "over_cap": 20}
    assert data.manifest.metrics["mixtures"]["labeled"][0]["usable"] == 30
    assert not list(data.path.glob("*.tmp"))


def test_capped_pairs_are_drawn_from_the_whole_source_and_stay_in_its_order(mix: Mix) -> None:
    ids = by_source(mix({"a": rows("a", 200)}, {"a": {"cap": 50}}))["a"]
    places = [int(name.split("-")[1]) for name in ids]
    assert places == sorted(places)
    assert places[0] < 20
    assert places[-1] > 180


def test_the_draw_is_by_the_run_seed_and_the_sources_own(mix: Mix) -> None:
    def drawn(run: int, own: int) -> list[str]:
        return by_source(mix({"a": rows("a", 40)}, {"a": {"cap": 20, "seed": own}}, seed=run))["a"]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(run, own)) for run in (0, 1) for own in (0, 1)}) == 4


def test_a_seed_changes_its_own_sources_draw_only(mix: Mix) -> None:
    given = {"a": rows("a", 40), "b": rows("b", 40)}
    settings = {"a": {"cap": 20}, "b": {"cap": 20}}
    one = by_source(mix(given, settings))
    two = by_source(mix(given, {**settings, "a": {"cap": 20, "seed": 1}}))
    assert one["a"] != two["a"]
    assert one["b"] == two["b"]


def test_another_source_before_it_does_not_change_a_sources_draw(mix: Mix) -> None:
    settings = {"a": {"cap": 20}, "b": {"cap": 20}}
    alone = by_source(mix({"b": rows("b", 40)}, settings))
    both = by_source(mix({"a": rows("a", 40), "b": rows("b", 40)}, settings))
    assert alone["b"] == both["b"]


def test_a_cap_that_nothing_exceeds_changes_nothing(mix: Mix) -> None:
    given = {"a": rows("a", 12), "b": rows("b", 7)}
    plain, capped = mix(given, {}), mix(given, {"a": {"cap": 12}})
    assert plain.ref("labeled.jsonl").sha256 == capped.ref("labeled.jsonl").sha256


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_weights_make_the_largest_mixture_in_their_proportion(mix: Mix) -> None:
    given = {"a": rows("a", 30), "b": rows("b", 20), "c": rows("c", 9)}
    data = mix(given, {"a": {"weight": 3}, "b": {"weight": 2}, "c": {"weight": 1}})
    assert {name: len(ids) for name, ids in by_source(data).items()} == {"a": 27, "b": 18, "c": 9}
    assert reconciled(data) == {"over_weight": 5}


def test_a_cap_comes_before_the_weights(mix: Mix) -> None:
    data = mix({"a": rows("a", 30), "b": rows("b", 30)}, {"a": {"weight": 1, "cap": 10}, "b": {"weight": 0.5}})
    assert {name: len(ids) for name, ids in by_source(data).items()} == {"a": 10, "b": 5}
    assert reconciled(data) == {"over_cap": 20, "over_weight": 25}


positive = st.floats(0.01, 100, allow_nan=False)
parts = st.lists(st.tuples(st.integers(0, 500), st.none() | st.integers(1, 300), positive), min_size=1, max_size=5)


@given(parts)
def test_proportions_hold_to_a_pair_and_no_larger_mixture_has_them(given: list[tuple[int, int | None, float]]) -> None:
    sources = [Source(path="x", cap=cap, weight=weight) for _, cap, weight in given]
    taken = takes([n for n, _, _ in given], sources)
    for (n, cap, _), take in zip(given, taken, strict=True):
        assert take.found == n
        assert take.capped == min(n, cap or n)
        assert 0 <= take.kept <= take.capped
    assert any(take.kept == take.capped for take in taken)  # one of them gives all it has
    scales = [(take.kept / weight, (take.kept + 1) / weight) for (_, _, weight), take in zip(given, taken, strict=True)]
    assert max(low for low, _ in scales) <= min(high for _, high in scales) * (1 + 1e-9)


def test_decimal_weights_lose_no_pair() -> None:
    sources = [Source(path="a", weight=0.1), Source(path="b", weight=0.3)]
    assert takes([10, 30], sources) == [Take(10, 10, 10), Take(30, 30, 30)]


def test_weights_are_for_all_sources_of_a_kind_or_for_none() -> None:
    kinds = {kind: [{"path": f"{kind}.jsonl"}] for kind in ("rationale", "labeled", "unlabeled")}
    weighted = [{"path": "a.jsonl", "weight": 1}, {"path": "b.jsonl"}]
    with pytest.raises(
        ValidationError, match=r"unlabeled: b\.jsonl has no weight, but other sources do; give a weight to"
    ):
        DataSettings.model_validate({**kinds, "unlabeled": weighted})
    assert DataSettings.model_validate({**kinds, "labeled": weighted[:1]}).labeled[0].weight == 1


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"weight": -1}, {"weight": "inf"}, {"cap": 0}, {"seed": "x"}])
def test_numbers_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Source.model_validate({"path": "x", **wrong})


def test_a_weighted_source_without_usable_pairs_is_an_error_that_names_it(mix: Mix) -> None:
    empty = [{**row, "response_b": ""} for row in rows("b", 3)]
    with pytest.raises(DataError, match=r"b\.jsonl: no usable labeled pairs.*'empty_response': 3"):
        mix({"a": rows("a", 5), "b": empty}, {"a": {"weight": 1}, "b": {"weight": 1}})


# ---- duplicates, held-out pairs, every kind ---------------------------------------------------------------------------


def test_the_first_source_keeps_a_pair_that_two_have_whichever_is_drawn(mix: Mix) -> None:
    shared = rows("a", 20)
    again = [{**row, "id": f"b-of-{row['id']}", "source": "b"} for row in shared]
    data = mix({"a": shared, "b": [*again, *rows("b", 5)]}, {"a": {"cap": 4}})
    assert {name: len(ids) for name, ids in by_source(data).items()} == {"a": 4, "b": 5}
    assert reconciled(data) == {"duplicate": 20, "over_cap": 16}


def test_what_is_held_out_is_taken_out_before_the_draw(mix: Mix) -> None:
    held = rows("own heldout", 4)
    overlapping = [{**row, "id": f"x{i}", "response_a": "else"} for i, row in enumerate(held)]
    data = mix({"a": [*overlapping, *rows("a", 20)]}, {"a": {"cap": 20}})
    assert len(by_source(data)["a"]) == 20
    assert reconciled(data) == {"prompt_is_held_out": 4}


def test_the_share_that_is_held_out_is_split_off_before_the_draw(mix: Mix) -> None:
    given = {"a": rows("a", 100)}
    plain = mix(given, {}, heldout=[], heldout_share=0.3)
    capped = mix(given, {"a": {"cap": 20}}, heldout=[], heldout_share=0.3)
    assert by_source(plain, "heldout.jsonl") == by_source(capped, "heldout.jsonl")
    assert len(by_source(capped)["a"]) == 20
    assert set(by_source(capped)["a"]) <= set(by_source(plain)["a"])
    reconciled(capped)


@pytest.mark.parametrize(
    ("kind", "file"), [("rationale", "rationale.jsonl"), ("heldout", "heldout.jsonl"), ("unlabeled", "batch-1.jsonl")]
)
def test_every_kind_can_be_a_mixture(mix: Mix, kind: str, file: str) -> None:
    settings = {"a": {"weight": 1}, "b": {"weight": 2}}
    data = mix({"a": rows("a", 9), "b": rows("b", 4)}, settings, kind)
    assert reconciled(data) == {"over_weight": 7}
    assert sorted(map(len, by_source(data, file).values())) == [2, 4]


def test_pairs_that_a_cap_left_out_of_the_held_out_ones_may_be_trained_on(mix: Mix) -> None:
    held = rows("h", 10)
    data = mix({"h": held}, {"h": {"cap": 3}}, "heldout", labeled=[{"path": str(mix.folder / "h.jsonl")}])
    out = by_source(data, "heldout.jsonl")["h"]
    assert len(out) == 3
    assert set(by_source(data)["h"]) == {row["id"] for row in held} - set(out)
    assert reconciled(data) == {"over_cap": 7, "prompt_is_held_out": 3}


def test_the_truth_stays_beside_its_pair(mix: Mix) -> None:
    given = [{**row, "label": "A" if i % 3 else "B"} for i, row in enumerate(rows("a", 30))]
    data = mix({"a": given}, {"a": {"cap": 20}}, "unlabeled", unlabeled_truth=True)
    truth = {row["id"]: row["label"] for row in rows_of(data.file("truth.jsonl"))}
    better = {row["id"]: row["response_a"] if row["label"] == "A" else row["response_b"] for row in given}
    assert len(truth) == 20
    for row in rows_of(data.file("batch-1.jsonl")):
        assert row["response_a" if truth[row["id"]] == "A" else "response_b"] == better[row["id"]]
        assert "label" not in row


# ---- keys of stages ----------------------------------------------------------------------------------------------------


def test_a_source_without_the_new_keys_is_written_as_it_always_was() -> None:
    """What is in a stage's key: finished stages of older runs stay valid."""
    dumped = Source(path="rows.jsonl").model_dump(mode="json")
    assert not {"dataset", "cap", "weight", "seed"} & set(dumped)
    source = Source(dataset="multipref", cap=5, weight=0.5, seed=3)
    assert Source.model_validate(source.model_dump(mode="json")) == source


def test_cap_weight_and_seed_make_another_stage(mix: Mix) -> None:
    keys = {
        mix({"a": rows("a", 9)}, {"a": settings}).manifest.key
        for settings in ({}, {"cap": 9}, {"weight": 1}, {"weight": 2}, {"seed": 1})
    }
    assert len(keys) == 5
