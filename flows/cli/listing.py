"""What `racro recipe` and `racro runs` print on a terminal: tables of recipes, keys and runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from racro.config.differences import written
from racro.config.keys import Key, Section, section_at
from racro.config.shipped import Shipped

if TYPE_CHECKING:
    from flows.cli.run_records import Compared, Row

console = Console(highlight=False)

HEADINGS = ("run", "kind", "recipe", "state", "iterations", "accuracy, %", "when", "size")


def show_recipes(found: Sequence[Shipped]) -> None:
    """Two lines for each shipped recipe: name, captions that its training samples, models; what it is."""
    wide = max(len(one.name) for one in found) + 2
    for one in found:
        models = escape(", ".join(one.models))
        console.print(f"[bold]{one.name:<{wide}}[/bold]{one.captions:>9,} captions  {models}", soft_wrap=True)
        console.print(f"  {escape(re.sub(r' [(][^)]*[)]', '', one.text))}", soft_wrap=True)


def show_keys(found: Sequence[tuple[str, Section, Key]]) -> None:
    """Keys one below the other, a section with its keys."""
    for path, section, key in found:
        _show(path, section, key)
        if (below := section_at(path)) is not None:
            for kind, text in below.kinds.items():
                console.print(f"  [bold]type: {kind}[/bold]  {escape(text)}", soft_wrap=True)
            for inner in below.keys:
                _show(inner.name, below, inner, "  ")


def _show(path: str, section: Section, key: Key, indent: str = "") -> None:
    facts = [f"{key.type}{f' ({key.allowed})' if key.allowed else ''}"]
    facts.append("required" if key.default is None else f"default {key.default}")
    if key.kinds:
        facts.append(f"with type {', '.join(key.kinds)}")
    if not indent:
        facts.append("changes the result" if section.changes_the_result else "changes no result")
    console.print(f"{indent}[bold]{escape(path)}[/bold]: {escape('; '.join(facts))}", soft_wrap=True)
    console.print(f"{indent}  {escape(key.text)}", soft_wrap=True)


def show_runs(rows: Sequence[Row], root: str) -> None:
    """A line for each run."""
    if not rows:
        print(f"no runs under {root}; `racro train embedded` makes one")
        return
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:  # no table: a narrow terminal would fold every cell
        cells = (f"{cell:<{wide}}" for cell, wide in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def show_run(row: Row, content: Mapping[str, Any], folder: str) -> None:
    """Everything about a run."""
    for heading, cell in zip(HEADINGS, _cells(row), strict=True):
        if cell:
            print(f"{heading:<12} {cell}")
    print(f"{'folder':<12} {folder}")
    if content:
        print("\nWhat its recipe sets differently from the defaults:")
        print(written(content))


def show_compared(found: Compared) -> None:
    """Accuracies, and a row for each key at which recipes differ."""
    first = found.runs[0]
    table = Table(title="accuracy, %", title_justify="left")
    for heading in ("run", "accuracy", "95 %", "n", f"minus {first}"):
        table.add_column(heading, justify="left" if heading == "run" else "right", overflow="fold")
    for name in found.runs:
        share, gain = found.accuracy[name], found.gains[name]
        figures = (share.percent, share.range, f"{share.n:,}") if share else ("-", "-", "-")
        table.add_row(escape(name), *figures, gain.percent if gain and name != first else "")
    console.print(table)
    if not found.recipes:
        console.print("The recipes are the same.")
        return
    keys = Table(title="where recipes differ", title_justify="left")
    for heading in ("key", *found.runs):
        keys.add_column(escape(heading), overflow="fold")
    for path, values in found.recipes.items():
        keys.add_row(escape(path), *(escape("-" if values[name] is None else str(values[name])) for name in found.runs))
    console.print(keys)


def _cells(row: Row) -> tuple[str, ...]:
    accuracy = row.share.percent if row.share else ""
    when = f"{row.when.astimezone():%Y-%m-%d %H:%M}"
    count = "" if row.iterations is None else str(row.iterations)
    return row.run, row.kind, row.recipe, row.state, count, accuracy, when, _size(row.bytes)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
