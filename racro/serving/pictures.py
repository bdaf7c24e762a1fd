"""Images of a request -> decoded images within the limits: data: URLs, links, and the content of files.

Not the decoder (`racro.data.images`). Called by `racro.serving.service`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import threading
import urllib.parse
from collections.abc import Sequence

from PIL import Image

from racro.data.images import BadImage, decode
from racro.serving import links
from racro.serving.errors import ApiError, invalid
from racro.serving.limits import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF")
"""Formats that are opened, by Pillow's names. Others start programs (EPS) or are rarely tried by anybody."""
NAMED = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
OTHERS = (b"<svg ", b"<?xml", b"%pdf-", b"<html", b"<!doc")
"""How files begin that are taken for images now and then."""
DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
_decoding = threading.BoundedSemaphore(2)
"""Decoded images are large, and a decoder uses one core."""


async def load(sources: Sequence[str | bytes], limits: Limits) -> tuple[Image.Image, ...]:
    """The images, in order. Raises ApiError 400, 413, 415."""
    contents = await asyncio.gather(*(_content(source, i, limits) for i, source in enumerate(sources, 1)))
    return await asyncio.to_thread(decode_all, contents, limits)


async def _content(source: str | bytes, number: int, limits: Limits) -> bytes:
    if isinstance(source, bytes):
        return source
    if source[:5].lower() == "data:":
        return await asyncio.to_thread(data_url, source, number)
    return await links.fetch(source, number, limits)


def data_url(url: str, number: int) -> bytes:
    """The content of a data: URL. Raises ApiError 400, 415."""
    head = DATA.match(url[:1000])
    if head is None:
        raise _bad(f"image {number}: not a data: URL; write data:image/png;base64,...")
    if head[1] and not head[1].lower().startswith("image/"):
        raise _bad(f"image {number}: {head[1][:80]} is no image; give {NAMED}", 415)
    text = urllib.parse.unquote_to_bytes(url[head.end() :])
    if not head[3]:
        return text
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise _bad(f"image {number}: not valid base64 ({error})") from error


def decode_all(contents: Sequence[bytes], limits: Limits) -> tuple[Image.Image, ...]:
    """Images in RGB, the first frame of those that move. Raises ApiError 400, 413, 415."""
    total = sum(_pixels(content, number, limits) for number, content in enumerate(contents, 1))
    if total > limits.pixels:
        raise _bad(f"images of {total:,} pixels together; at most {limits.pixels:,}", 413)
    with _decoding:
        return tuple(_decoded(content, number) for number, content in enumerate(contents, 1))


def _decoded(content: bytes, number: int) -> Image.Image:
    """An image whose header is sound."""
    try:
        return decode(content, f"image {number}")
    except BadImage as error:
        raise _bad(f"image {number}: damaged, or cut off on its way; save it anew and send it again") from error


def _pixels(content: bytes, number: int, limits: Limits) -> int:
    """By the image's header, before anything is decoded."""
    if not content:
        raise _bad(f"image {number}: empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.width * image.height
    except Image.DecompressionBombError as error:
        raise _bad(f"image {number}: more than {limits.pixels:,} pixels; send a smaller one", 413) from error
    except Exception as error:  # decoders break in their own ways on bytes that only look like an image
        status = 415 if content.lstrip()[:5].lower() in OTHERS else 400
        raise _bad(f"image {number}: not a readable image; give {NAMED}", status) from error


def _bad(message: str, status: int = 400) -> ApiError:
    return invalid(message, "messages", "invalid_image", status)
