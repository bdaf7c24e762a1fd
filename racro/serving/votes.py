"""Votes -> a file of JSON lines: what was asked, what was answered, and whether somebody liked it.

Votes come from the page, or from clients of the API, which name an answer by its id. Where else a vote goes is said by
whoever serves (`flows.cli.serving`).
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from racro.serving.chat import Inquiry
from racro.serving.completion import Answered
from racro.serving.errors import unavailable

LOG = logging.getLogger(__name__)
Vote = Literal["up", "down"]
KEPT = 1000
"""Answers of the API that can be voted on, the last ones."""


@dataclass(frozen=True)
class Ballot:
    """An answer that can be voted on."""

    model: str
    question: str
    image: str
    """sha256 of each image's file, or of its link; the images themselves are not kept."""
    answered: Answered

    @classmethod
    def of(cls, inquiry: Inquiry, answered: Answered) -> Self:
        """What a client asked and got."""
        digests = [hashlib.sha256(_content(image)).hexdigest() for image in inquiry.images]
        return cls(inquiry.model, inquiry.question, " ".join(digests), answered)


class Votes:
    """The file, which is made with the first vote, and the answers of the API that wait for one."""

    def __init__(self, file: Path, more: Callable[[dict[str, Any]], None] | None = None) -> None:
        """`more` gets the content of each line too, in a thread; it must not raise."""
        self.file, self.more = file, more
        self._waiting: OrderedDict[str, Ballot] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, ballot: Ballot, vote: Vote) -> None:
        """Append a line. Raises ApiError 503 where it cannot be written."""
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "vote": vote,
            "model": ballot.model,
            "image_sha256": ballot.image,
            "question": ballot.question,
            "answer": ballot.answered.written.spoken("answer"),
            **ballot.answered.parts,
        }
        try:
            with self._lock:
                self._append(f"{json.dumps(row)}\n".encode())
        except OSError as error:
            LOG.error("a vote was not saved: %s", error)
            raise unavailable("the vote could not be saved; the server's log says why", "vote_not_saved", 60) from None
        if self.more is not None:
            threading.Thread(target=self.more, args=(row,), name="vote", daemon=True).start()

    def _append(self, line: bytes) -> None:
        """All of it or, on a full disk, nothing, so that later lines can be read. Raises OSError."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            if stream.write(line) < len(line):
                stream.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))

    def remember(self, number: str, ballot: Ballot) -> None:
        """Keep an answer of the API, so that its client can vote on it."""
        with self._lock:
            self._waiting[number] = ballot
            while len(self._waiting) > KEPT:
                self._waiting.popitem(last=False)

    def find(self, number: str) -> Ballot | None:
        """The answer with this id; None if there was none, or if it is forgotten."""
        with self._lock:
            return self._waiting.get(number)


def _content(image: str | bytes) -> bytes:
    """The bytes of an image's file; of a link, its letters."""
    if isinstance(image, bytes):
        return image
    head, _, data = image.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        try:
            return base64.b64decode(data)
        except binascii.Error:  # it was answered, so it is an image all the same
            return data.encode()
    return image.encode()
