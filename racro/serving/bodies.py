"""Bodies of requests: read within the limits, and checked. Called by `racro.serving.api`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, get_args

from fastapi import Request

from racro.serving import chat
from racro.serving.chat import Inquiry
from racro.serving.errors import busy, invalid
from racro.serving.limits import Limits
from racro.serving.votes import Vote

DRAINED = 4
"""So many times the largest body is read and thrown away: clients that still send do not read why they are refused."""


class Bodies:
    """Reads them. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        """Bytes of all bodies that are on their way."""

    async def inquiry(self, request: Request) -> Inquiry:
        """Read and check a question. Raises ApiError 400, 413, 415, 429."""
        return await asyncio.to_thread(chat.parse, await self._json(request), self.limits)

    async def vote(self, request: Request) -> dict[str, Any]:
        """Read and check a vote. Raises ApiError 400, 413, 415, 429."""
        try:
            asked = json.loads(await self._json(request))
        except (ValueError, RecursionError) as error:
            raise invalid(f"the body is not JSON: {error}", code="invalid_json") from None
        known = isinstance(asked, dict) and isinstance(asked.get("id"), str) and asked.get("vote") in get_args(Vote)
        if not known:
            raise invalid('send {"id": the id of an answer, "vote": "up" or "down"}')
        return dict(asked)

    async def whole(self, request: Request) -> bytes:
        """All of it. Raises ApiError 413, and 429 where all that arrive are more than the queue has places for."""
        limits, body, full = self.limits, bytearray(), False

        def keep(part: bytes, size: int) -> None:
            nonlocal full
            full = full or self.held + len(part) > limits.body * limits.places
            if size <= limits.body and not full:
                body.extend(part)
                self.held += len(part)

        try:
            size = await self._read(request, keep)
        finally:
            self.held -= len(body)
        if size > limits.body:
            raise invalid(f"a body of more than {limits.body:,} bytes", code="request_too_large", status=413)
        if full:
            raise busy(limits.queue)
        return bytes(body)

    async def throw_away(self, request: Request) -> None:
        """Read it for nothing, so that the client reads why it is refused."""
        await self._read(request, lambda part, size: None)

    async def _json(self, request: Request) -> bytes:
        body = await self.whole(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            said = f"Content-Type {kind or '(none)'}; send application/json"
            raise invalid(said, code="unsupported_media_type", status=415)
        return body

    async def _read(self, request: Request, take: Callable[[bytes, int], None]) -> int:
        """Its size, or one that is beyond all limits. `take` gets each part, and the size up to its end."""
        size = 0
        async for part in request.stream():
            size += len(part)
            take(part, size)
            if size > DRAINED * self.limits.body:
                break
        return size
