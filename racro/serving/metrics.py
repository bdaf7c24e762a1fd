"""Counts for Prometheus, at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from racro.serving.completion import Usage

BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Of one server, in a registry that nothing else shares."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("racro_requests", "Questions, by HTTP status.", ["status"], registry=registry)
        self.seconds = Histogram("racro_seconds", "Seconds to an answer.", buckets=BUCKETS, registry=registry)
        self.tokens = Counter("racro_tokens", "Tokens, by model and kind.", ["model", "kind"], registry=registry)
        self.votes = Counter("racro_votes", "Votes on answers.", ["vote"], registry=registry)
        self.running = Gauge("racro_running", "Questions that are worked on.", registry=registry)
        self.waiting = Gauge("racro_waiting", "Requests that wait.", registry=registry)
        self.restarts = Gauge("racro_engine_restarts", "Engines that were started again.", registry=registry)

    def add_tokens(self, usage: Usage) -> None:
        """What one question took."""
        for model, counts in (("captioner", usage.captioner), ("reasoner", usage.reasoner)):
            for kind, count in zip(("prompt", "completion"), counts, strict=True):
                self.tokens.labels(model, kind).inc(count)

    def text(self, running: int, inside: int, restarts: int) -> bytes:
        """The page, in Prometheus' text format."""
        self.running.set(running)
        self.waiting.set(max(0, inside - running))
        self.restarts.set(restarts)
        return generate_latest(self.registry)
