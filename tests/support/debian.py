"""Programs of Debian packages that tests need: found, or installed where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def required(find: Callable[[], T | None], package: str, prepare: Callable[[], object] = lambda: None) -> T:
    """What `find` finds, after installing the package if need be. Skips the test where that is not allowed.

    In CI it fails instead. `prepare` is called before an installation.
    """
    if (found := find()) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        prepare()
        _install(package)
        found = find()
    if found is None:
        why = f"not here: `apt-get install {package}` enables this test"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    return found


def _install(package: str) -> None:
    for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "-o", "Dpkg::Options::=--force-confold", *command],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-2000:]


def chromium() -> Path:
    """The browser."""
    return required(_browser, "chromium")


def _browser() -> Path | None:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return Path(found) if found else None


def chromedriver() -> Path:
    """What drives the browser."""
    return required(_driver, "chromium-driver")


def _driver() -> Path | None:
    found = shutil.which("chromedriver")
    return Path(found) if found else None
