"""Problems of a training as tables, training and held-out ones, and what tells whether a benchmark is among them.

Composition only, used by the flows and by `flows.rehearsal`, which looks at what is there and runs nothing.
"""

from __future__ import annotations

from racro.config import EmbeddedProblems, Recipe
from racro.schema import FingerprintTable, ProblemTable, QuestionTable
from tasks.prepare import fingerprint, prepare, prepare_table, prompt_readers, show, source_stamp
from tasks.questions import benchmark_stamp
from tasks.questions import load as load_questions
from tasks.running.stages import Stages


def prepare_problems(recipe: Recipe, stages: Stages, heldout: int | None) -> ProblemTable:
    """The training problems, or that many held-out ones, with their counts as Prefect artifacts."""
    problems = problem_table(recipe, stages, heldout)
    if heldout is None:
        show(problems, "training", max(phase.rollout.problems for phase in recipe.phases))
    else:
        show(problems, "heldout", heldout)
    return problems


def problem_table(recipe: Recipe, stages: Stages, heldout: int | None) -> ProblemTable:
    """The training problems, or that many held-out ones."""
    benchmarks = getattr(recipe.problems, "benchmarks", {})
    embedded = isinstance(recipe.problems, EmbeddedProblems)
    readers = {} if embedded else prompt_readers(recipe)
    return stages.run(
        prepare if embedded else prepare_table,
        "prepare training problems" if heldout is None else "prepare held-out problems",
        ProblemTable,
        problems_config=recipe.problems,
        stamp=source_stamp(recipe.problems, heldout is not None),
        seed=recipe.seed,
        heldout=heldout,
        benchmarks=tuple(fingerprint_benchmark(stages, name, source) for name, source in benchmarks.items()),
        **readers,
    )


def fingerprint_benchmark(stages: Stages, name: str, source: str | None) -> FingerprintTable:
    """What training rows are compared with; `source` None: the authors'."""
    stamp = benchmark_stamp(name, source, None)
    questions = stages.run(
        load_questions, f"load {name}", QuestionTable, name=name, source=source, columns=None, stamp=stamp
    )
    return stages.run(fingerprint, f"fingerprint {name}", FingerprintTable, name=name, questions=questions)
