"""The command `racro grade`: predictions in a file -> verdicts and scores, printed; no model and no server.

Loads neither Prefect nor torch, so that it begins at once. Exit status as everywhere: 0 graded, 2 bad input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.answering_lines import as_line
from racro import predictions
from racro.benchmarks.metrics import Scores
from racro.grading import Grade
from racro.predictions import BadPredictions, Prediction
from racro.rewards.answer import counts
from racro.schema import Verdict

OURS, RULE, PUBLISHED = "response", "extraction in the file", "verdict in the file"
WIDTH = 30

Verdicts = list[Verdict | None]


def run(file: Path, benchmark: str | None, out: Path | None) -> None:
    """Grade `file`, print what comes out, write a line of JSON for each prediction to `out`. Raises BadPredictions."""
    read = predictions.read(file, benchmark)
    grades = predictions.grades(read)
    columns: dict[str, Verdicts] = {
        OURS: [grade and grade.verdict for grade in grades],
        RULE: [prediction.by_rule for prediction in read],
        PUBLISHED: [prediction.published for prediction in read],
    }
    columns = {name: verdicts for name, verdicts in columns.items() if any(verdicts)}
    if not columns:
        raise BadPredictions(f"{file}: nothing can be graded; the first gold answer: {read[0].trouble}")
    scores = {name: predictions.scores(read, verdicts, benchmark) for name, verdicts in columns.items()}
    if out is not None:
        _write(out, read, grades)
    print("\n".join((*_table(columns, scores), *_comparison(read, columns), "", *_parts(scores))))


def _table(columns: dict[str, Verdicts], scores: dict[str, Scores]) -> list[str]:
    """A line for each way to a verdict: counts, and the headline with its standard error."""
    lines = ["".ljust(WIDTH) + "".join(verdict.value.rjust(11) for verdict in Verdict)]
    for name, verdicts in columns.items():
        given = counts(verdict for verdict in verdicts if verdict is not None)
        headline = next((f"{m.name} {m.percent} % (n {m.n:,})" for m in scores[name].metrics[:1]), "nothing scored")
        lines.append(name.ljust(WIDTH) + "".join(str(count).rjust(11) for count in given.values()) + f"   {headline}")
    return lines


def _comparison(read: Sequence[Prediction], columns: dict[str, Verdicts]) -> list[str]:
    """What was left out, where the verdicts agree, and what the authors' rule gives to extractions that are none."""
    lines = []
    if OURS in columns and (left_out := [p for p in read if p.trouble and p.response is not None]):
        lines.append(f"{len(left_out)} without a usable gold answer, not graded; the first: {left_out[0].trouble}")
    if RULE in columns and PUBLISHED in columns:
        lines.append(_agreement("the rule on the extraction and the file agree on", columns[RULE], columns[PUBLISHED]))
    if OURS in columns and PUBLISHED in columns:
        ours, theirs = columns[OURS], columns[PUBLISHED]
        lines.append(_agreement("our verdicts and the file agree on", ours, theirs))
        kept = [i for i, prediction in enumerate(read) if prediction.is_answer]
        if kept:
            pair = ([ours[i] for i in kept], [theirs[i] for i in kept])
            lines.append(_agreement("of those with an extraction that is an answer, on", *pair))
    if RULE in columns:
        none = [p for p in read if not p.is_answer and p.by_rule is not None]
        lucky = sum(p.by_rule is Verdict.CORRECT for p in none)
        points = 100 * lucky / len(read)
        lines.append(f"the rule finds {lucky} of {len(none)} extractions right that are no answer: {points:.1f} points")
    return lines


def _agreement(what: str, one: Verdicts, other: Verdicts) -> str:
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    same = sum((a is Verdict.CORRECT) == (b is Verdict.CORRECT) for a, b in both)
    return f"{what} {same} of {len(both)}" + (f" ({same / len(both):.1%})" if both else "")


def _parts(scores: dict[str, Scores]) -> list[str]:
    """All scores but the headline, a column for each way to a verdict."""
    rows: dict[str, dict[str, str]] = {}
    for name, found in scores.items():
        for metric in found.metrics[1:]:
            rows.setdefault(metric.name, {})[name] = f"{metric.percent} % ({metric.n:,})"
    if not rows:
        return []
    wide = max(map(len, rows)) + 2
    head = "".ljust(wide) + "".join(name.rjust(WIDTH) for name in scores)
    return [
        head,
        *(row.ljust(wide) + "".join(cells.get(n, "").rjust(WIDTH) for n in scores) for row, cells in rows.items()),
    ]


def _write(out: Path, read: Sequence[Prediction], grades: Sequence[Grade | None]) -> None:
    lines = []
    for prediction, grade in zip(read, grades, strict=True):
        known = {
            "extraction": prediction.extraction,
            "by_rule": prediction.by_rule,
            "published": prediction.published,
            "trouble": prediction.trouble,
        }
        line = {"uid": prediction.question.uid, "verdict": grade and grade.verdict}
        line["extracted"] = grade and grade.extracted
        line |= {name: value for name, value in known.items() if value is not None}  # only what the file told
        lines.append(as_line(line))
    try:
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise BadPredictions(
            f"--out {out}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error
