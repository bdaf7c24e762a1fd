"""Scripted judges, and what a kind of reward needs to ask them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from racro import config
from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request
from racro.prompts import plain_text
from racro.rewards.protocol import JudgeModel, Means


class Listening(ScriptedEngine):
    """A scripted engine that keeps all requests."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.requests: list[Request] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """The answers, in reverse order."""
        asked = list(requests)
        self.requests += asked
        yield from reversed(list(super().generate(asked)))

    @property
    def texts(self) -> list[str]:
        """What was asked, in order."""
        return [plain_text(request.prompt.messages[-1]) for request in self.requests]


def means(judges: Mapping[str, ScriptedEngine], deadline: float = 60.0, **settings: Any) -> Means:
    """What a kind gets; `settings` are those of every judge."""
    asked = {key: JudgeModel(engine, config.Judge(model="m", **settings)) for key, engine in judges.items()}
    return Means(seed=3, iteration=1, deadline=deadline, judges=asked)
