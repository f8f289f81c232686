"""The reward service under load: what it costs beside one process, and what callers get while everything goes wrong.

``ratio [JUDGE [COMPARISONS]]``: the same comparisons by 64 callers of the service and by `compare_many` in one process, in real
vLLM on both sides; the judge is the small world's unless another folder is given.

``faults SECONDS CALLERS``: three stand-ins for vLLM's server that answer malformed, cut off, late or not at all, and are killed
(kill −9) and started again in turn, while callers ask, leave, and check what they get: the stand-ins' verdicts are known, so a
failure that became a number would be a wrong one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from data.world import taste
from tasks.model.chat import ChatEncoder
from tasks.rank import open_judge
from tasks.settings import GenerationSettings
from tests.conftest import free_port
from tests.support.vllm_server import StandIn

JUDGE = "data/world/base-judge"
LIMITS = ["--prompt", "compact", "--max-tokens", "60", "--context", "256", "--dtype", "float32"]
CALLERS, ROUNDS = 64, 3
N_STAND_INS, GROUP = 3, 4
KILL_EVERY_S, AWAY_S = 10.0, 3.0
SLACK_S = 10.0
"""How much later than its deadline an answer may be: half of what lies between the service's 100 s and slime's 120 s."""


@contextlib.contextmanager
def service(judge: str, *options: str) -> Iterator[str]:
    """``gram-r2 serve`` in a process of its own, once it listens; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "flows.cli.app", "serve", judge, *LIMITS, "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            print(line.rstrip(), file=sys.stderr)
            if "the reward service is at" in line:
                break
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, "the service has ended"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


# ---- beside one process ---------------------------------------------------------------------------------------------


