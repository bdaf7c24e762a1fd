"""What a preparation did: rows in, problems out, what was dropped and why, and what the problems are like.

Counts only; the rows behind them are in the tables beside it. Made by `racro.data.problems`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from racro.schema import DroppedRow, Overlap, Problem, ProblemTable
from racro.storage import artifacts

FILE = "statistics.json"
"""Beside the table of problems."""
Counts = dict[str, int]


class Statistics(BaseModel):
    """Counts of one preparation. Drops are counted over the whole source, everything else over this part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Of the source."""
    asked: int | None = None
    """Problems that the recipe asks for; None: all there are."""
    unusable: Counts
    """Rows with a defect, by what it is."""
    left_out: Counts
    """Rows that are dropped by a filter, or because they overlap with a benchmark."""
    overlaps: Counts
    """Rows that overlap with a benchmark, by benchmark and evidence; one row may overlap with several."""
    problems: int
    images: int
    """Different ones."""
    repaired: int
    """Questions that got placeholders for images they show."""
    counts: dict[str, Counts]
    """Problems by kind, category, images and so on."""

    def markdown(self, title: str) -> str:
        """As a page for people."""
        lines = [f"# {title}", "", "| | |", "|---|---|", f"| rows of the source | {self.rows} |"]
        for what, by in (("unusable", self.unusable), ("left out", self.left_out)):
            lines.append(f"| {what} | {sum(by.values())} |")
            lines += [f"| — {reason} | {n} |" for reason, n in by.items()]
        if self.asked is not None:
            lines.append(f"| asked for | {self.asked} |")
        lines += [f"| **problems** | **{self.problems}** |", f"| images | {self.images} |"]
        lines += [f"| placeholders added | {self.repaired} |"]
        for name, by in (("overlaps with", self.overlaps), *self.counts.items()):
            if by:
                lines += ["", f"| {name} | n |", "|---|---|", *(f"| {key} | {n} |" for key, n in by.items())]
        return "\n".join(lines)


def statistics(
    rows: int,
    dropped: Sequence[DroppedRow],
    overlaps: Sequence[Overlap],
    problems: Sequence[Problem],
    repaired: int = 0,
    asked: int | None = None,
    **more: Iterable[str],
) -> Statistics:
    """Count everything; `more`: a property's values, one per problem."""
    return Statistics(
        rows=rows,
        asked=asked,
        unusable=_counts(row.reason for row in dropped if not row.deliberate),
        left_out=_counts(row.reason for row in dropped if row.deliberate),
        overlaps=_counts(f"{overlap.benchmark} by {overlap.by}" for overlap in overlaps),
        problems=len(problems),
        images=len({image.sha256 for problem in problems for image in problem.images}),
        repaired=repaired,
        counts={
            "kind": _counts(problem.kind for problem in problems),
            "category": _counts(problem.category for problem in problems),
            "images per problem": _counts(str(len(problem.images)) for problem in problems),
            **{name.replace("_", " "): _counts(values) for name, values in more.items()},
        },
    )


def pass_rate_band(rate: float | None) -> str:
    """The band of a pass rate. 0 and 1 are bands of their own: such problems give no gradient."""
    if rate is None:
        return "unknown"
    return "0" if rate == 0 else "1" if rate == 1 else f"{int(rate * 4) / 4:g} to {int(rate * 4 + 1) / 4:g}"


def _counts(values: Iterable[str]) -> Counts:
    return dict(Counter(values).most_common())


def read(problems: ProblemTable) -> Statistics:
    """The counts of a preparation. Raises FileNotFoundError."""
    return Statistics.model_validate_json(artifacts.read_file(f"{problems.uri}/{FILE}"))
