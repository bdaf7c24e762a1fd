"""The HTTP API: `/v1/models`, `/v1/chat/completions`, `/v1/votes`, `/health`, `/metrics` and `/admin/reload`.

Not the page (`racro.serving.page`), which shares the port, and not the work (`racro.serving.service`). No address may
ask from a browser's page of another site: there are no CORS headers, and a body must say that it is JSON.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from racro.engines.protocol import EngineLost
from racro.errors import BadInput
from racro.serving import webhooks
from racro.serving.bodies import Bodies
from racro.serving.chat import Inquiry
from racro.serving.completion import Answered, Completion, as_json, sse
from racro.serving.errors import ApiError, internal, invalid
from racro.serving.narration import Written
from racro.serving.service import Service
from racro.serving.votes import Ballot, Votes

LOG = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "::1")
FOREIGN = ("forwarded", "x-forwarded-for", "origin")
"""Headers of requests that come from elsewhere: through a proxy, or from another site's page."""
GONE = 499
"""The status under which requests are counted whose client did not wait."""


class Json(Response):
    """JSON in ASCII."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The body."""
        return as_json(content).encode()


def failed(error: ApiError) -> Response:
    """The answer to a request that has none."""
    return Json(error.body, error.status, error.headers)


def build(service: Service, key: str = "", votes: Votes | None = None) -> FastAPI:
    """The application, without the page. `key`: what clients must send as a bearer token; empty: nothing.

    `votes`: where clients' votes go; None: they have none.
    """
    started, bodies = int(time.time()), Bodies(service.limits)
    app = FastAPI(title="RACRO", docs_url=None, redoc_url=None, openapi_url=None)

    async def admitted(request: Request) -> None:
        """May this client ask now? Who may not is told so when all is sent. Raises ApiError 401, 429."""
        try:
            service.rates.count(_client(request))
            authorised(request)
        except ApiError:
            await bodies.throw_away(request)
            raise

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        scheme, _, sent = given.partition(" ")
        if key and not (scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), key.encode())):
            said = "wrong API key" if given else "no API key; send it as `Authorization: Bearer KEY`"
            raise ApiError(401, said, kind="authentication_error", code="invalid_api_key")

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> Response:
        return failed(error)

    @app.exception_handler(BadInput)
    @app.exception_handler(EngineLost)
    async def _cannot_answer(request: Request, error: Exception) -> Response:
        return failed(service.explained(error))

    @app.exception_handler(HTTPException)
    async def _no_such_page(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return failed(ApiError(error.status_code, f"{request.method} on this address: {error.detail}", code=code))

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> Response:
        return failed(internal())  # it is raised again, and the server logs it

    @app.get("/health")
    async def health() -> Response:
        return Json({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        text = service.metrics.text(service.running, service.inside, service.pairs.restarts)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        authorised(request)
        names = await asyncio.to_thread(service.pairs.names)
        return Json({"object": "list", "data": [_model(str(name), started) for name in names]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        authorised(request)
        from racro.serving.pairs import Name

        await asyncio.to_thread(service.pairs.find_pair, Name.read(name))
        return Json(_model(name, started))

    @app.post("/admin/reload")
    async def reload(request: Request) -> Response:
        hooked = webhooks.SIGNATURE in request.headers
        if not (hooked and webhooks.signed(request.headers, await bodies.whole(request), key)):
            authorised(request)
        if not key and (_client(request) not in LOOPBACK or any(name in request.headers for name in FOREIGN)):
            raise ApiError(403, "without --api-key, only this machine may do this", code="forbidden")
        await asyncio.to_thread(service.pairs.reload)
        return Json({"status": "reloaded"})

    @app.post("/v1/votes")
    async def vote(request: Request) -> Response:
        await admitted(request)
        asked = await bodies.vote(request)
        ballot = votes.find(asked["id"]) if votes else None
        if votes is None or ballot is None:
            raise invalid("no answer has this id, or it is forgotten", "id", "answer_not_found", 404)
        await asyncio.to_thread(votes.add, ballot, asked["vote"])
        service.metrics.votes.labels(asked["vote"]).inc()
        return Json({"status": "saved"})

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        try:
            await admitted(request)
            answering = _Answering(service, await bodies.inquiry(request), votes)
            return _Stream(answering) if answering.inquiry.stream else await answering.whole(request)
        except ApiError as error:
            service.metrics.requests.labels(error.status).inc()
            raise
        except ClientDisconnect:
            service.metrics.requests.labels(GONE).inc()
            return Response(status_code=GONE)

    return app


def _client(request: Request) -> str:
    """Its address."""
    return request.client.host if request.client else ""


def _model(name: str, created: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": "racro"}


class _Answering:
    """One request's answer, in either form."""

    def __init__(self, service: Service, inquiry: Inquiry, votes: Votes | None) -> None:
        self.service, self.inquiry, self.votes = service, inquiry, votes
        self.answers = cast(AsyncGenerator[Written | Answered | None, None], service.ask(inquiry))

    def done(self, status: int, answered: Answered | None = None, number: str = "") -> None:
        """Count it. `number`: the id under which the client can vote on it."""
        self.service.metrics.requests.labels(status).inc()
        if answered is not None:
            self.service.metrics.seconds.observe(answered.seconds)
            if self.votes is not None:
                self.votes.remember(number, Ballot.of(self.inquiry, answered))

    async def whole(self, request: Request) -> Response:
        """The answer as one object, unless the client goes before it is there. Raises ApiError."""
        work = asyncio.ensure_future(self._last())
        leaving = asyncio.ensure_future(_gone(request.receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.done(GONE)
                return Response(status_code=GONE)
            answered = work.result()
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)
            await self.answers.aclose()
        completion = Completion(self.inquiry.model)
        self.done(200, answered, completion.number)
        return Json(completion.whole(answered))

    async def _last(self) -> Answered:
        async for made in self.answers:
            if isinstance(made, Answered):
                return made
        raise AssertionError("a question without an end")

    async def events(self) -> AsyncIterator[str]:
        """The answer as a stream of events. Raises ApiError."""
        completion: Completion | None = None
        async for made in self.answers:
            if made is None:
                yield ": working\n\n"
                continue
            if completion is None:
                completion = Completion(self.inquiry.model)
                yield completion.begin()
            if isinstance(made, Answered):
                for event in completion.end(made, self.inquiry.include_usage):
                    yield event
                self.done(200, made, completion.number)
            else:
                for event in completion.pieces(made):
                    yield event


class _Stream(Response):
    """Server-sent events.

    The head is sent with the first event. What goes wrong before that has an HTTP status of its own.
    """

    def __init__(self, answering: _Answering) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self.answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, unless the client goes: then the work ends."""
        work = asyncio.ensure_future(self._send(scope, receive, send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.answering.done(GONE)
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)
            await self.answering.answers.aclose()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def part(content: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": content.encode(), "more_body": more})

        try:
            async for event in self.answering.events():
                if not begun:
                    head = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
                    await send({"type": "http.response.start", "status": 200, "headers": head})
                    begun = True
                await part(event)
            await part("", more=False)
        except Exception as error:
            said = error if isinstance(error, ApiError) else self.answering.service.explained(error)
            self.answering.done(said.status)
            if begun:
                await part(sse(said.body) + "data: [DONE]\n\n", more=False)
            else:
                await failed(said)(scope, receive, send)


async def _gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
