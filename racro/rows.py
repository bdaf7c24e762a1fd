"""One row of a foreign table -> a Problem, or why it cannot be one.

Not the table (`racro.sources` reads it, `racro.problems` counts and splits) and not the gold (`racro.golds`). Every
image is decoded once, to see that it can be, and then forgotten: a Problem carries paths and hashes.
"""

from __future__ import annotations

import base64
import io
import struct
from typing import Any, NamedTuple

from PIL import Image

from racro import images
from racro.config import Columns
from racro.golds import BadGold, read_gold
from racro.prompts import IMAGE_TAG
from racro.schema import ImageRef, Problem
from racro.sources import Row

MAX_ASPECT = 200
"""Qwen2.5-VL's processor refuses longer images, in the middle of a run."""
NO_CATEGORY = "all"
INLINE_FOLDER = "images"
"""Folder, inside the artifact, of images that have no file of their own."""


class Unusable(Exception):
    """A row that becomes no problem. `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Trouble(NamedTuple):
    """Why an image cannot be used. Not the exception itself: its traceback would keep the image in memory."""

    reason: str
    detail: str


Files = dict[str, str | Trouble]
"""Hash of each image file that was read, or the trouble with it: rows share images."""


def read_row(number: int, row: Row, columns: Columns, base: str | None, files: Files) -> Problem:
    """The problem of a row. `base` is the folder that relative image paths start from. Raises Unusable."""
    uid = str(number) if columns.uid is None else str(_cell(row, columns.uid, "")).strip()
    if not uid:
        raise Unusable("empty uid", f"column {columns.uid}")
    question = str(_cell(row, columns.question, "")).strip()
    if not question.replace(IMAGE_TAG, "").strip():
        raise Unusable("empty question", uid)
    try:
        cells = (_cell(row, columns.answer), _cell(row, columns.kind), _cell(row, columns.choices))
        gold = read_gold(*cells, question=question)
    except BadGold as error:
        raise Unusable(error.reason, error.detail) from error
    items = image_items(row[columns.image])
    if not items:
        raise Unusable("missing image", f"{uid} shows none")
    tags = question.count(IMAGE_TAG)
    if tags not in (0, len(items)):
        raise Unusable("placeholders do not match images", f"{tags} {IMAGE_TAG} for {len(items)} images")
    return Problem(
        uid=uid,
        question=question,
        answer=gold.answer,
        kind=gold.kind,
        category=str(_cell(row, columns.category, NO_CATEGORY)),
        choices=gold.choices,
        images=tuple(image_ref(item, base, files) for item in items),
        scene=None,
    )


def _cell(row: Row, column: str | None, absent: Any = None) -> Any:
    value = None if column is None else row[column]
    return absent if value is None else value


def image_items(cell: Any) -> list[Any]:
    """The images of a cell: bytes or a path for each, None for an empty place in a list. Raises Unusable."""
    if isinstance(cell, list):
        return [item for part in cell for item in image_items(part) or [None]]
    if isinstance(cell, dict):
        return image_items(cell.get("bytes") or cell.get("path"))
    if isinstance(cell, str) and cell.startswith("data:"):
        try:
            return [base64.b64decode(cell.partition(",")[2])]
        except ValueError as error:
            raise Unusable("unreadable image", f"{cell[:60]}...: {error}") from error
    return [cell] if cell else []


def image_ref(item: Any, base: str | None, files: Files) -> ImageRef:
    if isinstance(item, bytes):
        _decode(item, "image in the table")
        return inline_ref(item)
    if not isinstance(item, str):
        raise Unusable("missing image", f"{item!r} is neither a path nor bytes")
    if base is None and "://" not in item and not item.startswith("/"):
        raise Unusable("missing image", f"{item} is relative, and a dataset of the hub has no folder to start from")
    path = images.resolve(item, base or "")
    if path not in files:
        files[path] = _hash_file(path)
    known = files[path]
    if isinstance(known, Trouble):
        raise Unusable(*known)
    return ImageRef(path=path, sha256=known)


def _hash_file(path: str) -> str | Trouble:
    try:
        data = images.image_bytes(path)
    except (ValueError, ImportError) as error:  # BadImage, a null byte, a protocol that fsspec does not know
        return Trouble("missing image", str(error))
    except OSError as error:
        if "://" in path:
            raise  # a storage that is down says nothing about the row
        return Trouble("missing image", f"{path}: {error.strerror}")
    try:
        _decode(data, path)
    except Unusable as error:
        return Trouble(error.reason, error.detail)
    return images.sha256(data)


def _decode(data: bytes, name: str) -> None:
    try:
        image = images.decode(data, name)
    except (ArithmeticError, EOFError, LookupError, TypeError, ValueError, struct.error) as error:
        # BadImage is a ValueError; the others are what decoders raise on bytes that only look like an image.
        raise Unusable("unreadable image", str(error)) from error
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise Unusable("image too long", f"{name}: {image.width} x {image.height}, more than {MAX_ASPECT} to 1")


def inline_ref(data: bytes) -> ImageRef:
    """Where an image that came as bytes goes, relative to the artifact's folder."""
    sha256 = images.sha256(data)
    suffix = (Image.open(io.BytesIO(data)).format or "img").lower()
    return ImageRef(path=f"{INLINE_FOLDER}/{sha256[:16]}.{suffix}", sha256=sha256)
