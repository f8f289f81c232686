"""Rows of each benchmark in its authors' format, written for the tests, and games of judges that are fixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark.games import Games, of_rows

Row = dict[str, Any]
Judge = Callable[[Item, Cell, int], Row]
"""What a judge says of a cell in an order (0 or 1): the fields of a game."""


def rm_bench_row(number: int, prompt: str = "Why?", **changes: Any) -> Row:
    texts = {
        side: [f"{side} {style} of {number}" for style in ("short", "long", "bold")] for side in ("chosen", "rejected")
    }
    return {"id": number, "prompt": prompt, "subset": "any", **texts, **changes}


def judgebench_row(identity: str, source: str = "mmlu-pro-law", label: str = "A>B", **changes: Any) -> Row:
    return {
        "pair_id": identity,
        "original_id": 1,
        "source": source,
        "question": f"Question {identity}?",
        "response_model": "gpt-4o-2024-05-13",
        "response_A": f"first answer to {identity}",
        "response_B": f"second answer to {identity}",
        "label": label,
        **changes,
    }


def llmbar_row(label: int = 1, **changes: Any) -> Row:
    return {"input": "Name a colour.", "output_1": "red", "output_2": "tree", "label": label, **changes}


def reward_bench_row(number: int, subset: str = "alpacaeval-easy") -> Row:
    return {
        "id": number,
        "subset": subset,
        "prompt": f"Prompt {number}?",
        "chosen": f"good {number}",
        "chosen_model": "one",
        "rejected": f"bad {number}",
        "rejected_model": "other",
    }


def reward_bench_2_row(identity: str, subset: str, chosen: int = 1, rejected: int = 3) -> Row:
    return {
        "id": identity,
        "subset": subset,
        "prompt": f"Prompt {subset} {identity}?",
        "chosen": [f"good {i}" for i in range(chosen)],
        "rejected": [f"bad {i}" for i in range(rejected)],
        "num_correct": chosen,
        "num_incorrect": rejected,
        "total_completions": chosen + rejected,
        "models": [],
        "additional_metadata": {},
    }


def ppe_row(identity: str, scores: list[bool]) -> Row:
    responses = {f"response_{i + 1}": f"candidate {i} of {identity}" for i in range(len(scores))}
    return {"question_id": identity, "prompt": f"Prompt {identity}?", "scores": scores, "mean_score": 0.5, **responses}


def ppe_human_row(identity: str, winner: str = "model_a", **changes: Any) -> Row:
    """A row of PPE's human preferences."""
    return {
        "question_id": identity,
        "model_a": "one",
        "model_b": "other",
        "winner": winner,
        "prompt": f"Prompt {identity}?",
        "response_1": f"first to {identity}",
        "response_2": f"second to {identity}",
        "language": "English",
        "hard_prompt": False,
        **changes,
    }


def rmb_row(kind: str, identity: str, goal: str = "Helpfulness", losers: int = 2, **changes: Any) -> Row:
    """A row of RMB: `kind` is pair or bon."""
    answers = [{"llm_name": f"m{i}", "answer": f"answer {i} to {identity}"} for i in range(1 + losers)]
    folder, scenario = (
        {"pair": "Pairwise_set", "bon": "BoN_set"}[kind],
        {"Helpfulness": "Chat/Small Talk"}.get(goal, "S1"),
    )
    rest = (
        {"chosen": answers[0], "reject": answers[1]}
        if kind == "pair"
        else {"bon_best": answers[0], "loser_list": answers[1:]}
    )
    return {
        f"{kind}_uid": identity,
        "conversation_input": [{"role": "user", "content": f"Question {identity}?", "language": "English"}],
        **rest,
        "category_path": f"{folder}/{goal}/{scenario}",
        **changes,
    }


def contextual_row(number: int, **changes: Any) -> Row:
    """A row of ContextualJudgeBench."""
    return {
        "question": f"Question {number}?",
        "context": f"It is known that {number}.",
        "question_id": "any",
        "positive_response": f"good {number}",
        "negative_response": f"bad {number}",
        **changes,
    }


def reasoning_row(identity: str, **changes: Any) -> Row:
    """A row of ReasoningJudgeBench."""
    return {
        "problem_id": identity,
        "source_id": "any",
        "instruction": f"Question {identity}?",
        "positive_response": f"good {identity}",
        "negative_response": f"bad {identity}",
        "label": 1,
        **changes,
    }


def m_reward_bench_row(number: int, subset: str = "alpacaeval-easy", **changes: Any) -> Row:
    """A row of M-RewardBench."""
    row = {name: value for name, value in reward_bench_row(number).items() if name != "subset"}
    return {**row, "language": "any", "source": subset, "category": "any", **changes}


def if_reward_bench_row(
    number: int, edges: list[tuple[int, int]], n: int = 4, kind: str = "Single_Turn", **changes: Any
) -> Row:
    """A row of IF-RewardBench with n responses; an edge is (better, worse)."""
    graph = [{"chosen": {"response_id": first}, "rejected": {"response_id": second}} for first, second in edges]
    return {
        "id": number,
        "instruction_type": kind,
        "response_generation_model": "any",
        "messages": [{"role": "user", "content": f"Do {number}."}],
        "checklist": ["Is it done?"],
        "constraint_type": [],
        "responses": [{"response": f"response {i} to {number}"} for i in range(n)],
        "preference_graph": graph,
        **changes,
    }


def write_rows(path: Path, rows: list[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows) if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


# ---- judges -----------------------------------------------------------------------------------------------------------------


def game_rows(benchmark: Benchmark, judge: Judge, votes: int = 1) -> list[Row]:
    """Every game of a benchmark as the judge plays it."""
    return [
        {"id": item.id, "cell": cell.name, "order": order, "vote": vote, **judge(item, cell, i)}
        for item in benchmark.items
        for cell in item.cells
        for i, order in enumerate(benchmark.orders)
        for vote in range(votes)
    ]


def played(benchmark: Benchmark, judge: Judge, votes: int = 1) -> Games:
    return of_rows(benchmark, game_rows(benchmark, judge, votes))


def verdict(first_response_wins: bool, order: int) -> Row:
    """The row of a judge that prefers a cell's first response, or its second, in whichever order."""
    return {"verdict": "A" if first_response_wins == (order == 0) else "B"}


def by_score(scores: Callable[[Item, int], float]) -> Judge:
    """A judge of whom each response has a score: it prefers the higher one, and calls equal ones a tie."""

    def judge(item: Item, cell: Cell, order: int) -> Row:
        first, second = scores(item, cell.first), scores(item, cell.second)
        return {"verdict": "tie"} if first == second else verdict(first > second, order)

    return judge


def right_always(item: Item, cell: Cell, order: int) -> Row:
    return verdict(item.right[cell.first], order)


def says(row: Mapping[str, Any]) -> Judge:
    """A judge that gives the same answer to every game."""
    return lambda item, cell, order: dict(row)
