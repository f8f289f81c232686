"""What several test files share: the world's tokenizer, pairs, runs whose engine is a fake in this process, real files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from data.files import write_jsonl
from data.records import Message, ResponsePair
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from data.world.taste import make_pair, rationale, verdict
from data.world.tokenizer import build_tokenizer
from flows.server.processes import Services, start_worker
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, Engine, Failure, FakeEngine, OnAnswer, Request, Requests
from tasks.run.stage import Run
from tasks.settings import Settings
from tests.chaos.subject import Subject
from tests.support.following import run_deployment
from tests.support.scheduling import ByGroup, place_of
from tests.support.services import local_services

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("GRAM_R2_DATA", ROOT / "../shared/data")).expanduser()

# A busy machine must not fail a test; what must be quick is timed by a test of its own.
hypothesis_settings.register_profile("gram-r2", deadline=None)
hypothesis_settings.load_profile("gram-r2")

WATCHED = "3.7.7"
"""The version of Prefect on which the tests marked `prefect` last passed. With another one they run, and pass, or tell what
of our settings no longer holds; then this is set to it."""

SECRET = "hf_planted4711secret"
"""Stands in the environment of the worker for tokens that must never be written anywhere."""

Rows = Iterable[Mapping[str, Any]]
Reply = Callable[[Request, int], str]


def real_file(name: str) -> Path:
    """A public file; the test is skipped where it is not there."""
    if not (REAL / name).is_file():
        pytest.skip(f"{REAL / name} is not here; set GRAM_R2_DATA to a folder with the public files")
    return REAL / name


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; without the tests that only watch a known Prefect."""
    if version("prefect") == WATCHED and "prefect" not in config.option.markexpr:
        reason = f"Prefect {WATCHED} was watched already; `make test-prefect` does it again"
        for item in items:
            if item.get_closest_marker("prefect"):
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: place_of(item.path))


def free_port() -> int:
    """A port of the loopback that nothing listens on now, and that the system hands to no outgoing connection."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(20_000, 32_768)))
            return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A real Prefect server with every pool, automation and deployment, and a worker."""
    with (
        pytest.MonkeyPatch.context() as patch,
        local_services(tmp_path_factory.mktemp("prefect"), port=free_port(), worker=False) as running,
    ):
        for name in ("HF_TOKEN", "WANDB_API_KEY"):
            patch.setitem(running.environment, name, SECRET)
        from prefect.blocks.system import Secret
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: running.environment["PREFECT_API_URL"]}):
            Secret(value=SECRET).save("aws-session-token")
        start_worker(running)
        yield running


