"""Questions of many clients -> answers: the queue, the time limit, the two models, and who has left meanwhile.

Knows no HTTP: `racro.serving.api` and `racro.serving.page` both ask here. Answers are made by `racro.answering`, each
in a thread, on engines that all share (`racro.serving.sharing`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable

from PIL import Image

from racro.answering.cases import CAPTIONER_STEPS, Answer, Step, Unanswerable
from racro.answering.pipeline import Racro
from racro.data.images import BadImage
from racro.engines.protocol import SHORTER, Completion, EngineLost, Partial
from racro.errors import BadInput
from racro.schema import Mode
from racro.serving import pictures
from racro.serving.chat import Inquiry
from racro.serving.completion import Answered, Usage
from racro.serving.errors import ApiError, busy, internal, invalid, too_late, unavailable
from racro.serving.limits import Limits
from racro.serving.metrics import Metrics
from racro.serving.narration import Written
from racro.serving.pairs import Name, Pair, Pairs
from racro.serving.rates import Rates
from racro.serving.sharing import Left, Seat

LOG = logging.getLogger(__name__)
QUIET = 10.0
"""Seconds without news after which a waiting client is told that the server is alive."""


class Service:
    """The pairs, and the queue before them. Its coroutines belong to one event loop."""

    def __init__(self, pairs: Pairs, limits: Limits) -> None:
        self.pairs, self.limits, self.metrics = pairs, limits, Metrics()
        self.rates = Rates(limits.rate)
        self.inside = self.running = 0
        self._turn = asyncio.Semaphore(limits.concurrency)
        self._jobs: set[_Job] = set()
        self._ending = False

    def end(self) -> None:
        """The server ends: who still waits is told so."""
        self._ending = True
        for job in self._jobs:
            job.wake()
        for _ in range(self.inside - self.running):
            self._turn.release()

    async def ask(self, inquiry: Inquiry) -> AsyncIterator[Written | Answered | None]:
        """What is written so far, each time there is more; None every QUIET seconds without; at last the answer.

        To be closed when the client has gone: that ends the work. Raises ApiError, 429 where the queue is full.
        """
        if self.inside >= self.limits.places:
            raise busy(self.inside - self.running)
        self.inside += 1
        begun = time.monotonic()
        job = _Job(self.pairs, inquiry, self._done)
        self._jobs.add(job)
        beginning = asyncio.ensure_future(self._begin(job, begun + self.limits.timeout))
        try:
            while not (await asyncio.wait((beginning,), timeout=QUIET))[0]:
                yield None
            beginning.result()
            while not job.over:
                self._require_going_on()
                left = self.limits.timeout - (time.monotonic() - begun)
                if left <= 0:
                    raise TimeoutError
                news = await job.news(min(QUIET, left))
                if not job.over:
                    yield news
            yield Answered(job.answer(), job.written, job.usage, time.monotonic() - begun)
        except TimeoutError as error:
            raise too_late(self.limits.timeout) from error
        except ApiError:
            raise
        except Exception as error:
            raise self.explained(error) from error
        finally:
            self.inside -= 1
            self._jobs.discard(job)
            job.leave()
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)

    async def _begin(self, job: _Job, until: float) -> None:
        """Wait for a turn, get the images, and begin. Raises ApiError, BadInput, TimeoutError."""
        async with asyncio.timeout(until - time.monotonic()):
            await asyncio.to_thread(self.pairs.find_pair, Name.read(job.inquiry.model))
            await self._turn.acquire()
            self.running += 1
            try:
                self._require_going_on()
                images = await pictures.load(job.inquiry.images, self.limits)
                job.start(images, until - time.monotonic())
            except BaseException:  # no thread gives the turn back; raised again
                self._over()
                raise

    def _require_going_on(self) -> None:
        """Raises ApiError 503."""
        if self._ending:
            raise unavailable("the server ends; try again in a moment", "server_ends")

    def _done(self, job: _Job) -> None:
        """Its thread has ended."""
        self.metrics.add_tokens(job.usage)
        self._over()

    def _over(self) -> None:
        self.running -= 1
        self._turn.release()

    def explained(self, error: Exception) -> ApiError:
        """What a client may know of it; the rest is in the log."""
        if isinstance(error, EngineLost):
            LOG.warning("an engine was lost: %s", error)
            threading.Thread(target=self.pairs.revive, name="revive", daemon=True).start()
            return unavailable("an engine was lost and is started again; try again in a moment", "engine_lost")
        if isinstance(error, BadImage | Unanswerable):
            code = "context_length_exceeded" if str(error).endswith(SHORTER) else None
            return invalid(str(error), "messages", code)
        if isinstance(error, BadInput):
            LOG.error("a pair cannot be opened: %s", error)
            return unavailable("this model cannot be loaded; the server's log says why", "model_not_loaded", 60)
        LOG.exception("a question failed")
        return internal()


class _Job:
    """One answer in the making, in a thread."""

    def __init__(self, pairs: Pairs, inquiry: Inquiry, done: Callable[[_Job], None]) -> None:
        """`done` is called in this event loop when the thread ends."""
        self.pairs, self.inquiry = pairs, inquiry
        self.mode: Mode = "joint"
        self.over = False
        self._left = False
        self._texts: dict[Step, str] = {}
        self._finished: set[Step] = set()
        self._tokens = {"captioner": (0, 0), "reasoner": (0, 0)}
        self._seats: list[Seat] = []
        self._result: Answer | BaseException | None = None
        self._changed = asyncio.Event()
        self._loop, self._done = asyncio.get_running_loop(), done

    def start(self, images: tuple[Image.Image, ...], seconds: float) -> None:
        """Answer within so many seconds."""
        threading.Thread(target=self._run, args=(images, seconds), name="answer", daemon=True).start()

    # --- in the event loop --------------------------------------------------------------------------------------------

    @property
    def written(self) -> Written:
        """Texts up to now."""
        return Written(dict(self._texts), frozenset(self._finished), self.mode)

    @property
    def usage(self) -> Usage:
        """Tokens up to now."""
        return Usage(self._tokens["captioner"], self._tokens["reasoner"])

    def answer(self) -> Answer:
        """Raises what ended the thread."""
        if not isinstance(self._result, Answer):
            assert self._result is not None
            raise self._result
        if any(reason == "deadline" for _, reason in self._result.finish):
            raise TimeoutError
        return self._result

    async def news(self, seconds: float) -> Written | None:
        """What is written, as soon as there is more; None if there is nothing new for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return None
        self._changed.clear()
        return self.written

    def wake(self) -> None:
        """Whoever waits for news looks again."""
        self._changed.set()

    def leave(self) -> None:
        """Nobody waits any more."""
        self._left = True
        for seat in self._seats:
            seat.leave()

    def _end(self) -> None:
        self.over = True
        self._changed.set()
        self._done(self)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self, images: tuple[Image.Image, ...], seconds: float) -> None:
        try:
            with self.pairs.use(Name.read(self.inquiry.model)) as pair:
                self._result = self._answer(pair, images, seconds)
        except BaseException as error:  # raised where the answer is awaited
            self._result = error
        self._tell(self._end)

    def _answer(self, pair: Pair, images: tuple[Image.Image, ...], seconds: float) -> Answer:
        inquiry, how = self.inquiry, pair.how
        limit = inquiry.max_tokens or how.max_tokens
        if inquiry.max_tokens and inquiry.max_tokens > pair.room:
            raise invalid(f"max_tokens is at most {pair.room} here", "max_tokens", "unsupported_value")
        self.mode = how.mode
        steps = CAPTIONER_STEPS if how.mode == "joint" else ()

        def seat(role: str, steps: tuple[Step, ...]) -> Seat:
            slot = getattr(pair, role)

            def written(partial: Partial) -> None:
                if partial.key < len(steps):
                    self._take(steps[partial.key], partial.text, False)

            def counted(tokens: tuple[int, int]) -> None:
                read, wrote = self._tokens[role]
                self._tokens[role] = read + tokens[0], wrote + tokens[1]

            return Seat(slot.open(), slot.room, written, counted)

        eyes, mind = seat("captioner", steps), seat("reasoner", ("answer",) if how.mode == "joint" else ())
        self._seats = [eyes, mind]
        if self._left:
            raise Left
        deadline = min(how.runtime.request_deadline, max(0.1, seconds))
        racro = Racro(
            eyes,
            mind,
            runtime=how.runtime.model_copy(update={"request_deadline": deadline}),
            max_tokens=limit,
            temperature=how.temperature if inquiry.temperature is None else inquiry.temperature,
            top_p=how.top_p if inquiry.top_p is None else inquiry.top_p,
            seed=how.seed if inquiry.seed is None else inquiry.seed,
            mode=how.mode,
            settings=how.settings,
            shots=how.shots,
        )
        return racro.answer(images, inquiry.question, watch=self._watch)

    def _watch(self, number: int, step: Step, completion: Completion) -> None:
        self._take(step, completion.text, True)

    def _take(self, step: Step, text: str, finished: bool) -> None:
        def take() -> None:
            if step not in self._finished:
                self._texts[step] = text
            if finished:
                self._finished.add(step)
            self._changed.set()

        self._tell(take)

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the server has ended
            LOG.debug("an answer came after the end")
