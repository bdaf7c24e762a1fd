"""MathVerse testmini (Zhang et al., arXiv 2403.14624): 788 problems in five versions, from text to image.

The paper evaluates the version Vision Only, whose question is in the image and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from racro.benchmarks.benchmark import Benchmark, Item, Part
from racro.benchmarks.metrics import Graded, Scores, by_label, families, ratio, scored, simple_scores
from racro.data.golds import read_gold
from racro.data.rows import Draft
from racro.data.sources import Row
from racro.schema import Verdict

VISION = "Vision Only"


def _read_row(number: int, row: Row, split: str) -> Item:
    multiple = row["question_type"] == "multi-choice"
    draft = Draft(
        uid=str(row["sample_index"]),
        question=row["query_cot"],
        gold=read_gold(row["answer"], "choice" if multiple else None, None, row["question_for_eval"]),
        images=[row["image"]],
        category=row["metadata"].get("subject") or "all",
    )
    return Item(
        draft,
        labels=[
            ("version", row["problem_version"]),
            ("subject", row["metadata"].get("subject")),
            ("subfield", row["metadata"].get("subfield")),
        ],
        family=str(row["problem_index"]),
        part=row["problem_version"],
    )


def _vision_only(number: int, row: Row, split: str) -> Item | None:
    return _read_row(number, row, split) if row["problem_version"] == VISION else None


def score_versions(graded: Sequence[Graded]) -> Scores:
    """Accuracy over all versions. Versions of one problem are not independent, so the error is over problems."""
    found = [scored(family) for family in families(graded).values()]
    right_F = [sum(g.verdict is Verdict.CORRECT for g in family) for family in found]
    metrics = (*ratio("accuracy", right_F, [len(family) for family in found]), *by_label(graded))
    versions = {g.question.part for g in graded}
    incomplete = sum(len(family) < len(versions) for family in found)
    return Scores(
        metrics=metrics, unscored=len(graded) - len(scored(graded)), families=len(found), incomplete=incomplete
    )


VISION_ONLY = Benchmark(
    name="mathverse",
    source="AI4Math/MathVerse",
    configs=("testmini",),
    parts=(Part("testmini", ("testmini.json", "data/testmini.json")),),
    columns=(
        *("sample_index", "problem_index", "problem_version", "image", "answer", "question_type"),
        *("metadata", "query_cot", "question_for_eval"),
    ),
    read_row=_vision_only,
    score=simple_scores,
)
ALL_VERSIONS = replace(VISION_ONLY, name="mathverse-all", read_row=_read_row, score=score_versions)
