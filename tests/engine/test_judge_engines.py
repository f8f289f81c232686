"""A judge over real engines: a checkpoint in a process of its own, and the same one behind a real OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from data.benchmarks import preferences
from data.files import read_jsonl, write_jsonl
from data.world import taste
from tasks.benchmark.play import read_games
from tasks.generation.local import generate_in_children
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.machine.child import ChildError
from tasks.model.chat import ChatEncoder
from tasks.model.device import engine_environment
from tasks.model.endpoint import EndpointEngine
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine import Request, Sampling
from tasks.model.folder import ModelError
from tasks.model.judging import JudgeQuery
from tasks.model.process import EngineProcess
from tasks.rank import Comparison, Judge, open_judge
from tasks.rank.inputs import pair_of
from tasks.reward.judging import ServedJudge
from tasks.reward.servers import Server, Servers
from tasks.settings import GenerationSettings
from tests.conftest import ROOT, free_port, rows_of
from tests.support.commands import gram_r2

pytestmark = pytest.mark.engine

JUDGE = "data/world/base-judge"
PAIRS = taste.draw_pairs(6, seed=8)
TRIPLES = [(taste.QUESTION, pair.pair.response_a, pair.pair.response_b) for pair in PAIRS]
SMALL = GenerationSettings(kv_cache_mib=64)
OPTIONS = {"prompt": "compact", "max_tokens": 60, "context": 128, "generation": SMALL, "dtype": "float32"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """VLLM's own server with the world's judge."""
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", JUDGE, "--served-model-name", "world",
                "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "128",
                "--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20), "--no-enable-chunked-prefill",
                "--max-num-batched-tokens", "4096",
            ],
            cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, **engine_environment(on_gpus=False)},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 180
        while not _answers(url):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def opened() -> Iterator[Judge]:
    """The checkpoint in a process of its own."""
    with open_judge(JUDGE, **OPTIONS) as judge:  # type: ignore[arg-type]
        yield judge


def said(compared: list[Comparison]) -> list[list[object]]:
    return [[(one.order, one.winner, one.answer.rationale) for one in found.answers] for found in compared]


def test_a_checkpoint_and_an_endpoint_say_the_same(opened: Judge, endpoint: str) -> None:
    before = opened.usage.batches
    here = opened.compare_many(TRIPLES)
    assert opened.usage.batches == before + 1
    with open_judge(f"{endpoint}#world", **OPTIONS) as judge:  # type: ignore[arg-type]
        there = judge.compare_many(TRIPLES)
    assert said(here) == said(there)
    assert sum(one.nulls for one in here) == 0


def test_an_endpoint_does_not_guess_the_probability_of_a_label(opened: Judge, endpoint: str) -> None:
    """The world's judge reasons: asked for a label alone it says neither, and the server tells 20 alternatives only."""
    options = {**OPTIONS, "prompt": "compact-label"}
    by_label = Judge(opened.engine, opened.encoder, replace(opened.query, prompt="compact-label"))
    here = by_label.compare_many(TRIPLES)
    assert by_label.usage.tokens == 12
    with open_judge(endpoint, **options) as judge:  # type: ignore[arg-type]
        there = judge.compare_many(TRIPLES)
    pairs = [
        (x.answer, y.answer)
        for a, b in zip(here, there, strict=True)
        for x, y in zip(a.answers, b.answers, strict=True)
    ]
    for known, told in pairs:
        assert known.p_first is not None
        assert told.malformed == "no_label_probability" or told.p_first == pytest.approx(known.p_first, abs=2e-3)


def test_the_reward_service_says_what_the_judge_in_one_process_says(opened: Judge, endpoint: str) -> None:
    """By greedy replies, by sampled votes, by the probabilities of the labels, and where replies are cut off and go on."""
    assert isinstance(opened.encoder, ChatEncoder)
    votes = replace(opened.query, votes=3, temperature=1.0)
    labels, short = replace(opened.query, prompt="compact-label"), replace(opened.query, max_tokens=4)

    async def scenario() -> None:
        servers = Servers([Server(endpoint.removesuffix("/v1"))])
        async with servers.opened():
            [server] = servers.servers
            await servers.identify(server, 128)
            await servers.check(server)
            for query in (opened.query, votes, labels, short):
                here = Judge(opened.engine, opened.encoder, query)
                there = ServedJudge(servers, opened.encoder, query)
                known, found = (
                    here.compare_many(TRIPLES),
                    await there.compare_all([pair_of(*one) for one in TRIPLES], query),
                )
                assert said([one.comparison for one in found]) == said(known)
                assert [one.comparison.share for one in found] == pytest.approx([one.share for one in known], abs=1e-6)
                assert sum(one.tokens for one in found) == here.usage.tokens

    asyncio.run(scenario())


def test_what_an_endpoint_refuses_fails_alone(endpoint: str) -> None:
    with open_judge(endpoint, **OPTIONS) as judge:  # type: ignore[arg-type]
        good, refused = judge.compare_many([TRIPLES[0], (taste.QUESTION, "word " * 300, "x")])
    assert (good.nulls, good.failed) == (0, {})
    assert (refused.winner, refused.failed) == (None, {"endpoint_400": 2})


def test_an_endpoint_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EndpointError, match=r"nothing answers at http://127\.0\.0\.1:\d+/v1 .*is the server running"):
        EndpointEngine(f"http://127.0.0.1:{free_port()}/v1", retries=0)


