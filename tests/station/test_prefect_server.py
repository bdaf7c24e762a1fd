"""Prefect's server on sqlite, with many writers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

WRITERS, ROUNDS = 12, 6


def test_no_writer_is_turned_away(prefect_server: str) -> None:
    """Prefect's own begins transactions without the write lock, and some of these then fail."""
    flow = httpx.post(f"{prefect_server}/flows/", json={"name": "writers"}, timeout=60).json()["id"]

    def write(_: int) -> list[int]:
        codes = []
        with httpx.Client(base_url=prefect_server, timeout=60) as client:
            for _ in range(ROUNDS):
                made = client.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "PENDING"}})
                codes.append(made.status_code)
                for state in ("RUNNING", "COMPLETED"):
                    path = f"/flow_runs/{made.json().get('id')}/set_state"
                    codes.append(client.post(path, json={"state": {"type": state}}).status_code)
        return codes

    with ThreadPoolExecutor(WRITERS) as pool:
        codes = [code for codes in pool.map(write, range(WRITERS)) for code in codes]
    assert len(codes) == WRITERS * ROUNDS * 3
    assert {*codes} == {201}


def test_commands_that_start_at_once_in_a_new_folder_share_its_database(tmp_path: Path) -> None:
    """Each has a server of its own; the first one makes the tables."""
    start = "from flows.station import local\nwith local.prefect_server(local.settle()): pass"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    environment = {**own, "RACRO_HOME": str(tmp_path)}
    commands = [
        subprocess.Popen([sys.executable, "-c", start], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=300)[1] for one in commands]
    assert [one.returncode for one in commands] == [0, 0], said
