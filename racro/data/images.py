"""Images: one function decodes, one function hashes. Everything else passes path and hash."""

from __future__ import annotations

import hashlib
import io
import math
from typing import cast

from PIL import Image, ImageOps

from racro.errors import BadInput
from racro.schema import ImageRef
from racro.storage import downloads
from racro.storage.files import opened, patiently

MAX_PIXELS = 120_000_000
"""Larger images are refused rather than risk the host's memory (a decompression bomb)."""
MAX_ASPECT = 200
"""Qwen2.5-VL's processor refuses longer images, in the middle of a run: they get a white margin."""


class BadImage(BadInput):
    """An image that cannot be used: missing, unreadable, not an image, too large, or changed since it was prepared."""


def image_bytes(path: str) -> bytes:
    """The file's bytes. Raises BadImage when it is missing."""
    try:
        fs, place = opened(path)
        return patiently(lambda: fs.cat_file(place))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadImage(f"{path}: no such image") from error


def decode(data: bytes, name: str) -> Image.Image:
    """Decode to RGB: alpha is laid on white, EXIF rotation is applied, nothing is scaled or cut. Raises BadImage."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
    except Exception as error:  # forty decoders, and each breaks in its own way on bytes that only look like an image
        raise BadImage(f"{name}: not a readable image ({type(error).__name__})") from error
    return upright(image, name)


def upright(image: Image.Image, name: str) -> Image.Image:
    """The same for an image that Pillow has opened already. Raises BadImage."""
    longer, shorter = max(image.size), min(image.size)
    if longer * max(shorter, longer / MAX_ASPECT) > MAX_PIXELS:
        raise BadImage(f"{name}: {image.width} x {image.height} pixels is more than {MAX_PIXELS:,}")
    try:
        return _with_margin(_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # pixels are decoded here, not when the image is opened
        raise BadImage(f"{name}: not a readable image ({type(error).__name__})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
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
    """Grey of 16 bits (which Pillow also calls I, as of 32) in 8; Pillow would cut every value at 255: white."""
    wide = image.convert("I")
    brightest = cast(int, wide.getextrema()[1])
    scale = 1 / 257 if image.mode != "I" or brightest > 255 else 1.0
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
