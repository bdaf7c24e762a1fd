"""Questions about one small picture. Used by the tests of evaluations."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from racro.evaluation.heldout import heldout_question
from racro.schema import ImageRef, Problem, Question

_buffer = io.BytesIO()
Image.new("RGB", (56, 56), "red").save(_buffer, "PNG")
PICTURE = _buffer.getvalue()
NAME = "picture.png"


def question(uid: str, text: str, answer: str) -> Question:
    """A question whose picture lies in its table's folder."""
    image = ImageRef(path=NAME, sha256=hashlib.sha256(PICTURE).hexdigest())
    return heldout_question(
        Problem(
            uid=uid,
            question=text,
            answer=answer,
            kind="integer",
            category="all",
            choices=(),
            images=(image,),
            scene=None,
        )
    )
