"""The data sets that a source can name: where each is on the hub, how its rows are read, and what its card says.

``Source(dataset="helpsteer3")`` is short for the hub name, subset, split and format of the entry with that name. Every
entry was held against the set's published card, or where that shows no row, against public code that reads the set;
what neither shows is in `unchecked`.
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
    """A published set. `gives` is what it can be a source of: the richest kind first, each includes those after it."""

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
        note="38,459 pairs in train and 2,017 in validation: the paper's 40.5K are both. The rationale is the texts of the "
        "annotator who agrees most strongly with the overall preference.",
    ),
    "multipref": DataSet(
        title="MultiPref: 10K pairs, each judged by two crowd workers and two experts",
        hub="allenai/multipref",
        format="multipref",
        gives=LABELED,
        licence="ODC-BY",
        columns="comparison_id, text, completion_a, completion_b, normal_worker_annotations[overall_pref], "
        "expert_worker_annotations[overall_pref]",
        label="five steps from A-is-clearly-better over Tie to B-is-clearly-better; what most annotators said, A, B or a "
        "tie, and a tie where two are equal",
        note="The subsets human_overall_binarized and gpt4_overall_binarized are other tables, which this format does not read.",
    ),
    "code-ultrafeedback": DataSet(
        title="CodeUltraFeedback: 10K coding instructions, four responses each, rated by GPT-3.5",
        hub="coseal/CodeUltraFeedback",
        format="code-ultrafeedback",
        gives=LABELED,
        licence="MIT",
        columns="instruction, preference, responses[model, response], annotations[model, rating, rationale]",
        label='rating, a number as text, higher is better; equal is a tie; "N/A" leaves pairs unlabeled',
        note="Six pairs a row. The rating is for one coding preference (column preference), which the judge is not told.",
        unchecked="the licence is that of the binarized set's card and of the authors' repository; the rating's range",
    ),
    "unified-feedback": DataSet(
        title="Unified-Feedback: eight public feedback sets in one form",
        hub="llm-blender/Unified-Feedback",
        subset="all",
        format="unified-feedback",
        gives=LABELED,
        licence="MIT",
        columns="id, conv_A, conv_B, conv_A_rating, conv_B_rating, num_turns, source",
        label="the conversation with the higher rating is better; equal ratings are a tie",
        note="Other subsets hold one set each, such as Nectar, UltraFeedback or hh-rlhf; splits train and val. It holds sets "
        "that are also sources of their own here.",
    ),
    "preference-collection": DataSet(
        title="Preference-Collection of Prometheus 2: 200K pairs with GPT-4's feedback by a score rubric",
        hub="prometheus-eval/Preference-Collection",
        format="preference-collection",
        gives=REASONED,
        licence="CC-BY-4.0",
        columns="orig_instruction, orig_response_A, orig_response_B, orig_preference, orig_feedback, orig_feedback_A, "
        "orig_feedback_B, orig_score_A, orig_score_B, orig_criteria, orig_reference_answer, instruction, output",
        label="orig_preference A or B, 100K each; no ties",
        note="The paper's list calls it Prometheus2-Preference. Feedback and preference go by a rubric (orig_criteria) that "
        "the judge is not shown, and a model wrote them.",
        unchecked="the columns are as public code lists them; what the feedback columns hold was not seen",
    ),
    "pku-saferlhf": DataSet(
        title="PKU-SafeRLHF: pairs on risky questions, judged for helpfulness and for safety",
        hub="PKU-Alignment/PKU-SafeRLHF",
        format="pku-saferlhf",
        gives=LABELED,
        licence="CC-BY-NC-4.0 (not for commercial use)",
        columns="prompt, response_0, response_1, better_response_id, safer_response_id, is_response_0_safe, …",
        label="better_response_id 0 or 1, the more helpful one; safer_response_id is not read",
        note="83.4K pairs; subsets alpaca-7b, alpaca2-7b and alpaca3-8b hold one model's responses each. The more helpful "
        "response can be the less safe one. Offensive text.",
    ),
    "skywork-reward-preference-80k-v0.2": DataSet(
        title="Skywork-Reward-Preference-80K-v0.2: 77,016 chosen pairs of public sets, RewardBench prompts removed",
        hub="Skywork/Skywork-Reward-Preference-80K-v0.2",
        format="chosen-rejected",
        gives=LABELED,
        licence="none stated in the card's metadata; those of the sets that it is drawn from",
        columns="chosen, rejected (whole conversations), source",
        label="the response in chosen is better",
    ),
    "stack-exchange": DataSet(
        title="Stack Exchange preferences: 10.7M questions with two answers or more; the paper's D_u",
        hub="HuggingFaceH4/stack-exchange-preferences",
        format="stack-exchange",
        gives=LABELED,
        licence="CC-BY-SA-4.0",
        columns="question, answers[text, pm_score, selected, …], qid, …",
        label="pm_score, from votes and acceptance, higher is better; equal is a tie",
        note="One pair a question, its first two answers. Question and answers are HTML. 22 GB; give a limit.",
        unchecked="the columns are as public code reads them",
    ),
    "gram-pre-training-566k": DataSet(
        title="GRAM's pre-training pairs, out of Unified-Feedback",
        hub="NiuTrans/GRAM-pre-training-566k",
        format="gram-pre-training",
        gives=("pair",),
        licence="Apache-2.0",
        columns="instruction, input, output",
        label="none",
    ),
    "gram-fine-tuning-65k": DataSet(
        title="GRAM's fine-tuning pairs, out of Unified-Feedback",
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
        note="About 28 GB; give a limit.",
        unchecked="the card's example of an output was not seen: <think>…</think><answer>…</answer> is what the models write; "
        "the split's name",
    ),
    "ultrafeedback-binarized": DataSet(
        title="UltraFeedback, binarized: the best of four responses against another one, by GPT-4's scores",
        hub="HuggingFaceH4/ultrafeedback_binarized",
        split="train_prefs",
        format="chosen-rejected",
        gives=LABELED,
        licence="MIT",
        columns="prompt, prompt_id, chosen, rejected (whole conversations), messages, score_chosen, score_rejected",
        label="the response in chosen is better; the scores are not read",
        note="61,135 pairs; 2,000 in test_prefs. The other splits are for other trainings.",
    ),
    "hh-rlhf": DataSet(
        title="HH-RLHF: helpful and harmless dialogues, as transcripts",
        hub="Anthropic/hh-rlhf",
        format="chosen-rejected",
        gives=LABELED,
        licence="MIT",
        columns="chosen, rejected (Human/Assistant transcripts)",
        label="the last answer in chosen is better",
        note="All four folders of pairs together; for one of them, name its file in path. Offensive text; the card advises "
        "against fine-tuning a chat model on it.",
    ),
    "sharegpt-ranking": DataSet(
        title="LLaMA-Factory's ranking format: conversations with a chosen and a rejected answer",
        hub="llamafactory/DPO-En-Zh-20k",
        subset="en",
        format="chosen-rejected",
        gives=LABELED,
        licence="not seen",
        columns="conversations[from, value], chosen{from, value}, rejected{from, value}",
        label="the message in chosen is better",
        note="Any file of this format can be named in path; the hub set is the one of LLaMA-Factory's list, subsets en and zh.",
        unchecked="the hub set's card, its licence and its split",
    ),
}
