"""What is measured? The seven benchmarks of the paper, and tables of the user.

`BENCHMARKS[name].read(source, folder)` turns the published columns into Questions; once the answers are graded,
`BENCHMARKS[name].score(graded)` computes scores. Never loads torch; loads `datasets` only to read from Hugging Face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from racro.benchmarks import dynamath, logicvista, mathverse, mathvision, mathvista, mmmu, wemath
from racro.benchmarks.benchmark import Benchmark
from racro.benchmarks.own import own_data
from racro.schema import Question

__all__ = ["BENCHMARKS", "Benchmark", "first", "own_data"]

_ALL = (
    mathvista.TESTMINI,
    mathvision.TEST,
    mathverse.VISION_ONLY,
    mathverse.ALL_VERSIONS,
    mmmu.VALIDATION,
    wemath.TESTMINI,
    dynamath.SAMPLE,
    logicvista.DATASET,
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({benchmark.name: benchmark for benchmark in _ALL})


def first(questions: Sequence[Question], limit: int) -> tuple[Question, ...]:
    """The first `limit` questions, and the rest of the last one's family: half a family cannot be scored."""
    if limit >= len(questions):
        return tuple(questions)
    last = questions[limit - 1].family
    more = 0
    while last is not None and limit + more < len(questions) and questions[limit + more].family == last:
        more += 1
    return tuple(questions[: limit + more])
