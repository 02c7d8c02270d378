"""Prometheus metrics of the server, and those it fetches from the engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from autoglm.messages import Stats, Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ServerMetrics:
    """One registry per application, so that two in a process do not collide."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.requests = Counter("autoglm_requests", "Chat requests by outcome", ["status"], registry=r)
        self.in_flight = Gauge("autoglm_requests_in_flight", "Chat requests being served", registry=r)
        self.restarts = Gauge("autoglm_engine_restarts", "Times the engine process was started again", registry=r)
        self.up = Gauge("autoglm_engine_up", "1 while the engine takes requests", registry=r)
        self.ttft = Histogram("autoglm_ttft_seconds", "Time to first token", buckets=_SECONDS, registry=r)
        self.tpot = Histogram(
            "autoglm_tpot_seconds", "Time per output token after the first", buckets=_SECONDS, registry=r
        )
        self.latency = Histogram("autoglm_request_seconds", "Whole request", buckets=_SECONDS, registry=r)
        self.tokens = Counter("autoglm_tokens", "Tokens of finished requests", ["kind"], registry=r)
        self.engine = Gauge("autoglm_engine", "Engine counters and sizes", ["name"], registry=r)
        self.cache = Gauge("autoglm_cache", "Cache counters and sizes", ["cache", "name"], registry=r)

    def observe(self, stats: Stats) -> None:
        """Take over a snapshot of the engine."""
        for name in stats.__struct_fields__:
            if name != "caches":
                self.engine.labels(name).set(getattr(stats, name))
        for cache in stats.caches:
            for name in cache.__struct_fields__:
                if name not in ("name", "causes"):
                    self.cache.labels(cache.name, name).set(getattr(cache, name))
            for cause, count in cache.causes.items():
                self.cache.labels(cache.name, f"evictions_{cause}").set(count)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)


class RequestTimer:
    """Measures one request; :meth:`end` counts it once, whatever happens."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._start = time.perf_counter()
        self._first = 0.0
        self._count = 0
        self._ended = False
        metrics.in_flight.inc()

    def tokens(self, count: int) -> None:
        """Tokens arrived."""
        if not self._count and count:
            self._first = time.perf_counter()
            self._metrics.ttft.observe(self._first - self._start)
        self._count += count

    def usage(self, usages: Sequence[Usage]) -> None:
        """Token counts of the finished choices."""
        for index, usage in enumerate(usages):
            self._metrics.tokens.labels("completion").inc(usage.completion_tokens)
            if index == 0:
                self._metrics.tokens.labels("prompt").inc(usage.prompt_tokens)
                self._metrics.tokens.labels("cached").inc(usage.cached_tokens)
                self._metrics.tokens.labels("image").inc(usage.image_tokens)

    def end(self, status: str) -> None:
        """The request is over."""
        if self._ended:
            return
        self._ended = True
        now = time.perf_counter()
        self._metrics.in_flight.dec()
        self._metrics.requests.labels(status).inc()
        self._metrics.latency.observe(now - self._start)
        if self._count > 1:
            self._metrics.tpot.observe((now - self._first) / (self._count - 1))
