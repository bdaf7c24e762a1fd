"""One row of a foreign table -> a Problem, or why it cannot be one.

Not the table (`racro.data.sources` reads it, `racro.data.problems` counts and splits) and not the gold answer
(`racro.data.golds`). Every image is decoded once, to see that this works and what it looks like, and is not kept: a
Problem carries paths and hashes.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from racro import grading
from racro.config import Columns
from racro.data import images
from racro.data.cells import Unusable, quoted, sound, text_of
from racro.data.chats import asked_in, messages_in
from racro.data.contamination import look
from racro.data.golds import read_gold
from racro.data.known import read_facts, read_mcq
from racro.data.options import with_options
from racro.data.sources import Row
from racro.grading.normalise import normalised
from racro.prompts import IMAGE_TAG
from racro.schema import ChoiceQuestion, Gold, ImageFact, ImageRef, Problem
from racro.storage.files import in_time

NO_CATEGORY = "all"
INLINE_FOLDER = "images"
"""Folder, inside the artifact, of images that have no file of their own."""


_SPECIAL = re.compile(r"<\|[A-Za-z][\w ]+\|>|<｜[^｜<>]+｜>")
"""Special tokens of most tokenizers, <|im_start|> and the like: an end of turn or an image where it is only text."""


WEB = ("http://", "https://")
WEB_DEADLINE = 60.0
"""Seconds for one image from the web."""
WEB_PAUSES = (1.0,)
"""Seconds between tries of one: thousands of rows may name servers that are gone."""
LONGEST_SHOWN = 200
"""Characters of a path in a message."""
_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
"""A PNG, JPEG, GIF or WebP file as text; no path looks like that."""


class Trouble(NamedTuple):
    """Why an image cannot be used. Not the exception itself: its traceback would keep the image in memory."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Files:
    """What is known of the images that were read; rows share images."""

    hashes: dict[str, str | Trouble] = field(default_factory=dict)
    """Content hash of each file, or the trouble with it."""
    looks: dict[str, str] = field(default_factory=dict)
    """Perceptual hash by content hash."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height by content hash."""


class Draft(NamedTuple):
    """A row as it is understood; its images are not decoded yet."""

    uid: str
    question: str
    gold: Gold
    images: Sequence[Any]
    """A path or bytes for each, in the order of their placeholders; None for an empty place."""
    category: str = NO_CATEGORY
    facts: tuple[ImageFact, ...] = ()
    mcq: tuple[ChoiceQuestion, ...] = ()
    reference: str = ""


def draft_row(number: int, row: Row, columns: Columns) -> Draft:
    """A row by its columns. Options that the question does not list are written under it. Raises Unusable."""
    question, shown = asked(row, columns)
    gold = read_gold(row[columns.answer], cell(row, columns.kind), cell(row, columns.choices), question)
    if columns.choices is not None and gold.choices:
        question = with_options(question, gold.choices)
    uid = str(number) if columns.uid is None else text_of(row[columns.uid], "uid", numbers=True)
    category = text_of(cell(row, columns.category), "category", numbers=True) or NO_CATEGORY
    facts, mcq = read_facts(cell(row, columns.facts)), read_mcq(cell(row, columns.mcq))
    reference = text_of(cell(row, columns.reference), "reference")
    return Draft(uid, question, gold, shown, category, facts, mcq, reference)


def asked(row: Row, columns: Columns) -> tuple[str, list[Any]]:
    """The question of a row and its images: those of its chat messages, else those of their own column.

    Raises Unusable.
    """
    messages = messages_in(row[columns.question])
    image = row.get(columns.image)
    if messages is None:
        return text_of(row[columns.question], "question"), image_items(image)
    text, shown = asked_in(messages)
    own = [] if columns.image == columns.question or messages_in(image) else image_items(image)
    if shown and own:
        raise Unusable("images in two columns", f"{len(shown)} in the messages, {len(own)} in {columns.image}")
    return text, [item for source in shown for item in image_items(source) or [None]] or own


def with_placeholders(draft: Draft) -> Draft:
    """The draft with one placeholder per image: missing ones are added at the front, for the first images."""
    missing = len(draft.images) - draft.question.count(IMAGE_TAG)
    return draft._replace(question=IMAGE_TAG * missing + draft.question)


def check(draft: Draft, base: str | None, files: Files) -> Problem:
    """The problem of a draft: its gold answer graded against itself, its images decoded once. Raises Unusable.

    `base` is the folder that relative image paths start from.
    """
    if not draft.uid:
        raise Unusable("empty uid", draft.question)
    if not normalised(draft.question.replace(IMAGE_TAG, "")).strip():
        raise Unusable("empty question", draft.uid)
    if found := _SPECIAL.search(draft.question) or _SPECIAL.search(draft.reference):
        raise Unusable("special token in the text", f"{draft.uid}: {found[0]} means more than text to a model")
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
        facts=draft.facts,
        mcq=draft.mcq,
        reference=draft.reference,
    )


def cell(row: Row, column: str | None) -> Any:
    """A cell; None where there is no such column."""
    return None if column is None else row[column]


def image_items(cell: Any) -> list[Any]:
    """The images of a cell: bytes or a path for each, None for an empty place in a list. Raises Unusable."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        return [item for part in cell for item in image_items(part) or [None]]
    if isinstance(cell, dict):
        return image_items(cell.get("bytes") or cell.get("path") or cell.get("url"))
    if isinstance(cell, str) and (cell.startswith("data:") or _BASE64.fullmatch(cell)):
        try:
            return [base64.b64decode(cell.rpartition(",")[2])]
        except ValueError as error:
            raise Unusable("unreadable image", f"{cell[:60]}...: {error}") from error
    return [cell] if cell else []


def image_ref(item: Any, base: str | None, files: Files) -> ImageRef:
    """Path and hash of an image that can be decoded. Raises Unusable."""
    if isinstance(item, bytes):
        _inspect(item, "image in the table", files)
        return inline_ref(item)
    if not isinstance(item, str):
        raise Unusable("missing image", f"{quoted(item)} is neither a path nor bytes")
    sound(item, "image")
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
        data = _fetched(path) if path.startswith(WEB) else images.image_bytes(path)
    except (ValueError, ImportError) as error:  # BadImage, or a protocol that fsspec does not know
        return Trouble("missing image", str(error))
    except OSError as error:
        if "://" in path:
            raise  # a storage that is down says nothing about the row
        return Trouble("missing image", f"{path[:LONGEST_SHOWN]}: {error.strerror}")
    try:
        return _inspect(data, path, files)
    except Unusable as error:
        return Trouble(error.reason, error.detail)


def _fetched(url: str) -> bytes:
    """An image from the web. Raises BadImage for whatever its server does: each row may name another server."""
    try:
        return in_time(lambda: images.image_bytes(url, WEB_PAUSES), WEB_DEADLINE)
    except images.BadImage:
        raise
    except Exception as error:  # of the system, of aiohttp, or an answer like 403
        reason = " ".join(str(error).split()) or type(error).__name__
        raise images.BadImage(f"{url[:LONGEST_SHOWN]}: cannot be fetched ({reason[:LONGEST_SHOWN]})") from error


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
    files.sizes[sha256] = image.size
    files.looks[sha256] = look(image)
    return sha256


def inline_ref(data: bytes) -> ImageRef:
    """Where an image that came as bytes goes, relative to the artifact's folder."""
    sha256 = images.sha256(data)
    return ImageRef(path=f"{INLINE_FOLDER}/{sha256[:16]}.{images.suffix(data)}", sha256=sha256)
