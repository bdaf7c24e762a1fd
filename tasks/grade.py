"""Stages grade and aggregate: model outputs -> results -> an entry of the evaluation's table.

Thin: `racro.evaluation.results` does the work.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger

from racro import config as recipes
from racro.benchmarks.metrics import simple_scores
from racro.evaluation import results
from racro.evaluation.heldout import HELDOUT
from racro.evaluation.parts import questions_of
from racro.evaluation.results import NothingEvaluated
from racro.grading import RULES
from racro.rewards.answer import counts
from racro.schema import Entry, EntryTable, Mode, ModelOutput, QuestionPart, Result, ResultTable, Verdict, WritingTable
from racro.storage import artifacts
from tasks.questions import benchmark
from tasks.running.policies import Output, stage


@stage("grade", version=2 + RULES)
def grade(
    output: Output,
    parts: tuple[QuestionPart, ...],
    mode: Mode,
    captioner: str | None,
    reasoner: str | None,
    captions: tuple[WritingTable, ...],
    attempts: tuple[WritingTable, ...],
    answers: tuple[WritingTable, ...],
    runtime: recipes.Runtime,
    root: str,
    election: int = 1,
) -> ResultTable:
    """A result for each answer to the questions of a benchmark. Raises NothingEvaluated.

    `captioner` and `reasoner` are the names that the results carry. `election`: version of the rule by which votes are
    counted (`racro.rollouts.votes`), where some are.
    """
    questions = [question for part in parts for question in questions_of(part)]
    outputs = [_read(tables) for tables in (captions, attempts, answers)]
    rows = list(results.results(questions, mode, captioner, reasoner, *outputs))
    found = counts(row.verdict for row in rows)
    if lost := [row for row in rows if row.verdict is Verdict.FAILED]:
        first = f"{lost[0].uid}: {lost[0].error or 'out of time; raise runtime.request_deadline'}"
        if len(lost) == len(rows):
            raise NothingEvaluated(
                f"{questions[0].benchmark}: not one of {len(rows)} answers could be graded; the first, {first}"
            )
        get_run_logger().warning("%d of %d answers failed; the first, %s", len(lost), len(rows), first)
    output.shards = artifacts.write_table(output.folder, rows, Result)
    output.metrics = {f"verdict_{name}": n for name, n in found.items()}
    return ResultTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


def _read(tables: Sequence[WritingTable]) -> list[ModelOutput]:
    return [row for table in tables for row in artifacts.read_table(table, ModelOutput)]


@stage("aggregate", version=2 + RULES)
def aggregate(
    output: Output,
    name: str,
    parts: tuple[QuestionPart, ...],
    graded: ResultTable,
    runtime: recipes.Runtime,
    root: str,
    election: int = 1,
) -> EntryTable:
    """The scores of one captioner and reasoner in one mode, as the benchmark's authors define them.

    `election`: as in `grade`.
    """
    questions = [question for part in parts for question in questions_of(part)]
    rows = list(artifacts.read_table(graded, Result))
    score = simple_scores if name == HELDOUT else benchmark(name, None).score
    entry = results.entry(questions, rows, score)
    output.shards = artifacts.write_table(output.folder, [entry], Entry)
    output.metrics = {metric.name: metric.value for metric in entry.metrics}
    return EntryTable(uri=output.folder, rows=1, digest=artifacts.table_digest(output.shards))
