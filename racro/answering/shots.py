"""A file of solved examples -> those that mode shots shows to the reasoner."""

from __future__ import annotations

import json
import logging
import random

from racro.errors import BadInput
from racro.schema import Shot
from racro.storage.artifacts import read_file

logger = logging.getLogger(__name__)
EXAMPLE = '{"question": "...", "caption": "...", "answer": "..."}'
FIELDS = ("question", "caption", "answer")


def read_shots(uri: str, count: int, seed: int) -> list[Shot]:
    """`count` examples of a jsonl file, drawn by seed; all in the order of drawing if there are fewer.

    Raises BadInput that names the line.
    """
    try:
        lines = read_file(uri).decode("utf-8").splitlines()
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(f"{uri}: cannot be read ({error}); give a jsonl file of lines like {EXAMPLE}") from error
    shots = [_shot(line, number, uri) for number, line in enumerate(lines, 1) if line.strip()]
    if not shots:
        raise BadInput(f"{uri}: holds no solved example; give lines like {EXAMPLE}")
    if len(shots) < count:
        logger.warning("%s: %d solved examples are asked for, but it holds only %d", uri, count, len(shots))
    return random.Random(f"shots:{seed}").sample(shots, len(shots))[:count]


def _shot(line: str, number: int, uri: str) -> Shot:
    try:
        content = json.loads(line)
        texts = {name: content[name] for name in FIELDS}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"{uri}: line {number}: not a line like {EXAMPLE} ({type(error).__name__})") from error
    bad = [name for name, text in texts.items() if not isinstance(text, str) or not text.strip()]
    if bad:
        raise BadInput(f"{uri}: line {number}: {bad[0]} is not a text; write it like {EXAMPLE}")
    return Shot(uid=str(number), **texts)
