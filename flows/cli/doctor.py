"""The command `racro doctor`: one page on what this machine can run, with the remedy beside whatever is broken.

Looks and changes nothing, a probe file under the root excepted, which it takes away again. Called by `flows.cli.main`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.checks import machine, packages, placement
from flows.cli.checks.finding import Finding, State
from racro.config import Recipe

DEADLINE = 60.0
"""Seconds for any check; importing torch from a cold network drive takes its time."""
STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}


def run(root: str, as_json: bool, recipe: Recipe | None = None) -> int:
    """Print the page, and what a recipe's training needs of each GPU; the exit code is 1 if something is broken."""
    findings = examine(root)
    plan = None
    if recipe is not None:
        plan = placement.plan(recipe)
        findings["placement"] = plan.finding
        findings |= placement.overlap(recipe) | placement.models(recipe)
    if as_json:
        rows = [{"check": name, **asdict(finding)} for name, finding in findings.items()]
        if plan is not None:
            next(row for row in rows if row["check"] == "placement").update(plan.figures())
        print(json.dumps(rows, indent=2))
    else:
        if plan is not None:
            plan.show()
        show(findings)
    return int(any(finding.state == "problem" for finding in findings.values()))


def examine(root: str) -> dict[str, Finding]:
    """All checks at once, none longer than DEADLINE."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": packages.python,
        "packages": packages.packages,
        "torch": packages.torch,
        "gpus": packages.gpus,
        "torchvision": packages.torchvision,
        "torchaudio": packages.audio,
        "vllm": packages.vllm,
        "cores": machine.cores,
        "memory": machine.memory,
        "shared memory": machine.shared_memory,
        "root": lambda: machine.writable(root),
        "prefect": machine.prefect,
        "mlflow": machine.mlflow,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        return dict(zip(checks, pool.map(_check, checks.values()), strict=True))


def _check(check: Callable[[], Finding]) -> Finding:
    """A check that breaks is a finding too."""
    from racro.storage.files import in_time

    try:
        return in_time(check, DEADLINE)
    except Exception as error:
        return Finding("problem", f"{type(error).__name__}: {' '.join(str(error).split())}")


def show(findings: dict[str, Finding]) -> None:
    """As a table on terminals, elsewhere as lines that stay as long as they are."""
    console = Console(highlight=False)
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        for width in (len("problem"), max(map(len, findings))):
            table.add_column(min_width=width, no_wrap=True)
        table.add_column(overflow="fold")  # a path stays whole
        for name, finding in findings.items():
            text = Text(finding.found)
            if finding.remedy:
                text.append(f"\n{finding.remedy}", style="italic")
            table.add_row(Text(finding.state, STYLES[finding.state]), Text(name, "bold"), text)
        console.print(table)
    else:
        for name, finding in findings.items():
            print(f"{finding.state:<8} {name:<14} {finding.found}{'; ' if finding.remedy else ''}{finding.remedy}")
    broken = [name for name, finding in findings.items() if finding.state == "problem"]
    console.print(f"\n{len(broken)} to mend: {', '.join(broken)}" if broken else "\nReady.", soft_wrap=True)
