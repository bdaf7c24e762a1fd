"""A scripted engine that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request, Sampling


class Counted(ScriptedEngine):
    """A scripted engine that remembers its prompts and seeds, and answers the last request first."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.asked: dict[str, int] = {}
        self.sampling: Sampling | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """The answers, in reverse order."""
        asked = list(requests)
        for request in asked:
            self.sampling = request.sampling
            text = request.prompt.messages[-1]["content"][0]["text"]
            assert text not in self.asked, "asked twice"
            self.asked[text] = request.seed
        yield from reversed(list(super().generate(asked)))
