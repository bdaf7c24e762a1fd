"""A folder that looks like a fresh clone with its environment built, and a user who types what the pages say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from tests.support import forkserver
from tests.support.pages import REPOSITORY, Block, Page, typed
from tests.support.ports import reserve

OURS = ("PREFECT_", "MLFLOW_", "RACRO_", "HF_", "MAKE", "PYTEST_")
"""Beginnings of variables that are the tests' own and not a user's."""
NOT_CLONED = (".git", ".racro", "runs", ".venv")
SERVERS = re.compile(r"\bracro (up|ui)\b")
"""Commands that start servers which stay."""
TESTS = re.compile(r"^make (test|quick)\b", re.MULTILINE)


class Clone:
    """The folder; nothing that a command writes there is shared with the repository."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith(OURS)} | environment
        self.trained = False
        for item in REPOSITORY.iterdir():
            if item.name not in NOT_CLONED:
                (folder / item.name).symlink_to(item)
        venv = folder / ".venv"
        (venv / "bin").mkdir(parents=True)
        for item in Path(sys.prefix).iterdir():
            if item.name != "bin":
                (venv / item.name).symlink_to(item)
        doors = forkserver.shared()._asdict()
        for item in Path(sys.prefix, "bin").iterdir():
            (venv / "bin" / item.name).symlink_to(doors.get(item.name, item))
        for made, there in ((".ready", True), (".vllm", find_spec("vllm") is not None)):
            (venv / made).unlink(missing_ok=True)
            if there:  # newer than what make compares it with: it installs nothing
                (venv / made).touch()

    def type(self, page: Page, **environment: str) -> None:
        """Everything on a page that is run, in order. Where a block starts servers, `environment` is not set."""
        for block in typed(page, "bash", "python"):
            printed = self.run(block, **({} if SERVERS.search(block.text) else environment))
            assert printed or block.language == "bash", f"{block}: an example prints what it found"

    def run(self, block: Block, **environment: str) -> str:
        """Type a block of commands, or run a block of Python. Returns what is printed; fails with what was said.

        environment: what the user has set besides.
        Three commands are not run as they are: `make demo` once for all pages, because it takes minutes; `make test`
        and `make quick` as a dry run, because they are what runs this; servers on ports that are free.
        """
        if block.language == "python":
            return self._done([str(self.folder / ".venv/bin/python"), "-c", block.text], str(block), environment)
        commands = block.text
        if "make demo" in commands:
            self.demo()
            commands = commands.replace("make demo", "true")
        commands = TESTS.sub(r"make --dry-run \1 > /dev/null", commands)
        commands = SERVERS.sub(
            lambda found: f"{found[0]} --prefect-port {reserve()} --mlflow-port {reserve()}", commands
        )
        if "racro ui" in commands:
            assert len(commands.splitlines()) == 1, f"{block}: `racro ui` runs until Ctrl-C; nothing can follow it"
            return self._open_and_close(commands.split())
        return self._done(["bash", "-e", "-o", "pipefail", "-c", commands], str(block), environment)

    def demo(self) -> None:
        """`make demo`, the first time."""
        if not self.trained:
            self._done(["make", "demo"], "make demo")
            self.trained = True

    def down(self) -> None:
        """Stop what `racro up` started and no page stopped."""
        if (self.folder / ".racro").exists():
            self._done([str(self.folder / ".venv/bin/racro"), "down"], "racro down")

    def _done(self, command: list[str], what: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
        env = self.environment | environment
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)
        said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"{what}: exit status {done.returncode}\n{said}"
        return done.stdout

    def _open_and_close(self, command: list[str]) -> str:
        """`racro ui`: both pages are there until Ctrl-C, and then they are gone."""
        heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # even where the tests run in the background
        ui = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True, preexec_fn=heeded
        )
        assert ui.stdout is not None
        said = [ui.stdout.readline() for _ in range(2)]
        addresses = [line.split()[-1] for line in said]
        pages = [urllib.request.urlopen(address, timeout=60).read().decode() for address in addresses]
        assert "Prefect" in pages[0] and "MLflow" in pages[1]
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=120) in (0, 1)
        assert not any(answers(address) for address in addresses)
        return "".join(said)


def answers(address: str) -> bool:
    """Does a server answer there?"""
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
