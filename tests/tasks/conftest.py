"""Fixtures that several files here share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import judgebench
from data.benchmarks.items import Benchmark
from data.files import write_jsonl
from data.store.store import RunStore
from data.world.splits import write_splits
from tasks.generation.shards import GenerationJob
from tasks.model.chat import ChatEncoder
from tasks.run.changes import announce
from tasks.run.finished import mark_finished, may_change
from tasks.run.stage import Run
from tests.conftest import run_with, settings_with
from tests.support.changing import algorithm, made
from tests.support.families import (
    FAMILIES,
    build_tokenizer,
)
from tests.support.generating import BUILDER, N_ROWS
from tests.support.preparing import Prepare
from tests.support.scoring_rows import (
    judgebench_row,
    write_rows,
)
from tests.support.templates import (
    TEXTS,
)
from tests.support.written_run import (
    fake_run,
)


@pytest.fixture
def job(tmp_path: Path) -> GenerationJob:
    write_jsonl(tmp_path / "rows.jsonl", ({"id": str(i), "text": f"row {i}"} for i in range(N_ROWS)))
    return GenerationJob(
        BUILDER,
        {},
        str(tmp_path / "rows.jsonl"),
        N_ROWS,
        "",
        str(tmp_path / "shards"),
        {"max_tokens": 256},
        {"shard_rows": 3},
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_splits(folder, seed=0)
    return folder


@pytest.fixture
def run(tmp_path: Path, encoder: ChatEncoder) -> Run:
    return run_with(tmp_path, encoder, lambda request, j: "")


@pytest.fixture
def jb(tmp_path: Path) -> Benchmark:
    """Three knowledge pairs and one in each other category of JudgeBench."""
    sources = ["mmlu-pro-law"] * 3 + ["livebench-reasoning", "livebench-math", "livecodebench"]
    rows = [judgebench_row(f"p{i}", source, "A>B" if i % 2 else "B>A") for i, source in enumerate(sources)]
    return judgebench.load(write_rows(tmp_path / "jb.jsonl", rows))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tokenizers as a model's folder holds them: which tokens are special must outlive being saved."""
    root = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        build_tokenizer(family, TEXTS).save_pretrained(root / family.name)
    return {family.name: root / family.name for family in FAMILIES}


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, ChatEncoder]:
    return {name: ChatEncoder.load(str(folder)) for name, folder in folders.items()}


@pytest.fixture
def prepared(tmp_path: Path, encoder: ChatEncoder) -> Prepare:
    return Prepare(tmp_path, encoder)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake_run(tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What is logged in the project's name. `caplog` misses what comes after Prefect, when it is imported, has set up logging."""
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("gram_r2")
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., tuple[list[str], list[str]]]:
    """Runs the algorithm over one folder with these settings; returns what was said, and which stages were made.

    The run counts as finished if it `ends`.
    """

    def run_again(
        on_change: str = "auto",
        seed: int = 0,
        name: str = "demo",
        steps: Any = algorithm,
        ends: bool = False,
        **sections: Any,
    ) -> tuple[list[str], list[str]]:
        store = RunStore(tmp_path, name)
        run = Run(store, settings_with(**sections), seed, retry_failed=may_change(store, on_change))
        said: list[str] = []
        made.clear()
        if announce(run, steps, on_change, said.append):
            said.append("all is reused")
        assert made == [], "saying it must make nothing"
        steps(run)
        if ends:
            mark_finished(run)
        return said, list(made)

    return run_again
