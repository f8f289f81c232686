"""``make real-gram``: GRAM's two trainings, and the discriminative baseline, on real public files with a tiny model.

PandaLM is labeled and arena-hard is not; the files are found as in `tests.real.self_training`. When both have run, the counts of
every stage are printed and reconciled with one another and with the files.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from data.files import read_jsonl, write_jsonl
from data.store.artifacts import MANIFEST, Manifest
from flows.config.parameters import GramConfig
from flows.config.recipes import load_recipe_of
from flows.running.carry_out import opened
from tasks.baselines import discriminative, labeled_pairs
from tasks.benchmark.sets import prepare_heldout
from tasks.prepare import prepare
from tasks.settings import Optimization
from tests.real.self_training import OUT, arena_hard, data_folder, write_base
from tests.support.following import run_deployment
from tests.support.services import local_services

RUN = Path("runs/gram-real-input")


def train_discriminative() -> None:
    """The baseline on the same pairs, as stages of the same run."""
    config = load_recipe_of("gram", "real-input")
    assert isinstance(config, GramConfig)
    with opened(config, config.settings()) as run:
        data = prepare(run)
        heldout = prepare_heldout(run, data)
        optimization = Optimization(learning_rate=1e-3, epochs=1, batch_size=16, micro_batch_size=1)
        print(json.dumps(discriminative(run, optimization, labeled_pairs(run, data), [heldout]).to_json()))


def check(run: Path, folder: Path) -> None:
    """Prints the counts of every stage. Raises AssertionError if they do not add up."""
    found = {m.name: m for m in (Manifest.load(path) for path in run.rglob(MANIFEST) if ".stale" not in path.parts)}
    for manifest in sorted(found.values(), key=lambda m: m.started):
        counts = manifest.counts  # loading it has checked that rows in = kept + dropped + failed
        print(
            f"{manifest.name:26} in {counts.rows_in:5} kept {counts.kept:5} dropped {dict(counts.dropped)} "
            f"failed {dict(counts.failed)}"
        )
    sizes = found["data"].metrics["sizes"]
    n_labeled = len(json.loads((folder / "pandalm" / "testset-v1.json").read_text()))
    n_pairs = sum(1 for _ in read_jsonl(OUT / "arena-hard.jsonl"))
    assert found["data"].counts.rows_in == n_labeled + n_pairs, "every row of both files was read once"
    assert found["data"].counts.kept == sum(sizes[f"{name}.jsonl"] for name in ("labeled", "heldout", "pretraining"))
    assert found["pretrained"].counts.rows_in == sizes["pretraining.jsonl"]
    assert found["round-0/judge"].counts.rows_in == 2 * sizes["labeled.jsonl"], "each labeled pair in both orders"
    assert found["discriminative/judge"].counts.rows_in == sizes["labeled.jsonl"]
    for name in ("round-0", "discriminative"):
        games = list(read_jsonl(run / name / "benchmark/games.jsonl"))
        assert len(games) == 2 * sizes["heldout.jsonl"]
        for game in games:
            answered = game["verdict"] is not None or game["p_first"] is not None
            assert answered == (game["malformed"] is None), f"{name}: {game}"


def main() -> None:
    folder = data_folder()
    os.environ["GRAM_R2_DATA"] = str(folder)
    print(f"{write_jsonl(OUT / 'arena-hard.jsonl', arena_hard(folder / 'arena-hard'))} pairs of arena-hard")
    write_base(OUT / "base")
    with local_services(Path(".prefect")) as services:
        _, state = run_deployment(services, "gram/real-input", {"run_name": RUN.name})
    if state != "Completed":
        sys.exit(f"gram/real-input: {state}")
    train_discriminative()
    check(RUN, folder)


if __name__ == "__main__":
    main()
