"""The result of a run in numbers: `summary.json`, the contract with everything that comes after a run."""

from __future__ import annotations

from racro.schema import Entry, Frozen, Share


class Accuracy(Frozen):
    """A share of right answers, with the names that JSON files give to its figures."""

    accuracy: float
    """0 to 1."""
    stderr: float
    """Standard error of the accuracy (`racro.schema.shares.standard_error`)."""
    n: int
    """Problems with a verdict; failed ones are left out."""

    @property
    def share(self) -> Share:
        """The accuracy, with its interval."""
        return Share(value=self.accuracy, stderr=self.stderr, n=self.n)


class Score(Accuracy):
    """What one policy reached on the held-out problems."""

    truthful: float | None
    """Share of the facts stated in captions that are true; None where no scene is known."""
    states_asked: float | None
    """Share of captions that state, truthfully, every fact asked for."""
    leaks: float | None
    """Share of captions that announce an answer."""


class StageTotal(Frozen):
    """One stage over the whole run."""

    seconds: float
    """Wall time in this run."""
    executed: int
    cached: int


class PolicyRef(Frozen):
    """The trained captioner: a Hugging Face model folder."""

    uri: str
    digest: str


class Summary(Frozen):
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


class EvaluationSummary(Frozen):
    """summary.json of an evaluation outside a training."""

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


class BatchSummary(Frozen):
    """A file of questions that was answered."""

    questions: str
    answers: str
    """URI of the answers."""
    total: int
    unanswerable: int
    """Questions that the models could not be asked; their lines say why."""
    accuracy: float | None
    """Of the questions with a gold answer; None where no question has one."""
    stderr: float | None
    n: int
    """Answers with a verdict; failed ones are left out."""
    seconds: float
