"""Files with models' answers, in our fields or as the authors of benchmarks publish them -> verdicts and scores.

Asks no model (`racro.evaluation`) and does not grade (`racro.grading`). Called by `racro grade`. Each layout has a file
in this folder, with the rule by which its authors judge their extraction.
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
    """The predictions of a file, in order. Raises BadPredictions."""
    if benchmark is not None and benchmark not in LAYOUTS:
        raise BadPredictions(f"--benchmark {benchmark}: no such layout; known are: {', '.join(LAYOUTS)}")
    try:
        found = (fields.read if benchmark is None else LAYOUTS[benchmark])(file)
    except UnicodeDecodeError as error:
        raise BadPredictions(f"{file}: not a UTF-8 text ({error.reason}); give JSON, JSON lines or CSV") from error
    except OSError as error:
        raise BadPredictions(f"{file}: cannot be read ({error.strerror}); give a file of predictions") from error
    if not found:
        raise BadPredictions(f"{file}: holds no predictions")
    repeated = [uid for uid, times in Counter(p.question.uid for p in found).items() if times > 1]
    if repeated:
        raise BadPredictions(f"{file}: {repeated[0]!r} occurs {len(repeated) + 1} times; give each question once")
    return found


def grades(predictions: Sequence[Prediction]) -> list[Grade | None]:
    """The grade of each response by our extraction; None without a response or a usable gold answer."""
    return [
        None if p.response is None or p.trouble else grade(p.response, p.finish_reason, Gold.of(p.question))
        for p in predictions
    ]


def scores(predictions: Sequence[Prediction], verdicts: Sequence[Verdict | None], benchmark: str | None) -> Scores:
    """The benchmark's scores; predictions without a verdict are left out."""
    graded = [Graded(p.question, v) for p, v in zip(predictions, verdicts, strict=True) if v is not None]
    return (BENCHMARKS[benchmark].score if benchmark else simple_scores)(graded)
