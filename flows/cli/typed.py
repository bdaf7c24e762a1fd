"""How is this command typed again? For lines that name the next one. Called by `flows.cli.terminal`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def typed(program: str | None = None) -> str:
    """`racro`, or by its path where that name finds another one or none. `program`: what was started; None: this."""
    program = program or sys.argv[0]
    return program if Path(program).name == "racro" and shutil.which("racro") != program else "racro"
