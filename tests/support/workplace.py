"""A folder with `racro up` in it, and Prefect's REST API as the UI uses it. Used by the tests of orchestration."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows.station import servers
from racro.config import loading
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import forkserver
from tests.support.eventually import eventually
from tests.support.ports import reserve

IMPATIENT = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
STATE = ("PREFECT", "MLFLOW", "RACRO")
TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def tiny(*overrides: str) -> str:
    """The embedded recipe, tiny, as YAML, which a form takes in place of a name."""
    return loading.dump(loading.load(EMBEDDED_RECIPE, [*TINY, *overrides]))


class Workplace:
    """Commands in a folder of their own, with ports of their own."""

    def __init__(self, folder: Path, *options: str, program: Path | None = None, home: Path | None = None) -> None:
        """`program`: the command, if it is not the one of this environment. `home`: what its user set RACRO_HOME to."""
        folder.mkdir(exist_ok=True)
        self.folder, self.options, self.program = folder, options, program
        self.home = home or folder / ".racro"
        self.set = {"RACRO_HOME": str(home)} if home else {}
        self.ports = reserve(), reserve()
        self.api = f"http://127.0.0.1:{self.ports[0]}/api"
        self.mlflow = f"http://127.0.0.1:{self.ports[1]}"
        self.client = httpx.Client(timeout=30)  # one, because each reads all certificates of the machine

    def racro(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command here."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        return subprocess.run(
            [self.program or forkserver.shared().racro, *arguments],
            cwd=self.folder,
            env=clean | IMPATIENT | self.set | environment,
            capture_output=True,
            text=True,
            timeout=1000,
        )

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`racro up` on these ports."""
        ports = ("--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1]))
        return self.racro("up", *ports, *self.options, *options)

    def processes(self) -> list[psutil.Process]:
        """Every process that works in the folder, or was started to."""
        found = []
        for process in psutil.process_iter():
            try:
                here = process.cwd() == str(self.folder) or str(self.folder) in " ".join(process.cmdline())
            except psutil.Error:
                continue
            if here and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def station(self) -> dict[str, Any]:
        """What runs here, as it is recorded."""
        content: dict[str, Any] = json.loads(servers.file(self.home).read_text())
        return content

    def summary(self, run: str) -> dict[str, Any]:
        """summary.json of a run under the folder's own root."""
        content: dict[str, Any] = json.loads((self.folder / "runs" / run / "summary.json").read_text())
        return content

    def engines(self) -> list[psutil.Process]:
        """The processes of flow runs, among the descendants of `racro up`."""
        found = []
        for process in psutil.Process(self.station()["pid"]).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "prefect.engine" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @contextlib.contextmanager
    def prefect(self, folder: Path, *arguments: str) -> Iterator[None]:
        """A command of Prefect's in a folder, killed with all that it started at the end of the context."""
        environment = {"PREFECT_API_URL": self.api, "MLFLOW_TRACKING_URI": self.mlflow}
        environment |= {"RACRO_WORKPLACE": str(folder), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        command = [sys.executable, "-P", "-m", "prefect", *arguments]
        process = psutil.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()

    # --- Prefect's API ------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """Ask Prefect's API; while it is away, or says so, again for a minute and a half, as its own client does."""
        end = time.monotonic() + 90
        while True:
            try:
                answer = self.client.request(method, f"{self.api}{path}", json=content)
                if answer.status_code not in (502, 503) or time.monotonic() > end:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.5)

    def post(self, path: str, **content: Any) -> httpx.Response:
        """POST to Prefect's API."""
        return self.ask("POST", path, content)

    def get(self, path: str) -> Any:
        """What Prefect's API has at a path."""
        return self.ask("GET", path).raise_for_status().json()

    def completed(self, deployment: str) -> list[dict[str, Any]]:
        """The runs of a deployment that are completed."""
        chosen = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["COMPLETED"]}}}
        runs: list[dict[str, Any]] = self.post("/flow_runs/filter", flow_runs=chosen).json()
        return runs

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by its name, which its flow has too, but for what follows it in `-full`."""
        found: dict[str, Any] = self.get(f"/deployments/name/{name.removesuffix('-full')}/{name}")
        return found

    def trigger(self, name: str, typed: str | None = None, **parameters: Any) -> httpx.Response:
        """Create a flow run, as the form in the UI does, with what was typed into its field "Run Name"."""
        identity = self.deployment(name)["id"]
        state = {"type": "SCHEDULED", "message": "Run from the UI"}
        named = {"name": typed} if typed else {}
        return self.post(f"/deployments/{identity}/create_flow_run", parameters=parameters, state=state, **named)

    def start(self, name: str, typed: str | None = None, **parameters: Any) -> str:
        """Id of a flow run that was accepted."""
        answer = self.trigger(name, typed, **parameters)
        assert answer.status_code < 300, answer.text
        return str(answer.json()["id"])

    def wait(self, flow_run: str, *states: str, deadline: float = 900) -> dict[str, Any]:
        """The flow run once it is in one of these states; in a terminal one when none is named."""
        last: dict[str, Any] = {}

        def there() -> bool:
            nonlocal last
            last = self.get(f"/flow_runs/{flow_run}")
            return last["state"]["type"] in (states or TERMINAL)

        assert eventually(there, deadline), f"{last['state']}\n{self.log(flow_run)}"
        return last

    def log(self, flow_run: str) -> str:
        """What a flow run logged."""
        chosen = {"flow_run_id": {"any_": [flow_run]}}
        return "\n".join(line["message"] for line in self.post("/logs/filter", logs=chosen).json())


def opened(folder: Path, *options: str, program: Path | None = None, home: Path | None = None) -> Iterator[Workplace]:
    """A workplace that is up; afterwards it is taken down, says so, and nothing of it may live on."""
    place = Workplace(folder, *options, program=program, home=home)
    try:
        done = place.up()
        assert done.returncode == 0, done.stdout + done.stderr
        yield place
    finally:
        done = place.racro("down")
        left = place.processes()
        for process in left:
            process.kill()
        assert not left
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert not servers.file(place.home).exists()
    for port in place.ports:
        socket.create_server(("127.0.0.1", port)).close()
