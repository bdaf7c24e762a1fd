"""One row of a foreign table -> a Problem, or why it cannot be one.

Not the table (`racro.data.sources` reads it, `racro.data.problems` counts and splits) and not the gold
(`racro.data.golds`). Every image is decoded once, to see that it can be and how it looks, and then forgotten: a Problem
carries paths and hashes.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image

from racro import grading
from racro.config import Columns
from racro.data import images
from racro.data.contamination import look
from racro.data.golds import BadGold, Gold, read_gold
from racro.data.sources import Row
from racro.prompts import IMAGE_TAG
from racro.schema import ImageRef, Problem

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


@dataclass(frozen=True)
class Files:
    """What is known of the images that were read: rows share images."""

    hashes: dict[str, str | Trouble] = field(default_factory=dict)
    """Content hash of each file, or the trouble with it."""
    looks: dict[str, str] = field(default_factory=dict)
    """Perceptual hash by content hash."""


class Draft(NamedTuple):
    """A row as it is understood, its images not looked at yet."""

    uid: str
    question: str
    gold: Gold
    images: Sequence[Any]
    """A path or bytes for each, in the order of their placeholders; None for an empty place."""
    category: str = NO_CATEGORY


def draft_row(number: int, row: Row, columns: Columns) -> Draft:
    """A row by its columns. Raises Unusable."""
    question = str(cell(row, columns.question, "")).strip()
    try:
        cells = (cell(row, columns.answer), cell(row, columns.kind), cell(row, columns.choices))
        gold = read_gold(*cells, question=question)
    except BadGold as error:
        raise Unusable(error.reason, error.detail) from error
    uid = str(number) if columns.uid is None else str(cell(row, columns.uid, "")).strip()
    return Draft(uid, question, gold, image_items(row[columns.image]), str(cell(row, columns.category, NO_CATEGORY)))


def with_placeholders(draft: Draft) -> Draft:
    """The draft with one placeholder per image: those that are lacking stand before the text, for the first images."""
    lacking = len(draft.images) - draft.question.count(IMAGE_TAG)
    return draft._replace(question=IMAGE_TAG * lacking + draft.question)


def check(draft: Draft, base: str | None, files: Files) -> Problem:
    """The problem of a draft: its gold answer graded against itself, its images decoded once. Raises Unusable.

    `base` is the folder that relative image paths start from.
    """
    if not draft.uid:
        raise Unusable("empty uid", draft.question)
    if not draft.question.replace(IMAGE_TAG, "").strip():
        raise Unusable("empty question", draft.uid)
    if not grading.canary(draft.gold):
        raise Unusable("gold is not equal to itself", f"{draft.uid}: {draft.gold.answer!r} as {draft.gold.kind}")
    if not draft.images:
        raise Unusable("missing image", f"{draft.uid} shows none")
    tags = draft.question.count(IMAGE_TAG)
    if tags not in (0, len(draft.images)):
        raise Unusable("placeholders do not match images", f"{tags} {IMAGE_TAG} for {len(draft.images)} images")
    return Problem(
        uid=draft.uid,
        **draft.gold._replace(question=draft.question)._asdict(),
        category=draft.category,
        images=tuple(image_ref(item, base, files) for item in draft.images),
        scene=None,
    )


def cell(row: Row, column: str | None, absent: Any = None) -> Any:
    """A cell; `absent` where it is null or there is no such column."""
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
    """Path and hash of an image that can be decoded. Raises Unusable."""
    if isinstance(item, bytes):
        _inspect(item, "image in the table", files)
        return inline_ref(item)
    if not isinstance(item, str):
        raise Unusable("missing image", f"{item!r} is neither a path nor bytes")
    if base is None and "://" not in item and not item.startswith("/"):
        raise Unusable("missing image", f"{item} is relative, and a dataset of the hub has no folder to start from")
    path = images.resolve(item, base or "")
    if path not in files.hashes:
        files.hashes[path] = _hash_file(path, files)
    known = files.hashes[path]
    if isinstance(known, Trouble):
        raise Unusable(*known)
    return ImageRef(path=path, sha256=known)


def _hash_file(path: str, files: Files) -> str | Trouble:
    try:
        data = images.image_bytes(path)
    except (ValueError, ImportError) as error:  # BadImage, a null byte, a protocol that fsspec does not know
        return Trouble("missing image", str(error))
    except OSError as error:
        if "://" in path:
            raise  # a storage that is down says nothing about the row
        return Trouble("missing image", f"{path}: {error.strerror}")
    try:
        return _inspect(data, path, files)
    except Unusable as error:
        return Trouble(error.reason, error.detail)


def _inspect(data: bytes, name: str, files: Files) -> str:
    """Decode bytes that were not seen before; their hash. Raises Unusable."""
    sha256 = images.sha256(data)
    if sha256 in files.looks:
        return sha256
    try:
        image = images.decode(data, name)
    except (ArithmeticError, EOFError, LookupError, TypeError, ValueError, struct.error) as error:
        # BadImage is a ValueError; the others are what decoders raise on bytes that only look like an image.
        raise Unusable("unreadable image", str(error)) from error
    files.looks[sha256] = look(image)
    return sha256


def inline_ref(data: bytes) -> ImageRef:
    """Where an image that came as bytes goes, relative to the artifact's folder."""
    sha256 = images.sha256(data)
    suffix = (Image.open(io.BytesIO(data)).format or "img").lower()
    return ImageRef(path=f"{INLINE_FOLDER}/{sha256[:16]}.{suffix}", sha256=sha256)
