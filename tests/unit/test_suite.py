"""The suite itself: what it does when a process that runs tests dies."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.support import databases

CONFTEST = """
from tests.support.scheduling import ByGroup

def pytest_xdist_make_scheduler(config, log):
    return ByGroup(config, log, lambda nodeid: nodeid.partition("::")[0])
"""
DIES = """
import os
import pytest

@pytest.mark.parametrize("number", range(8))
def test_number(number):
    if number in (3, 6, 7):
        os._exit(1)
"""
LIVES = """
import pytest

@pytest.mark.parametrize("number", range(5))
def test_number(number):
    pass
"""


def test_a_test_that_kills_its_process_fails_once_and_all_others_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_dies.py").write_text(DIES)
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(LIVES)
    options = ("-p", "xdist", "-n", "2", "--no-loadscope-reorder", "-c", "/dev/null")
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    root, environment = Path(__file__).parents[2], os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert re.search("3 failed, 20 passed", done.stdout), done.stdout


def test_only_the_first_fresh_database_is_migrated_and_an_older_one_always_is(tmp_path: Path) -> None:
    migrated: list[str] = []

    def open_(name: str) -> list[tuple[str]]:
        def migrate() -> None:
            migrated.append(name)
            with sqlite3.connect(tmp_path / name) as database:
                database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num)")
                database.execute("INSERT INTO alembic_version VALUES ('newest')")

        databases._fill(tmp_path / "first", f"sqlite:///{tmp_path / name}", migrate)
        return sqlite3.connect(tmp_path / name).execute("SELECT version_num FROM alembic_version").fetchall()

    with sqlite3.connect(tmp_path / "older") as older:
        older.execute("CREATE TABLE alembic_version (version_num)")
    with sqlite3.connect(tmp_path / "begun") as begun:
        begun.execute("CREATE TABLE runs (name)")
    assert all(open_(name) == [("newest",)] for name in ("a", "b", "older", "begun"))
    assert migrated == ["a", "older"]
