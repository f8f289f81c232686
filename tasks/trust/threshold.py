"""How confident the labels of a round must be: tested on calibration pairs, so that a promised share of them is right.

Two stages of a round, before its votes: "calibration-votes", the judge's votes on labeled pairs that no model was trained on,
and "threshold", with the chosen `Strictness` in ``strictness.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from data.files import read_jsonl, write_json
from data.records import parse_pair, prompt_key
from data.seeds import derive_seed
from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome, StageError
from prompts.quotes import RULE
from tasks.label import vote_params, vote_query, votes_on
from tasks.model.judging import JudgeQuery
from tasks.model.strictness import Strictness, stricter_than
from tasks.model.votes import read_votes, tally
from tasks.model.voting import VotingRule, verdict_on
from tasks.prepare import calibration_of
from tasks.run.rows import generated_for
from tasks.run.stage import Context, Run
from tasks.settings import LabelSettings
from tasks.trust.precision import Choice, Kept, choose_threshold, fewest_kept, further_pairs, own_domains

STRICTNESS = "strictness.json"
_ENDS = ("voting", "min_confidence", "orders_agree", "quotes")
"""The parameters of votes that end when the others no longer matter: on calibration pairs, all are cast."""
_ADVICE = (
    'Lower labels.target_precision, set labels.if_infeasible = "strictest", or give more labeled pairs to data.calibration '
    "or data.calibration_share"
)


def set_strictness(
    run: Run, round: int, judge: Artifact, data: Artifact, batch: FileRef, stricter: int = 0
) -> FileRef | None:
    """How strict the labels of a round's batch are: `stricter` steps of labels.thresholds above what the settings ask for.

    None if they are kept from labels.min_confidence, or come from the truth.
    Raises StageError if labels.target_precision cannot be shown for any pair in the first round, and the run is to stop then;
    in a later one no label is kept.
    """
    labels = run.settings.labels
    if labels.source == "truth" or (labels.target_precision is None and not stricter):
        return None
    if labels.target_precision is None:
        return _raise_min_confidence(run, round, stricter).ref(STRICTNESS)
    pairs = calibration_of(data)
    votes = cast_calibration_votes(run, round, judge, pairs)
    return choose_thresholds(run, round, votes, pairs, batch, stricter).ref(STRICTNESS)


def cast_calibration_votes(run: Run, round: int, judge: Artifact, pairs: FileRef) -> Artifact:
    """The stage "calibration-votes": the same requests as for unlabeled pairs, with seeds of their own, and all votes."""
    params = {name: value for name, value in vote_params(run, round).items() if name not in _ENDS}
    params["seed"] = derive_seed(run.seed, "calibration-vote", round)
    inputs: dict[str, Input] = {"judge": judge, "batch": pairs}
    return votes_on(run, f"round-{round}/calibration-votes", "calibration-vote", params, inputs, round)


def choose_thresholds(
    run: Run, round: int, votes: Artifact, pairs: FileRef, batch: FileRef, stricter: int = 0
) -> Artifact:
    """The stage "threshold", from the votes on calibration pairs. The batch tells in which domains labels are wanted."""
    labels, query = run.settings.labels, vote_query(vote_params(run, round))
    by_prompt = run.settings.data.overlap == "prompt"
    config = {
        "by_prompt": by_prompt,
        "prompt": run.settings.judge_prompt.digest,
        "target_precision": labels.target_precision,
        "target_confidence": labels.target_confidence,
        "thresholds": list(labels.thresholds),
        "if_infeasible": labels.if_infeasible,
        "orders_agree": labels.orders_agree,
        **({"quotes": RULE} if labels.grounded_votes else {}),
        **({"stricter": stricter, "votes": _votes_a_label(run)} if stricter else {}),
    }

    def body(context: Context) -> Outcome:
        judged = _Judged(query, labels, by_prompt)
        for row, line in generated_for(context.artifact("votes"), context.file("pairs")):
            judged.add(row, line)
        wanted = {_domain(row) for row in read_jsonl(context.file("batch"))}
        groups = [group.raised(stricter, _votes_a_label(run)) for group in _tested(judged, wanted, labels)]
        return _outcome(context, judged, groups, labels, first=round == 1)

    inputs: dict[str, Input] = {"votes": votes, "pairs": pairs, "batch": batch}
    return run.find_or_make(f"round-{round}/threshold", "threshold", config, inputs, body, round)


def _raise_min_confidence(run: Run, round: int, stricter: int) -> Artifact:
    """The stage "threshold" without a target: stricter than labels.min_confidence, by this many steps."""
    labels, votes = run.settings.labels, _votes_a_label(run)
    config = {
        "min_confidence": labels.min_confidence,
        "thresholds": list(labels.thresholds),
        "stricter": stricter,
        "votes": votes,
    }

    def body(context: Context) -> Outcome:
        threshold = stricter_than(labels.min_confidence, labels.thresholds, stricter, votes)
        write_json(context.work / STRICTNESS, Strictness(threshold).to_json())
        return Outcome(Counts(0, 0), {"groups": [{"domain": None, "threshold": threshold}]})

    return run.find_or_make(f"round-{round}/threshold", "threshold", config, {}, body, round)


def _votes_a_label(run: Run) -> int | None:
    """The votes on a pair; None for a judge that gives probabilities instead."""
    return run.settings.labels.votes if run.settings.judge_prompt.has_rationale else None


def _domain(row: Mapping[str, Any]) -> str:
    return str(row.get("source", ""))


# ---- what the judge does on the calibration pairs -------------------------------------------------------------------------


@dataclass
class _Judged:
    """Calibration pairs by domain, and which of them each threshold keeps: `kept` counts by domain, threshold, is it right."""

    query: JudgeQuery
    labels: LabelSettings
    by_prompt: bool
    """One pair of a prompt counts: the bound is of independent pairs."""
    prompts: set[str] = field(default_factory=set)
    pairs: Counter[str] = field(default_factory=Counter)
    kept: Counter[tuple[str, float, bool]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """Counts a pair by the votes generated for it; those of a label that is kept are those of `tasks.label`."""
        if "requests" not in line:
            (self.dropped if "dropped" in line else self.failed)[line.get("dropped") or line["failed"]] += 1
            return
        pair = parse_pair(row)
        if self.by_prompt and (prompt := prompt_key(pair.prompt)) in self.prompts:
            self.dropped["prompt_counted_already"] += 1
            return
        self.prompts.update({prompt} if self.by_prompt else ())
        votes = read_votes(self.query, line["requests"], pair if self.labels.grounded_votes else None)
        counted, rule = tally(votes), VotingRule("all", len(votes), 0.0, self.labels.orders_agree)
        self.pairs[_domain(row)] += 1
        for threshold in self.labels.thresholds:
            if verdict_on(counted, replace(rule, min_confidence=threshold)) is None:
                self.kept[_domain(row), threshold, counted.label == row["label"]] += 1

    def by_threshold(self, domains: Collection[str]) -> list[Kept]:
        """What each threshold keeps in these domains together."""
        found = []
        for threshold in self.labels.thresholds:
            right, wrong = (sum(self.kept[name, threshold, is_right] for name in domains) for is_right in (True, False))
            found.append(Kept(threshold, right + wrong, right))
        return found

    @property
    def counts(self) -> Counts:
        judged = self.pairs.total()
        rows_in = judged + self.dropped.total() + self.failed.total()
        return Counts(rows_in, judged, dict(self.dropped), dict(self.failed))


# ---- thresholds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Pairs with one threshold: those of a domain, or all others (None). `threshold` None keeps no label.

    `tested_on` are the domains of its calibration pairs.
    """

    domain: str | None
    tested_on: Collection[str]
    pairs: int
    found: list[Kept]
    error: float
    choice: Choice
    threshold: float | None

    @property
    def bound(self) -> float | None:
        """What has been shown of the precision at the threshold; None if it was not tested."""
        return next((one.bound for one in self.choice.tested if one.threshold == self.threshold), None)

    def raised(self, steps: int, votes: int | None) -> _Group:
        """With a threshold that many steps stricter."""
        if self.threshold is None or not steps:
            return self
        thresholds = [one.threshold for one in self.found]
        return replace(self, threshold=stricter_than(self.threshold, thresholds, steps, votes))

    def to_json(self) -> dict[str, Any]:
        kept = next((one for one in self.found if one.threshold == self.threshold), None)
        return {
            "domain": self.domain,
            "pairs": self.pairs,
            "threshold": self.threshold,
            "kept": kept.kept if kept else 0,
            "right": kept.right if kept else 0,
            "bound": self.bound,
            "tested": [asdict(one) for one in self.choice.tested],
        }

    def why_infeasible(self, target: float) -> str:
        """What was seen, how many more calibration pairs would do, and what becomes of the labels."""
        where = "" if self.domain is None else f" in the domain {self.domain!r}"
        if self.choice.tested:
            last = self.choice.tested[-1]
            seen = (
                f"of {last.kept} calibration pairs kept at {last.threshold:g}, {last.right} are labeled right, which shows "
                f"{last.bound:.3f}"
            )
        else:
            most = max(one.kept for one in self.found)
            fewest = fewest_kept(target, self.error)
            seen = (
                f"at most {most} of {self.pairs} calibration pairs are kept, and {fewest} without an error are needed"
            )
        more = further_pairs(self.found, self.pairs, target, self.error)
        needed = f"about {more:,} more" if more else "not even a hundred times as many"
        then = (
            "no label is kept" if self.threshold is None else f"labels are kept from {self.threshold:g}, the strictest"
        )
        return (
            f"labels.target_precision = {target:g} is not shown{where}: {seen}; {needed} would do if they are judged as these "
            f"are; {then}"
        )


