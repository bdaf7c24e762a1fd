"""Questions of a benchmark in parts: the unit in which an evaluation computes, stores and shares its work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from racro import benchmarks
from racro.data.problems import content_digest
from racro.evaluation.heldout import heldout_question
from racro.schema import Problem, ProblemTable, Question, QuestionPart, QuestionTable
from racro.storage import artifacts

PART = 1024
"""Questions of a part: the work that a kill can cost, and a multiple of usual batches. An engine that batches
continuously runs empty at the end of each part."""


def parts(table: QuestionTable | ProblemTable, limit: int | None = None) -> tuple[QuestionPart, ...]:
    """The first `limit` questions, or all, in parts. Runs with different limits have parts in common."""
    questions = list(_rows(table.uri))
    if limit is not None:
        questions = list(benchmarks.first(questions, limit))
    return tuple(
        QuestionPart(uri=table.uri, rows=len(chunk), digest=content_digest(chunk), start=start)
        for start in range(0, len(questions), PART)
        for chunk in [questions[start : start + PART]]
    )


def questions_of(part: QuestionPart) -> list[Question]:
    """The questions of a part. Their images are found from its uri."""
    return list(islice(_rows(part.uri), part.start, part.start + part.rows))


def _rows(uri: str) -> Iterator[Question]:
    record = artifacts.read_record(uri)
    if record is not None and record.handle_type == ProblemTable.__name__:
        problems = artifacts.read_table(ProblemTable(uri=uri, rows=0, digest=""), Problem)
        return (heldout_question(problem) for problem in problems)
    return artifacts.read_table(QuestionTable(uri=uri, rows=0, digest=""), Question)
