"""Pseudo-labels: the judge votes on unlabeled pairs (METHOD 4a), and doubtful labels are dropped (4b).

`tasks.model.votes` turns votes into a label and its confidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.records import parse_pair
from data.seeds import derive_seed
from data.store.artifacts import WARNINGS, Artifact, FileRef, Input, Outcome, StageError
from prompts.quotes import RULE
from tasks.machine.parallel import over_blocks
from tasks.model.chat import ChatEncoder
from tasks.model.device import head_facts, resolved_dtype
from tasks.model.engine import Request
from tasks.model.judging import JudgeQuery, build_request
from tasks.model.orders import ORDERS, shown
from tasks.model.requests import PROMPT_TOO_LONG, Skip
from tasks.model.strictness import NO_THRESHOLD, Strictness
from tasks.model.votes import CHANGES, Remembered, Tally, Vote, changes_of, mean_probability, read_votes, tally
from tasks.model.voting import VotingRule, confidence_bounds, rounds_wanted, verdict_on
from tasks.run.rows import GeneratedBlock, generate_rows, generated_blocks
from tasks.run.sorting import SortedRows, written
from tasks.run.stage import Context, Run
from tasks.run.truth import audit_labels, labels_from_truth
from tasks.settings import LabelSettings

_BY_CHANCE = 0.01
"""Ours. One-sided labels do not count as a position bias if a judge without one leaves them so with at least this probability."""


def vote_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """One request per order: for the first of its votes, with its own seed, or for the probabilities of the labels."""
    rule = VotingRule.of(params, row)
    return Skip(NO_THRESHOLD) if rule is None else _requests_for(row, params, encoder, 0, rounds_wanted([], rule))


def more_votes(
    row: Mapping[str, Any], params: Mapping[str, Any], asked: Sequence[Mapping[str, Any]], encoder: ChatEncoder
) -> list[Request]:
    """The requests for the next votes on a pair, given those `asked` for so far; none if its votes have ended."""
    votes = read_votes(vote_query(params), asked, parse_pair(row) if "quotes" in params else None)
    rule = VotingRule.of(params, row)
    rounds = rounds_wanted(votes, rule) if rule else 0
    made = _requests_for(row, params, encoder, len(votes) // 2, rounds) if rounds else []
    assert not isinstance(made, Skip), "the same prompts did fit"
    return made


def _requests_for(
    row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder, first: int, rounds: int
) -> list[Request] | Skip:
    """One request per order, for its votes from number `first`. Vote j of an order has the seed of vote 0 plus j."""
    pair, query = parse_pair(row), replace(vote_query(params), votes=rounds)
    asked = [build_request(query, encoder, shown(pair, order), order) for order in ORDERS]
    found = [
        replace(request, sampling=replace(request.sampling, seed=request.sampling.seed + first))
        for request in asked
        if request is not None
    ]
    return found if len(found) == len(ORDERS) else Skip(PROMPT_TOO_LONG)


def vote_query(params: Mapping[str, Any]) -> JudgeQuery:
    """How a judge is queried for its votes in one order."""
    return JudgeQuery(
        params["prompt"],
        params["max_tokens"],
        params["context"],
        params["overlong"],
        params["votes"] // 2,
        params["temperature"],
        params["top_p"],
        params["seed"],
    )


# ---- stages -----------------------------------------------------------------------------------------------------------


def label(
    run: Run, round: int, judge: Artifact, batch: FileRef, truth: FileRef | None, strictness: FileRef | None = None
) -> Artifact:
    """Labels for a round's batch: from the judge's votes or, in the gold control, the true labels.

    `strictness` says how confident a label must be to be kept, in place of labels.min_confidence.
    """
    if run.settings.labels.source == "truth":
        assert truth is not None, "the settings validator ensures this"
        return labels_from_truth(run, round, batch, truth)
    votes = cast_votes(run, round, judge, batch, strictness)
    labels = keep_labels(run, round, votes, batch, strictness)
    if truth is not None:
        audit_labels(run, round, labels, truth, by_domain=strictness is not None)
    return labels


def none_kept(made: Artifact) -> bool:
    """Whether self-training ends with these labels, or with the proofs of them: there is none to learn from."""
    return made.manifest.counts.kept == 0


def vote_params(run: Run, round: int) -> dict[str, Any]:
    """The parameters of a round's vote requests: also those on which it depends when the votes on a pair end."""
    models, labels = run.settings.models, run.settings.labels
    needed = run.settings.judge_prompt.has_rationale and labels.voting != "all"
    ends = ("voting", "min_confidence", "orders_agree") if needed else ()
    return {
        "prompt": models.judge_prompt,
        "votes": labels.votes,
        "temperature": labels.temperature,
        "top_p": labels.top_p,
        "max_tokens": labels.max_tokens,
        "context": models.max_tokens,
        "overlong": models.overlong,
        "seed": derive_seed(run.seed, "vote", round),
        **{name: getattr(labels, name) for name in ends},
        **({"quotes": RULE} if needed and labels.grounded_votes else {}),
    }


