"""DynaMath sample (Zou et al., arXiv 2411.00836): 501 questions in ten variants with other numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from racro.benchmarks.benchmark import Benchmark, Item, Part
from racro.benchmarks.metrics import Graded, Scores, alike, families, ratio, scored
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.data.rows import Draft
from racro.data.sources import Row
from racro.schema import Gold, Label, Metric, Verdict

KINDS = {"float": "float", "multiple choice": "choice", "text": None}
ASKED = {
    "float": " Please answer in a floating-point number. Format it as a three-digit floating-point number.",
    "multiple choice": " Just provide the corresponding choice option, such as 'A', 'B', 'C', or 'D'.",
    "text": "",
}
"""How the authors ask for each type of answer, without their request for JSON."""
TOLERANCE = 1e-3
VARIANTS = 10
"""Number of variants of each question. A worst case over fewer variants is milder, and its name says so."""
SUBSCORES = ("subject", "level")


def _read_row(number: int, row: Row, split: str) -> Item:
    answer_type, variant = row["answer_type"], split.removeprefix("sample_variant")
    if answer_type not in KINDS:
        raise BadGold("unknown kind", f"{answer_type!r} is not one of {', '.join(KINDS)}")
    gold = read_gold(row.get("ground_truth") or row.get("answer"), KINDS[answer_type], None, row["question"])
    draft = Draft(
        uid=f"{row['id']}/{variant}",
        question=row["question"] + ASKED[answer_type],
        gold=gold._replace(tolerance=TOLERANCE) if answer_type == "float" else gold,
        images=[row.get("decoded_image") or row["image"]],
        category=row["subject"],
    )
    return Item(
        draft,
        labels=[
            ("subject", row["subject"]),
            ("level", row.get("knowledge_level") or row.get("level")),
            ("answer_type", answer_type),
        ],
        family=str(row["id"]),
        part=variant,
    )


def score(graded: Sequence[Graded]) -> Scores:
    """Worst case (a question counts if all its variants are right), average, and their ratio, the robustness.

    With several samples, also the repetition consistency. All standard errors are over questions, not over variants.
    """
    found = list(families(graded).values())
    variants = {g.question.part for g in graded}
    whole = [family for family in found if {g.question.part for g in scored(family)} == variants]
    worst = "worst case" if len(variants) == VARIANTS else f"worst case of {len(variants)} variants"
    metrics = [*ratio(worst, [_all(family) for family in whole]), *_average(found)]
    shares_F = [_right(family) / len(family) for family in whole]
    metrics += ratio("reasoning robustness", [_all(family) for family in whole], shares_F, n=len(whole))
    metrics += repetition_consistency(found)
    labels = dict.fromkeys(label for family in found for label in family[0].question.labels)
    for label in sorted(labels, key=lambda label: (label.name not in SUBSCORES, label.name, label.value)):
        of = f" / {label.name} / {label.value}"
        metrics += ratio(f"{worst}{of}", [_all(family) for family in _having(label, whole)])
        metrics += _average(_having(label, found), of)
    return Scores(
        metrics=tuple(metrics),
        unscored=len(graded) - len(scored(graded)),
        families=len(found),
        incomplete=len(found) - len(whole),
    )


def _having(label: Label, found: Sequence[Sequence[Graded]]) -> list[Sequence[Graded]]:
    return [family for family in found if label in family[0].question.labels]


def _average(found: Sequence[Sequence[Graded]], of: str = "") -> list[Metric]:
    return ratio(f"average{of}", [_right(family) for family in found], [len(scored(family)) for family in found])


def _right(family: Sequence[Graded]) -> int:
    return sum(g.verdict is Verdict.CORRECT for g in family)


def _all(family: Sequence[Graded]) -> bool:
    return _right(family) == len(family)


def repetition_consistency(found: Sequence[Sequence[Graded]]) -> list[Metric]:
    """Share of repetitions with the same answer as the first sample of their question; missing answers never agree.

    Empty if there are no repetitions.
    """
    same_F = [sum(alike(x, g.samples[0], Gold.of(g.question)) for g in f for x in g.samples[1:]) for f in found]
    return ratio("repetition consistency", same_F, [sum(len(g.samples[1:]) for g in f) for f in found])


SAMPLE = Benchmark(
    name="dynamath",
    source="DynaMath/DynaMath_Sample",
    parts=tuple(Part(f"sample_variant{i}", (f"trial{i}/dataset.json",)) for i in range(1, VARIANTS + 1)),
    columns=("id", "question", "image", "answer_type", "subject"),
    optional=("decoded_image", "ground_truth", "answer", "knowledge_level", "level"),
    read_row=_read_row,
    score=score,
)
