"""What the flows `prepare` and `answer-batch` leave behind: files and Prefect artifacts.

Those of a training are in `tasks.recording.report`, those of an evaluation in `tasks.recording.publish_evaluation`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from racro.errors import BadInput
from racro.schema import FrozenModel, Policy, ProblemTable, Share
from racro.storage import artifacts
from racro.summary import BatchSummary
from tasks.running import telemetry


class NoQuestions(BadInput):
    """A file of questions that cannot be read, or is empty."""


@task(cache_policy=NO_CACHE, persist_result=False)
def preparation(problems: ProblemTable, heldout: ProblemTable, models: tuple[Policy, FrozenModel]) -> None:
    """A table of what is ready."""
    tables = (("training problems", problems), ("held-out problems", heldout))
    lines = [
        "| | rows | dropped | where |",
        "|---|---|---|---|",
        *(f"| {name} | {table.rows} | {table.dropped} | `{table.uri}` |" for name, table in tables),
        *(f"| {name} | | | `{model.uri}` |" for name, model in zip(("captioner", "reasoner"), models, strict=True)),
    ]
    telemetry.markdown("preparation", "\n".join(lines), "Problems and models of a recipe")


@task(cache_policy=NO_CACHE, persist_result=False)
def read_lines(uri: str) -> list[bytes]:
    """The lines of a file that are not blank. Raises NoQuestions."""
    try:
        lines = [line for line in artifacts.read_file(uri).splitlines() if line.strip()]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoQuestions(f"questions: {uri} is no file; give the path or URI of a jsonl file") from error
    if not lines:
        raise NoQuestions(f"questions: {uri} is empty; give one question a line")
    return lines


@task(cache_policy=NO_CACHE, persist_result=False)
def answers(
    questions: str, uri: str, said: Sequence[dict[str, Any]], verdicts: Counter[str], unanswerable: int, seconds: float
) -> BatchSummary:
    """Write the answers, one line each, and say how many there are."""
    text = "".join(json.dumps(content, ensure_ascii=False) + "\n" for content in said)
    artifacts.write_file(uri, text.encode("utf-8", "backslashreplace"))  # a lone surrogate stays a JSON escape
    right = Share.counted(verdicts["correct"], verdicts.total() - verdicts["failed"])
    summary = BatchSummary(
        questions=questions,
        answers=uri,
        total=len(said),
        unanswerable=unanswerable,
        accuracy=right.value if right else None,
        stderr=right.stderr if right else None,
        n=right.n if right else 0,
        seconds=round(seconds, 3),
    )
    graded = f", {right.percent} % right (n = {right.n})" if right else ""
    page = f"{summary.total - unanswerable} of {summary.total} questions answered{graded}: `{uri}`"
    telemetry.markdown("answers", page, f"Answers to {questions}")
    return summary