def test_a_generation_stage_asks_an_endpoint(opened: Judge, endpoint: str, tmp_path: Path) -> None:
    """The games of a benchmark through the stage's own child process, held against the checkpoint's."""
    assert isinstance(opened.engine, EngineProcess)
    items = preferences.of_rows(pair.to_json() for pair in PAIRS)
    write_jsonl(tmp_path / "items.jsonl", (item.to_json() for item in items.items))
    query = JudgeQuery("compact", max_tokens=60, context=128)
    games = {}
    models = {
        "judge_base": JUDGE,
        "prover_base": JUDGE,
        "judge_prompt": "compact",
        "max_tokens": 128,
        "dtype": "float32",
    }
    for name, model in (("checkpoint", JUDGE), ("endpoint", endpoint)):
        job = GenerationJob(
            "tasks.benchmark.play:game_requests", query.to_json(), str(tmp_path / "items.jsonl"), len(PAIRS), model,
            str(tmp_path / name), models, SMALL.model_dump(mode="json"),
        )  # fmt: skip
        if name == "endpoint":
            generate_in_children(job, tmp_path / f"{name}.log", print, lambda done, total: None)
        else:
            run_shards(job, opened.engine, ChatEncoder.load(JUDGE), lambda facts: None)
        lines = [line for shard in sorted((tmp_path / name).glob("*.jsonl")) for line in read_jsonl(shard)]
        rows = ((item.to_json(), line) for item, line in zip(items.items, lines, strict=True))
        games[name] = [(g["id"], g["order"], g["verdict"]) for g in read_games(query, items, rows)]
    assert games["checkpoint"] == games["endpoint"]
    assert all(verdict for *_, verdict in games["endpoint"])


def engines_of_this_process() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "tasks.model.process" in " ".join(child.cmdline())]


def test_a_folder_that_holds_no_model_is_an_error(tmp_path: Path) -> None:
    before = engines_of_this_process()
    shutil.copytree(ROOT / JUDGE, tmp_path / "broken")
    for weights in (tmp_path / "broken").glob("*.safetensors"):
        weights.unlink()
    with (
        pytest.raises(ModelError, match=r"has no weights \(\*\.safetensors\)"),
        open_judge(tmp_path / "broken", **OPTIONS),  # type: ignore[arg-type]
    ):
        pass
    assert engines_of_this_process() == before


def test_a_judge_whose_template_opens_the_thoughts_says_what_it_says_without(opened: Judge, tmp_path: Path) -> None:
    """The tokens before the verdict are the same ones: only who writes the first of them differs."""
    folder = Path(shutil.copytree(ROOT / JUDGE, tmp_path / "thinks"))
    path = folder / "tokenizer_config.json"
    known = json.loads(path.read_text())
    known["chat_template"] = known["chat_template"].replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>' }}")
    path.write_text(json.dumps(known))
    with open_judge(folder, **OPTIONS) as judge:  # type: ignore[arg-type]
        found = judge.compare_many(TRIPLES)
    assert isinstance(judge.encoder, ChatEncoder)
    assert judge.encoder.opened == "<think>"
    assert said(found) == said(opened.compare_many(TRIPLES))
    assert sum(one.nulls for one in found) == 0


def test_files_go_through_a_checkpoint(tmp_path: Path) -> None:
    rows = [{"prompt": taste.QUESTION, "responses": [pair.pair.response_a, pair.pair.response_b]} for pair in PAIRS]
    write_jsonl(tmp_path / "in.jsonl", rows)
    options = ["--judge", JUDGE, "--prompt", "compact", "--max-tokens", "60", "--context", "128", "--dtype", "float32"]
    command = ["rank", "compare", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), *options]
    before = engines_of_this_process()
    assert gram_r2(*command).code == 0
    assert engines_of_this_process() == before
    found = rows_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == [str(i) for i in range(len(PAIRS))]
    assert all(row["failed"] == {} for row in found)
    assert json.loads((tmp_path / "out.jsonl.run.json").read_text())["prompt"] == "compact"


def test_two_judges_can_be_open_and_each_ends_as_it_says(opened: Judge) -> None:
    """One whose engine dies, and one that is interrupted; neither leaves a process. The last test: it ends the shared one."""
    before = engines_of_this_process()
    with open_judge(JUDGE, **OPTIONS) as judge:  # type: ignore[arg-type]
        assert isinstance(judge.engine, EngineProcess)
        assert isinstance(opened.engine, EngineProcess)
        assert len(engines_of_this_process()) == len(before) + 1 == 2
        assert said(judge.compare_many(TRIPLES[:2])) == said(opened.compare_many(TRIPLES[:2]))
        best = judge.best_of_n(taste.QUESTION, [pair.pair.response_a for pair in PAIRS])
        assert (best.matches, best.rounds) == (5, 3)

        judge.engine.process.kill()
        with pytest.raises(ChildError, match="the judge's engine ended with exit code -9"):
            judge.compare(*TRIPLES[0])

        def interrupted(i: int, answer: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            opened.engine.generate([Request("x", [1, 2, 3], Sampling(max_tokens=2))], interrupted)
        with pytest.raises(ChildError, match="this judge is closed"):
            opened.compare(*TRIPLES[0])
    assert engines_of_this_process() == []
