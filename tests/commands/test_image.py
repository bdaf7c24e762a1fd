"""The container image without Docker: its build's own steps, then its commands of the docs, in a folder and environment
that hold nothing else. Not tested: the base image, its user, and what the build downloads.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.conftest import REPOSITORY
from tests.support import pages
from tests.support.eventually import eventually
from tests.support.ports import reserve

DOCKERFILE = REPOSITORY / "infra" / "Dockerfile"
PLACE = "/racro"
"""The image's working directory, for which a folder stands."""
SMALL = ("rollout.problems=4", "rollout.group_size=2", "update.mini_batch=2", "evaluation.problems=8")


class Image(NamedTuple):
    """What a container starts with."""

    folder: Path
    environment: dict[str, str]

    def typed(self, *command: str) -> subprocess.Popen[str]:
        """A command after `docker run racro`."""
        program = self.folder / ".venv" / "bin" / command[0]
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """After all steps of the Dockerfile; libraries are borrowed from this environment."""
    made = Image(tmp_path_factory.mktemp("image"), {"PATH": "/usr/bin:/bin"})
    venv.create(made.folder / ".venv")
    [packages] = (made.folder / ".venv").glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = f"{sys.executable} -m pip --python .venv/bin/python install --no-index --no-deps --no-build-isolation -I"
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace(PLACE, str(made.folder))
    for instruction, words in re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE):
        if instruction == "ENV":
            given = dict(pair.split("=", 1) for pair in words.split())
            made.environment.update({name: value.replace("$PATH", "/usr/bin:/bin") for name, value in given.items()})
        elif instruction == "COPY":
            copy(made.folder, *words.split()[1:])
        elif instruction == "RUN" and re.search(r"pip install .*\.(\[|'| )", words):
            step = words.replace("pip install", pip)
            subprocess.run(step, shell=True, cwd=made.folder, env=made.environment, check=True, capture_output=True)
    return made


def copy(folder: Path, *names: str) -> None:
    """As COPY does: the last name is the target."""
    *sources, target = names
    for source in sources:
        here, there = REPOSITORY / source, folder / target
        if here.is_dir():
            shutil.copytree(here, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            there = there / here.name if target.endswith("/") else there
            there.parent.mkdir(exist_ok=True)
            shutil.copy(here, there)


def test_the_docs_type_what_is_tested_here() -> None:
    blocks = [block.text for page in pages.PAGES for block in page.blocks]
    typed = {
        line.partition(" racro racro ")[2] for text in blocks for line in text.splitlines() if "docker run" in line
    }
    assert typed == {"train embedded", "train racro-3b", "serve --host 0.0.0.0"}


def test_a_container_trains(image: Image) -> None:
    changes = [word for change in SMALL for word in ("--set", change)]
    done = image.typed("racro", "train", "smoke", "--run", "mine", *changes)
    said, _ = done.communicate()
    assert done.returncode == 0, said
    assert (image.folder / "runs" / "mine" / "report.html").exists()


def test_a_container_serves(image: Image) -> None:
    port = reserve()
    server = image.typed("racro", "serve", "--host", "0.0.0.0", "--port", str(port))

    def healthy() -> bool:
        assert server.poll() is None, server.communicate()[0]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        assert eventually(healthy, 300)
        page = httpx.get(f"http://127.0.0.1:{port}/", timeout=60)
        assert (page.status_code, "RACRO" in page.text) == (200, True)
    finally:
        server.terminate()
    assert server.wait(60) == 0
