"""Many `racro` commands for the price of one interpreter: imports once and forks for each.

`run` is for tests; run as a program, this file is the driver itself: `python driver.py COMMANDS MODULES`, both JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

STATE = ("PREFECT", "MLFLOW", "RACRO", "HF_", "MPL", "XDG")
"""Beginnings of the variables that a user who set nothing does not have."""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(commands: Sequence[Sequence[str]], modules: Sequence[str], work: Path, env: Mapping[str, str]) -> list[Done]:
    """Each command in turn, in the folder `work`; N.in, where it is there, is the input of command N.

    `modules` are imported beforehand: whatever the commands would each import.
    """
    driver = subprocess.run(
        [sys.executable, __file__, json.dumps(commands), json.dumps(modules)],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
        timeout=1000,
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    codes = json.loads(driver.stdout.splitlines()[-1])
    return [
        Done(code, *((work / f"{i}.{name}").read_text() for name in ("out", "err"))) for i, code in enumerate(codes)
    ]


def drive(commands: list[list[str]], modules: list[str]) -> None:
    """Fork for each command; print the exit codes."""
    from flows.cli import main as cli
    from flows.station import local

    local.settle()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    codes = []
    for number, arguments in enumerate(commands):
        child = os.fork()
        if child == 0:
            given = f"{number}.in" if os.path.exists(f"{number}.in") else os.devnull
            os.dup2(os.open(given, os.O_RDONLY), 0)
            for descriptor, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
            sys.argv = ["racro", *arguments]
            code = 0
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # taking down an interpreter with all that in it takes seconds
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    drive(*map(json.loads, sys.argv[1:]))
