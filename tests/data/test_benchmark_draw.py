"""Drawing some of a benchmark's items: every part is represented, in its share, and the seed decides which."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.benchmarks import reward_bench, rm_bench
from data.benchmarks.draw import draw
from data.benchmarks.items import AB_ORDERS, Benchmark, Cell, Item
from data.records import Message
from data.sources.rows import SourceError
from tests.support.scoring_rows import reward_bench_2_row, rm_bench_row, write_rows


def of_sizes(**sizes: int) -> Benchmark:
    items = [
        Item(f"{group}{i}", group, (Message("user", f"{group} {i}?"),), ("x", "y"), (True, False), (Cell("", 0, 1),))
        for group, size in sizes.items()
        for i in range(size)
    ]
    return Benchmark("preferences", AB_ORDERS, tuple(sizes), tuple(items), dropped={"tie": 2})


def sizes_of(benchmark: Benchmark) -> dict[str, int]:
    return dict(Counter(item.group for item in benchmark.items))


@pytest.mark.parametrize(
    ("limit", "drawn"),
    [
        (100, {"large": 90, "middle": 9, "small": 1}),  # one in ten of each
        (10, {"large": 8, "middle": 1, "small": 1}),  # the small ones keep one
        (3, {"large": 1, "middle": 1, "small": 1}),
        (999, {"large": 899, "middle": 90, "small": 10}),
    ],
)
def test_every_part_keeps_its_share_and_at_least_one(limit: int, drawn: dict[str, int]) -> None:
    made = draw(of_sizes(large=900, middle=90, small=10), limit, seed=0)
    assert sizes_of(made) == drawn
    assert made.drawn_from == {"large": 900, "middle": 90, "small": 10}
    assert made.dropped == {"tie": 2, "over_limit": 1000 - limit}
    ids = [item.id for item in made.items]
    whole = [item.id for item in of_sizes(large=900, middle=90, small=10).items]
    assert ids == [identity for identity in whole if identity in set(ids)], "in published order"


def test_a_limit_that_is_not_reached_draws_nothing() -> None:
    whole = of_sizes(a=3, b=2)
    assert draw(whole, 5, seed=0) is whole
    assert whole.drawn_from == {}


def test_a_limit_below_the_number_of_parts_is_refused() -> None:
    with pytest.raises(
        SourceError, match=r"a limit of 2 leaves some .* at least 3 are needed.*one for each of a, b, c"
    ):
        draw(of_sizes(a=5, b=5, c=5), 2, seed=0)


def test_the_seed_decides_and_a_larger_limit_adds() -> None:
    whole = of_sizes(a=60, b=40)
    small, again, larger, other = (
        {item.id for item in draw(whole, limit, seed).items} for limit, seed in ((20, 1), (20, 1), (50, 1), (20, 2))
    )
    assert small == again
    assert small < larger
    assert small != other


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_limits_are_kept_and_draws_are_nested(sizes: list[int], seed: int) -> None:
    whole = of_sizes(**{f"g{i}": size for i, size in enumerate(sizes)})
    earlier: set[str] = set()
    for limit in range(len(sizes), sum(sizes) + 1):
        drawn = {item.id for item in draw(whole, limit, seed).items}
        assert len(drawn) == limit
        assert earlier <= drawn
        assert set(sizes_of(draw(whole, limit, seed))) == set(whole.groups)
        earlier = drawn


def test_rm_benchs_two_safety_parts_are_both_drawn(tmp_path: Path) -> None:
    for part, size in (("chat", 4), ("math", 4), ("code", 4), ("safety-refuse", 11), ("safety-response", 1)):
        write_rows(tmp_path / f"{part}_filtered.json", [rm_bench_row(n) for n in range(size)])
    made = draw(rm_bench.load(str(tmp_path)), 6, seed=0)
    assert Counter(item.id.split("/")[0] for item in made.items) == {
        "chat": 1, "math": 1, "code": 1, "safety-refuse": 2, "safety-response": 1,
    }  # fmt: skip
    assert made.drawn_from == {"chat": 4, "math": 4, "code": 4, "safety": 12}


def test_a_tied_prompt_and_its_reference_stay_together(tmp_path: Path) -> None:
    rows = [reward_bench_2_row(str(n), subset) for subset in reward_bench.SUBSETS_2[:-1] for n in range(8)]
    rows += [reward_bench_2_row(f"{kind}:{n}", "Ties", *sizes) for n in range(8) for kind, sizes in TIES]
    whole = reward_bench.load_2(write_rows(tmp_path / "test.jsonl", rows))
    for limit in (7, 20, 33):
        made = draw(whole, limit, seed=3)
        kinds: dict[str, set[str]] = {}
        for item in made.items:
            if item.group == "Ties":
                kind, number = item.id.removeprefix("Ties/").split(":")
                kinds.setdefault(number, set()).add(kind)
        assert kinds
        assert all(found == {"ref", "tied"} for found in kinds.values())
        assert len(made.items) in (limit, limit - 1)
    with pytest.raises(SourceError, match="at least 7 are needed"):
        draw(whole, 6, seed=3)


TIES = (("ref", (1, 3)), ("tied", (3, 2)))
