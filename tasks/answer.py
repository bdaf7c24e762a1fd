"""Answers in MLflow: a trace for each question with a span for each text. Called by `racro answer --trace`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from racro.answering.cases import Answer, Question, Watch, unwatched
from racro.answering.pipeline import Racro
from racro.errors import BadInput
from racro.schema import ModelOutput

SEEN = ("caption", "attempt", "clues", "again")
"""Texts that the captioner writes, with the images in view."""
TOGETHER = {"attempt": "caption"}
"""Texts that are asked for together with others."""


def traced(
    racro: Racro, questions: Iterable[Question | BadInput], watch: Watch = unwatched
) -> Iterator[Answer | BadInput]:
    """`Racro.answer_many`, recorded: a trace for each question, with a span for each text that its mode asks for.

    Where many questions travel together a span lasts as long as its text took to come, waiting included.
    """
    mlflow = _tracing()
    racro.open()  # spans are about questions, not about loading models
    traces: dict[int, _Trace] = {}

    def begun() -> Iterator[Question | BadInput]:
        for number, question in enumerate(questions):
            traces[number] = _Trace(question)
            yield question

    def kept(number: int, name: str, row: ModelOutput) -> None:
        traces[number].add(name, row)

    try:
        for number, answer in enumerate(racro.answer_many(begun(), watch, kept)):
            traces.pop(number).end(answer)
            yield answer
    finally:
        for trace in traces.values():
            trace.end(BadInput("not answered: the command ended first"))
        mlflow.flush_trace_async_logging()


class _Trace:
    """One question's spans."""

    def __init__(self, question: Question | BadInput) -> None:
        import mlflow

        self.mlflow = mlflow
        self.turn = ""
        """Name of the texts that are being asked for."""
        self.since = self.last = time.time_ns()
        """When this turn began, and when its last text came."""
        self.images = [""]
        inputs: dict[str, Any] = {}
        if isinstance(question, Question):
            many = isinstance(question.images, list | tuple)
            self.images = [_name(image) for image in (question.images if many else [question.images])]  # type: ignore[union-attr]
            inputs = {"question": question.question, "images": self.images, "gold": question.gold}
        self.root = mlflow.start_span_no_context("racro", "CHAIN", inputs=inputs, start_time_ns=self.since)

    def add(self, name: str, row: ModelOutput) -> None:
        """A text has come."""
        turn = TOGETHER.get(name, name)
        if turn != self.turn:
            self.turn, self.since = turn, self.last
        self.last = time.time_ns()
        inputs = {"messages": json.loads(row.prompt)} | ({"images": self.images} if name in SEEN else {})
        span = self.mlflow.start_span_no_context(name, "LLM", self.root, inputs, start_time_ns=self.since)
        span.set_attributes({"tokens": row.tokens, "sample": row.sample})
        if row.error is None:
            span.end(outputs={"text": row.text, "finish_reason": row.finish_reason}, end_time_ns=self.last)
        else:
            span.end(outputs={"error": row.error}, status="ERROR", end_time_ns=self.last)

    def end(self, answer: Answer | BadInput) -> None:
        """It is answered, or cannot be."""
        if isinstance(answer, BadInput):
            self.root.end(outputs={"error": str(answer)}, status="ERROR")
        else:
            self.root.end(outputs=json.loads(answer.model_dump_json(exclude_none=True)))


def _name(image: object) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else f"<{type(image).__name__}>"


def _tracing() -> Any:
    """MLflow, set to record into the experiment of the trainings. Loads Prefect too. Raises NoStore."""
    import mlflow

    from tasks.recording import store, track

    mlflow.set_experiment(experiment_id=track.experiment_id(store.client()))
    return mlflow
