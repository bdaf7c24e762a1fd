"""One request to a fleet of servers: sent to one after the other until one answers.

Not the fleet, which knows how its servers are (`racro.engines.remote.fleet`), and not the loop that many requests share
(`racro.engines.remote.client`, which uses this).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import httpx

from racro.config import EnginePlacement
from racro.engines.protocol import SHORTER, BadPrompt, Generation, Request, Role, Sampling
from racro.engines.remote import chat, scoring
from racro.engines.remote.chat import BadAnswer
from racro.engines.remote.fleet import Fleet
from racro.engines.remote.upstream import Hung, Upstream, retry_after
from racro.errors import BadInput
from racro.models.chat_template import ChatTemplate

BUSY = (408, 409, 425, 429)
"""Statuses of a healthy but busy server; retry later."""
ABOUT_THE_PROMPT = (400, 413, 422)
"""Statuses of a server that does not take this request, and may take others."""
T = TypeVar("T")

PAUSE = 30.0
"""The longest pause between attempts, in seconds, where the server names none."""


class Asked(NamedTuple):
    """A request as a server gets it."""

    url: str
    fields: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, url: str, fields: dict[str, Any]) -> Asked:
        """One that is its fields."""
        return cls(url, fields, json.dumps(fields).encode())


class Exchange:
    """How a role's requests are worded, sent and, where a retry may help, sent again."""

    def __init__(
        self,
        fleet: Fleet,
        place: EnginePlacement,
        role: Role,
        banned: Sequence[int],
        token_ids: bool,
        template: ChatTemplate | None,
        template_kwargs: Mapping[str, Any],
    ) -> None:
        """`banned`: token ids that must not be sampled. `token_ids`: completions carry ids and log-probs."""
        self.fleet, self.place, self.role = fleet, place, role
        self.banned, self.token_ids = list(banned), token_ids
        self.template, self.template_kwargs = template, template_kwargs
        self.limit = "max_tokens"
        """The name of the token limit; servers of OpenAI's reasoning models require another one."""

    async def samples(self, messages: bytes, request: Request) -> Generation:
        """All samples of a prompt: a vLLM server makes them of one prefill, others may know no more than one."""
        n = chat.samples(request.sampling)
        if self.fleet.vllm:
            made = await self._sampled(messages, request, request.seed, n)
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    seeds = range(request.seed, request.seed + n)
                    tasks = [group.create_task(self._sampled(messages, request, seed, 1)) for seed in seeds]
            except BaseExceptionGroup as errors:  # one sample fails like the others
                raise first(errors) from None
            parts = [task.result() for task in tasks]
            counted = [part.counted for part in parts if part.counted is not None]
            total = (counted[0][0], sum(written for _, written in counted)) if len(counted) == n else None
            made = Generation(request.key, (), tuple(part.completions[0] for part in parts), total)
        completions = made.completions * (request.sampling.n // n)
        # A server leaves out the start of a thought that the template writes.
        if self.template is not None and not request.prompt.lead:
            completions = tuple(dataclasses.replace(c, text=self.template.turn(c.text)) for c in completions)
        return dataclasses.replace(made, key=request.key, completions=completions)

    async def scores(self, messages: bytes, request: Request) -> Generation:
        """How probable the request's text is. Raises what `_ask` raises; BadPrompt too where servers do not say it."""
        lead, forced = bool(request.prompt.lead), request.forced or ""
        if not self.fleet.vllm:
            raise BadPrompt(self.fleet.servers[0].no_scores())
        if request.prompt.images or not forced:
            raise BadPrompt("servers score texts that are not empty, after prompts without images")

        def prompt(server: Upstream) -> Asked:
            fields = scoring.of_prompt(server.name, lead, self.template_kwargs)
            return Asked(server.root + scoring.TOKENIZE, fields, chat.body(messages, fields))

        def text(server: Upstream) -> Asked:
            return Asked.of(server.root + scoring.TOKENIZE, scoring.of_text(server.name, forced))

        begun, own = [await self._ask(one, lambda answer, _: scoring.tokens(answer), 1) for one in (prompt, text)]

        def both(server: Upstream) -> Asked:
            return Asked.of(server.url + scoring.COMPLETIONS, scoring.of_both(server.name, (*begun, *own)))

        return await self._ask(both, lambda answer, _: scoring.generation(answer, request, begun, own), 1)

    async def _sampled(self, messages: bytes, request: Request, seed: int, n: int) -> Generation:
        """`n` samples by one HTTP request."""

        def words(server: Upstream) -> Asked:
            fields = self._fields(server, request.sampling, seed)
            if request.prompt.lead and server.vllm:
                fields |= chat.LED
            return Asked(f"{server.url}/chat/completions", fields, chat.body(messages, fields))

        def read(answer: bytes, server: Upstream) -> Generation:
            return chat.generation(answer, request, n, self.token_ids, server.positions)

        return await self._ask(words, read, n)

    async def _ask(self, words: Callable[[Upstream], Asked], read: Callable[[bytes, Upstream], T], weight: int) -> T:
        """One HTTP request, from server to server until it is answered. The caller has set a deadline.

        words: the request as a server takes it. read: its answer. weight: sequences that it takes. Raises BadPrompt,
        BadInput, EngineLost, FloatingPointError.
        """
        failed: Upstream | None = None
        for attempt in itertools.count():
            server = await self.fleet.pick(weight)
            asked, said = time.monotonic(), words(server)
            try:
                answer = await self.fleet.ask(server, said.url, said.body, weight)
                if answer.status_code == 200:
                    made = read(answer.content, server)
                    server.well()
                    server.answered += 1
                    self.fleet.moved += failed not in (None, server)
                    return made
                if answer.status_code < 500 and answer.status_code not in BUSY:
                    self._refused(server, answer, said)
                    continue
                server.heard = time.monotonic()
                if answer.status_code >= 500:
                    failed = server
                    server.ill(f"{answer.status_code}: {self.fleet.said(answer)}", asked, self.place.silence)
                if seconds := retry_after(answer):
                    server.set_aside(seconds)
            except BadPrompt:
                server.well()  # it has answered
                raise
            except BadAnswer as error:
                failed = server
                server.ill(str(error), asked, self.place.silence)
            except httpx.RequestError as error:
                failed = server
                self.fleet.unreachable(server, error, asked)
            except Hung:
                failed = server
                continue
            # Requests that failed together must not be repeated together.
            await asyncio.sleep(min(0.25 * 2**attempt, PAUSE) * random.random())
        raise AssertionError

    def _fields(self, server: Upstream, sampling: Sampling, seed: int) -> dict[str, Any]:
        if server.vllm:
            fields = {"model": server.name, **chat.vllm_fields(sampling, seed, self.banned, self.token_ids)}
            return fields | ({"chat_template_kwargs": self.template_kwargs} if self.template_kwargs else {})
        return {"model": server.name, **chat.plain_fields(sampling, seed, self.limit)}

    def _refused(self, server: Upstream, answer: httpx.Response, asked: Asked) -> None:
        """Raise for an answer that a retry does not change; returns where the same request in other words may help."""
        server.let_in(answer)
        said = self.fleet.said(answer)
        if answer.status_code == 404:
            raise server.no_model() if server.url in asked.url else server.no_scores()
        if "max_tokens" in asked.fields and "max_completion_tokens" in said:
            self.limit = "max_completion_tokens"
            return
        if "not JSON compliant" in said:  # NaN and infinity are not
            raise FloatingPointError(chat.DIVERGED)
        if chat.too_long(answer.content):
            raise BadPrompt(f"the prompt is too long for {server.url} ({said}); {SHORTER}")
        refusal = f"{self.role}: {server.url} refuses a request ({answer.status_code}): {said}"
        raise BadPrompt(refusal) if answer.status_code in ABOUT_THE_PROMPT else BadInput(refusal)


def first(error: BaseException) -> BaseException:
    """The first error in a group, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
