"""The head of a cluster is lost under a training: the command ends, and goes on when there is a head again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from racro.processes.child import free_port
from racro.summary import Summary
from tests.cluster.conftest import PATIENCE, STORE, ports
from tests.cluster.test_training import SETTINGS, trained
from tests.conftest import REPOSITORY
from tests.support.eventually import eventually

AWAY = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""Seconds without a head after which Ray ends a process; a minute otherwise."""


@contextmanager
def head(port: int) -> Iterator[list[psutil.Process]]:
    """A cluster of one node: all its processes. They are killed at the end, as by a power cut."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        own = {"port": port, "num-cpus": 8, "object-store-memory": STORE, "temp-dir": folder}
        own |= {name.replace("_", "-"): value for name, value in ports().items() if name != "metrics_agent_port"}
        command = [
            str(Path(sysconfig.get_path("scripts")) / "ray"),
            "start",
            "--head",
            "--block",
            "--include-dashboard=false",
        ]
        command += [f"--{name}={value}" for name, value in own.items()]
        node = subprocess.Popen(command, env=os.environ | PATIENCE | AWAY, stdout=subprocess.PIPE, text=True)
        assert node.stdout is not None
        assert any("--block" in line for line in node.stdout), "it says so when it is up"
        processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        try:
            yield processes
        finally:
            for process in processes:
                if process.is_running():
                    process.kill()
            node.wait()
            node.stdout.close()


def command(root: Path, *settings: str) -> list[str]:
    given = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return [
        sys.executable,
        "-P",
        "-m",
        "flows.cli.main",
        "train",
        "embedded",
        "--run",
        "it",
        "--root",
        str(root),
        "--json",
        *given,
    ]


def started(command: list[str], home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"RACRO_HOME": str(home), "PYTHONPATH": str(REPOSITORY)} | AWAY
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.usefixtures("prefect_server", "forked")
def test_a_lost_head_ends_the_command_and_on_a_new_one_it_goes_on(tmp_path: Path) -> None:
    there, port = tmp_path / "there", free_port()
    alone = trained(tmp_path / "here", "here")
    cluster = {"type": "ray", "address": f"127.0.0.1:{port}"}
    away = command(there, f"runtime.cluster={json.dumps(cluster)}")

    def updated() -> bool:
        return len(list((there / "artifacts" / "update").glob("*/record.json"))) > 0

    with head(port):
        first = started(away, tmp_path / "home")
        assert eventually(lambda: updated() or first.poll() is not None)
        assert first.poll() is None, first.communicate()
        workers = psutil.Process(first.pid).children(recursive=True)
    _, complaint = first.communicate(timeout=300)
    assert first.returncode not in (0, -signal.SIGKILL), complaint[-2000:]
    assert eventually(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers))
    with head(port):
        said, complaint = started(away, tmp_path / "home").communicate(timeout=600)
    assert said, complaint[-2000:]
    again = Summary.model_validate_json(said)
    assert again.policy.digest == alone.policy.digest and again.final == alone.final
    updates = again.stages["update"]
    assert updates.cached >= 1 and updates.executed + updates.cached == 2, "the second iteration only, if at all"
    assert again.stages["caption"].cached >= 1
