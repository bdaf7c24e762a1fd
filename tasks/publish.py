"""What the flows beside the training leave behind: files, Prefect artifacts, the end of an MLflow run.

The training's are `tasks.report`.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from racro import artifacts, layout
from racro.config import Recipe
from racro.errors import BadInput
from racro.evaluation import rate
from racro.schema import Evaluation, FrozenModel, Judgement, Policy, ProblemTable
from racro.summary import BatchSummary, EvaluationSummary
from tasks import track

SAMPLES = 32
"""Rows in the tables of Prefect."""


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
    create_markdown_artifact("\n".join(lines), key="preparation", description="Problems and models of a recipe")


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluation(recipe: Recipe, summary: EvaluationSummary, root: str, judged: Evaluation) -> None:
    """Write the run's folder and the Prefect artifacts; end the MLflow run. summary.json comes last."""
    settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    text = artifacts.to_json(summary)
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.summary(root, summary.run), text.encode())
    track.close_run(summary.mlflow_run_id, {"recipe.yaml": settings, "summary.json": text})
    score = summary.score
    lines = [
        f"# {summary.run}",
        "",
        f"Accuracy {score.accuracy:.3f} ± {score.stderr:.3f} (n = {score.n}).",
        "",
        f"Policy: `{summary.policy.uri}`. MLflow run: `{summary.mlflow_run_id}`.",
    ]
    create_markdown_artifact("\n".join(lines), key="evaluation-summary", description=f"Result of {summary.run}")
    columns = ("question", "answer", "caption", "response", "verdict")
    rows = itertools.islice(artifacts.read_table(judged, Judgement), SAMPLES)
    create_table_artifact(
        [row.model_dump(mode="json", include=set(columns)) for row in rows],
        key="evaluation-samples",
        description="Held-out problems as they were answered",
    )


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
    artifacts.write_file(uri, text.encode())
    right = rate([verdict == "correct" for verdict, n in verdicts.items() if verdict != "failed" for _ in range(n)])
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
    graded = f", {right.value:.3f} ± {right.stderr:.3f} right (n = {right.n})" if right else ""
    create_markdown_artifact(
        f"{summary.total - unanswerable} of {summary.total} questions answered{graded}: `{uri}`",
        key="answers",
        description=f"Answers to {questions}",
    )
    return summary
