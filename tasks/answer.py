"""Answers in MLflow: a trace for each question with a span for each of its texts; and the champion of the policies.

The one user of MLflow that is no part of a training. Called by `racro answer`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from racro.answering.cases import CAPTIONER_STEPS, Answer, Question, Step, Watch, unwatched
from racro.answering.pipeline import Racro
from racro.engines.protocol import Completion
from racro.errors import BadInput
from racro.prompts import caption_messages, joint_messages, tentative_messages
from racro.schema import CHAMPION, Policy

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Nobody waits minutes for a tracking server when they want an answer."""


class NoChampion(BadInput):
    """No policy, or more than one, is the best so far."""


class NoStore(BadInput):
    """MLflow's tracking store cannot be had."""


def champion(runs: dict[str, str]) -> Policy:
    """The best policy so far, by the alias in MLflow's registry.

    Each registered model has a champion: of those policies that the same reasoner judged on the same problems. `runs`
    (tag -> value) narrows them, where there are several, to those of matching runs. Raises NoChampion.
    """
    client, track = _mlflow()
    models = [m for m in client.search_registered_models("name LIKE 'captioner-%'") if CHAMPION in m.aliases]
    if len(models) > 1 and runs:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in runs.items())
        experiment = client.get_experiment_by_name(track.EXPERIMENT)
        found = client.search_runs([experiment.experiment_id], query) if experiment else []
        ids = {run.info.run_id for run in found}
        models = [m for m in models if ids & {v.run_id for v in client.search_model_versions(f"name = '{m.name}'")}]
    where = os.environ["MLFLOW_TRACKING_URI"]
    if not models:
        whose = f" of a run with {', '.join(f'{k} {v}' for k, v in runs.items())}" if runs else ""
        raise NoChampion(f"--policy champion: {where} holds none{whose}; train first, or give the folder of a policy")
    versions = [client.get_model_version_by_alias(m.name, CHAMPION) for m in models]
    if len(versions) > 1:
        known = ", ".join(f"{v.name} ({float(v.tags['racro.accuracy']):.1%})" for v in versions)
        raise NoChampion(f"--policy champion: there are several, {known}; name a run of the one you mean by --run")
    tags = versions[0].tags
    return Policy(uri=tags["racro.policy_uri"], rows=0, digest=tags["racro.policy"])


def traced(
    racro: Racro, questions: Iterable[Question | BadInput], watch: Watch = unwatched
) -> Iterator[Answer | BadInput]:
    """`Racro.answer_many`, recorded: a trace for each question, with spans `caption`, `tentative` and `answer`.

    Where many questions travel together a span lasts as long as its text took to come, waiting included.
    """
    mlflow = _tracing()
    racro.open()  # spans are about questions, not about loading models
    traces: dict[int, _Trace] = {}

    def begun() -> Iterator[Question | BadInput]:
        for number, question in enumerate(questions):
            traces[number] = _Trace(question)
            yield question

    def watched(number: int, step: Step, completion: Completion) -> None:
        traces[number].add(step, completion)
        watch(number, step, completion)

    try:
        for number, answer in enumerate(racro.answer_many(begun(), watched)):
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
        self.since = time.time_ns()
        self.texts: dict[Step, str] = {}
        self.question, self.images = "", [""]
        inputs: dict[str, Any] = {}
        if isinstance(question, Question):
            many = isinstance(question.images, list | tuple)
            self.question = question.question
            self.images = [_name(image) for image in (question.images if many else [question.images])]  # type: ignore[union-attr]
            inputs = {"question": self.question, "images": self.images, "gold": question.gold}
        self.root = mlflow.start_span_no_context("racro", "CHAIN", inputs=inputs, start_time_ns=self.since)

    def add(self, step: Step, completion: Completion) -> None:
        """A text has come."""
        now = time.time_ns()
        if step == "answer":
            messages = joint_messages(self.question, self.texts["caption"], self.texts["tentative"])
        else:
            messages = (caption_messages if step == "caption" else tentative_messages)(self.question, len(self.images))
        inputs = {"messages": messages} | ({"images": self.images} if step in CAPTIONER_STEPS else {})
        span = self.mlflow.start_span_no_context(step, "LLM", self.root, inputs, start_time_ns=self.since)
        outputs = {"text": completion.text, "finish_reason": completion.finish_reason}
        span.set_attributes({"tokens": len(completion.token_ids)})
        span.end(outputs=outputs, end_time_ns=now)
        self.texts[step] = completion.text
        if step == CAPTIONER_STEPS[-1]:
            self.since = now  # caption and tentative answer are asked together, the reasoner after both

    def end(self, answer: Answer | BadInput) -> None:
        """It is answered, or cannot be."""
        if isinstance(answer, BadInput):
            self.root.end(outputs={"error": str(answer)}, status="ERROR")
        else:
            self.root.end(outputs=json.loads(answer.model_dump_json(exclude_none=True)))


def _name(image: object) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else f"<{type(image).__name__}>"


def _mlflow() -> tuple[Any, Any]:
    """A client of the tracking store, and the module that says what is logged there. Loads MLflow and Prefect.

    Raises NoStore.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    from tasks.recording import track

    try:
        client = MlflowClient()
        client.get_experiment_by_name(track.EXPERIMENT)
    except Exception as error:  # each kind of store has its own
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise NoStore(
            f"MLFLOW_TRACKING_URI: {uri} does not answer ({type(error).__name__}); see racro doctor"
        ) from error
    return client, track


def _tracing() -> Any:
    """MLflow, set to record into the experiment of the trainings."""
    client, track = _mlflow()
    import mlflow

    mlflow.set_experiment(experiment_id=track.experiment_id(client))
    return mlflow
