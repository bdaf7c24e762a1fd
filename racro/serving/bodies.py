"""Bodies of requests: read within the limits, and checked. Called by `racro.serving.api`."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

from fastapi import Request

from racro.serving import chat
from racro.serving.chat import Inquiry
from racro.serving.errors import invalid
from racro.serving.limits import Limits
from racro.serving.votes import Vote

DRAINED = 4
"""So many times the largest body is read and thrown away: clients that still send do not read why they are refused."""


async def inquiry(request: Request, limits: Limits) -> Inquiry:
    """Read and check a question. Raises ApiError 400, 408, 413, 415."""
    _require_json(request)
    return await asyncio.to_thread(chat.parse, await whole(request, limits), limits)


async def vote(request: Request, limits: Limits) -> dict[str, Any]:
    """Read and check a vote. Raises ApiError 400, 408, 413, 415."""
    _require_json(request)
    try:
        asked = json.loads(await whole(request, limits))
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("id"), str) or asked.get("vote") not in get_args(Vote):
        raise invalid('send {"id": the id of an answer, "vote": "up" or "down"}')
    return asked


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise invalid(
            f"Content-Type {kind or '(none)'}; send application/json", code="unsupported_media_type", status=415
        )


async def whole(request: Request, limits: Limits) -> bytes:
    """All of it. Raises ApiError 408, 413."""
    too_large = invalid(f"a body of more than {limits.body:,} bytes", code="request_too_large", status=413)
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(limits.upload):
            async for part in request.stream():
                size += len(part)
                if size > DRAINED * limits.body:
                    raise too_large
                if size <= limits.body:
                    body += part
    except TimeoutError:
        raise invalid(f"the body did not arrive within {limits.upload:g} s", code="timeout", status=408) from None
    if size > limits.body:
        raise too_large
    return bytes(body)
