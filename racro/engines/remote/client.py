"""The engine behind a URL: a client of one or several OpenAI-compatible servers, among which requests are balanced.

Not a server (`racro.engines.vllm.server` starts one and uses this) and not the protocol (`racro.engines.remote.chat`).
All requests are made by one event loop in its own thread; `generate` may be called from any thread. Opened by
`racro.engines.opening`. Loads torch on use, for a captioner.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from racro.config import EnginePlacement
from racro.engines.protocol import (
    BadPrompt,
    Completion,
    Engine,
    EngineLost,
    Generation,
    Prompt,
    Refusal,
    Request,
    Role,
    Sampling,
)
from racro.engines.remote import chat
from racro.engines.remote.chat import BadAnswer
from racro.engines.remote.fleet import Fleet
from racro.engines.remote.upstream import Hung, Upstream, retry_after
from racro.engines.waiting import take
from racro.errors import BadInput
from racro.models.adapters import Adapter
from racro.models.chat_template import ChatTemplate, folded
from racro.models.folders import base_folder
from racro.models.vision_tokens import vision_token_ids_of

BUSY = (408, 409, 425, 429)
"""Statuses of a healthy but busy server; retry later."""
ABOUT_THE_PROMPT = (400, 413, 422)
"""Statuses of a server that does not take this request, and may take others."""
PAUSE = 30.0
"""The longest pause between attempts, in seconds, where the server names none."""
UNFINISHED = Completion((), (), "", "deadline")

T = TypeVar("T")

Events = queue.SimpleQueue[Generation | Refusal | BaseException | None]
"""What a call's loop side hands to its caller: answers, the error that ends the call, None at the end."""


