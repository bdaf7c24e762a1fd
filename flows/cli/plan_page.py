"""The page of `racro plan`: parts of a training with what they take, memory, division of GPUs, what was assumed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from racro.pace import duration
from racro.planning.estimate import Part, Plan

WIDTH = 110
"""Columns if the output is no terminal."""
UNKNOWN = "unknown"


def show(plan: Plan, memory: dict[str, Any], split: dict[str, Any] | None, recipe: str, root: str, rate: Any) -> None:
    """Print it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    what = "a training" if plan.trainings == 1 else f"{plan.trainings} trainings"
    iterations = f"{plan.iterations} iteration{'s' * (plan.iterations != 1)}"
    console.print(f"[bold]{recipe}[/]: {what} of {iterations} on {root}\n", soft_wrap=True)
    console.print(_table(plan))
    for line in (*_totals(plan, rate), *_memory(memory), *_split(split)):
        console.print(line, markup=False, soft_wrap=True)
    for title, lines in (("Taken for granted", plan.assumptions), ("Not known", plan.unknown)):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            for line in lines:
                console.print(f"  {line}", markup=False, soft_wrap=True)


def _table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("cached", "to run", "units", "tokens", "time", "bytes", "records"):
        table.add_column(name, justify="right")
    for part in plan.parts:
        table.add_row(*_row(part))
    return table


def _row(part: Part) -> tuple[str, ...]:
    if not part.runs:
        return (part.name, str(part.cached), "0", *[""] * 5)
    tokens = f"{part.tokens:,}" if part.tokens else f"≤ {part.tokens_most:,}" if part.tokens_most else ""
    return (
        part.name,
        str(part.cached),
        str(part.runs),
        UNKNOWN if part.units is None else f"{part.units:,}",
        tokens,
        UNKNOWN if part.seconds is None else duration(part.seconds),
        UNKNOWN if part.bytes is None else size(part.bytes) if part.bytes else "",
        str(part.records) if part.records else "",
    )


def _totals(plan: Plan, rate: float | None) -> list[str]:
    if plan.nothing:
        return ["\nNothing would run: all of it is on the root."]
    each = "" if plan.per_iteration is None else f", {duration(plan.per_iteration)} for each iteration"
    if plan.seconds is None:
        time = f"unknown, of which {duration(plan.seconds_known)} are known"
    else:
        time = f"{duration(plan.seconds)} in all{each}"
    found = [f"\nTime     {time}"]
    if plan.bytes is None:
        found.append(f"Disk     {UNKNOWN}")
    else:
        kept = "" if plan.bytes_kept is None else f"; {size(plan.bytes_kept)} stay"
        found.append(f"Disk     {size(plan.bytes)}, of which {size(plan.bytes_policies)} policies and states{kept}")
    found.append(f"Network  {UNKNOWN if plan.bytes_network is None else size(plan.bytes_network)}")
    if plan.cost is not None:
        found.append(f"Cost     {plan.cost:,.2f}: {plan.gpus} GPUs at {rate:g} an hour")
    elif rate is not None:
        found.append(
            "Cost     unknown, because " + ("no GPUs are used" if plan.gpus is None else "the time is not known")
        )
    return found


def _memory(memory: dict[str, Any]) -> list[str]:
    if "roles" in memory:
        roles = memory["roles"]
        each = "; ".join(
            f"{role} {', '.join(f'{name} {value:.0f}' for name, value in own.items())}" for role, own in roles.items()
        )
        return [f"Memory   GB on each GPU of {memory['of']:.0f}: {each}"]
    peaks = "".join(f"; GPU {one['gpu']} up to {one['peak']} GiB" for one in memory.get("gpus", ()))
    return [f"Memory   {memory['note']}{peaks}"]


def _split(split: dict[str, Any] | None) -> list[str]:
    if split is None:
        return []
    roles = (
        f"{role} {gpus} (busy {split['busy'].get(role, 0):.0%} of the time)" for role, gpus in split["gpus"].items()
    )
    return [f"GPUs     {', '.join(roles)}"]


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