def cast_votes(run: Run, round: int, judge: Artifact, batch: FileRef, strictness: FileRef | None = None) -> Artifact:
    """The stage "vote" of a round: the judge's raw replies on a batch."""
    params, inputs = vote_params(run, round), dict[str, Input](judge=judge, batch=batch)
    if strictness is not None and "voting" in params:  # when votes end depends on it
        inputs["strictness"] = strictness
    return votes_on(run, f"round-{round}/votes", "vote", params, inputs, round)


def votes_on(
    run: Run, name: str, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Input], round: int
) -> Artifact:
    """A stage with the votes of the input "judge" on the rows of the input "batch".

    An input "strictness" replaces the parameter `min_confidence`.
    """
    prompt, dtype = run.settings.judge_prompt, resolved_dtype(run.settings.models.dtype)
    config = {**params, "prompt_digest": prompt.digest, "dtype": dtype, **run.settings.generation.facts_in_keys()}
    if "strictness" in inputs:
        del config["min_confidence"]
    if vote_query(params).by_label:
        config |= {"read": "probabilities of the labels", **head_facts(dtype)}

    def body(context: Context) -> Outcome:
        asked = dict(params)
        if "strictness" in inputs:
            asked["min_confidence"] = Strictness.load(context.file("strictness")).to_json()
        rows, model = context.file("batch"), context.model("judge")
        follow = "tasks.label:more_votes" if "voting" in params else None
        return generate_rows(context, "tasks.label:vote_requests", asked, rows, model, follow=follow)

    return run.find_or_make(name, kind, config, inputs, body, round)


def keep_labels(run: Run, round: int, votes: Artifact, batch: FileRef, strictness: FileRef | None = None) -> Artifact:
    """The stage "label": majority labels, with the doubtful ones dropped.

    A later round than the first may keep nothing: then it is the last (`none_kept`). Raises StageError if the first one keeps
    nothing, or if the kept labels are one-sided.
    """
    labels, prompt, params = run.settings.labels, run.settings.judge_prompt, vote_params(run, round)
    config = {
        "prompt": prompt.digest,
        **({"min_confidence": labels.min_confidence} if strictness is None else {}),
        "orders_agree": labels.orders_agree,
        "max_one_sided": labels.max_one_sided,
        **({"quotes": RULE} if labels.grounded_votes else {}),
        **({"memory": labels.memory} if labels.memory and round > 1 else {}),
    }
    rule = VotingRule(params.get("voting", "all"), params["votes"], labels.min_confidence, labels.orders_agree)
    if rule.voting != "all":  # the bounds of a confidence depend on it
        config["votes"] = rule.planned

    def body(context: Context) -> Outcome:
        given = "strictness" in context.inputs
        strict = Strictness.load(context.file("strictness")) if given else Strictness(labels.min_confidence)
        blocks = generated_blocks(context.artifact("votes"), context.file("batch"))
        outcome = _split_labels(context.work, blocks, vote_query(params), labels, rule, strict)
        return _checked(outcome, labels, first=round == 1)

    inputs: dict[str, Input] = {"votes": votes, "batch": batch}
    inputs |= {"strictness": strictness} if strictness is not None else {}
    return run.find_or_make(f"round-{round}/labels", "label", config, inputs, body, round)