@pytest.fixture(scope="session")
def undisturbed(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A short self-training that has completed, and that nobody disturbed."""
    subject = Subject(services, tmp_path_factory.mktemp("short"), "short")
    subject.flow_run, state = run_deployment(services, "self-train/demo", subject.job)
    assert state == "Completed"
    return subject


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture(scope="session")
def encoder(tokenizer: Any) -> ChatEncoder:
    return ChatEncoder(tokenizer)


def until(what: Callable[[], object], seconds: float = 120) -> None:
    """Waits until it is so; fails where it is not within these seconds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


def make(identity: str = "p1", question: str = "Why?", a: str = "first", b: str = "second") -> ResponsePair:
    """A pair with a lone user turn."""
    return ResponsePair(identity, (Message("user", question),), a, b)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- engines ----------------------------------------------------------------------------------------------------------


@dataclass
class FlakyEngine:
    """Holds many requests at once. Fails those that `fails` picks, serves the others, dies when `crashes` picks all it holds."""

    inner: FakeEngine
    fails: Callable[[Request], bool] = lambda request: False
    crashes: Callable[[Sequence[Request]], bool] = lambda requests: False
    holds: int = 1000

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        pulled, held = iter(requests), deque[tuple[int, Request]]()
        given = itertools.count()
        while True:
            for request in itertools.takewhile(lambda one: one is not None, pulled):
                assert request is not None
                held.append((next(given), request))
                if len(held) == self.holds:
                    break
            if not held:
                return
            if self.crashes([request for _, request in held]):
                raise MemoryError("the engine died")
            i, request = held.popleft()
            on_answer(i, Failure("engine_abort", "no reason") if self.fails(request) else self.inner.answer(request))


@dataclass
class ScriptedEngine:
    """Completions with a logprob of the test's choice; alone, each has −100, so that Eq. 5 gives logprob ÷ 100."""

    reply: Callable[[Request, int], tuple[str, float]]
    scored: int = 0

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        for i, request in enumerate(one for one in requests if one is not None):
            if request.score_from is not None:
                self.scored += 1
                on_answer(i, [Completion("", [], finished=True, sum_logprob=-100.0)])
            else:
                on_answer(i, [self._completion(request, j) for j in range(request.sampling.n)])

    def _completion(self, request: Request, j: int) -> Completion:
        text, logprob = self.reply(request, j)
        return Completion(text, [*map(ord, text), 0], finished=True, sum_logprob=logprob)


@dataclass
class InProcess:
    """Carries out generation jobs in this process. Counts the requests of all jobs."""

    engine: Engine
    encoder: ChatEncoder
    requests: int = 0

    def __call__(
        self,
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> GenerationStats:
        counted = _Counted(self.engine)
        run_shards(job, counted, self.encoder, lambda facts: on_progress(facts["done"], facts["total"]))
        self.requests += counted.requests
        return GenerationStats(tokens=10, seconds=2.0, engines=1)


@dataclass
class _Counted:
    inner: Engine
    requests: int = 0

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        self.inner.generate(map(self._count, requests), on_answer)

    def _count(self, request: Request | None) -> Request | None:
        """Counts the requests that a stage makes, but not those that score a text or continue a reply."""
        self.requests += request is not None and request.score_from is None and not request.begun
        return request


# ---- runs -------------------------------------------------------------------------------------------------------------


def settings_with(**sections: Mapping[str, Any]) -> Settings:
    """Settings of the small world; each section can be changed. Its sources do not have to exist."""
    values: dict[str, dict[str, Any]] = {
        "models": {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 256},
        "data": {key: [{"path": f"{key}.jsonl"}] for key in ("rationale", "labeled", "unlabeled", "heldout")},
        "proofs": {"max_tokens": 64},
        "labels": {"max_tokens": 64},
        "generation": {"shard_rows": 3},
        "rounds": {"count": 1, "pairs": 4},
    }
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes}
    return Settings.model_validate(values)


def run_with(folder: Path, encoder: ChatEncoder, engine: Engine | Reply, name: str = "run", **sections: Any) -> Run:
    """A run in `folder` whose generation is done by a fake engine, or by one that gives these replies."""
    made = FakeEngine(engine) if callable(engine) else engine
    return Run(RunStore(folder, name), settings_with(**sections), seed=0, generator=InProcess(made, encoder))


def artifact(run: Run, name: str, files: Mapping[str, Rows]) -> Artifact:
    """A finished stage that holds these rows."""
    contents = {file: list(rows) for file, rows in files.items()}

    def body(context: Any) -> Outcome:
        for file, rows in contents.items():
            write_jsonl(context.work / file, rows)
        return Outcome(Counts(0, 0))

    return run.find_or_make(name, "test", {"files": contents}, {}, body)


# ---- a judge that sees the truth -----------------------------------------------------------------------------------------


def shown_pair(encoder: ChatEncoder, request: Request) -> ResponsePair:
    """The pair of the world that a compact prompt shows."""
    text = encoder.tokenizer.decode(list(request.prompt_ids))
    a, b = (text.split(f"\n{name}: ")[1].split("\n")[0] for name in "AB")
    return make_pair(f"{a} {b}".split())


def true_judge(encoder: ChatEncoder) -> Reply:
    """Replies of a compact judge that is always right, whichever order is shown."""

    def reply(request: Request, j: int) -> str:
        pair = shown_pair(encoder, request)
        return f"<think> {rationale(pair)} </think><answer>{verdict(pair)}</answer>"

    return reply
