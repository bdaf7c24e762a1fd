"""One answer of a model to one question, as read from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from racro.benchmarks.benchmark import labels_of
from racro.errors import BadInput
from racro.schema import FinishReason, Gold, Question, Verdict

_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


class BadPredictions(BadInput):
    """A file of predictions that cannot be read or makes no sense."""


class Prediction(NamedTuple):
    """One answer, with everything its file says about it."""

    question: Question
    """Without images."""
    response: str | None
    """The text of the model; None if the file has verdicts only."""
    finish_reason: FinishReason = "stop"
    extraction: str | None = None
    """The answer that the file says it extracted from the text."""
    is_answer: bool = False
    """Is the extraction an answer, such as an option, a letter or a number, and not "N/A"?"""
    by_rule: Verdict | None = None
    """The verdict on the extraction by the authors' rule; by our rule if the file is in our fields."""
    published: Verdict | None = None
    """The verdict in the file."""
    trouble: str | None = None
    """Why its gold answer cannot be used for grading; None if it can."""


def question(
    uid: str,
    text: str,
    gold: Gold,
    benchmark: str,
    labels: Sequence[tuple[str, Any]] = (),
    family: str | None = None,
    part: str | None = None,
) -> Question:
    """A question without images. The value of a label may be a list of several, or None."""
    return Question(
        uid=uid,
        question=text,
        **{name: value for name, value in gold._asdict().items() if name != "question"},
        category="",
        images=(),
        scene=None,
        benchmark=benchmark,
        family=family,
        part=part,
        labels=labels_of(labels),
    )


def verdict(right: bool) -> Verdict:
    """Correct or wrong."""
    return Verdict.CORRECT if right else Verdict.WRONG


def rows(file: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every row of a JSON list, a JSON object of rows, or JSON lines. Raises BadPredictions."""
    text = file.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = _lines(file, text)
    content = _mended(content) if _SURROGATE.search(text) else content
    if isinstance(content, dict) and not all(isinstance(row, dict) for row in content.values()):
        content = [content]
    if not isinstance(content, dict | list):
        raise BadPredictions(f"{file}: holds neither a list nor an object of rows")
    items = content.items() if isinstance(content, dict) else ((str(n), row) for n, row in enumerate(content))
    for name, row in items:
        if not isinstance(row, dict):
            raise BadPredictions(f"{file}: row {name} is not an object but {type(row).__name__}")
        if missing := [field for field in required if field not in row]:
            raise BadPredictions(f"{file}: row {name} has no field {missing[0]!r}; it has {', '.join(row) or 'none'}")
        yield name, row


def _mended(value: Any) -> Any:
    """The value with half characters, which UTF-8 cannot hold, replaced by U+FFFD: they cost no row its verdict."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return {_mended(key): _mended(item) for key, item in value.items()} if isinstance(value, dict) else value


def _lines(file: Path, text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise BadPredictions(f"{file}: line {number} is not JSON ({error.msg}); one object per line") from error
    return found
