"""Questions as jsonl -> answers as jsonl, one line each, in order; and the way to the answers that all have in common.

Called by `flows.cli.answering` for standard input, by `flows.answering_batch` for files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from flows.engine_pair import BadOption
from racro.errors import BadInput
from racro.schema import Share

if TYPE_CHECKING:
    from racro.answering.cases import Answer, Question, Watch
    from racro.answering.pipeline import Racro

EXAMPLE_LINE = '{"images": ["a.png"], "question": "..."}'


class Line(BaseModel):
    """A line of the input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str | tuple[str, ...]
    question: str
    gold: str | bool | int | FiniteFloat | None = None
    id: str | int | None = None


def ask_many(racro: Racro, lines: Iterable[bytes], trace: bool) -> int:
    """Answer questions as jsonl, one line each, in order; returns how many could not be asked.

    Their line has `error` instead of an answer. Blank lines are left out.
    """
    verdicts: Counter[str] = Counter()
    bad = total = 0
    for content in answer_lines(racro, lines, trace):
        total += 1
        bad += "error" in content
        verdicts.update([content["verdict"]] if "verdict" in content else [])
        print_line(content)
    if total == 0:
        raise BadOption("no line on standard input; give lines like " + EXAMPLE_LINE)
    print(f"racro: {total - bad} of {total} questions answered{_accuracy(verdicts)}", file=sys.stderr)
    return bad


def answer_lines(racro: Racro, lines: Iterable[bytes], trace: bool = False) -> Iterator[dict[str, Any]]:
    """What is said to each line of jsonl that is not blank, in order: `id` with an answer's fields, or with `error`."""
    ids: deque[str | int] = deque()

    def questions() -> Iterator[Question | BadInput]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                name, question = _question(line, number)
                ids.append(name)
                yield question

    for answer in answers(racro, questions(), trace):
        said = {"error": str(answer)} if isinstance(answer, BadInput) else plain(answer)
        yield {"id": ids.popleft(), **said}


def _question(line: bytes, number: int) -> tuple[str | int, Question | BadInput]:
    """A line's id (its number where it has none) and what it asks, or what is wrong with it."""
    from racro.answering.cases import Question

    name: str | int = number
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        if isinstance(content.get("id"), str | int):
            name = content["id"]
        read = Line.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wrong = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].lower()
        where = f"{first['loc'][0]}: " if first["loc"] else ""  # a key may be unreadable itself
        return name, BadOption(f"line {number}: {where}{wrong}; write it like {EXAMPLE_LINE}")
    except (ValueError, RecursionError) as error:
        return name, BadOption(f"line {number}: not a JSON object ({error}); write it like {EXAMPLE_LINE}")
    gold = None if read.gold is None else str(read.gold)
    return name, Question(read.images, read.question, gold)


def _accuracy(verdicts: Counter[str]) -> str:
    right = Share.counted(verdicts["correct"], verdicts.total() - verdicts["failed"])
    return f"; right: {right.percent} % of {right.n}" if right else ""


def answers(
    racro: Racro, questions: Iterable[Question | BadInput], trace: bool, watch: Watch | None = None
) -> Iterator[Answer | BadInput]:
    """The answers in order, as they come, with spans in MLflow where `trace` says so."""
    from racro.answering.cases import unwatched

    watch = watch or unwatched
    if not trace:
        return racro.answer_many(questions, watch)
    from tasks.answer import traced

    return traced(racro, questions, watch)


def plain(answer: Answer) -> dict[str, Any]:
    """An answer as JSON."""
    return answer.model_dump(mode="json", exclude_none=True)


ENDS_OF_LINES = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
"""Where readers end a line too, though JSON does not; the others it escapes by itself."""


def as_line(content: dict[str, Any]) -> str:
    """One line of JSON. A lone surrogate, which UTF-8 cannot hold, stays the JSON escape that it was."""
    text = json.dumps(content, ensure_ascii=False).translate(ENDS_OF_LINES)
    return text.encode("utf-8", "backslashreplace").decode()


def print_line(content: dict[str, Any]) -> None:
    """At once: somebody may wait for it."""
    print(as_line(content), flush=True)
