"""The result of a run in numbers: `summary.json`, the contract with whatever comes after a run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from racro.schema import Entry


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """What one policy reached on the held-out problems."""

    accuracy: float
    stderr: float
    """Standard error of the accuracy, sqrt(p (1 - p) / n)."""
    n: int
    """Problems with a verdict; failed ones are left out."""
    truthful: float | None
    """Share of the facts stated in captions that are true; None where no scene is known."""
    states_asked: float | None
    """Share of captions that state, truthfully, every fact asked for."""
    leaks: float | None
    """Share of captions that announce an answer."""


class StageTotal(_Frozen):
    """One stage over the whole run."""

    seconds: float
    """Wall time in this run."""
    executed: int
    cached: int


class PolicyRef(_Frozen):
    """The trained captioner: a Hugging Face model folder."""

    uri: str
    digest: str


class Summary(_Frozen):
    """summary.json."""

    run: str
    recipe_digest: str
    """Of the recipe without `runtime`."""
    seed: int
    iterations: int
    optimizer_steps: int
    base: Score
    final: Score
    policy: PolicyRef
    stages: dict[str, StageTotal]
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


class EvaluationSummary(_Frozen):
    """summary.json of an evaluation that is no part of a training."""

    run: str
    recipe_digest: str
    """Of the recipe without `runtime`."""
    seed: int
    policy: PolicyRef | None
    """None where no captioner was asked (mode `text` alone)."""
    score: Score | None
    """On the recipe's held-out problems from captions alone, as trainings measure it; None where that was not asked."""
    entries: tuple[Entry, ...]
    """The table: captioner x reasoner x benchmark x mode."""
    results: str
    """Folder of parquet files with all answers; rows: `racro.schema.Result`."""
    stages: dict[str, StageTotal]
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


class BatchSummary(_Frozen):
    """A file of questions that was answered."""

    questions: str
    answers: str
    """URI of the answers."""
    total: int
    unanswerable: int
    """Questions that could not be asked; their lines say why."""
    accuracy: float | None
    """Of those with a gold answer; None where there is none."""
    stderr: float | None
    n: int
    """Answers with a verdict; failed ones are left out."""
    seconds: float