def ratio(folder: str = JUDGE, comparisons: int = 1024) -> dict[str, Any]:
    """Comparisons a second: the service's, with every caller asking for one after another, over those of one process."""
    pairs = [pair.pair for pair in taste.draw_pairs(comparisons, seed=21)]
    triples = [(f"{taste.QUESTION} {i}", pair.response_a, pair.response_b) for i, pair in enumerate(pairs)]
    here, there, latencies = [], [], []
    with open_judge(
        folder,
        prompt="compact",
        max_tokens=60,
        context=256,
        dtype="float32",
        generation=GenerationSettings(kv_cache_mib=256),
    ) as judge:
        judge.compare_many(triples[:64])  # warms up
        for r in range(ROUNDS):
            some = [(f"{prompt} {r}", a, b) for prompt, a, b in triples]  # not in the cache yet
            begun = time.perf_counter()
            known = judge.compare_many(some)
            here.append(comparisons / (time.perf_counter() - begun))
    with service(folder, "--servers", "1") as url:
        asyncio.run(_ask_all(url, triples[:64]))
        for r in range(ROUNDS):
            begun = time.perf_counter()
            found, took = asyncio.run(_ask_all(url, [(f"{prompt} {r}", a, b) for prompt, a, b in triples]))
            there.append(comparisons / (time.perf_counter() - begun))
            latencies += took
    same = sum(one["share"] == old.reward for one, old in zip(found, known, strict=True))
    latencies.sort()
    return {
        "callers": CALLERS,
        "comparisons_a_second": {"one process": [round(x, 2) for x in here], "service": [round(x, 2) for x in there]},
        "ratio": round(max(there) / max(here), 2),
        "p50_s": round(latencies[len(latencies) // 2], 3),
        "p99_s": round(latencies[int(len(latencies) * 0.99)], 3),
        "same_shares": f"{same} of {comparisons}",
    }


async def _ask_all(url: str, triples: Sequence[tuple[str, str, str]]) -> tuple[list[Any], list[float]]:
    found: list[Any] = [None] * len(triples)
    took: list[float] = []
    waiting = iter(enumerate(triples))

    async def caller(session: aiohttp.ClientSession) -> None:
        for i, (prompt, a, b) in waiting:
            begun = time.perf_counter()
            async with session.post(f"{url}/v1/compare", json={"prompt": prompt, "a": a, "b": b}) as answer:
                found[i] = await answer.json()
            took.append(time.perf_counter() - begun)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(caller(session) for _ in range(CALLERS)))
    return found, took


# ---- faults ---------------------------------------------------------------------------------------------------------


FAULTS: dict[int | str, int] = {
    **{"": 80, "late": 3, "hang": 3},
    **dict.fromkeys(["closed", "empty", "no ids", 200, 500, 429, 400], 2),
}
"""How many of a hundred requests meet each."""


class Faulty(StandIn):
    """One request in five meets a fault: a hang, a late answer, one cut off, an error, or nonsense."""

    rng = random.Random()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        fault = self.rng.choices(list(FAULTS), list(FAULTS.values()))[0]
        if fault == "late":
            await asyncio.sleep(self.rng.uniform(0, 10))
        elif fault:
            self.faults.append(fault)
        return await super().complete(request)


async def stand_in(port: int) -> None:
    """Serves until it is killed."""
    async with Faulty(ChatEncoder.load(JUDGE), delay_s=0.02).running(port):
        await asyncio.Event().wait()


@dataclass
class Seen:
    """What the callers have got."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    latest_s: float = 0.0
    latest_in_service_s: float = 0.0
    took_s: list[float] = field(default_factory=list)


async def call(session: aiohttp.ClientSession, url: str, rng: random.Random, seen: Seen) -> None:
    """One request for a group; one caller in twenty leaves before the answer is there."""
    words = rng.sample(taste.WORDS, GROUP)
    deadline_s = rng.choice([1.0, 5.0, 20.0])
    body = {"prompt": f"? {rng.random()}", "responses": words, "strategy": "circular", "deadline_s": deadline_s}
    leaves_s = rng.uniform(0, 2) if rng.random() < 0.05 else None
    begun = time.monotonic()
    try:
        async with asyncio.timeout(leaves_s), session.post(f"{url}/v1/rewards", json=body) as answer:
            found, status = await answer.json(), answer.status
    except TimeoutError:
        seen.outcomes["left"] += 1
        return
    took = time.monotonic() - begun
    seen.took_s.append(took)
    seen.latest_s = max(seen.latest_s, took - deadline_s)
    if status != 200:
        seen.outcomes[f"HTTP {status}"] += 1
        return
    seen.latest_in_service_s = max(seen.latest_in_service_s, found["elapsed_s"] - deadline_s)
    for one in found["comparisons"]:
        if one["share"] is None:
            seen.outcomes[f"null: {one['reason']}"] += 1
        else:
            expected = 1.0 if words[one["first"]] > words[one["second"]] else 0.0
            seen.outcomes["comparisons"] += 1
            if one["share"] != expected or one["orders"] != [expected] * 2:
                seen.wrong.append(one)
    if any(
        (reward is None) != (reason is not None)
        for reward, reason in zip(found["rewards"], found["reasons"], strict=True)
    ):
        seen.wrong.append(found)


@contextlib.asynccontextmanager
async def killed_in_turn(ports: Sequence[int]) -> AsyncIterator[Counter[str]]:
    """The stand-ins as processes, one of which is always about to be killed and started again."""

    def start(port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.benchmarks.service_load", "stand-in", str(port)])

    running, counted = {port: start(port) for port in ports}, Counter[str]()

    async def kill() -> None:
        for port in (ports[i % len(ports)] for i in range(10**9)):
            await asyncio.sleep(KILL_EVERY_S)
            running[port].kill()
            running[port].wait()
            counted["kills"] += 1
            await asyncio.sleep(AWAY_S)
            running[port] = start(port)

    killing: asyncio.Task[None] | None = None
    try:
        await _until_well(ports)
        killing = asyncio.create_task(kill())
        yield counted
    finally:
        if killing is not None:
            killing.cancel()
        for process in running.values():
            process.kill()
            process.wait()


async def _until_well(ports: Sequence[int]) -> None:
    async with aiohttp.ClientSession() as session:
        for port in ports:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}/health"):
                        break
                await asyncio.sleep(0.2)


async def faults(seconds: float, callers: int) -> dict[str, Any]:
    """Callers that ask again and again for that long."""
    ports, seen, until = [free_port() for _ in range(N_STAND_INS)], Seen(), 0.0

    async def caller(session: aiohttp.ClientSession, url: str, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until:
            await call(session, url, rng, seen)

    async with killed_in_turn(ports) as counted:
        with service(JUDGE, *(part for port in ports for part in ("--url", f"http://127.0.0.1:{port}"))) as url:
            until = time.monotonic() + seconds
            connector, none = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(connector=connector, timeout=none) as session:
                await asyncio.gather(*(caller(session, url, number) for number in range(callers)))
                await asyncio.sleep(SLACK_S)
                async with session.get(f"{url}/metrics") as answer:
                    metrics = await answer.text()
    left_open = [line for line in metrics.splitlines() if line.startswith(("gram_r2_outstanding", "gram_r2_queued"))]
    seen.took_s.sort()
    return {
        "seconds": seconds,
        "callers": callers,
        "kills": counted["kills"],
        "answers": len(seen.took_s),
        "outcomes": dict(seen.outcomes),
        "wrong": len(seen.wrong),
        "latest_after_deadline_s": round(seen.latest_s, 2),
        "latest_by_the_services_clock_s": round(seen.latest_in_service_s, 2),
        "p50_s": round(seen.took_s[len(seen.took_s) // 2], 2),
        "p99_s": round(seen.took_s[int(len(seen.took_s) * 0.99)], 2),
        "left_open": sum(float(line.rsplit(" ", 1)[1]) for line in left_open),
        "held": not seen.wrong and seen.latest_s < SLACK_S,
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    match sys.argv[1:]:
        case ["stand-in", port]:
            asyncio.run(stand_in(int(port)))
        case ["faults", seconds, callers]:
            print(json.dumps(asyncio.run(faults(float(seconds), int(callers)))))
        case ["ratio", *given]:
            print(json.dumps(ratio(*given[:1], *map(int, given[1:]))))
        case _:
            sys.exit(__doc__)
