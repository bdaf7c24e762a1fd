"""A visitor's question -> what the page shows, from the moment of asking to the last word. Knows no Gradio.

Called by `racro.serving.panes`, which has the page's elements.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from racro.schema import CHAMPION, INITIAL, Mode
from racro.serving import cards, pictures
from racro.serving.chat import Inquiry
from racro.serving.completion import Answered
from racro.serving.errors import ApiError, invalid
from racro.serving.narration import Written
from racro.serving.pairs import Name
from racro.serving.service import Service
from racro.serving.votes import Ballot

TITLES = {"": "default", INITIAL: "before training", CHAMPION: "champion, the best so far"}
"""How captioners are called on the page; all others are runs."""


@dataclass(frozen=True)
class View:
    """One answer on the page."""

    html: str
    ballot: Ballot | None = None
    """Once there is something to vote on."""


@dataclass(frozen=True)
class Visit:
    """What the page asks of the server."""

    service: Service
    stops: dict[str, set[asyncio.Event]] = field(default_factory=dict)
    """Of the questions that are being answered, by their visitor's session: to be set when the visitor stops them."""

    @property
    def reasoners(self) -> tuple[str, ...]:
        """Their names, the default first."""
        return self.service.pairs.reasoners

    @property
    def mode(self) -> Mode:
        """How this server answers."""
        return self.service.pairs.find_pair(Name()).how.mode

    def captioners(self) -> list[str]:
        """Names, the default first. `initial` is left out where it is the default."""
        pairs = self.service.pairs
        names = list(dict.fromkeys(name.captioner for name in pairs.names()))
        same = pairs.find_pair(Name()).captioner is pairs.find_pair(Name(INITIAL)).captioner
        return [name for name in names if not (same and name == INITIAL)]

    def compared(self, captioner: str) -> tuple[str, str]:
        """The captioner before training, and the one that was chosen; where that is the same, another one."""
        names = self.captioners()
        base = INITIAL if INITIAL in names else ""
        others = [name for name in (captioner, "", CHAMPION, *names) if name in names and name != base]
        return base, others[0] if others else base

    async def looked_at(self, image: str) -> str:
        """HTML that says why an upload is no image; empty: it is one."""
        try:
            await pictures.load([await asyncio.to_thread(Path(image).read_bytes)], self.service.limits)
        except ApiError as error:
            return cards.refused(str(error).removeprefix("image 1: "))
        return ""

    def stop(self, session: str) -> None:
        """End what this visitor has asked: the last views then say what was written until now."""
        for one in self.stops.get(session, ()):
            one.set()

    async def ask(self, client: str, session: str, *asked: Any) -> AsyncIterator[list[View]]:
        """One view, or two side by side, again and again, until all is answered or the visitor stops it.

        `client`: the visitor's address. `asked`: see `_ask`.
        """
        stop, theirs = asyncio.Event(), self.stops.setdefault(session, set())
        theirs.add(stop)
        try:
            async with contextlib.aclosing(self._ask(stop, client, *asked)) as views:
                async for view in views:
                    yield view
        finally:
            theirs.discard(stop)
            if not theirs:
                self.stops.pop(session, None)

    async def _ask(
        self,
        stop: asyncio.Event,
        client: str,
        image: str | None,
        link: str,
        question: str,
        captioner: str,
        reasoner: str,
        compare: bool,
    ) -> AsyncGenerator[list[View], None]:
        """`image`: path of an upload; a link comes first."""
        asked: tuple[str, ...] = (captioner,)
        if compare:
            asked = await asyncio.to_thread(self.compared, captioner)
        names = [Name(one, "" if reasoner == self.reasoners[0] else reasoner) for one in asked]
        titles = [TITLES[INITIAL], title(asked[1]) if asked[1] else "trained"] if compare else [""]
        views = [View(cards.waiting(self.mode, one)) for one in titles]
        yield views
        try:
            source = await asyncio.to_thread(self._source, image, link, question)
            self.service.rates.count(client)
        except ApiError as error:
            yield [View(cards.failed(str(error), one)) for one in titles]
            return
        inquiries = [Inquiry(str(name), question, (source,)) for name in names]
        unfinished = dict.fromkeys(range(len(names)), Written({}, frozenset(), self.mode))
        async for number, news in merged([self._answers(inquiry) for inquiry in inquiries], stop):
            if isinstance(news, ApiError):
                views[number] = View(cards.failed(str(news), titles[number]))
                del unfinished[number]
            elif isinstance(news, Answered):
                views[number] = View(cards.answered(news, titles[number]), Ballot.of(inquiries[number], news))
                del unfinished[number]
            elif news is not None:
                views[number] = View(cards.writing(news, titles[number]))
                unfinished[number] = news
            yield list(views)
        for number, written in unfinished.items():
            views[number] = View(cards.stopped(written, titles[number]))
        if unfinished:
            yield views

    def _source(self, image: str | None, link: str, question: str) -> str | bytes:
        """The image's file, or its link. Raises ApiError."""
        if not question.strip():
            raise invalid("Write a question first.")
        if len(question) > self.service.limits.question:
            raise invalid(f"The question has more than {self.service.limits.question:,} characters.")
        if link.strip():
            return link.strip()
        if image is None:
            raise invalid("Bring an image first: drop, choose or paste one, or give a link.")
        return Path(image).read_bytes()

    async def _answers(self, inquiry: Inquiry) -> AsyncGenerator[Any, None]:
        """As `Service.ask`, with an error as the last of it."""
        metrics = self.service.metrics
        try:
            async with contextlib.aclosing(cast(AsyncGenerator[Any, None], self.service.ask(inquiry))) as answers:
                async for made in answers:
                    yield made
                    if isinstance(made, Answered):
                        metrics.requests.labels(200).inc()
                        metrics.seconds.observe(made.seconds)
        except ApiError as error:
            metrics.requests.labels(error.status).inc()
            yield error


def title(captioner: str) -> str:
    """A captioner's name for people."""
    return TITLES.get(captioner, f"run {captioner}")


async def merged(sources: Sequence[AsyncGenerator[Any, None]], stop: asyncio.Event) -> AsyncIterator[tuple[int, Any]]:
    """What several sources give, as it comes, with the source's number. Ends them when it is closed, or at `stop`."""
    arrived: asyncio.Queue[tuple[int, Any, bool]] = asyncio.Queue()

    async def pump(number: int, source: AsyncGenerator[Any, None]) -> None:
        try:
            async with contextlib.aclosing(source):
                async for made in source:
                    arrived.put_nowait((number, made, False))
        finally:
            arrived.put_nowait((number, None, True))

    async def watch() -> None:
        await stop.wait()
        arrived.put_nowait((0, None, True))

    left = len(sources)
    tasks = [asyncio.ensure_future(one) for one in (watch(), *(pump(*numbered) for numbered in enumerate(sources)))]
    try:
        while left:
            number, made, over = await arrived.get()
            if stop.is_set():
                break
            left -= over
            if not over:
                yield number, made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
