"""The engine behind a URL: a client of one or several OpenAI-compatible servers, among which requests are balanced.

Not a server (`racro.engines.vllm.server` starts one and uses this) and not the protocol (`racro.engines.remote.chat`).
All requests are made by one event loop in its own thread; `generate` may be called from any thread. Opened by
`racro.engines.opening`. Loads torch on use, for a captioner.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from racro.config import Address, EnginePlacement
from racro.engines.protocol import (
    BadPrompt,
    Completion,
    Engine,
    EngineLost,
    Generation,
    Refusal,
    Request,
    Role,
)
from racro.engines.remote import chat
from racro.engines.remote.exchange import Exchange, first
from racro.engines.remote.fleet import Fleet
from racro.engines.waiting import take
from racro.errors import BadInput
from racro.models.adapters import Adapter
from racro.models.chat_template import ChatTemplate, folded
from racro.models.folders import base_folder
from racro.models.vision_tokens import vision_token_ids_of

logger = logging.getLogger(__name__)

UNFINISHED = Completion((), (), "", "deadline")

T = TypeVar("T")

Events = queue.SimpleQueue[Generation | Refusal | BaseException | None]
"""What a call's loop side hands to its caller: answers, the error that ends the call, None at the end."""


class Endpoint(Engine):
    """Servers that hold the same model, and the loop that talks to them."""

    def __init__(
        self,
        urls: Sequence[str | Address],
        model: str,
        place: EnginePlacement,
        role: Role,
        folder: str,
        dtype: str = "bfloat16",
        died: Callable[[], str | None] = lambda: None,
        template_kwargs: Mapping[str, Any] | None = None,
        template: ChatTemplate | None = None,
        sees: bool | None = None,
    ) -> None:
        """`urls`: base URLs, some with what only they need. `model`: its name there. `folder`, `dtype`: a local copy of
        the model, and its precision.

        A captioner's completions carry token ids and log-probs, which only vLLM servers give. A reasoner's do not, nor
        do a captioner's if `folder` is empty: then it answers questions and is not trained. `died` says why, once no
        server can ever answer again. `template_kwargs` are for vLLM servers only. `template`: the model's, if its files
        are here. `sees`: it is shown images; None: if it is a captioner. Raises BadInput, and EngineLost when no server
        answers.
        """
        self.place, self.role, self.folder, self.dtype = place, role, folder, dtype
        self.sees = role == "captioner" if sees is None else sees
        self.token_ids = self.sees and bool(folder)
        self.banned = vision_token_ids_of(folder) if self.token_ids else []
        self.template, self.template_kwargs = template, dict(template_kwargs or {})
        self.swap_failed = False
        self.closed, self.closing = False, threading.Lock()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="endpoint", daemon=True)
        self.thread.start()
        try:
            self._call(self._open(place.model_copy(update={"urls": tuple(urls)}).endpoints, model, died))
        except BaseException:  # Ctrl-C too: the loop's thread must not stay; raised again
            self.close()
            raise

    # --- in the callers' threads --------------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """See Engine."""
        return self.swap_failed or self.fleet.error is not None

    @property
    def moved(self) -> int:
        """See Engine."""
        return self.fleet.moved

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

    async def _open(self, addresses: Sequence[Address], model: str, died: Callable[[], str | None]) -> None:
        self.fleet = Fleet(addresses, model, self.place, self.role, self.token_ids)
        self.fleet.died = died
        self.exchange = Exchange(
            self.fleet, self.place, self.role, self.banned, self.token_ids, self.template, self.template_kwargs
        )
        limits = [address.sequences or self.place.sequences for address in addresses]
        self.room = self.most = min(self.place.sequences, sum(limits))
        """Sequences that may be asked for now, and when nothing is asked for."""
        self.landed = asyncio.Event()
        await self.fleet.open()
        if self.template_kwargs and not self.fleet.vllm:
            raise BadInput(
                f"{self.role}.template_kwargs: {addresses[0].url} is no vLLM server, and others take no arguments of "
                "the chat template; leave them out"
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
        before, moved = [server.answered for server in self.fleet.servers], self.fleet.moved
        try:
            async with asyncio.TaskGroup() as group:
                await self._room_for(1)  # reading a request decodes its images
                while (request := await asyncio.to_thread(next, source, None)) is not None:
                    weight = min(request.sampling.n, self.most)
                    await self._room_for(weight)
                    self.room -= weight
                    task = group.create_task(self._one(request, events))
                    task.add_done_callback(partial(self._land, weight))
                    await self._room_for(1)
        except BaseException as error:
            cause = first(error)
            end = EngineLost("the engine is closed") if isinstance(cause, asyncio.CancelledError) else cause
        if len(before) > 1:
            answered = zip(self.fleet.servers, before, strict=True)
            shares = ", ".join(f"{server.url} {server.answered - earlier}" for server, earlier in answered)
            level = logging.WARNING if self.fleet.moved > moved else logging.INFO
            again = self.fleet.moved - moved
            logger.log(level, "%s: answers of each endpoint: %s; %d in place of another", self.role, shares, again)
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
                prompt = dataclasses.replace(prompt, messages=folded(prompt.messages))
            messages = await asyncio.to_thread(chat.messages, prompt, self.sees, self.fleet.vllm)
            async with asyncio.timeout(request.sampling.deadline):
                ask = self.exchange.samples if request.forced is None else self.exchange.scores
                answer: Generation | Refusal = await ask(messages, request)
        except TimeoutError:
            answer = Generation(request.key, (), (UNFINISHED,) * (request.sampling.n if request.forced is None else 1))
        except BadPrompt as error:
            answer = Refusal.of(request, error)
        events.put(answer)
