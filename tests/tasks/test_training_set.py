"""Training sets: both orders of every pair, where each example comes from, and the share of the labeled ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data.records import PreferencePair, flip, pair_key, parse_rationale
from data.store.artifacts import Artifact, StageError
from data.world import taste
from prompts.judge import join_headings
from tasks.model.chat import ChatEncoder
from tasks.report.dropped import losses
from tasks.run.stage import Run
from tasks.training_set import human_examples, judge_examples
from tests.conftest import artifact, rows_of, run_with
from tests.support.written_run import put

PAIRS = taste.draw_pairs(60, 0)


def selected_row(preference: PreferencePair, orders: str = "ab ba", **facts: Any) -> dict[str, Any]:
    """A row of ``selected.jsonl``: each order has the proof of its own label."""
    proofs = {}
    for n, order in enumerate(orders.split()):
        label = preference.label if order == "ab" else flip(preference.label)
        proofs[order] = {"rationale": f"{order}. So {label} is better.", "candidate": n, "score": -0.1 * (n + 1)}
    return {**preference.to_json(), **facts, "proofs": proofs}


def mixture(run: Run, sizes: list[int], human: int = 0, orders: str = "ab ba") -> Artifact:
    """The training set of selected pairs: `sizes[0]` labeled ones, then those of each round."""
    selected, start = [], 0
    for i, n in enumerate(sizes):
        facts = {"votes": {"A": 8, "B": 0, "null": 0}, "confidence": 1.0} if i else {}
        rows = [selected_row(p, orders, **facts) for p in PAIRS[start : start + n]]
        selected.append(artifact(run, f"round-{i}/selected-{n}-of-{len(sizes)}", {"selected.jsonl": rows}))
        start += n
    told = [{**p.to_json(), "rationale": f"h. So {p.label} is better."} for p in PAIRS[-human:]] if human else []
    human_rows = artifact(run, f"data-{human}", {"rationale.jsonl": told})
    return judge_examples(run, len(sizes) - 1, selected, human_examples(run, human_rows))


def run_in(folder: Path, encoder: ChatEncoder, **training: Any) -> Run:
    return run_with(folder, encoder, lambda request, j: "", training=training)


def examples_of(made: Artifact) -> list[dict[str, Any]]:
    return rows_of(made.file("examples.jsonl"))


def test_every_pair_is_there_in_both_orders_each_with_its_own_label_and_proof(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    examples = examples_of(mixture(run_in(tmp_path, encoder), [5, 7]))
    assert len(examples) == 24
    for first, second, preference in zip(examples[::2], examples[1::2], PAIRS, strict=False):
        ab, ba = parse_rationale(first), parse_rationale(second)
        assert (ab.pair.id, ba.pair.id) == (f"{preference.pair.id}:ab", f"{preference.pair.id}:ba")
        assert (ab.pair.response_a, ab.pair.response_b) == (ba.pair.response_b, ba.pair.response_a)
        assert pair_key(ab.pair) == pair_key(ba.pair) == pair_key(preference.pair)
        for shown in (ab, ba):
            assert shown.label == taste.verdict(shown.pair)
            assert shown.rationale.endswith(f"So {shown.label} is better.")
        assert (ab.rationale[:2], ba.rationale[:2]) == ("ab", "ba")


def test_a_and_b_are_balanced_whatever_the_labels_are(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = mixture(run_in(tmp_path, encoder), [11, 4])
    assert made.manifest.metrics["label_balance"] == {"A": 15, "B": 15}
    assert Counter(example["label"] for example in examples_of(made)) == {"A": 15, "B": 15}


def test_every_example_says_where_it_comes_from(tmp_path: Path, encoder: ChatEncoder) -> None:
    examples = examples_of(mixture(run_in(tmp_path, encoder), [1, 1, 1]))
    assert [example["origin"] for example in examples[:4]] == [
        {
            "pair": PAIRS[i].pair.id,
            "order": order,
            "source": "taste",
            "round": i,
            "votes": {"A": 8, "B": 0, "null": 0} if i else None,
            "confidence": 1.0 if i else None,
            "proof": n,
            "score": score,
        }
        for i in (0, 1)
        for n, order, score in ((0, "ab", -0.1), (1, "ba", -0.2))
    ]
    assert [example["origin"]["round"] for example in examples] == [0, 0, 1, 1, 2, 2]


def test_an_order_without_a_proof_is_left_out(tmp_path: Path, encoder: ChatEncoder) -> None:
    examples = examples_of(mixture(run_in(tmp_path, encoder), [3], orders="ba"))
    assert [example["origin"]["order"] for example in examples] == ["ba"] * 3
    assert all(example["label"] == flip(p.label) for example, p in zip(examples, PAIRS, strict=False))


# ---- pairs that several rounds labeled ----------------------------------------------------------------------------------


def of_rounds(run: Run, *rounds: list[PreferencePair]) -> Artifact:
    """The training set of pairs selected in these rounds, the labeled ones first."""
    selected = [
        artifact(run, f"round-{i}/selected", {"selected.jsonl": [selected_row(p, confidence=i) for p in pairs]})
        for i, pairs in enumerate(rounds)
    ]
    return judge_examples(run, len(rounds) - 1, selected, None)


def other_label(preference: PreferencePair) -> PreferencePair:
    return PreferencePair(preference.pair, flip(preference.label))


def test_a_pair_is_learned_with_its_newest_label_and_with_the_newest_proofs(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    labeled, changed, same, once = PAIRS[0], PAIRS[1], PAIRS[2], PAIRS[3]
    made = of_rounds(
        run := run_in(tmp_path, encoder),
        [labeled],
        [changed, same],
        [once, other_label(changed), same.swapped()],
        # The same pair may come in the other order, and with another id.
        [other_label(changed).swapped()],
    )
    learned = [(e["origin"]["pair"], e["origin"]["round"], e["origin"]["confidence"]) for e in examples_of(made)[::2]]
    assert learned == [(labeled.pair.id, 0, 0), (once.pair.id, 2, 2), (same.pair.id, 2, 2), (changed.pair.id, 3, 3)]
    last, newest = parse_rationale(examples_of(made)[-2]), other_label(changed).swapped()
    assert (last.pair.response_a, last.label) == (newest.pair.response_a, newest.label)
    counts = made.manifest.counts
    assert (counts.rows_in, counts.kept) == (14, 8)
    assert counts.dropped == {"label_changed": 2, "labeled_again": 4}
    assert made.manifest.metrics["pseudo_labeled"] == 6
    assert [(loss.title, loss.of, loss.reasons) for loss in losses(run)] == [
        ("Training sets: examples", 14, {"label_changed": 2, "labeled_again": 4})
    ]
    dropped = [(r["origin"]["pair"], r["origin"]["round"], r["reason"]) for r in rows_of(made.file("dropped.jsonl"))]
    assert dropped[::2] == [
        (changed.pair.id, 1, "label_changed"),
        (same.pair.id, 1, "labeled_again"),
        (changed.pair.id, 2, "labeled_again"),
    ]


def test_an_example_names_the_round_of_its_pair_though_a_round_before_it_is_left_out(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    run = run_in(tmp_path, encoder)
    rounds = ((0, PAIRS[:1]), (1, PAIRS[1:2]), (3, PAIRS[2:3]))
    files = {i: {"selected.jsonl": [selected_row(p) for p in pairs]} for i, pairs in rounds}
    made = judge_examples(run, 3, [put(run, f"round-{i}/selected", "select", i, files[i]) for i in files], None)
    assert [example["origin"]["round"] for example in examples_of(made)[::2]] == [0, 1, 3]


def test_a_labeled_pair_stays_beside_a_pseudo_label_of_it(tmp_path: Path, encoder: ChatEncoder) -> None:
    """As in the stage "data", which drops copies and contradictions within a kind of pairs only."""
    made = of_rounds(run_in(tmp_path, encoder), [PAIRS[0]], [other_label(PAIRS[0])], [PAIRS[1]])
    assert [e["origin"]["round"] for e in examples_of(made)[::2]] == [0, 1, 2]
    assert set(made.manifest.files) == {"examples.jsonl"}


def test_a_set_without_repeated_pairs_is_as_it_was_before_they_were_looked_for(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    made = mixture(run_in(tmp_path, encoder), [2, 3, 2])
    assert (made.manifest.key[:16], made.manifest.files["examples.jsonl"]["sha256"][:16]) == (
        "26c3b274982a5257",
        "81e6a8a663fa88c7",
    )
    assert set(made.manifest.files) == {"examples.jsonl"}


# ---- the share of labeled examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "extra"), [(0.0, 0), (0.2, 0), (0.25, 2), (0.5, 22), (0.75, 82)])
def test_labeled_examples_are_repeated_until_they_are_their_share(
    tmp_path: Path, encoder: ChatEncoder, share: float, extra: int
) -> None:
    """4 labeled pairs and 15 pseudo-labeled ones: 8 and 30 examples."""
    made = mixture(run_in(tmp_path, encoder, labeled_share=share), [4, 10, 5])
    examples = examples_of(made)
    metrics = made.manifest.metrics
    assert (metrics["labeled"], metrics["pseudo_labeled"], metrics["repeated"]) == (8, 30, extra)
    assert made.manifest.counts.kept == len(examples) == 38 + extra
    labeled = [example for example in examples if example["origin"]["round"] == 0]
    assert len(labeled) == 8 + extra
    # Even: no example is there two times more than another; every pseudo-labeled one once.
    times = Counter(example["id"] for example in labeled)
    assert len(times) == 8
    assert max(times.values()) - min(times.values()) <= 1
    assert set(Counter(e["id"] for e in examples if e["origin"]["round"] != 0).values()) == {1}
    if share > 8 / 38:
        assert abs(len(labeled) / len(examples) - share) < 0.5 / len(examples) + 1e-9


def test_a_repeated_example_says_so_and_is_otherwise_the_same(tmp_path: Path, encoder: ChatEncoder) -> None:
    examples = examples_of(mixture(run_in(tmp_path, encoder, labeled_share=0.75), [4, 10, 5]))
    first = {example["id"]: example for example in examples[:8]}
    again = [example for example in examples if "repeat" in example["origin"]]
    assert [example["origin"]["repeat"] for example in again] == [1 + i // 8 for i in range(82)]
    for example in again:
        origin = {key: value for key, value in example["origin"].items() if key != "repeat"}
        assert {**example, "origin": origin} == first[example["id"]]


def test_the_least_share_is_reached_and_not_almost_reached(tmp_path: Path, encoder: ChatEncoder) -> None:
    examples = examples_of(mixture(run_in(tmp_path, encoder, labeled_share=0.3), [1, 5]))
    labeled = sum(example["origin"]["round"] == 0 for example in examples)
    assert labeled / len(examples) >= 0.3


def test_without_pseudo_labels_nothing_is_repeated(tmp_path: Path, encoder: ChatEncoder) -> None:
    assert len(examples_of(mixture(run_in(tmp_path, encoder, labeled_share=0.9), [4]))) == 8


# ---- human rationales ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [False, True])
def test_human_rationales_are_added_only_where_asked_for(tmp_path: Path, encoder: ChatEncoder, wanted: bool) -> None:
    made = mixture(run_in(tmp_path, encoder, human_rationales=wanted), [4, 3], human=5)
    human = [example for example in examples_of(made) if example["origin"]["proof"] == "human"]
    assert len(human) == (5 if wanted else 0)
    assert made.manifest.metrics["labeled"] == 8 + len(human)
    assert made.manifest.metrics["origins"] == {"round-0": 8, **({"human": 5} if wanted else {}), "round-1": 6}
    assert len(examples_of(made)) == 14 + len(human)


def test_human_rationales_in_a_shape_that_the_judge_may_not_have_are_dropped(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    good, bad = PAIRS[0], flip(PAIRS[0].label)
    told = [
        {**good.to_json(), "rationale": join_headings("f", "c", f"Response {good.label} is better.")},
        {**good.to_json(), "id": "2", "rationale": join_headings("f", "c", f"Response {bad} is better.")},
        {**good.to_json(), "id": "3", "rationale": f"So {good.label} is better."},
    ]
    run = run_with(tmp_path, encoder, lambda request, j: "", models={"judge_prompt": "gram-r2"})
    made = human_examples(run, artifact(run, "data", {"rationale.jsonl": told}))
    counts = made.manifest.counts
    assert (counts.rows_in, counts.kept) == (3, 1)
    assert counts.dropped == {"concludes_for_other": 1, "missing_headings": 1}
    [example] = examples_of(made)
    assert (example["id"], example["label"], example["rationale"]) == (
        f"{good.pair.id}:human",
        good.label,
        told[0]["rationale"],
    )
    assert example["origin"] == {
        "pair": good.pair.id,
        "order": "ab",
        "source": "taste",
        "round": None,
        "proof": "human",
    }
    assert [row["reason"] for row in rows_of(made.file("dropped.jsonl"))] == ["concludes_for_other", "missing_headings"]


@pytest.mark.parametrize("right", [1, 0])
def test_human_rationales_lost_to_one_reason_are_said_loudly(tmp_path: Path, encoder: ChatEncoder, right: int) -> None:
    told = [{**p.to_json(), "rationale": f"I like {p.label}."} for p in PAIRS[: 3 - right]]
    told += [{**p.to_json(), "rationale": f"So {p.label} is better."} for p in PAIRS[3 : 3 + right]]
    run = run_in(tmp_path, encoder)
    data = artifact(run, "data", {"rationale.jsonl": told})
    loud = (
        f"over half of the human rationales are lost to one reason: no_conclusion, {3 - right} of 3. "
        f"The first: 'I like {PAIRS[0].label}.'"
    )
    if right:
        assert human_examples(run, data).manifest.warnings == [loud]
        return
    with pytest.raises(StageError, match="none of 3 human rationales has the format") as error:
        human_examples(run, data)
    assert str(error.value).endswith(f"provide rationales in its format\n{loud}")
