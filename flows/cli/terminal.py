"""What the command line shows: progress bars while a flow runs, a table when it is done."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.cli.typed import typed
from racro.evaluation.compare import Comparison
from racro.pace import Row
from racro.prompts import plain_question
from racro.rewards.agreement import Agreement
from racro.schema import Share, Verdict
from racro.storage.retention import Freed
from racro.summary import EvaluationSummary, ProfileSummary, Score, StageTotal, Summary
from racro.sweeps.ranking import SweepSummary

console = Console(highlight=False)

WIDE = 100
"""Columns of a terminal with room for intervals."""
INTERRUPTED = "Execution was aborted by"
"""In Prefect's log line about a run that a signal ended."""
FLIPS = 12
"""Flipped answers that are shown of a comparison."""


@contextlib.contextmanager
def progress_bars() -> Iterator[None]:
    """A line per iteration, and bars for run and stages, on terminals; elsewhere the log lines say the same.

    The bars go when they are done with, so that an interrupted run leaves its lines and nothing half drawn.
    """
    from tasks.running import observing

    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars, _log_lines_above(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it should be in one process
        shown = _Shown(bars)
        with observing.observed(shown.stage, shown.row, lambda line: bars.console.print(line, markup=False)):
            yield


@contextlib.contextmanager
def _log_lines_above() -> Iterator[None]:
    """Prefect's warnings are printed above the bars, not through them. That a signal ends the run is said elsewhere."""
    handlers = [handler for handler in logging.getLogger().handlers if hasattr(handler, "console")]
    before = [handler.console for handler in handlers]
    for handler in handlers:
        handler.console = _Above()
    try:
        yield
    finally:
        for handler, kept in zip(handlers, before, strict=True):
            handler.console = kept


class _Above:
    """What Prefect's log handler prints with, in place of a console of its own."""

    def print(self, message: str, soft_wrap: bool = False) -> None:
        """A log line."""
        if INTERRUPTED not in message:
            console.print(message, markup=False, soft_wrap=soft_wrap)


class _Shown:
    """What is on the screen while a flow runs."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stages: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._run: TaskID | None = None

    def stage(self, what: str, done: int, total: int) -> None:
        """A stage goes on."""
        bar = self._stages.get(what)
        if bar is not None and self._done[what] > done:  # a later stage of the same kind takes the place
            self._bars.remove_task(bar)
            bar = None
        if bar is None:
            bar = self._stages[what] = self._bars.add_task(what, total=total, left="")
        self._done[what] = done
        self._bars.update(bar, completed=done, total=total)

    def row(self, row: Row) -> None:
        """An iteration is over."""
        # Lines first: while the number of bars changes, a line could be printed into them.
        if self._run is None:
            self._bars.console.print(f"[bold]{ROW.format(*HEADINGS)}[/]")
        self._bars.console.print(ROW.format(*_row(row)))
        if self._run is None:
            self._run = self._bars.add_task("iterations", total=row.total, left="")
        self._bars.update(self._run, completed=row.number, left=row.to_go)
        for bar in self._stages.values():
            self._bars.remove_task(bar)
        self._stages.clear()


HEADINGS = ("iteration", "reward", "informative", "accuracy, %", "seconds")
ROW = "{:<11}{:>15}{:>13}{:>15}{:>11}"


def _row(row: Row) -> tuple[str, ...]:
    point, score = row.point, row.score
    return (
        f"{row.number}/{row.total}",
        point.reward if point else "",
        f"{point.informative:.0%}" if point else "",
        score.share.percent if score else "",
        "from cache" if row.cached else f"{row.seconds:.1f}",
    )


def show_summary(summary: Summary, report: str) -> None:
    """The result of a training."""
    scores = Table(title=f"{summary.run}: held-out problems, greedy captions", title_justify="left")
    for heading in ("captioner", "accuracy", "95 %", "n", "truthful", "states\nasked", "leaks"):
        scores.add_column(heading, justify="left" if heading == "captioner" else "right", no_wrap=True)
    scores.add_row("before", *_cells(summary.base))
    scores.add_row("after", *_cells(summary.final), style="bold")
    console.print(scores)

    console.print(_stages(summary.stages, f"stages, in a run of {summary.seconds:.0f} s"))
    console.print(f"policy   {summary.policy.uri}", soft_wrap=True)
    console.print(f"report   {report}", soft_wrap=True)
    console.print(f"Prefect and MLflow, with what was just recorded:  {typed()} ui", soft_wrap=True)


def show_profile(summary: ProfileSummary) -> None:
    """The distribution of pass rates, with a bar for each band."""
    title = f"{summary.run}: pass rates of problems, {summary.captions} captions each"
    table = Table(title=title, title_justify="left")
    for heading in ("pass rate", "problems", "%", "95 %", "n", ""):
        table.add_column(heading, justify="left" if heading in ("pass rate", "") else "right", no_wrap=True)
    for band in summary.bands:
        bar = "█" * round(20 * band.share.value)
        table.add_row(band.name, str(band.problems), band.share.percent, band.share.range, f"{band.share.n:,}", bar)
    console.print(table)
    mean = Share(value=summary.pass_rate, stderr=summary.stderr, n=summary.n)
    console.print(f"mean {mean.percent} % (n = {summary.n:,} problems)")
    if summary.unmeasured:
        console.print(f"{summary.unmeasured} problems have no scored caption")
    console.print(_stages(summary.stages, f"stages, in a run of {summary.seconds:.0f} s"))
    console.print(f"problems {summary.table}", soft_wrap=True)


def show_sweep(summary: SweepSummary, report: str) -> None:
    """The ranking of a sweep, what its children shared, and whose training failed."""
    ranking = Table(title=f"{summary.run}: mean final accuracy on held-out problems", title_justify="left")
    for heading in (
        "rank",
        *summary.ranking[0].values,
        "accuracy",
        "seeds",
        "n",
        "stopped",
        "diverged",
        "failed",
        "seconds",
    ):
        ranking.add_column(heading.replace(".", ".\n"), justify="right", no_wrap=heading == "accuracy")
    for s in summary.ranking:
        accuracy = f"{s.share.percent} %" if s.share else "-"
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in s.values.values()]
        counts = [str(count or "") for count in (s.stopped, s.diverged, s.failed)]
        place = [str(s.rank or "-"), *values, accuracy, str(s.seeds), f"{s.n:,}"]
        ranking.add_row(*place, *counts, f"{s.seconds:.1f}", style="bold" if s.rank == 1 else None)
    console.print(ranking)
    console.print(_stages(summary.stages, f"stages of finished children: {summary.seconds:.0f} s for the sweep"))
    for child in summary.children:
        if child.status in ("failed", "diverged", "stopped"):
            console.print(f"{child.status:<8} {child.child}: {child.note}", soft_wrap=True, markup=False)
    if summary.fewer:
        console.print(summary.fewer)
    before = len(summary.children) - summary.started
    console.print(f"children {len(summary.children)}: {summary.started} started now, {before} had ended before")
    if any(child.status == "failed" for child in summary.children):
        console.print("The same command tries the failed ones again.")
    console.print(f"report   {report}", soft_wrap=True)
    console.print(f"Prefect and MLflow, with what was just recorded:  {typed()} ui", soft_wrap=True)


def show_evaluation(summary: EvaluationSummary, report: str) -> None:
    """The table captioner x reasoner x benchmark x mode."""
    captioner = next((entry.captioner for entry in summary.entries if entry.captioner), "none")
    table = Table(title=f"{summary.run}: captioner {captioner}", title_justify="left")
    interval = ["95 %"] if console.width >= WIDE else []
    headings = ["benchmark", "mode", "reasoner", "metric", "score", *interval, "n", "not right"]
    for heading in headings:
        figure = heading in ("score", "95 %", "n")
        table.add_column(heading, justify="right" if figure else "left", no_wrap=figure)
    for entry in summary.entries:
        lost = ", ".join(f"{n} {v.value}" for v in list(Verdict)[1:] if (n := getattr(entry, v)))
        repeated = [m for m in entry.metrics if m.name.startswith(("pass@", "majority"))]
        for metric in (*entry.metrics[:1], *repeated):
            who = entry.benchmark, entry.mode, entry.reasoner or "-"
            figures = [f"{metric.percent} %", *([metric.range] if interval else []), f"{metric.n:,}"]
            table.add_row(*who, metric.name, *figures, lost)
    console.print(table)
    for benchmark, n in summary.dropped.items():
        console.print(f"{benchmark}: {n} {'rows' if n > 1 else 'row'} cannot be asked; stage load of the run says why")
    console.print(_stages(summary.stages, f"stages, in a run of {summary.seconds:.0f} s"))
    console.print(f"results  {summary.results}", soft_wrap=True)
    console.print(f"report   {report}", soft_wrap=True)


def show_comparisons(comparisons: Sequence[Comparison], first: str, second: str) -> None:
    """Two evaluations: accuracies, flips, and whether that may be chance."""
    table = Table(title=f"{first} -> {second}: accuracy, %", title_justify="left")
    for heading in ("answers", "first", "second", "gain", "fixed,\nbroken", "p", "n"):
        table.add_column(heading, justify="left" if heading == "answers" else "right", no_wrap=heading != "answers")
    for c in comparisons:
        arms = dict.fromkeys(" ".join(filter(None, arm)) for arm in (c.first, c.second))
        shares = (share.percent if share else "-" for share in (c.first_accuracy, c.second_accuracy))
        flipped = f"{c.outcomes['fixed']:,}, {c.outcomes['broken']:,}"
        gain = c.gain.percent if c.gain else "-"
        table.add_row(" -> ".join(arms), *shares, gain, flipped, f"{c.p:.2g}", f"{sum(c.outcomes.values()):,}")
        if c.unscored or c.unpaired:
            table.caption = "not compared: failed in one of the runs, or asked in one only"
            table.add_row("", *[""] * 5, f"+ {c.unscored + c.unpaired}")
    console.print(table)
    flips = Table(title=f"answers that flipped, {FLIPS} at most of each; all with --json", title_justify="left")
    for heading in ("benchmark", "question", "right", "first says", "second says"):
        flips.add_column(heading)
    for c in comparisons:
        for flip in c.flips[:FLIPS]:
            said = (
                f"{s.verdict.value}: {s.extracted}" if s.extracted else s.verdict.value
                for s in (flip.first, flip.second)
            )
            flips.add_row(*map(escape, (c.first.benchmark, plain_question(flip.question)[:160], flip.gold, *said)))
    if flips.row_count:
        console.print(flips)


def show_agreement(found: Agreement, judges: Sequence[str]) -> None:
    """How far a reward agrees with labels: shares with intervals, and where they differ."""
    asked = f", judges {', '.join(judges)}" if judges else ""
    title = f"{found.reward}{asked}: good from {found.threshold:g} on"
    table = Table(title=title, title_justify="left")
    for heading in ("", "value", "95 %", "n"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    accuracy = found.accuracy
    shown = (f"{accuracy.percent} %", accuracy.range) if accuracy else ("-", "-")
    table.add_row("accuracy", *shown, f"{found.n:,}")
    low_high = "–".join(f"{end:.2f}" for end in found.kappa_interval) if found.kappa_interval else "-"
    table.add_row("Cohen's kappa", "-" if found.kappa is None else f"{found.kappa:.2f}", low_high, f"{found.n:,}")
    table.add_row("only the judge: good", str(found.counts["judge"]), "", f"{found.n:,}")
    table.add_row("only the label: good", str(found.counts["label"]), "", f"{found.n:,}")
    table.add_row("without a value", str(found.unscored), "", str(found.n + found.unscored))
    console.print(table)
    for fault, count in found.faults.items():
        console.print(f"{count} without a value: {fault}", markup=False)


def show_pruned(pruned: Freed, dry_run: bool) -> None:
    """What was removed, or would be."""
    for folder in pruned.folders:
        print(folder)
    for run in pruned.running:
        print(f"all checkpoints of run {run} are kept: it is under way")
    done = "would be freed" if dry_run else "freed"
    print(f"{len(pruned.folders)} checkpoints, {pruned.bytes / 1e6:.1f} MB {done}; {pruned.kept} are kept")


def _stages(totals: dict[str, StageTotal], title: str) -> Table:
    stages = Table(title=title, title_justify="left")
    for heading in ("stage", "executed", "from cache", "seconds"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, total in totals.items():
        stages.add_row(name, str(total.executed), str(total.cached), f"{total.seconds:.1f}")
    return stages


def _cells(score: Score) -> list[str]:
    shares = [score.truthful, score.states_asked, score.leaks]
    return [
        f"{score.share.percent} %",
        score.share.range,
        f"{score.n:,}",
        *("-" if share is None else f"{100 * share:.1f} %" for share in shares),
    ]
