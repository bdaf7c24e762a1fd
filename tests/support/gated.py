"""A server in this process whose reasoner writes a word whenever a test lets it: what clients see of it is no race."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import openai
from PIL import Image

from racro import config
from racro.answering.pipeline import Racro
from racro.config import Scripted, ScriptedReply
from racro.engines.protocol import Completion, Engine, EngineLost, Generation, Partial, Refusal, Request
from racro.serving import api, server
from racro.serving.limits import Limits
from racro.serving.pairs import Pairs
from racro.serving.service import Service
from racro.serving.votes import Votes
from tests.support.eventually import eventually
from tests.support.ports import reserve

WORDS = ("The ", "bar ", "is ", "\\boxed{9}.")
CAPTION = "A red bar."


class Gated(Engine):
    """Writes the same words to whoever asks, each when `pen` is released once; `dies`: instead of the next word."""

    def __init__(self, words: tuple[str, ...] = WORDS) -> None:
        self.words, self.pen, self.dies = words, threading.Semaphore(0), False
        self.asked = self.done = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine."""
        for made in self.stream(requests):
            if not isinstance(made, Partial):
                yield made

    def stream(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        """See Engine. All requests of a call get a word at the same time."""
        keys, said = [request.key for request in requests], ""
        self.asked += len(keys)
        for word in self.words:
            while not self.pen.acquire(timeout=0.01):
                yield from (Partial(key, said) for key in keys)
            if self.dies:
                self.dies = False
                raise EngineLost("killed, see /secret/place")
            said += word
        self.done += len(keys)
        ids = tuple(said.encode())
        for key in keys:
            yield Generation(key, (1,), (Completion(ids, (0.0,) * len(ids), said, "stop"),))

    def close(self) -> None:
        """See Engine."""


class Served:
    """The server, while the context lasts."""

    votes: Votes

    def __init__(self, limits: Limits, engine: Gated, minds: tuple[str, ...] = ("mind",)) -> None:
        self.engine, self.port = engine, reserve()
        self.url = f"http://127.0.0.1:{self.port}"
        captioner = config.Captioner(engine=Scripted(rules=(ScriptedReply(replies=(CAPTION,)),)))
        self.service = Service(Pairs(lambda *_: Racro(captioner, engine), minds, lambda: [], 2), limits)
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def write(self, words: int = len(WORDS)) -> None:
        """Let the engine write so many words."""
        self.engine.pen.release(words)

    def idle(self) -> bool:
        """Are all places free, and soon?"""
        return eventually(lambda: self.service.inside == self.service.running == 0, 30, 0.02)

    def ask(self, **more: Any) -> Any:
        """A question by OpenAI's client."""
        return self.client.chat.completions.create(**question(), **more)


@contextlib.contextmanager
def served(
    limits: Limits, *, words: tuple[str, ...] = WORDS, proxy: str = "", page: Path | None = None, minds: int = 1
) -> Iterator[Served]:
    """`page`: the file of its votes; None: the API alone. `minds`: reasoners that can be chosen."""
    made = Served(limits, Gated(words), ("mind", "other")[:minds])
    made.votes = votes = Votes(page or Path(os.devnull))
    app = api.build(made.service, votes=votes)
    if page:
        from racro.serving import page as faces
        from racro.serving.panes import Content, Example

        faces.mount(app, made.service, votes, Content([Example(picture(), "How tall is the red bar?")]))
    with server.running(app, "127.0.0.1", made.port, limits.upload, made.service.end, proxy):
        yield made
    made.service.pairs.close()


def picture() -> Image.Image:
    """Any one."""
    return Image.new("RGB", (28, 28), "red")


def question() -> dict[str, Any]:
    """The body of a request."""
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "How tall is the red bar?"}]
    return {"model": "racro", "messages": [{"role": "user", "content": parts}]}
