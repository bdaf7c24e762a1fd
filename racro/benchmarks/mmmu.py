"""MMMU validation (Yue et al., arXiv 2311.16502): 900 questions in 30 subjects, with up to seven images each."""

from __future__ import annotations

import ast
from typing import Any

from racro.benchmarks.benchmark import Benchmark, Item, Part, lettered, place_images
from racro.benchmarks.metrics import simple_scores
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.data.options import options_text
from racro.data.rows import Draft
from racro.data.sources import Row

SUBJECTS = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine"),
        *("Pharmacy", "Public_Health"),
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
"""Disciplines and their subjects; each subject is a configuration of the dataset."""

_DISCIPLINE = {subject: discipline for discipline, subjects in SUBJECTS.items() for subject in subjects}
IMAGES = tuple(f"image_{i}" for i in range(1, 8))


def _list(cell: Any) -> list[str]:
    """The items of a list, or of the text of a Python list."""
    if isinstance(cell, str):
        try:
            cell = ast.literal_eval(cell)
        except (ValueError, SyntaxError) as error:
            raise BadGold("unreadable choices", repr(cell)) from error
    return [str(item) for item in cell or []]


def _read_row(number: int, row: Row, split: str) -> Item:
    subject = row["id"].partition("_")[2].rpartition("_")[0]  # validation_Art_Theory_7
    question, answer = row["question"], row["answer"]
    if row["question_type"] == "multiple-choice":
        options = _list(row["options"])
        question = f"{question}\n\n{options_text(options)}"
        gold = lettered(answer, options)
    else:
        # Several spellings of one answer, as the text of a list: only the first is used.
        answer = _list(answer)[0] if str(answer).startswith("[") else answer
        gold = read_gold(answer, None, None, question)
    shown = {i: row[name] for i, name in enumerate(IMAGES, 1) if row.get(name)}
    question, images = place_images(question, shown)
    draft = Draft(
        uid=row["id"],
        question=question,
        gold=gold,
        images=images,
        category=subject,
    )
    return Item(
        draft,
        labels=[
            ("discipline", _DISCIPLINE.get(subject)),
            ("subject", subject),
            ("difficulty", row["topic_difficulty"]),
            ("question_type", row["question_type"]),
        ],
    )


VALIDATION = Benchmark(
    name="mmmu",
    source="MMMU/MMMU",
    configs=tuple(sorted(_DISCIPLINE)),
    parts=(Part("validation"),),
    columns=("id", "question", "options", "image_1", "answer", "question_type", "topic_difficulty"),
    optional=IMAGES[1:],
    read_row=_read_row,
    score=simple_scores,
)
