"""The package as its users install it: a wheel, used in a folder that has packages `flows` and `tasks` of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from racro.config import loading
from tests.conftest import REPOSITORY
from tests.support.forkserver import STATE
from tests.support.hostile import fill

PROGRAM = """
import racro
small = {"rollout.problems": 4, "rollout.group_size": 2, "update.mini_batch": 2, "evaluation.problems": 8}
summary = racro.train("smoke", small, run="first", quiet=True)
print(racro.__file__, summary.final.n, summary.stages["update"].executed)
try:
    racro.train("smoke", {"update.mini_batch": 99})
except racro.BadInput as error:
    print(error)
"""


class Installed(NamedTuple):
    packages: Path
    work: Path

    def run(self, *command: str) -> str:
        """What a command prints, typed in the folder by somebody who has set nothing."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        known = {name: os.environ[name] for name in ("PREFECT_API_URL",) if name in os.environ}
        environment = kept | known | {"PYTHONPATH": str(self.packages), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return done.stdout

    def racro(self, *arguments: str) -> str:
        return self.run(str(self.packages / "bin" / "racro"), *arguments)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place / "dist")]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = (place / "dist").glob("racro-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(place / "packages"), str(wheel)], check=True, capture_output=True)
    (place / "work").mkdir()
    fill(place / "work")
    return Installed(place / "packages", place / "work")


def test_recipes_are_found_by_name(installed: Installed) -> None:
    assert [row["name"] for row in json.loads(installed.racro("recipe", "list", "--json"))] == loading.names()
    assert "changes the result" in installed.racro("recipe", "explain", "update.learning_rate")


@pytest.mark.usefixtures("prefect_server")
def test_a_program_trains_by_name_and_the_command_shows_the_run(installed: Installed) -> None:
    shutil.rmtree(installed.work / "racro")  # Python looks there first, and would find it in place of ours
    (installed.work / "program.py").write_text(PROGRAM)
    used, line = installed.run(sys.executable, "program.py").splitlines()
    assert used == f"{installed.packages / 'racro' / '__init__.py'} 8 1"
    assert "update.mini_batch (99 problems) is larger than rollout.problems (32)" in line
    [run] = json.loads(installed.racro("runs", "list", "--json"))
    assert (run["run"], run["kind"], run["state"]) == ("first", "training", "finished")
