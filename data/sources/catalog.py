"""The data sets that a source can name: where each is on the hub, how its rows are read, and what its card says.

``Source(dataset="helpsteer3")`` is short for the hub name, subset, split and format of the entry with that name. Every
entry was checked against the set's published card or, if that shows no row, against public code that reads the set;
`unchecked` lists what neither confirms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.sources.adapters import Format

DatasetName = Literal[
    "helpsteer3",
    "multipref",
    "code-ultrafeedback",
    "unified-feedback",
    "preference-collection",
    "pku-saferlhf",
    "skywork-reward-preference-80k-v0.2",
    "stack-exchange",
    "gram-pre-training-566k",
    "gram-fine-tuning-65k",
    "gram-rr-training-data",
    "ultrafeedback-binarized",
    "hh-rlhf",
    "sharegpt-ranking",
]
Gives = Literal["rationale", "preference", "pair"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A published data set. `gives` lists the kinds it can be a source of, richest first; each includes those after it."""

    title: str
    hub: str
    format: Format
    gives: tuple[Gives, ...]
    licence: str
    """As the card states it."""
    columns: str
    label: str
    subset: str | None = None
    split: str = "train"
    note: str = ""
    unchecked: str = ""


LABELED: tuple[Gives, ...] = ("preference", "pair")
REASONED: tuple[Gives, ...] = ("rationale", "preference", "pair")