def _split_labels(
    work: Path,
    blocks: Iterable[GeneratedBlock],
    query: JudgeQuery,
    settings: LabelSettings,
    rule: VotingRule,
    strictness: Strictness,
) -> Outcome:
    total, sort = SortedRows(), partial(_labels_of, query, settings, rule, strictness)
    for made in written(work, "labels.jsonl", over_blocks(sort, blocks)):
        total.include(made)
    cast, sides, margins = (total.tallies[name] for name in ("cast", "sides", "margins"))
    n_votes = sum(n * pairs for n, pairs in cast.items())
    metrics = {
        "votes": n_votes,
        "votes_planned": cast.total() * len(ORDERS) * query.replies,
        "pairs_by_votes": {str(n): cast[n] for n in sorted(cast)},
        "malformed": dict(total.useless.reasons.most_common()),
        "orders_agree": total.tallies["orders_agree"][True],
        "label_balance": {"A": sides["A"], "B": sides["B"]},
        "vote_margins": {str(margin): margins[margin] for margin in sorted(margins)},
        **({"voted_again": {name: again[name] for name in CHANGES}} if (again := total.tallies["again"]) else {}),
    }
    return Outcome(total.counts, metrics).warning(total.useless.warnings(n_votes, "votes"))


def _labels_of(
    query: JudgeQuery, settings: LabelSettings, of_all: VotingRule, strictness: Strictness, block: GeneratedBlock
) -> SortedRows:
    made = SortedRows()
    for row, line in block.pairs():
        if "requests" not in line:
            made.leave_out(row, line)
            continue
        least = strictness.of(row)
        rule = replace(of_all, min_confidence=math.inf if least is None else least)
        votes = read_votes(query, line["requests"], parse_pair(row) if settings.grounded_votes else None)
        if rule.voting != "all" and rounds_wanted(votes, rule):
            raise StageError(
                f"row {row['id']!r} has {len(votes)} of {rule.planned} votes, and the others could change its label: "
                "remove the folder of this round's votes, so that they are cast again"
            )
        counted = tally(votes, Remembered.of(row, settings.memory))
        made.tallies["again"].update(changes_of(row, votes, counted.label))
        made.tallies["cast"][len(votes)] += 1
        made.tallies["orders_agree"][counted.orders_agree] += 1
        replies = (completion for request in line["requests"] for completion in request["completions"])
        for vote, reply in zip(votes, replies, strict=True):
            if vote.malformed:
                made.useless.add(vote.malformed, reply["text"])
        made.tallies["margins"][abs(counted.for_a - counted.for_b)] += 1
        facts = _label_facts(votes, counted, rule)
        reason = verdict_on(counted, rule) if least is not None else NO_THRESHOLD
        if reason is None and counted.label is not None:
            made.tallies["sides"][counted.label] += 1
            made.keep({**row, **facts})
        else:
            made.drop({**row, **facts}, str(reason))
    return made


def _label_facts(votes: Sequence[Vote], counted: Tally, rule: VotingRule) -> dict[str, Any]:
    """What is written with a label: all of it is about the votes that were cast, except for the bounds."""
    bounds = {} if rule.voting == "all" else {"confidence_bounds": confidence_bounds(votes, counted.label, rule)}
    p_a = mean_probability(votes)
    return {
        "label": counted.label,
        "confidence": counted.confidence,
        **bounds,
        "votes": {"A": counted.for_a, "B": counted.for_b, "null": counted.null},
        "orders_agree": counted.orders_agree,
        **({"p_a": p_a} if p_a is not None else {}),
    }


def _checked(outcome: Outcome, settings: LabelSettings, first: bool) -> Outcome:
    from scipy.stats import binomtest

    counts, balance = outcome.counts, outcome.metrics["label_balance"]
    seen = (
        f"{counts.rows_in} pairs, {counts.kept} labels kept, dropped {dict(counts.dropped)}, "
        f"malformed votes {outcome.metrics['malformed']} of {outcome.metrics['votes']}, kept labels {balance}"
    )
    loud = "".join(f"\n{line}" for line in outcome.metrics.get(WARNINGS, ()))
    if counts.kept == 0:
        nothing = (
            f"no pseudo-label was kept: {seen}. If votes are malformed, train the judge longer; "
            "if they disagree, lower labels.min_confidence (after a rollback, labels.thresholds) or raise labels.votes"
        )
        if first:
            raise StageError(nothing + loud)
        return outcome.warning([f"{nothing}. There are no further rounds"])
    most = max(balance.values())
    share = most / counts.kept
    if share <= settings.max_one_sided:
        return outcome
    limit = f"labels.max_one_sided = {settings.max_one_sided:.0%}"
    one_sided = f"{share:.0%} of the kept labels are on one side, over {limit}: {seen}"
    if binomtest(most, counts.kept).pvalue >= _BY_CHANCE:
        return outcome.warning([f"{one_sided}. With so few labels, this can be chance"])
    raise StageError(
        f"{one_sided}. The judge has a position bias; set labels.orders_agree, or check the label balance of its training "
        f"examples{loud}"
    )
