"""What the command line shows: progress bars while a flow runs, a table when it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from racro.summary import Score, Summary

console = Console(highlight=False)


@contextlib.contextmanager
def progress_bars() -> Iterator[None]:
    """One bar per running stage, on terminals; elsewhere the log lines of the flow tell the same."""
    from tasks import progress

    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        running: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in running:
                running[what] = bars.add_task(what, total=total)
            bars.update(running[what], completed=done, total=total)

        progress.observers.append(show)
        try:
            yield
        finally:
            progress.observers.remove(show)


def show_summary(summary: Summary, report: str) -> None:
    """The result of a training."""
    scores = Table(title=f"{summary.run}: held-out problems, greedy captions", title_justify="left")
    for heading in ("captioner", "accuracy", "n", "truthful facts", "states what is asked", "leaks an answer"):
        scores.add_column(heading, justify="left" if heading == "captioner" else "right")
    scores.add_row("before", *_cells(summary.base))
    scores.add_row("after", *_cells(summary.final), style="bold")
    console.print(scores)

    stages = Table(title=f"stages: {summary.seconds:.0f} s in all", title_justify="left")
    for heading in ("stage", "executed", "from cache", "seconds"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, total in summary.stages.items():
        stages.add_row(name, str(total.executed), str(total.cached), f"{total.seconds:.1f}")
    console.print(stages)
    console.print(f"policy   {summary.policy.uri}", soft_wrap=True)
    console.print(f"report   {report}", soft_wrap=True)
    console.print("Prefect and MLflow, with what was just recorded:  .venv/bin/racro ui")


def _cells(score: Score) -> list[str]:
    shares = [score.truthful, score.states_asked, score.leaks]
    return [
        f"{100 * score.accuracy:.1f} ± {100 * score.stderr:.1f} %",
        str(score.n),
        *("-" if share is None else f"{100 * share:.1f} %" for share in shares),
    ]
