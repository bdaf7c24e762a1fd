"""Every command and code block of the README runs, in the README's order, in one folder, as a new user would."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from racro.config import loading
from racro.summary import Summary
from tests.conftest import REPOSITORY
from tests.support import s3

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a fresh clone with its .venv ready, and shares nothing that a run writes."""
    place = tmp_path_factory.mktemp("clone")
    for item in REPOSITORY.iterdir():
        if item.name not in (".git", ".racro", "runs", ".venv"):
            (place / item.name).symlink_to(item)
    (place / ".venv").symlink_to(sys.prefix)
    return place


@pytest.fixture(scope="module")
def user() -> Iterator[dict[str, str]]:
    """The environment of somebody who set nothing but the keys of a store."""
    ours = ("PREFECT_", "MLFLOW_", "RACRO_", "HF_")
    with s3.served() as store:
        yield {n: v for n, v in os.environ.items() if not n.startswith(ours)} | store.environment()


@pytest.mark.timeout(1500)
def test_the_commands_in_order(folder: Path, user: dict[str, str]) -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    for command in COMMANDS:
        if command == "make test":  # that is what runs this test
            assert "exec make test" in (REPOSITORY / ".ci" / "run").read_text()
        elif command == ".venv/bin/racro ui":
            _open_and_close(command, folder, user)
        else:
            done = subprocess.run(
                command, shell=True, cwd=folder, env=user, capture_output=True, text=True, timeout=1200
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    _check_demo(folder)


def _open_and_close(command: str, folder: Path, user: dict[str, str]) -> None:
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # even where the tests run in the background
    ui = subprocess.Popen(command.split(), cwd=folder, env=user, stdout=subprocess.PIPE, text=True, preexec_fn=heeded)
    assert ui.stdout is not None
    addresses = [ui.stdout.readline().split()[-1] for _ in range(2)]
    pages = [urllib.request.urlopen(address, timeout=30).read().decode() for address in addresses]
    assert "Prefect" in pages[0]
    assert "MLflow" in pages[1]
    ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=60) in (0, 1)
    for address in addresses:
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)


def _check_demo(folder: Path) -> None:
    """The claim of the first screen, with room for another machine's rounding."""
    (demo,) = (folder / "runs").glob("embedded-*/summary.json")
    summary = Summary.model_validate_json(demo.read_text())
    assert 0.35 <= summary.base.accuracy <= 0.50
    assert summary.final.accuracy >= 0.90
    assert summary.final.n >= 2048
    faster = json.loads((folder / "runs" / "faster" / "summary.json").read_text())
    assert faster["stages"]["caption"] == {
        "seconds": faster["stages"]["caption"]["seconds"],
        "executed": 0,
        "cached": 1,
    }


def test_the_python_block_runs(folder: Path, user: dict[str, str]) -> None:
    (block,) = [block for language, block in BLOCKS if language == "python"]
    ast.parse(block)
    done = subprocess.run(
        [str(folder / ".venv/bin/python"), "-c", block], cwd=folder, env=user, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall(r" \| (?:correct|wrong|unparsed)$", done.stdout, re.MULTILINE)) == 4
    shutil.rmtree(folder / "pictures")


def test_every_yaml_block_is_a_part_of_a_recipe() -> None:
    blocks = [block for language, block in BLOCKS if language == "yaml"]
    parsed = [loading.parse(yaml.safe_load(block), "README") for block in blocks]
    assert parsed[0].problems.type == "table"
    assert len(parsed) == 3


def test_the_map_has_a_line_for_every_file_and_no_other() -> None:
    mapped = set(re.findall(r"^\| \[`?([\w/.\-]+)`?\]\(([^)]+)\) \|", README, re.MULTILINE))
    assert all(shown == target or target.endswith(shown) for shown, target in mapped)
    files = {
        str(file.relative_to(REPOSITORY))
        for package in ("racro", "tasks", "flows", "infra")
        for file in (REPOSITORY / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and "models" not in file.parts
    }
    listed = {target for _, target in mapped if target.split("/")[0] in ("racro", "tasks", "flows", "infra")}
    assert listed == {file for file in files if not file.endswith("__init__.py") or file == "racro/engines/protocol.py"}


def test_the_summary_section_names_every_key() -> None:
    section = README.split("## The summary")[1].split("## Map")[0]
    assert all(f"`{key}`" in section for key in Summary.model_fields)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []
