"""``make chaos KILLS=50 SEED=1``: kills a real self-training at seeded moments, resumes it, and counts what was lost.

A real Prefect server and workers, real vLLM on the CPU, the small world, short settings. At the end of every run each
row of each stage must exist exactly once, every manifest and file must be intact, no process may be left behind, and no
more tokens may be spent than in an undisturbed run, except on rows that were in an engine when it was killed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.chaos.disturb import Kill, chaos
from tests.chaos.faults import FAULTS
from tests.support.services import local_services

_CHANGES = {
    "data.calibration_share": 0.3,
    "labels.target_precision": 0.6,
    "labels.target_confidence": 0.6,
    "labels.if_infeasible": "strictest",
    "proofs.audit_pairs": 10,
    "rounds.gate": "warn",
}
"""So that every stage there is can be struck."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-run", type=int, default=8)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, metavar="FAULT")
    parser.add_argument("--at", nargs="+", default=(), metavar="STAGE", help="strike only there, as at audit-proofs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gram-r2-chaos-"))
    print(f"the runs are in {folder}", flush=True)
    faults = [arguments.faults[i % len(arguments.faults)] for i in range(arguments.kills)]
    with local_services(folder / "prefect") as services:
        kills = chaos(services, folder, faults, arguments.seed, arguments.per_run, changes=_CHANGES, at=arguments.at)
    (folder / "kills.json").write_text(json.dumps([asdict(kill) for kill in kills], indent=1))
    print(table(kills))
    sys.exit(0 if all(kill.checked is not None and kill.checked.is_sound() for kill in kills) else 1)


def table(kills: list[Kill]) -> str:
    """Fault × stage: how often, and the worst losses, duplicates and token counts of the affected runs."""
    rows = ["| fault | stage | times | rows lost | rows doubled | tokens ÷ undisturbed | steps trained again |"]
    rows.append("|---|---|---|---|---|---|---|")
    for fault, stage in sorted({(kill.fault, kill.stage) for kill in kills}):
        struck = [k.checked for k in kills if (k.fault, k.stage) == (fault, stage) and k.checked is not None]
        worst = [max(getattr(c, name) for c in struck) for name in ("lost", "doubled", "tokens", "steps_again")]
        rows.append(f"| {fault} | {stage} | {len(struck)} | {worst[0]} | {worst[1]} | {worst[2]:.3f} | {worst[3]} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
