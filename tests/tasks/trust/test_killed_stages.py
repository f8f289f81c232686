"""A run that is killed (kill −9) in stages that doubt its labels, just before they are done, comes to the same end.

These stages take milliseconds; the longer ones are struck by ``python -m tests.chaos --at``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from data.store.store import RunStore
from data.world.splits import SIZES, write_splits
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.model.chat import ChatEncoder
from tasks.run.stage import Run
from tests.chaos.subject import manifests
from tests.conftest import InProcess
from tests.support.learning import copies
from tests.support.planning import sources
from tests.support.playing import world_engine

STAGES = ("audit-claims", "threshold", "gate")


def run_in(folder: Path, store: str) -> Run:
    config = with_overrides(load_recipe("demo").model_dump(), {**sources(folder, *SIZES), "rounds.pairs": 8})
    config = with_overrides(config.model_dump(), {"rounds.count": 1})
    encoder = ChatEncoder.load(config.models.judge_base)
    engine = InProcess(world_engine(encoder), encoder)
    return Run(RunStore(folder / store, "run"), config, 0, generator=engine, trainer=copies)


def killed_in(stage: str, folder: Path) -> None:
    """Runs until the first stage of this name that is not there has written its files, but no manifest."""
    find_or_make = Run.find_or_make

    def strike(self: Run, name: str, kind: str, config: Any, inputs: Any, body: Any, *rest: Any) -> Any:
        def struck(context: Any) -> None:
            body(context)
            os.kill(os.getpid(), signal.SIGKILL)

        is_it = name.rpartition("/")[2] == stage
        return find_or_make(self, name, kind, config, inputs, struck if is_it else body, *rest)

    with patch.object(Run, "find_or_make", strike):
        self_training(run_in(folder, "struck"))


def test_a_run_killed_in_stages_that_doubt_labels_comes_to_the_same_end(tmp_path: Path) -> None:
    write_splits(tmp_path, 0, {**SIZES, "unlabeled": 8, "heldout": 10, "calibration": 40})
    for stage in STAGES:
        child = multiprocessing.get_context("spawn").Process(target=killed_in, args=(stage, tmp_path))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, stage
    struck, undisturbed = run_in(tmp_path, "struck"), run_in(tmp_path, "undisturbed")
    self_training(struck)
    self_training(undisturbed)
    found, expected = manifests(struck.store.path), manifests(undisturbed.store.path)
    assert {name: one.content for name, one in found.items()} == {name: one.content for name, one in expected.items()}
    assert {name.rpartition("/")[2] for name in found} >= set(STAGES)
    assert not list(struck.store.path.glob(".work/*"))
