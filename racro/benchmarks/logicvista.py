"""LogicVista (Xiao et al., arXiv 2407.04973): 448 logic questions in pictures; accuracy by skill and capability."""

from __future__ import annotations

from racro.benchmarks.benchmark import Benchmark, Item, Part
from racro.benchmarks.metrics import simple_scores
from racro.data.golds import read_gold
from racro.data.options import options_in
from racro.data.rows import Draft
from racro.data.sources import Row
from racro.schema import Gold


def _read_row(number: int, row: Row, split: str) -> Item:
    question, answer = row["question"], row["answer"].strip()
    if "," in answer:
        gold = Gold(answer, "choices", options_in(question))
    else:
        gold = read_gold(answer, "choice" if answer.isalpha() else None, None, question)
    draft = Draft(
        uid=row["imagename"].rpartition(".")[0],
        question=question,
        gold=gold,
        images=[f"images/{row['imagename']}"],
        category=", ".join(row["skill"]),
    )
    return Item(
        draft,
        labels=[
            ("skill", row["skill"]),
            # "diagram and ocr" counts for diagram, for ocr, and as a value of its own, as in the authors' evaluation.
            ("capability", [c for cell in row["broad_capability"] for c in {*cell.split(" and "), cell}]),
        ],
    )


DATASET = Benchmark(
    name="logicvista",
    source=None,
    parts=(Part("test", ("dataset.json", "data/dataset.json")),),
    columns=("imagename", "question", "answer", "skill", "broad_capability"),
    read_row=_read_row,
    score=simple_scores,
)
