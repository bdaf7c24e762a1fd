"""Images: one function decodes, one function hashes. Everything else passes on path and hash."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import struct
from collections.abc import Sequence
from typing import cast

from PIL import Image, ImageOps

from racro.errors import BadInput
from racro.schema import ImageRef
from racro.storage import downloads
from racro.storage.files import opened, with_retries

LOG = logging.getLogger(__name__)

PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG file."""
MAX_PIXELS = 120_000_000
"""Larger images are refused rather than risk the host's memory (a decompression bomb)."""
MAX_ASPECT = 200
"""Qwen2.5-VL's processor refuses longer images, in the middle of a run: they get a white margin."""


class BadImage(BadInput):
    """An image that cannot be used: missing, unreadable, not an image, too large, or changed since it was prepared."""


def image_bytes(path: str, pauses: Sequence[float] | None = None) -> bytes:
    """The file's bytes; `pauses` as in `with_retries`. Raises BadImage when it is missing."""
    try:
        fs, place = opened(path)
        return with_retries(lambda: fs.cat_file(place), pauses)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadImage(f"{path}: no such image") from error


def decode(data: bytes, name: str) -> Image.Image:
    """Decode to RGB: alpha is laid on white, EXIF rotation is applied, nothing is scaled or cut. Raises BadImage."""
    try:
        return upright(_opened(data, name), name)
    except BadImage:
        bare = _without_extras(data)
        if bare == data:
            raise
        return upright(_opened(bare, name), name)


def suffix(data: bytes) -> str:
    """The ending of a file name for an image that `decode` takes. Raises BadImage."""
    return "png" if data.startswith(PNG) else (_opened(data, "image").format or "img").lower()


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # forty decoders, and each breaks in its own way on bytes that only look like an image
        raise BadImage(f"{name}: not a readable image ({type(error).__name__})") from error


def _without_extras(data: bytes) -> bytes:
    """A PNG file without text, colour profiles and animation, which Pillow limits in size; other files as they are."""
    if not data.startswith(PNG):
        return data
    kept, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length  # of length, kind, content and checksum
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def upright(image: Image.Image, name: str) -> Image.Image:
    """The same for an image that Pillow has opened already. Raises BadImage."""
    longer, shorter = max(image.size), min(image.size)
    if longer * max(shorter, longer / MAX_ASPECT) > MAX_PIXELS:
        raise BadImage(f"{name}: {image.width} x {image.height} pixels is more than {MAX_PIXELS:,}")
    try:
        image.load()
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # metadata is broken in as many ways as files; the picture then stays as it is
            LOG.warning("%s: broken EXIF data, the image is not rotated", name)
        return _with_margin(_rgb(image))
    except Exception as error:  # pixels are decoded here, not when the image is opened
        raise BadImage(f"{name}: not a readable image ({type(error).__name__})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _with_margin(image: Image.Image) -> Image.Image:
    """The image, widened on both sides where its shape is beyond MAX_ASPECT."""
    narrowest = max(image.size) / MAX_ASPECT
    margin = tuple(max(0, math.ceil((narrowest - side) / 2)) for side in image.size)
    return ImageOps.expand(image, margin, "white") if any(margin) else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats, in 8 bits; Pillow would cut every value at 255: white.

    16 bits often come in mode I, which is for 32; floats are shares of white, or values of 8 or 16 bits.
    """
    wide = image if image.mode == "F" else image.convert("I")
    brightest = cast(float, wide.getextrema()[1])
    scale = 1 / 257 if image.mode not in "IF" or brightest > 255 else 1.0
    if image.mode == "F" and brightest <= 1:
        scale = 255.0
    return wide.point(lambda value: value * scale + 0).convert("L")


def sha256(data: bytes) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def open_image(ref: ImageRef, base: str) -> Image.Image:
    """Decode a problem's image. `base` is the folder of its table. Raises BadImage, also when the bytes changed."""
    path = resolve(ref.path, base)
    data = downloads.through(ref.sha256, lambda: image_bytes(path)) if "://" in path else image_bytes(path)
    if sha256(data) != ref.sha256:
        raise BadImage(f"{path}: the image changed since the problems were prepared; delete {base} and run again")
    return decode(data, path)


def resolve(path: str, base: str) -> str:
    """A path of an ImageRef as something that can be opened."""
    return path if "://" in path or path.startswith("/") else f"{base.rstrip('/')}/{path}"
