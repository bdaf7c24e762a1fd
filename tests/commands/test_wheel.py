"""The package as its users install it: a wheel, used in a folder that has packages `flows` and `tasks` of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from racro.config import loading
from racro.embedded import world
from tests.conftest import REPOSITORY
from tests.support.hostile import fill
from tests.support.served import Served, png
from tests.support.workplace import STATE, Workplace, opened

SMALL = {"rollout.problems": 4, "rollout.group_size": 2, "update.mini_batch": 2, "evaluation.problems": 8}
PROGRAM = f"""
import racro
summary = racro.train("smoke", {SMALL}, run="first", quiet=True)
print(racro.__file__, summary.final.n, summary.stages["update"].executed)
try:
    racro.train("smoke", {{"update.mini_batch": 99}})
except racro.BadInput as error:
    print(error)
"""


class Installed(NamedTuple):
    """A virtual environment, and the folder in which its commands are typed."""

    bin: Path
    work: Path

    def run(self, command: str, *arguments: str) -> str:
        """What a command prints, typed in the folder by somebody who has set nothing."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        environment["HF_HUB_OFFLINE"] = "1"
        typed = [str(self.bin / command), *arguments]
        done = subprocess.run(typed, cwd=self.work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, which borrows the libraries of this one, but not its .pth files."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place / "dist")]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = (place / "dist").glob("racro-*.whl")
    venv.create(place / "venv")
    [packages] = (place / "venv").glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    python = str(place / "venv" / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, capture_output=True)
    (place / "work").mkdir()
    fill(place / "work")
    return Installed(place / "venv" / "bin", place / "work")


def test_recipes_are_found_by_name(installed: Installed) -> None:
    assert [row["name"] for row in json.loads(installed.run("racro", "recipe", "list", "--json"))] == loading.names()
    assert "changes the result" in installed.run("racro", "recipe", "explain", "update.learning_rate")


@pytest.fixture(scope="module")
def station(installed: Installed) -> Iterator[Workplace]:
    """`racro up`; afterwards `racro down`, which leaves nothing."""
    yield from opened(installed.work, program=installed.bin / "racro")


@pytest.fixture(scope="module")
def trained(station: Workplace) -> Workplace:
    """The station after its worker has trained a recipe that was named."""
    overrides = [f"{key}={value}" for key, value in SMALL.items()]
    done = station.wait(station.start("train", recipe="smoke", overrides=overrides, run="mine"))
    assert done["state"]["type"] == "COMPLETED", station.log(done["id"])
    return station


def test_what_a_station_trained_is_served(trained: Workplace) -> None:
    with Served(trained.folder, program=trained.program) as server:
        page = httpx.get(f"{server.url}/", timeout=60)
        assert (page.status_code, "RACRO" in page.text) == (200, True)
        problem = next(one for one in world.generate("heldout", 0, 9) if len(one.scenes) == 1)
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(problem.images()[0])}"}}
        content = [image, {"type": "text", "text": problem.question}]
        asked = {"model": "racro:mine", "messages": [{"role": "user", "content": content}]}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=300)
        assert answer.status_code == 200 and answer.json()["racro"]["caption"], answer.text


@pytest.mark.usefixtures("trained")
def test_a_program_trains_beside_the_station_and_the_command_shows_both_runs(installed: Installed) -> None:
    shutil.rmtree(installed.work / "racro")  # Python looks there first, and would find it in place of ours
    (installed.work / "program.py").write_text(PROGRAM)
    used, line = installed.run("python", "program.py").splitlines()
    used, *figures = used.split()
    assert Path(used).is_relative_to(installed.bin.parent)
    assert figures == ["8", "0"], "the update of the station's run is taken"
    assert "update.mini_batch (99 problems) is larger than rollout.problems (32)" in line
    runs = json.loads(installed.run("racro", "runs", "list", "--json"))
    assert {(run["run"], run["kind"], run["state"]) for run in runs} == {
        (name, "training", "finished") for name in ("mine", "first")
    }
