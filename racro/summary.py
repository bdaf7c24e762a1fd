"""The result of a run in numbers: `summary.json`, for scripts that read results. See docs/summary.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from racro.schema import Entry, Frozen, Share


class Accuracy(Frozen):
    """A share of right answers, with the names that its figures have in JSON files."""

    accuracy: float
    """Share of right answers, 0 to 1."""
    stderr: float
    """Standard error of the accuracy (`racro.schema.shares.standard_error`)."""
    n: int
    """Number of problems with a verdict other than `failed`."""

    @property
    def share(self) -> Share:
        """The accuracy, with its interval."""
        return Share(value=self.accuracy, stderr=self.stderr, n=self.n)


class Score(Accuracy):
    """Scores of one policy on the held-out problems."""

    truthful: float | None
    """Share of the facts stated in captions that are true; None if the problems have no scene."""
    states_asked: float | None
    """Share of captions that state, truthfully, every fact that the question asks for."""
    leaks: float | None
    """Share of captions that announce an answer."""


class StageTotal(Frozen):
    """One stage over the whole run."""

    seconds: float
    """Wall time of this stage in this command."""
    executed: int
    """How often it ran."""
    cached: int
    """How often its result came from the cache."""


AlarmName = Literal["length", "descriptions", "leaks", "entropy", "gap", "kl"]


class Raised(Frozen):
    """An alarm of a training (`racro.drift`)."""

    name: AlarmName
    """Its key in the recipe section `alarms`."""
    iteration: int
    """The one after which it was raised."""
    action: Literal["warn", "stop"]
    line: str
    """What was seen, and what to do about it."""


class PolicyRef(Frozen):
    """The trained captioner: a Hugging Face model folder."""

    uri: str
    digest: str


class Summary(Frozen):
    """summary.json of a training."""

    run: str
    recipe_digest: str
    """Digest of the recipe without `runtime`."""
    seed: int
    iterations: int
    optimizer_steps: int
    base: Score
    """Of the captioner before training."""
    final: Score
    """Of the trained captioner."""
    policy: PolicyRef
    alarms: tuple[Raised, ...] = ()
    """Signs of drift, in order."""
    stages: dict[str, StageTotal]
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


class EvaluationSummary(Frozen):
    """summary.json of an evaluation outside a training."""

    run: str
    recipe_digest: str
    """Digest of the recipe without `runtime`."""
    seed: int
    policy: PolicyRef | None
    """None if no captioner was asked (mode `text` only)."""
    score: Score | None
    """On the recipe's held-out problems in mode `caption`, as trainings measure it; None if that was not evaluated."""
    entries: tuple[Entry, ...]
    """The table: captioner x reasoner x benchmark x mode."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows that cannot be asked (no image, a special token in the text), by benchmark, where there are any."""
    results: str
    """Folder of parquet files with a row per answer (`racro.schema.Result`)."""
    stages: dict[str, StageTotal]
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


class Band(Frozen):
    """Problems with similar pass rates."""

    name: str
    share: Share
    """Of the measured problems."""
    problems: int


class ProfileSummary(Frozen):
    """summary.json of a measurement of pass rates."""

    run: str
    recipe_digest: str
    """Digest of the recipe without `runtime`."""
    captions: int
    """Number of captions of each problem."""
    pass_rate: float
    """Mean pass rate over the measured problems."""
    stderr: float
    """Its standard error."""
    n: int
    """Number of measured problems."""
    unmeasured: int
    """Number of problems without a scored caption."""
    bands: tuple[Band, ...]
    table: str
    """Parquet file with a row per problem (`racro.schema.ProfiledProblem`)."""
    stages: dict[str, StageTotal]
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


class BatchSummary(Frozen):
    """Result of answering a file of questions."""

    questions: str
    """URI of the questions."""
    answers: str
    """URI of the answers."""
    total: int
    """Number of questions."""
    unanswerable: int
    """Number of questions that could not be asked; their lines in the answers say why."""
    accuracy: float | None
    """Share of right answers among questions with a gold answer; None if there are none."""
    stderr: float | None
    n: int
    """Number of answers with a verdict other than `failed`."""
    seconds: float
