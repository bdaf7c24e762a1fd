"""A table of the user, read with the column mapping of training data; accuracy by category."""

from __future__ import annotations

from racro import config
from racro.benchmarks.benchmark import Benchmark, Item, Part
from racro.benchmarks.metrics import simple_scores
from racro.data.rows import draft_row
from racro.data.sources import Row


def own_data(columns: config.Columns, split: str = "test") -> Benchmark:
    """A benchmark from any table that `problems.columns` can describe."""

    def read_row(number: int, row: Row, split: str) -> Item:
        draft = draft_row(number, row, columns)
        return Item(draft, labels=[("category", draft.category)] if columns.category else [])

    names = dict.fromkeys(name for name in columns.model_dump().values() if name is not None)
    nullable = tuple(name for name in names if name not in (columns.question, columns.answer))
    return Benchmark(
        name="own",
        source=None,
        parts=(Part(split),),
        columns=tuple(names),
        nullable=nullable,
        read_row=read_row,
        score=simple_scores,
    )
