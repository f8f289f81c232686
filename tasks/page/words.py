"""What pages say of their own words: the field's terms, and the reasons why something is dropped, each with its colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

TERMS = {
    "judge": "The model being trained: it reads a prompt with two responses, writes a rationale, and gives a verdict. Also "
    "called a generative reward model.",
    "prover": "The model that writes rationales for a label that is already known. It is trained once, on human rationales.",
    "rationale": "The judge's reasoning, written before its verdict.",
    "proof": "A rationale written by the prover, which argues for a given label. The best valid one becomes what the judge "
    "learns to write.",
    "verdict": "Which response the judge prefers, A or B.",
    "game": "One judgment of one pair, shown in one order. Each pair is shown in both orders, so it gives two games.",
    "held-out pairs": "Labeled pairs that no model is trained on; they only measure the judge.",
    "accuracy": "The share of held-out judgments that prefer the right response. A reply without a verdict counts as wrong.",
    "interval": "The 95% interval: the range in which 95% of results would lie if other prompts of the same kind had been "
    "drawn (bootstrap over prompts).",
    "guessing": "What a judge would reach by tossing a coin: 50%.",
    "p-value": "How often a difference this large would be seen if both judges were equally good (exact sign-flip test on the "
    "same judgments, those of a prompt together). Below 0.05 is usually called significant.",
    "position consistency": "The share of pairs for which the same response is preferred in both orders; if a pair gets several "
    "votes in each order, they count one by one. A judge that always picks the first response has 0%.",
    "first shown": "Where the two orders disagree, how often the response shown first was preferred. Far from 50% means that "
    "the judge looks at the position, not at the text.",
    "round": "One turn of self-training: the judge labels new pairs, the prover explains the labels, and the judge is trained "
    "again on everything so far. Round 0 is the first judge, trained on labeled pairs only.",
    "gate": "After each round, its judge is held against the best one so far on the same held-out pairs. A round that harms is "
    "said or, with rollback, not built on.",
    "final fine-tuning": "After the last round, the judge is trained once more on the human rationales alone.",
    "vote": "One sampled judgment of an unlabeled pair. The majority of a pair's votes is its label.",
    "vote margin": "Votes for the winning label minus votes for the other.",
    "confidence": "The share of all votes of a pair that agree with its label.",
    "promised precision": "The share of kept labels that are right, at least. Each round chooses the loosest threshold of "
    "confidence for which the judge's votes on the calibration pairs show it (labels.target_precision). It holds as far as "
    "unlabeled pairs are like these.",
    "calibration pairs": "Labeled pairs that no model is trained on, and that count in no accuracy: they show how confident a "
    "label must be.",
    "pseudo-label": "The label that the judge itself gives to an unlabeled pair.",
    "Eq. 5 score": "How well a proof fits its pair and label: near 0 is best. It compares how likely the prover finds the "
    "proof with and without seeing the pair and its label (GRAM-R² paper, Eq. 5).",
    "AUC": "How well a score tells right from wrong: the chance that a right one scores higher than a wrong one. 1 is always, "
    "0.5 is no better than a coin.",
    "D_p": "The labeled pairs with human rationales. The prover is trained on them.",
    "D_r": "The labeled pairs without rationales. The prover writes their rationales for the first judge.",
    "D_u": "The unlabeled pairs; each round takes a new batch of them.",
    "loss": "How surprised the judge is by the texts that it learns; lower is better.",
    "token": "A piece of a word, the unit in which models read and write.",
    "GPU time": "The time in which engines and trainers worked, times their number, without their start-up.",
    "stage": "One step of a run. A finished stage is kept and reused when the run is started again.",
    "key": "Identifies a stage by its settings and inputs: the same key means the same result.",
}
"""The glossary, in the order in which it is shown; explanations are plain text."""

KEPT, _OTHER = "#3d8bd4", "#8a8f98"
_REASONS = {
    # Unlabeled pairs, when they are labeled.
    "tie": ("#e07b39", "Neither response is preferred: as many votes for A as for B, or no preference in the data."),
    "orders_disagree": ("#b5658f", "The majority changes when the two responses are shown the other way round."),
    "low_confidence": (
        "#4f9d69",
        "Too few votes agree with the label (labels.min_confidence, or the threshold of labels.target_precision).",
    ),
    "prompt_counted_already": (
        "#7f6f9a",
        "Of the calibration pairs with one prompt only the first counts: they are not independent.",
    ),
    "precision_not_shown": (
        "#8c6f56",
        "The target precision was not shown for the pair's domain (labels.target_precision).",
    ),
    "no_valid_vote": ("#a08a1c", "No vote could be read as A or B."),
    "prompt_too_long": ("#a0714f", "The pair does not fit into the model's context (models.max_tokens)."),
    "truth_unknown": ("#6b8e23", "The true label, which this run uses instead of votes, is unknown."),
    "no_votes": ("#8c7b6b", "The pair is not voted on again: it does not fit into the model's context."),
    # Pairs and candidates, when proofs are chosen.
    "no_valid_proof": ("#8172b3", "All proofs of the pair were rejected."),
    "no_valid_proof_in_one_order": ("#459b9b", "All proofs of the pair in one of its two orders were rejected."),
    "concludes_for_other": ("#c2506b", "The proof argues for the other response, not for the label."),
    "no_conclusion": ("#7a8b3d", "The proof does not say which response is better."),
    "no_opening": ("#5f7fb0", "The proof does not open with the sentence that the prover was taught."),
    "contains_reply_tags": ("#c07f9f", "The proof contains tags such as <answer>, which belong to the judge's reply."),
    "missing_headings": ("#3f8f7f", "The proof lacks the headings that the judge's prompt asks for."),
    "empty": ("#9a6fb0", "The rationale is empty."),
    "truncated": ("#b8783a", "The text was cut off at the longest length allowed."),
    "too_long": ("#94744d", "The text is longer than the settings allow."),
    "refused_by_template": (
        "#87708f",
        "The model's chat template has no place for such turns, such as a system turn or two of the user in a row.",
    ),
    "ungrounded_quote": ("#5b8fa8", "The proof quotes words that neither the prompt nor the responses contain."),
    "low_score": ("#8f9d2f", "The proof's Eq. 5 score is below the bound (proofs.min_score)."),
    "not_scored": ("#7d77c9", "The proof has no Eq. 5 score, so it cannot be compared."),
    # Examples, when a training set is made.
    "label_changed": ("#b3593f", "A later round gave the pair the other label, which is learned instead."),
    "labeled_again": ("#7b93b5", "A later round gave the pair the same label; its newest proofs are learned instead."),
    # Rows of the data.
    "reviewed": ("#4a7f8f", "People have labeled the pair: it is elsewhere now (gram-r2 review import)."),
    "pair_is_learned_with_rationale": (
        "#6d6fa0",
        "The pair is learned from with its rationale, so it cannot calibrate.",
    ),
    "prompt_is_learned_with_rationale": (
        "#8068a0",
        "The prompt is learned from with a rationale, so it cannot calibrate.",
    ),
    "duplicate": ("#6f86a8", "The same pair was read before."),
    "conflicting_labels": ("#c0504d", "The same pair was read before with the other label."),
    "pair_is_held_out": ("#2f8f9d", "The pair is held out to measure the judge."),
    "prompt_is_held_out": ("#3e7f6d", "The prompt is held out to measure the judge."),
    "pair_is_for_calibration": ("#4f8f6f", "The pair is set apart for calibration."),
    "prompt_is_for_calibration": ("#5f7f5d", "The prompt is set apart for calibration."),
    "pair_is_labeled": ("#6a8fb5", "The pair is also among the labeled ones, so it is no fresh one for a round."),
    "over_cap": ("#a99a5c", "More rows than the source's limit allows."),
    "over_weight": ("#b09a3e", "More rows than the source's weight allows."),
    "not_needed": ("#9aa0a8", "More unlabeled pairs than the rounds take."),
    "empty_prompt": ("#a8657a", "There is no prompt before the responses."),
    "empty_response": ("#b5746a", "One of the responses is empty."),
    "equal_responses": ("#c98f5a", "The two responses are equal."),
    "no_label": ("#7f9a86", "The row does not say which response is better."),
    "no_rationale": ("#8a7fa8", "No text argues for the row's label."),
    "few_responses": ("#7d9a5a", "The row has fewer than two responses to compare."),
    "filtered": ("#8895a7", "The source's filter (where) leaves the row out."),
    "not_text": ("#9c7a5e", "The row holds an image, a video, a sound or a file, which no judge can be shown."),
    "tools": ("#5f8d8d", "The row holds tool definitions or calls, which no judge can be shown."),
    "prompts_differ": ("#ad7fb5", "The two responses answer different prompts."),
    "rationale_by_position": ("#b3925f", "The rationale names the responses by positions that are not known."),
    "malformed": ("#c25a3c", "The row could not be read."),
    # Replies of the judge.
    "answer_not_a_or_b": (_OTHER, "The answer is neither A nor B."),
    "empty_reply": (_OTHER, "The reply is empty."),
    "no_answer": (_OTHER, "The reply has no <answer>."),
    "no_think_close": (_OTHER, "The rationale in the reply does not end (no </think>)."),
    "no_think_open": (_OTHER, "The reply does not open with a rationale (<think>)."),
    "several_answers": (_OTHER, "The reply has several answers."),
    "several_think": (_OTHER, "The reply has several rationales."),
    "text_after_answer": (_OTHER, "Text follows the answer."),
    "text_before_answer": (_OTHER, "Text stands between rationale and answer."),
    "no_label_probability": (_OTHER, "The model gave no probability for either label."),
}
_BEGINNINGS = {
    "in_": ("#cf6a9a", "The pair is also in a benchmark that the judge is measured on."),
    "engine_": ("#d14b4b", "The engine failed on the row."),
    "endpoint_": ("#d14b4b", "The endpoint failed on the row."),
    "could_not_be_asked": ("#d14b4b", "The row could not be sent to the engine."),
}
"""Reasons that continue with what was met, such as ``in_rm-bench``."""


@dataclass(frozen=True)
class Reason:
    """How a reason is shown: its colour, the same on the whole page and in every run, and what it means."""

    color: str
    meaning: str


def reason(name: str) -> Reason:
    """A reason as shown; one that is not known is grey and has no meaning."""
    if name == "kept":
        return Reason(KEPT, "")
    found = _REASONS.get(name) or next((r for start, r in _BEGINNINGS.items() if name.startswith(start)), None)
    return Reason(*found) if found else Reason(_OTHER, "")


def term(name: str, shown: str = "") -> Markup:
    """A term of the glossary, explained where the pointer rests on it. KeyError for one that is not explained."""
    from markupsafe import Markup

    return Markup('<abbr title="{}">{}</abbr>').format(TERMS[name], shown or name)


_HEADINGS = {
    "95% interval": "interval",
    "held-out accuracy": "accuracy",
    "accuracy (%)": "accuracy",
    "validation loss": "loss",
    "tokens trained": "token",
    "tokens generated": "token",
    "same in both orders": "position consistency",
}


def explained(heading: str) -> Markup | str:
    """The heading of a column, with the explanation of its term if it is one."""
    return term(_HEADINGS[heading], heading) if heading in _HEADINGS else heading