class Endpoint(Engine):
    """Servers that hold the same model, and the loop that talks to them."""

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        place: EnginePlacement,
        role: Role,
        folder: str,
        dtype: str = "bfloat16",
        died: Callable[[], str | None] = lambda: None,
        template_kwargs: Mapping[str, Any] | None = None,
        template: ChatTemplate | None = None,
    ) -> None:
        """`urls`: base URLs. `model`: its name there. `folder`, `dtype`: a local copy of the model, and its precision.

        A captioner's completions carry token ids and log-probs, which only vLLM servers give. A reasoner's do not, nor
        do a captioner's if `folder` is empty: then it answers questions and is not trained. `died` says why, once no
        server can ever answer again. `template_kwargs` are for vLLM servers only. `template`: the model's, if its files
        are here. Raises BadInput, and EngineLost when no server answers.
        """
        self.place, self.role, self.folder, self.dtype = place, role, folder, dtype
        self.sees = role == "captioner"
        self.token_ids = self.sees and bool(folder)
        self.banned = vision_token_ids_of(folder) if self.token_ids else []
        self.limit = "max_tokens"
        """The name of the token limit; servers of OpenAI's reasoning models require another one."""
        self.template, self.template_kwargs = template, dict(template_kwargs or {})
        self.swap_failed = False
        self.closed, self.closing = False, threading.Lock()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="endpoint", daemon=True)
        self.thread.start()
        try:
            self._call(self._open(urls, model, died))
        except BaseException:  # Ctrl-C too: the loop's thread must not stay; raised again
            self.close()
            raise

    # --- in the callers' threads --------------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """See Engine."""
        return self.swap_failed or self.fleet.error is not None

    @property
    def positions(self) -> int | None:
        """See Engine: what the servers say, the least of them."""
        return min((server.positions for server in self.fleet.servers if server.positions), default=None)

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. Requests are read in other threads. Raises BadInput when the servers refuse key or model."""
        events: Events = queue.SimpleQueue()
        run = self._start(self._generate(iter(requests), events))
        try:
            while (event := take(events)) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            run.cancel()

    def swap(self, folder: str) -> None:
        """See Engine. The servers must see the same `folder`, and be vLLM's, started for it as `serving` does."""
        from racro.engines.vllm import lora, weights

        old, new = Path(self.folder), Path(folder)
        adapts = any(map(Adapter.read, (old, new)))
        if adapts:
            sums = lora.adapter_sums(lora.fitting(new, base_folder(old)), self.dtype)
        else:
            weights.same_model(new, weights.shapes(old))
            sums = weights.checkpoint_sums(new, self.dtype)
        self.swap_failed = True  # until it is done, servers may hold the one or the other, or parts of both
        for held in self._call(self.fleet.load(folder, adapts)):
            weights.verify(held, sums)
        self.folder, self.swap_failed = folder, False

    def tell(self, path: str, seconds: float) -> None:
        """POST to something that only vLLM's servers have, on each of them. Raises SwapFailed and EngineLost."""
        self._call(self.fleet.tell(path, seconds))

    def close(self) -> None:
        """See Engine. Closed connections tell the servers to stop working on requests."""
        with self.closing:
            if not self.closed:
                self.closed = True
                asyncio.run_coroutine_threadsafe(self._close(), self.loop).result()
                self.loop.call_soon_threadsafe(self.loop.stop)
                self.thread.join()
                self.loop.close()

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        if self.closed:
            coroutine.close()
            raise EngineLost("the engine is closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        running = self._start(coroutine)
        try:
            return running.result()
        finally:
            running.cancel()

    # --- in the loop --------------------------------------------------------------------------------------------------

    async def _open(self, urls: Sequence[str], model: str, died: Callable[[], str | None]) -> None:
        key = os.environ.get(self.place.api_key, "")
        self.fleet = Fleet(urls, model, self.place, self.role, key, self.token_ids)
        self.fleet.died = died
        self.room = self.place.sequences
        self.landed = asyncio.Event()
        await self.fleet.open()
        if self.template_kwargs and not self.fleet.vllm:
            raise BadInput(
                f"{self.role}.template_kwargs: {urls[0]} is no vLLM server, and others take no arguments of the chat "
                "template; leave them out"
            )

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if hasattr(self, "fleet"):
            await self.fleet.close()
        await self.loop.shutdown_default_executor()

    async def _generate(self, source: Iterator[Request], events: Events) -> None:
        """Ask for all of them, as many at once as there is room for. The first failure ends the call."""
        end: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._room_for(1)  # reading a request decodes its images
                while (request := await asyncio.to_thread(next, source, None)) is not None:
                    weight = min(request.sampling.n, self.place.sequences)
                    await self._room_for(weight)
                    self.room -= weight
                    task = group.create_task(self._one(request, events))
                    task.add_done_callback(partial(self._land, weight))
                    await self._room_for(1)
        except BaseException as error:
            first = _first(error)
            end = EngineLost("the engine is closed") if isinstance(first, asyncio.CancelledError) else first
        events.put(end)

    async def _room_for(self, weight: int) -> None:
        while self.room < weight:
            self.landed.clear()
            await self.landed.wait()

    def _land(self, weight: int, task: asyncio.Task[None]) -> None:
        self.room += weight
        self.landed.set()

    async def _one(self, request: Request, events: Events) -> None:
        try:
            # Images take time to be encoded; the request's clock starts when it is sent.
            prompt = request.prompt
            if self.template is not None and not self.template.form.system:
                prompt = Prompt(folded(prompt.messages), prompt.images)
            messages = await asyncio.to_thread(chat.messages, prompt, self.sees)
            async with asyncio.timeout(request.sampling.deadline):
                answer: Generation | Refusal = await self._samples(messages, request)
        except TimeoutError:
            answer = Generation(request.key, (), (UNFINISHED,) * request.sampling.n)
        except BadPrompt as error:
            answer = Refusal.of(request, error)
        events.put(answer)

    async def _samples(self, messages: bytes, request: Request) -> Generation:
        """All samples of a prompt: a vLLM server makes them of one prefill, others may know no more than one."""
        n = chat.samples(request.sampling)
        if self.fleet.vllm:
            made = await self._ask(messages, request, request.seed, n)
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    seeds = range(request.seed, request.seed + n)
                    tasks = [group.create_task(self._ask(messages, request, seed, 1)) for seed in seeds]
            except BaseExceptionGroup as errors:  # one sample fails like the others
                raise _first(errors) from None
            made = Generation(request.key, (), tuple(task.result().completions[0] for task in tasks))
        completions = made.completions * (request.sampling.n // n)
        if self.template is not None:  # a server leaves out the start of a thought that the template writes
            completions = tuple(dataclasses.replace(c, text=self.template.turn(c.text)) for c in completions)
        return Generation(request.key, made.prompt_ids, completions)

    async def _ask(self, messages: bytes, request: Request, seed: int, n: int) -> Generation:
        """One HTTP request, from server to server until it is answered. The caller has set a deadline.

        Raises BadPrompt, BadInput, EngineLost, FloatingPointError.
        """
        for attempt in itertools.count():
            server = await self.fleet.pick()
            asked, fields = time.monotonic(), self._fields(server, request.sampling, seed)
            try:
                answer = await self.fleet.ask(server, chat.body(messages, fields), n)
                if answer.status_code == 200:
                    made = chat.generation(answer.content, request, n, self.token_ids, server.positions)
                    server.well()
                    return made
                if answer.status_code < 500 and answer.status_code not in BUSY:
                    self._refused(server, answer, fields)
                    continue
                server.heard = time.monotonic()
                if answer.status_code >= 500:
                    server.ill(f"{answer.status_code}: {self.fleet.said(answer)}", asked, self.place.silence)
                if seconds := retry_after(answer):
                    server.set_aside(seconds)
            except BadPrompt:
                server.well()  # it has answered
                raise
            except BadAnswer as error:
                server.ill(str(error), asked, self.place.silence)
            except httpx.RequestError as error:
                self.fleet.unreachable(server, error, asked)
            except Hung:
                continue
            # Requests that failed together must not be repeated together.
            await asyncio.sleep(min(0.25 * 2**attempt, PAUSE) * random.random())
        raise AssertionError

    def _fields(self, server: Upstream, sampling: Sampling, seed: int) -> dict[str, Any]:
        if server.vllm:
            fields = {"model": server.name, **chat.vllm_fields(sampling, seed, self.banned, self.token_ids)}
            return fields | ({"chat_template_kwargs": self.template_kwargs} if self.template_kwargs else {})
        return {"model": server.name, **chat.plain_fields(sampling, seed, self.limit)}

    def _refused(self, server: Upstream, answer: httpx.Response, fields: dict[str, Any]) -> None:
        """Raise for an answer that a retry does not change; returns where the same request in other words may help."""
        server.let_in(answer)
        said = self.fleet.said(answer)
        if answer.status_code == 404:
            raise server.no_model()
        if "max_tokens" in fields and "max_completion_tokens" in said:
            self.limit = "max_completion_tokens"
            return
        if "not JSON compliant" in said:  # NaN and infinity are not
            raise FloatingPointError(chat.DIVERGED)
        if chat.too_long(answer.content):
            raise BadPrompt(f"{server.url} refuses a prompt as too long, lower max_tokens or leave it out: {said}")
        refusal = f"{self.role}: {server.url} refuses a request ({answer.status_code}): {said}"
        raise BadPrompt(refusal) if answer.status_code in ABOUT_THE_PROMPT else BadInput(refusal)


def _first(error: BaseException) -> BaseException:
    """The first error in a group, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
