"""Rows in the form of each known data set, written for the tests; the texts are no one else's."""

from __future__ import annotations

from typing import Any

from data.records import Message, ResponsePair
from data.sources.catalog import DatasetName
from prompts.gram import GRAM
from prompts.judge import GRAM_R2, join_headings

Rows = list[dict[str, Any]]


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation that a user begins."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def shared(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def pair(question: str, a: str, b: str) -> ResponsePair:
    return ResponsePair("", (Message("user", question),), a, b)


def helpsteer3(overall: int, *scores: int) -> dict[str, Any]:
    return {
        "domain": "general",
        "language": "english",
        "context": said("Name a river."),
        "response1": "The Elbe.",
        "response2": "The Alps are a range of mountains.",
        "overall_preference": overall,
        "individual_preference": [
            {
                "score": score,
                "reasoning": "Only @Response 1 names a river.",
                "feedback1": "It is a river.",
                "feedback2": "Mountains were not asked for.",
            }
            for score in scores
        ],
    }


def multipref(identity: str, normal: list[str], expert: list[str]) -> dict[str, Any]:
    return {
        "comparison_id": identity,
        "prompt_id": "p",
        "text": "Boil an egg.",
        "completion_a": "Seven minutes in boiling water.",
        "model_a": "m1",
        "completion_b": "Put it on a shelf.",
        "model_b": "m2",
        "normal_worker_annotations": [{"overall_pref": said, "evaluator": "w"} for said in normal],
        "expert_worker_annotations": [{"overall_pref": said, "evaluator": "e"} for said in expert],
    }


def code(ratings: list[str]) -> dict[str, Any]:
    models = [f"m{i}" for i in range(len(ratings))]
    return {
        "instruction": "Reverse a list.",
        "preference": "code-readability",
        "models": models,
        "responses": [{"model": model, "response": f"answer of {model}"} for model in models],
        # In another order than the responses, as nothing says that they are in the same.
        "annotations": [
            {"model": model, "rating": rating, "rationale": "It reads well."}
            for model, rating in reversed(list(zip(models, ratings, strict=True)))
        ],
    }


def unified(a: float, b: float, **changes: Any) -> dict[str, Any]:
    return {
        "id": "u",
        "conv_A": said("Hello", "Hi!", "Spell cat.", "C, a, t."),
        "conv_B": said("Hello", "Hi!", "Spell cat.", "K, a, t."),
        "conv_A_rating": a,
        "conv_B_rating": b,
        "num_turns": 2,
        "source": "somewhere",
        **changes,
    }


def graded(preference: str, feedback: str) -> dict[str, Any]:
    return {
        "orig_instruction": "Say thanks.",
        "orig_response_A": "Thank you so much!",
        "orig_response_B": "No.",
        "orig_reference_answer": "Thanks.",
        "orig_criteria": "Is it polite?",
        "orig_score_A": "5",
        "orig_score_B": "1",
        "orig_preference": preference,
        "orig_feedback_A": "It is warm.",
        "orig_feedback_B": "It is curt.",
        "orig_feedback": feedback,
        "instruction": "###Task Description: …",
        "output": f"{feedback} [RESULT] {preference}",
    }


def safe(better: int, safer: int) -> dict[str, Any]:
    return {
        "prompt": "How are locks picked?",
        "response_0": "With a tension wrench and a pick, pin by pin.",
        "response_1": "I would rather not say.",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "better_response_id": better,
        "safer_response_id": safer,
    }


def question(*scores: int) -> dict[str, Any]:
    return {
        "qid": 7,
        "question": "<p>Why does ice float?</p>",
        "answers": [
            {"answer_id": i, "text": f"<p>answer {i}</p>", "pm_score": score, "selected": i == 0}
            for i, score in enumerate(scores)
        ],
        "date": "2020/01/01",
        "metadata": ["https://example.org/q/7"],
    }


IN_SHAPE = join_headings("Both are short.", "Only Response B is kind.", "Response B is better.")


def gram_rr(output: str) -> dict[str, Any]:
    shown = pair("Greet me.", "What do you want?", "Good morning!")
    return {"instruction": GRAM_R2.render(shown)[0].content, "input": "", "output": output}


def _answers(a: str, b: str) -> str:
    return (
        f"[The Start of Assistant A's Answer]\n{a}\n[The End of Assistant A's Answer]\n\n"
        f"[The Start of Assistant B's Answer]\n{b}\n[The End of Assistant B's Answer]"
    )


_CHOSEN = {"chosen": said("Two and two?", "Four."), "rejected": said("Two and two?", "Five.")}

ROWS: dict[DatasetName, Rows] = {
    "helpsteer3": [helpsteer3(-2, -2), helpsteer3(2, 1, 3), helpsteer3(0, 1, -1), helpsteer3(-1, 1)],
    "multipref": [
        multipref("c1", ["A-is-clearly-better", "A-is-slightly-better"], ["Tie", "B-is-clearly-better"]),
        multipref("c2", ["B-is-slightly-better", "Tie"], ["B-is-slightly-better", "B-is-clearly-better"]),
        multipref(
            "c3", ["A-is-clearly-better", "B-is-slightly-better"], ["A-is-slightly-better", "B-is-clearly-better"]
        ),
        multipref("c4", ["A-is-clearly-better", "Tie"], ["Tie", "Tie"]),
        multipref("c5", ["A-is-clearly-better", "A-is-clearly-better"], ["Tie", "Tie"]),
    ],
    "code-ultrafeedback": [code(["4", "2", "4", "N/A"]), code(["1", "5"]), code(["3"])],
    "unified-feedback": [unified(1.0, 0.0), unified(2.5, 3.0), unified(1.0, 1.0)],
    "preference-collection": [
        graded("A", "Response A thanks, Response B does not. So the overall judgment is for A."),
        graded("B", "Feedback: Response B is to the point. [RESULT] B"),
        graded("A", ""),
    ],
    "pku-saferlhf": [safe(0, 1), safe(1, 1)],
    "skywork-reward-preference-80k-v0.2": [{**_CHOSEN, "source": "x"}, {**_CHOSEN, "source": "y"}],
    "stack-exchange": [question(3, 5, 1), question(4, -1), question(2, 2), question(9)],
    "gram-pre-training-566k": [
        {"instruction": "[User Question]\nWhat is up?\n\n", "input": "", "output": _answers("The sky.", "Not much.")}
    ],
    "gram-fine-tuning-65k": [
        {"instruction": GRAM.render(pair("What is up?", "The sky.", "Me."))[0].content, "input": "", "output": label}
        for label in ("A", "B")
    ],
    "gram-rr-training-data": [
        gram_rr(f"<think>\n{IN_SHAPE}\n</think>\n<answer>\nB\n</answer>"),
        gram_rr(f"<think>{IN_SHAPE}</think><answer>B</answer>"),
    ],
    "ultrafeedback-binarized": [
        {
            "prompt": "Two and two?",
            "prompt_id": "0a",
            **_CHOSEN,
            "messages": _CHOSEN["chosen"],
            "score_chosen": 8.5,
            "score_rejected": 4.0,
        }
    ],
    "hh-rlhf": [
        {
            "chosen": "\n\nHuman: Two and two?\n\nAssistant: Four.",
            "rejected": "\n\nHuman: Two and two?\n\nAssistant: Five.",
        }
    ],
    "sharegpt-ranking": [
        {
            "conversations": shared("Hi", "Hello", "Two and two?"),
            "chosen": shared("", "Four.")[1],
            "rejected": shared("", "Five.")[1],
        }
    ],
}
