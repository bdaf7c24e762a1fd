"""A recipe's held-out problems as one more benchmark, and their entry as trainings show it.

Not the asking (`racro.evaluation.modes`) and not the scoring (`racro.evaluation.results`), which treat held-out
problems like any benchmark.
"""

from __future__ import annotations

from racro.evaluation.scenes import LEAKS, STATES_ASKED, TRUTHFUL
from racro.schema import Entry, Label, Metric, Problem, Question, Share, Verdict
from racro.summary import Score

HELDOUT = "heldout"
"""Name of a recipe's held-out problems among the benchmarks."""
CATEGORY = "category"
PREFIX = f"accuracy / {CATEGORY} / "


def heldout_question(problem: Problem) -> Question:
    """A held-out problem as a question of the benchmark that they make up."""
    labels = (Label(name=CATEGORY, value=problem.category),)
    return Question(**dict(problem), benchmark=HELDOUT, family=None, part=None, labels=labels)


def score_of(entry: Entry) -> Score:
    """The score of a policy, from the entry of all held-out problems in mode `caption`.

    Such an entry has an accuracy: the stage grade refuses results without any verdict.
    """
    metrics = _by_name(entry)
    right = metrics["accuracy"]
    shares = {"truthful": TRUTHFUL, "states_asked": STATES_ASKED, "leaks": LEAKS}
    values = {key: metrics[name].value if name in metrics else None for key, name in shares.items()}
    return Score(accuracy=right.value, stderr=right.stderr, n=right.n, **values)


def by_category(entry: Entry) -> dict[str, Share]:
    """Accuracy by category of problem, in alphabetical order; categories without a verdict are left out."""
    found = {m.name.removeprefix(PREFIX): m for m in entry.metrics if m.name.startswith(PREFIX)}
    return {name: Share(value=m.value, stderr=m.stderr, n=m.n) for name, m in sorted(found.items())}


def tracked(entry: Entry) -> dict[str, float]:
    """The metrics under the names that MLflow gets, without dots. What was not measured is left out."""
    metrics = _by_name(entry)
    names = {"accuracy": "accuracy", "truthful": TRUTHFUL, "states_asked": STATES_ASKED, "leaks": LEAKS}
    shares: dict[str, Share] = {key: metrics[name] for key, name in names.items() if name in metrics}
    shares |= {f"accuracy_{category}": share for category, share in by_category(entry).items()}
    return (
        {name: share.value for name, share in shares.items()}
        | {f"{name}_stderr": share.stderr for name, share in shares.items()}
        | {f"verdict_{verdict.value}": float(getattr(entry, verdict)) for verdict in Verdict}
    )


def _by_name(entry: Entry) -> dict[str, Metric]:
    return {metric.name: metric for metric in entry.metrics}
