"""Plans what a prover writes: the proofs of a round, and their audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.model.orders import ORDERS
from tasks.model.proofs import uses_score
from tasks.plan.lengths import Lengths, then
from tasks.plan.stages import GenerationLoad, Place, PlannedModel, PlannedStage, planned_generation
from tasks.run.space import BYTES_A_TOKEN
from tasks.settings import Role, Settings

_BYTES_A_PROOF, BYTES_OF_VOTES = 170, 120
"""Bytes of a selected proof beside its text, and of the votes recorded with a label."""


def proved_orders(settings: Settings) -> int:
    """The orders of a pair that are proved and learned."""
    return 1 if settings.proofs.orders == "one" else len(ORDERS)


@dataclass(frozen=True)
class Proofs:
    """What a prover writes: `k` proofs of `tokens` tokens for each of `orders`; `kept` is the share of pairs with valid ones.

    `scored` means that Eq. 5 is computed. That all proofs are read for it is an upper bound: those that break a rule are not.
    """

    k: int
    tokens: float
    kept: float
    orders: int
    scored: bool

    @classmethod
    def of(cls, settings: Settings, tokens: float, kept: float) -> Proofs:
        return cls(settings.proofs.k, tokens, kept, proved_orders(settings), uses_score(settings.proofs))


def planned_proofs(
    place: Place, pairs: float, row_bytes: float, prompts: Lengths, proofs: Proofs, prover: PlannedModel
) -> PlannedStage:
    """Proofs for pairs in the orders that are proved, and their selection."""
    load = GenerationLoad(
        rows=pairs,
        fits=prompts.fits,
        requests=proofs.orders,
        replies=proofs.k,
        prompt_tokens=prompts.tokens,
        reply_tokens=proofs.tokens,
        kept=proofs.kept,
        row_bytes=row_bytes + BYTES_OF_VOTES + proofs.orders * (_BYTES_A_PROOF + BYTES_A_TOKEN * proofs.tokens),
        scored=proofs.scored,
    )
    return planned_generation(place, load, prover)


def planned_audit(
    round: int, pairs: float, prompts: Mapping[Role, Lengths], proofs: Proofs, models: Mapping[Role, PlannedModel]
) -> list[PlannedStage]:
    """The audit of a round's proofs on this many pairs: both labels are proved, and the judge reads each proof twice.

    That it reads all of them is an upper bound: those that break a rule are not.
    """
    name = f"round-{round}/audit-proofs"
    place = Place(name, "audit-proofs", round, (f"round-{round}/audit-claims", name))
    all_scored = replace(proofs, kept=1.0, scored=True)
    written = planned_proofs(place, 2 * pairs, 0.0, prompts["prover"], all_scored, models["prover"])
    read = GenerationLoad(
        rows=written.rows_out * proofs.orders * proofs.k,
        fits=then(prompts["prover"], prompts["judge"]),
        requests=2,
        replies=1,
        prompt_tokens=prompts["judge"].tokens + proofs.tokens,
        reply_tokens=0.5,
    )
    place = Place(f"round-{round}/judge-proofs", "judge-proofs", round, (f"round-{round}/judge-proofs",))
    # One token a request: how fast a judge writes says nothing of the time in which it reads.
    reader = replace(models["judge"], generated_tokens_per_s=None)
    return [written, planned_generation(place, read, reader)]
