"""Questions that come as chat messages: OpenAI's layout (role, content) and ShareGPT's (from, value).

Read is a conversation in which the user speaks once; a system text before it and a reply after it are not the question.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any, NamedTuple

from racro.data.cells import Unusable, quoted, sound
from racro.prompts import IMAGE_TAG

_KEYS = (("role", "content"), ("from", "value"))
_USER = ("user", "human")
_OTHERS = ("system", "developer", "assistant", "gpt", "model")
_WRAPPERS = ("messages", "conversations", "conversation")
"""Keys under which whole conversations are kept."""
_LIKE = re.compile(
    r"\ufeff?\s*(?:\[\s*\{\s*[\"'](?:role|from|content|value)|\{\s*[\"'](?:role|messages|conversations?))[\"']\s*:"
)
"""How a text begins that holds messages; no question does."""
_SOURCES = ("image", "image_url", "url", "path", "bytes")


class Asked(NamedTuple):
    """What the user says."""

    text: str
    """With a placeholder where a part is an image."""
    images: tuple[Any, ...]
    """Of the parts that are images, in order: a path, a URI, bytes, or a Hugging Face image."""


def messages_in(cell: Any) -> list[dict[str, Any]] | None:
    """The messages of a cell, which may hold them as JSON or Python text; None when it is something else.

    Raises Unusable for a text that begins like messages and is none.
    """
    written = isinstance(cell, str) and _LIKE.match(cell) is not None
    found = _parsed(cell.strip("\ufeff \t\r\n")) if written else cell
    if isinstance(found, dict):
        found = next((found[key] for key in _WRAPPERS if found.get(key) is not None), [found])
    if isinstance(found, list) and found and all(isinstance(message, dict) and _keys(message) for message in found):
        return found
    if written:
        raise Unusable("unknown chat layout", f"question is {quoted(cell)}")
    return None


def asked_in(messages: list[dict[str, Any]]) -> Asked:
    """The user's turn. Raises Unusable."""
    turns = []
    for message in messages:
        role, content = (message[key] for key in _keys(message) or _KEYS[0])
        if role in _USER:
            turns.append(content)
        elif role not in _OTHERS:
            raise Unusable("unknown chat layout", f"a message is from {quoted(role)}")
    if len(turns) != 1:
        raise Unusable("chat of several turns" if turns else "empty question", f"the user speaks {len(turns)} times")
    if isinstance(turns[0], str):
        return Asked(sound(turns[0], "question").strip(), ())
    if not isinstance(turns[0], list):
        raise Unusable("unknown chat layout", f"the content is {quoted(turns[0])}")
    pieces, images = [], []
    for part in turns[0]:
        text, image = _part(part)
        pieces.append(text)
        images += [image] if text == IMAGE_TAG else []
    given = tuple(image for image in images if image is not None)
    if given and len(given) < len(images):
        raise Unusable("missing image", f"{len(images) - len(given)} of {len(images)} images of a chat have no source")
    # Pieces of text are lines; an image stands before or in the text that it belongs to.
    joined = "\n".join(pieces).replace(f"{IMAGE_TAG}\n", IMAGE_TAG)
    return Asked(joined.strip(), given)


def _keys(message: dict[str, Any]) -> tuple[str, str] | None:
    return next((keys for keys in _KEYS if message.get(keys[0]) is not None and keys[1] in message), None)


def _part(part: Any) -> tuple[str, Any]:
    """The text of a part, or the placeholder and the source of its image (None: it is in the table's own column)."""
    if isinstance(part, str):
        return sound(part, "question"), None
    if isinstance(part, dict):
        kind, text = part.get("type"), part.get("text")
        image = next((part[key] for key in _SOURCES if part.get(key) is not None), None)
        if isinstance(text, str) and kind in (None, "text", "input_text") and image is None:
            return sound(text, "question"), None
        if kind in ("image", "image_url", "input_image") or (kind is None and image is not None):
            return IMAGE_TAG, image.get("url") if isinstance(image, dict) and "url" in image else image
    raise Unusable("unknown chat layout", f"a part is {quoted(part)}")


def _parsed(text: str) -> Any:
    """The value of JSON or Python text; None when it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return None