DATASETS: dict[DatasetName, DataSet] = {
    "helpsteer3": DataSet(
        title="HelpSteer3-Preference: human preferences with feedback on both responses; the paper's D_p",
        hub="nvidia/HelpSteer3",
        subset="preference",
        format="helpsteer3",
        gives=REASONED,
        licence="CC-BY-4.0",
        columns="context, response1, response2, overall_preference, "
        "individual_preference[score, reasoning, feedback1, feedback2]",
        label="overall_preference -3 (response1 much better) to 3; 0 is a tie",
        note="38,459 pairs in train and 2,017 in validation: the paper's 40.5K are both together. The rationale is built from "
        "the texts of the annotator who agrees most strongly with the overall preference.",
    ),
    "multipref": DataSet(
        title="MultiPref: 10K pairs, each judged by two crowd workers and two experts",
        hub="allenai/multipref",
        format="multipref",
        gives=LABELED,
        licence="ODC-BY",
        columns="comparison_id, text, completion_a, completion_b, normal_worker_annotations[overall_pref], "
        "expert_worker_annotations[overall_pref]",
        label="five levels from A-is-clearly-better through Tie to B-is-clearly-better; the most frequent vote counts (A, B or "
        "tie), and a draw between two of them is a tie",
        note="The subsets human_overall_binarized and gpt4_overall_binarized are other tables that this format does not read.",
    ),
    "code-ultrafeedback": DataSet(
        title="CodeUltraFeedback: 10K coding instructions, four responses each, rated by GPT-3.5",
        hub="coseal/CodeUltraFeedback",
        format="code-ultrafeedback",
        gives=LABELED,
        licence="MIT",
        columns="instruction, preference, responses[model, response], annotations[model, rating, rationale]",
        label='rating, a number as text, higher is better; equal is a tie; "N/A" leaves pairs unlabeled',
        note="Six pairs per row. The rating is for one coding preference (column preference), which the judge is not shown.",
        unchecked="the licence (taken from the binarized set's card and the authors' repository); the rating's range",
    ),
    "unified-feedback": DataSet(
        title="Unified-Feedback: eight public feedback sets in one format",
        hub="llm-blender/Unified-Feedback",
        subset="all",
        format="unified-feedback",
        gives=LABELED,
        licence="MIT",
        columns="id, conv_A, conv_B, conv_A_rating, conv_B_rating, num_turns, source",
        label="the conversation with the higher rating is better; equal ratings are a tie",
        note="Other subsets contain one set each, such as Nectar, UltraFeedback or hh-rlhf; splits train and val. It includes "
        "sets that are also listed separately here.",
    ),
    "preference-collection": DataSet(
        title="Preference-Collection of Prometheus 2: 200K pairs with GPT-4's feedback based on a score rubric",
        hub="prometheus-eval/Preference-Collection",
        format="preference-collection",
        gives=REASONED,
        licence="CC-BY-4.0",
        columns="orig_instruction, orig_response_A, orig_response_B, orig_preference, orig_feedback, orig_feedback_A, "
        "orig_feedback_B, orig_score_A, orig_score_B, orig_criteria, orig_reference_answer, instruction, output",
        label="orig_preference A or B, 100K each; no ties",
        note="The paper's list calls it Prometheus2-Preference. Feedback and preference were written by a model and "
        "follow a rubric (orig_criteria) that the judge is not shown.",
        unchecked="the columns (taken from public code); the contents of the feedback columns",
    ),
    "pku-saferlhf": DataSet(
        title="PKU-SafeRLHF: pairs on risky questions, judged for helpfulness and for safety",
        hub="PKU-Alignment/PKU-SafeRLHF",
        format="pku-saferlhf",
        gives=LABELED,
        licence="CC-BY-NC-4.0 (not for commercial use)",
        columns="prompt, response_0, response_1, better_response_id, safer_response_id, is_response_0_safe, …",
        label="better_response_id 0 or 1, the more helpful one; safer_response_id is not read",
        note="83.4K pairs; subsets alpaca-7b, alpaca2-7b and alpaca3-8b contain one model's responses each. The more helpful "
        "response can be the less safe one. Offensive text.",
    ),
    "skywork-reward-preference-80k-v0.2": DataSet(
        title="Skywork-Reward-Preference-80K-v0.2: 77,016 selected pairs from public sets, RewardBench prompts removed",
        hub="Skywork/Skywork-Reward-Preference-80K-v0.2",
        format="chosen-rejected",
        gives=LABELED,
        licence="none stated in the card's metadata; those of the sets it was drawn from",
        columns="chosen, rejected (whole conversations), source",
        label="the response in chosen is better",
    ),
    "stack-exchange": DataSet(
        title="Stack Exchange preferences: 10.7M questions with two or more answers; the paper's D_u",
        hub="HuggingFaceH4/stack-exchange-preferences",
        format="stack-exchange",
        gives=LABELED,
        licence="CC-BY-SA-4.0",
        columns="question, answers[text, pm_score, selected, …], qid, …",
        label="pm_score, from votes and acceptance, higher is better; equal is a tie",
        note="One pair per question: its first two answers. Questions and answers are HTML. 22 GB; set a limit.",
        unchecked="the columns (taken from public code)",
    ),
    "gram-pre-training-566k": DataSet(
        title="GRAM's pre-training pairs, from Unified-Feedback",
        hub="NiuTrans/GRAM-pre-training-566k",
        format="gram-pre-training",
        gives=("pair",),
        licence="Apache-2.0",
        columns="instruction, input, output",
        label="none",
    ),
    "gram-fine-tuning-65k": DataSet(
        title="GRAM's fine-tuning pairs, from Unified-Feedback",
        hub="NiuTrans/GRAM-fine-tuning-65k",
        format="gram-fine-tuning",
        gives=LABELED,
        licence="Apache-2.0",
        columns="instruction, input, output",
        label="output A or B",
    ),
    "gram-rr-training-data": DataSet(
        title="GRAM-R²'s training data: the judge's prompt with a synthesized rationale and a verdict",
        hub="wangclnlp/GRAM-RR-TrainingData",
        format="gram-rr",
        gives=REASONED,
        licence="Apache-2.0",
        columns="instruction, input, output",
        label="the verdict in output, A or B",
        note="About 28 GB; set a limit.",
        unchecked="the format of output (the card's example was not seen; the models write <think>…</think><answer>…</answer>); "
        "the split's name",
    ),
    "ultrafeedback-binarized": DataSet(
        title="UltraFeedback, binarized: the best of four responses against another one, according to GPT-4's scores",
        hub="HuggingFaceH4/ultrafeedback_binarized",
        split="train_prefs",
        format="chosen-rejected",
        gives=LABELED,
        licence="MIT",
        columns="prompt, prompt_id, chosen, rejected (whole conversations), messages, score_chosen, score_rejected",
        label="the response in chosen is better; the scores are not read",
        note="61,135 pairs; 2,000 in test_prefs. The other splits are for other kinds of training.",
    ),
    "hh-rlhf": DataSet(
        title="HH-RLHF: helpful and harmless dialogues, as transcripts",
        hub="Anthropic/hh-rlhf",
        format="chosen-rejected",
        gives=LABELED,
        licence="MIT",
        columns="chosen, rejected (Human/Assistant transcripts)",
        label="the last answer in chosen is better",
        note="Reads all four folders of pairs; for only one of them, give its file in path. Offensive text; the card advises "
        "against fine-tuning a chat model on it.",
    ),
    "sharegpt-ranking": DataSet(
        title="LLaMA-Factory's ranking format: conversations with a chosen and a rejected answer",
        hub="llamafactory/DPO-En-Zh-20k",
        subset="en",
        format="chosen-rejected",
        gives=LABELED,
        licence="unknown (card not seen)",
        columns="conversations[from, value], chosen{from, value}, rejected{from, value}",
        label="the message in chosen is better",
        note="path can be any file in this format; the hub set is the one in LLaMA-Factory's list, with subsets en and zh.",
        unchecked="the hub set's card, its licence and its split",
    ),
}
