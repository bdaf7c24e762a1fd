"""MathVista testmini (Lu et al., arXiv 2310.02255): 1,000 questions; accuracy, also by task, skill and more."""

from __future__ import annotations

from racro.benchmarks.benchmark import Benchmark, Item, Part, lettered
from racro.benchmarks.metrics import simple_scores
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.data.options import LETTERS, options_text
from racro.data.rows import Draft
from racro.data.sources import Row
from racro.schema import Gold

HINTS = {
    "choice": "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.",
    "float 1": "Please answer the question requiring a floating-point number with one decimal place and provide "
    "the final value, e.g., 1.2, 1.3, 1.4, at the end.",
    "float 2": "Please answer the question requiring a floating-point number with two decimal places and provide "
    "the final value, e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "Please answer the question requiring a Python list as an answer and provide the final list, "
    "e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
"""The authors' hints. Only they tell the model how many digits are asked for."""

LABELS = ("question_type", "answer_type")
METADATA = ("language", "source", "category", "task", "context", "grade", "skills")


def query(question: str, gold: Gold) -> str:
    """The question as the authors ask it (their column `query`, without examples)."""
    hint = HINTS[f"float {gold.precision}" if gold.kind == "float" else gold.kind]
    unit = f" (Unit: {gold.unit})" if gold.unit else ""
    choices = f"\nChoices:\n{options_text(gold.choices)}" if gold.choices else ""
    return f"Hint: {hint}\nQuestion: {question}{unit}{choices}"


def gold(row: Row) -> Gold:
    """The gold answer of a row. Raises BadGold."""
    if row["question_type"] == "multi_choice":
        options = row["choices"] or []
        if row["answer"] not in options:
            raise BadGold("choice answer names no option", f"{row['answer']!r} is not one of {options}")
        return lettered(LETTERS[options.index(row["answer"])], options)
    precision = None if row["precision"] is None else int(row["precision"])
    if row["answer_type"] == "list":
        return Gold(row["answer"], "list", unit=row["unit"])
    read = read_gold(row["answer"], row["answer_type"], None, row["question"])
    if read.kind == "float" and precision not in (1, 2):
        raise BadGold("unknown precision", repr(precision))
    return read._replace(precision=precision, unit=row["unit"])


def _read_row(number: int, row: Row, split: str) -> Item:
    answer = gold(row)
    draft = Draft(
        uid=str(row["pid"]),
        question=query(row["question"], answer),
        gold=answer,
        images=[row.get("decoded_image") or row["image"]],
        category=row["metadata"]["task"],
    )
    return Item(
        draft,
        labels=[(name, row[name]) for name in LABELS] + [(name, row["metadata"].get(name)) for name in METADATA],
    )


TESTMINI = Benchmark(
    name="mathvista",
    source="AI4Math/MathVista",
    parts=(Part("testmini", ("testmini.json", "data/testmini.json")),),
    columns=(
        *("pid", "question", "image", "choices", "unit", "precision"),
        *("answer", "question_type", "answer_type", "metadata"),
    ),
    nullable=("choices", "unit", "precision"),
    optional=("decoded_image",),
    read_row=_read_row,
    score=simple_scores,
)
