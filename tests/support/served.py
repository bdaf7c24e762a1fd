"""`racro serve` in a folder of its own, after a training that left the embedded captioner as it was."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import yaml
from PIL import Image

from racro.config import loading
from racro.models.folders import EMBEDDED
from tests.conftest import EMBEDDED_RECIPE
from tests.support import forkserver
from tests.support.eventually import eventually
from tests.support.finished import summary
from tests.support.ports import reserve

KEY = "sesame"
DEADLINE = 600.0


def png(image: Image.Image) -> str:
    """As base64."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class Served:
    """The server, while the context lasts."""

    def __init__(self, folder: Path, *options: str, worker: bool = False, program: Path | None = None) -> None:
        """`worker`: captioners run in processes of their own. `program`: the command, if it is not this environment's.

        A training of that name that is there already is the one that is served.
        """
        self.folder, self.options, self.program = folder, options, program
        if not (folder / "runs" / "mine").exists():
            train(folder, worker)

    def __enter__(self) -> Self:
        port = reserve()
        self.url = f"http://127.0.0.1:{port}"
        self._log = (self.folder / "serve.log").open("w+")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
        self.process = subprocess.Popen(
            [
                self.program or forkserver.shared().racro,
                "serve",
                "--port",
                str(port),
                "--run",
                "mine",
                *self.options,
            ],
            cwd=self.folder,
            env=environment | {"RACRO_HOME": str(self.folder / ".racro")},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        with ExitStack() as failed:
            failed.callback(self.process.kill)
            self.until(lambda: self.process.poll() is not None or "Ctrl-C ends both" in self.said)
            assert self.process.poll() is None, self.said
            failed.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def said(self) -> str:
        """What it has printed."""
        return (self.folder / "serve.log").read_text()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait."""
        assert eventually(true, DEADLINE), self.said

    def end(self) -> int:
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def workers(self) -> list[psutil.Process]:
        """The processes of its engines, the oldest first."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "create_time"]):
            command = process.info["cmdline"] or []
            engine = "racro.engines.worker.main" in command and "supervisor.py" not in " ".join(command)
            if engine and process.info["cwd"] == str(self.folder):
                found.append(process)
        return sorted(found, key=lambda process: process.info["create_time"])


def train(folder: Path, worker: bool) -> None:
    """What a training called `mine` leaves: its policy, recipe and summary."""
    policy, run = folder / "policy", folder / "runs" / "mine"
    shutil.copytree(EMBEDDED / "captioner", policy)
    run.mkdir(parents=True)
    recipe = loading.load(EMBEDDED_RECIPE, ["runtime.captioner.worker=true"] if worker else [])
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (run / "summary.json").write_text(summary("mine", policy).model_dump_json())
