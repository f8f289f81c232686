"""What Prometheus is told about the service: requests, comparisons, verdicts that are missing, retries, latency, queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.reward.judging import Compared
from tasks.reward.length import Rewards, length_effect
from tasks.reward.servers import Servers

_GROUPS = 256
"""As many as a step of common recipes trains on: the effect is followed as the policy changes."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 200)


class Metrics:
    """The service's own counters, and the state of its servers as it is when they are read."""

    def __init__(self, servers: Servers) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "gram_r2_requests", "Requests by endpoint and HTTP status.", ["path", "status"], registry=registry
        )
        self.latency = Histogram(
            "gram_r2_request_seconds", "Time to the answer, by endpoint.", ["path"], buckets=_SECONDS, registry=registry
        )
        self.comparisons = Counter("gram_r2_comparisons", "Comparisons, each in both orders.", registry=registry)
        self.nulls = Counter(
            "gram_r2_replies_without_verdict",
            "Replies of the judge without a verdict, by reason.",
            ["reason"],
            registry=registry,
        )
        self.failures = Counter(
            "gram_r2_failed_replies", "Replies that the engine did not give, by reason.", ["reason"], registry=registry
        )
        self.tokens = Counter("gram_r2_generated_tokens", "Tokens that the judge has generated.", registry=registry)
        self.null_rewards = Counter(
            "gram_r2_null_rewards", "Responses without a reward, by reason.", ["reason"], registry=registry
        )
        self.groups: deque[tuple[Rewards, Sequence[int]]] = deque(maxlen=_GROUPS)
        registry.register(_State(servers, self.groups))

    def count(self, compared: Iterable[Compared]) -> None:
        """Counts comparisons and their replies."""
        for one in compared:
            self.comparisons.inc()
            self.tokens.inc(one.tokens)
            for judged in one.comparison.answers:
                if judged.answer.malformed is not None:
                    (self.failures if judged.answer.failed else self.nulls).labels(judged.answer.malformed).inc()

    def count_group(self, rewards: Rewards, responses: Sequence[str]) -> None:
        """Keeps a group's rewards for the effect of the length, over the last `_GROUPS` groups."""
        self.groups.append((rewards, [len(text) for text in responses]))

    def count_null_rewards(self, reasons: Sequence[str | None]) -> None:
        for reason in reasons:
            if reason is not None:
                self.null_rewards.labels(reason).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _State(Collector):
    def __init__(self, servers: Servers, groups: Sequence[tuple[Rewards, Sequence[int]]]) -> None:
        self.servers, self.groups = servers, groups

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "gram_r2_queued", "Requests that wait for a place at a server.", value=self.servers.queued
        )
        outstanding = GaugeMetricFamily("gram_r2_outstanding", "Requests at a server.", labels=["server"])
        alive = GaugeMetricFamily("gram_r2_server_up", "Whether a server answers.", labels=["server"])
        for server in self.servers.servers:
            outstanding.add_metric([server.url], server.outstanding)
            alive.add_metric([server.url], float(server.alive))
        yield outstanding
        yield alive
        retries = CounterMetricFamily(
            "gram_r2_retries", "Requests to a server that were asked again, by reason.", labels=["reason"]
        )
        for reason, n in self.servers.retries.items():
            retries.add_metric([reason], n)
        yield retries
        effect = length_effect(self.groups)
        for name, value, words in (
            ("length_correlation", effect.correlation, "Correlation of the rewards with log length"),
            ("reward_per_doubled_length", effect.slope, "What a response gains by being twice as long"),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"gram_r2_{name}", f"{words}, in the last {_GROUPS} groups.", value=value)


class Counted:
    """ASGI middleware: counts requests, and the time to their answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            # Only the paths that there are: whatever else is asked for must not fill the memory with labels.
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.latency.labels(path).observe(time.monotonic() - begun)