def _tested(judged: _Judged, wanted: Collection[str], labels: LabelSettings) -> Iterator[_Group]:
    """Each wanted domain with enough calibration pairs by itself, and one group for all others.

    The latter is tested on their own calibration pairs: those of a large domain cannot speak for them. If they have none, on all.
    """
    target = labels.target_precision
    assert target is not None, "only called where there is a target"
    own, error = own_domains(judged.pairs, wanted, target, 1 - labels.target_confidence)
    for domain in [*own, *([None] if len(own) < len(wanted) else [])]:
        others = {name for name in wanted if name not in own and judged.pairs[name]}
        domains = {domain} if domain is not None else others or set(judged.pairs)
        found = judged.by_threshold(domains)
        choice = choose_threshold(found, target, error)
        threshold = choice.chosen.threshold if choice.chosen else None
        if threshold is None and labels.if_infeasible == "strictest":
            threshold = next((one.threshold for one in found if one.kept), found[0].threshold)
        n = sum(judged.pairs[name] for name in domains)
        yield _Group(domain, domains, n, found, error, choice, threshold)


def _outcome(context: Context, judged: _Judged, groups: list[_Group], labels: LabelSettings, first: bool) -> Outcome:
    thresholds = {group.domain: group.threshold for group in groups}
    strictness = Strictness(
        thresholds.get(None), {name: threshold for name, threshold in thresholds.items() if name is not None}
    )
    target = labels.target_precision or 0.0
    infeasible = [group.why_infeasible(target) for group in groups if group.choice.chosen is None]
    used = [group for group in groups if group.threshold is not None]
    if first and not used:
        raise StageError("\n".join([*infeasible, _ADVICE]))
    write_json(context.work / STRICTNESS, strictness.to_json())
    bounds = [group.bound for group in used]
    metrics = {
        "promised": labels.target_precision,
        "confidence": labels.target_confidence,
        "holds": bool(used) and all(group.choice.chosen is not None for group in used),
        "bound": min((bound for bound in bounds if bound is not None), default=None) if None not in bounds else None,
        "kept_share": _kept_share(judged, groups),
        "groups": [group.to_json() for group in groups],
    }
    return Outcome(judged.counts, metrics).warning([*infeasible, *(() if used else (_ADVICE,))])


def _kept_share(judged: _Judged, groups: Collection[_Group]) -> float | None:
    """The share of the groups' calibration pairs that is kept, each at its group's threshold."""
    kept = sum(
        judged.kept[name, group.threshold, is_right]
        for group in groups
        if group.threshold is not None
        for name in group.tested_on
        for is_right in (True, False)
    )
    n = sum(group.pairs for group in groups)
    return round(kept / n, 6) if n else None
