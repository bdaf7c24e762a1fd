"""Files with answers of models, in our own fields or as benchmarks' authors publish them -> verdicts and scores.

Not the asking of models (`racro.evaluation.modes`) and not the grading (`racro.grading`). Called by `racro grade`.
One file here for each layout; what an authors' rule says of their extraction is in their file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from racro.benchmarks import BENCHMARKS
from racro.benchmarks.metrics import Graded, Scores, simple_scores
from racro.grading import Grade, grade
from racro.predictions import dynamath, fields, logicvista, mathvista, wemath
from racro.predictions.prediction import BadPredictions, Prediction
from racro.schema import Gold, Verdict

LAYOUTS: Mapping[str, Callable[[Path], list[Prediction]]] = MappingProxyType(
    {
        "mathvista": mathvista.read,
        "logicvista": logicvista.read,
        "dynamath": dynamath.read,
        "wemath": wemath.read,
    }
)


def read(file: Path, benchmark: str | None) -> list[Prediction]:
    """The predictions of a file, in its order. Raises BadPredictions."""
    if benchmark is not None and benchmark not in LAYOUTS:
        raise BadPredictions(f"--benchmark {benchmark}: no such layout; one of: {', '.join(LAYOUTS)}")
    try:
        found = (fields.read if benchmark is None else LAYOUTS[benchmark])(file)
    except UnicodeDecodeError as error:
        raise BadPredictions(f"{file}: is no UTF-8 text ({error.reason}); give JSON, JSON lines or CSV") from error
    except OSError as error:
        raise BadPredictions(f"{file}: cannot be read ({error.strerror}); give a file of predictions") from error
    if not found:
        raise BadPredictions(f"{file}: holds no predictions")
    repeated = [uid for uid, times in Counter(p.question.uid for p in found).items() if times > 1]
    if repeated:
        raise BadPredictions(f"{file}: {repeated[0]!r} stands there {len(repeated) + 1} times; give each question once")
    return found


def grades(predictions: Sequence[Prediction]) -> list[Grade | None]:
    """Of each response, by our own extraction; None without a response, or without a gold to grade against."""
    return [
        None if p.response is None or p.trouble else grade(p.response, p.finish_reason, Gold.of(p.question))
        for p in predictions
    ]


def scores(predictions: Sequence[Prediction], verdicts: Sequence[Verdict | None], benchmark: str | None) -> Scores:
    """The benchmark's own scores of verdicts; predictions without one are left out."""
    graded = [Graded(p.question, v) for p, v in zip(predictions, verdicts, strict=True) if v is not None]
    return (BENCHMARKS[benchmark].score if benchmark else simple_scores)(graded)
