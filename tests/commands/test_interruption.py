"""Ctrl-C and SIGTERM: one line, the exit status of the signal, and the same command goes on."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Metric

from flows import interruption
from tasks.recording import store, track
from tasks.recording.undisturbed import undisturbed
from tests.commands.test_cli import SETS, environment
from tests.conftest import nobody_works_in
from tests.support import forkserver
from tests.support.eventually import eventually
from tests.support.ports import reserve

COMMAND = [
    *(sys.executable, "-P", "-m", "flows.cli.main", "train", "embedded", "--run", "mine", *SETS),
    *("--set", "captioner.engine={type: scripted, rules: [{replies: [bars]}]}"),
    *("--set", "reasoner.engine={type: scripted, rules: [{replies: [unknown], delay: 0.05}]}"),
    *("--set", "evaluation.problems=100"),
]
"""A training whose evaluations take five seconds and more."""
CHAMPIONS = "SELECT * FROM registered_model_aliases WHERE alias = 'champion'"
"""In MLflow's database, which keeps the aliases of prompts in the same table."""


def start(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    (folder / "work").mkdir(exist_ok=True)
    return subprocess.Popen(
        command,
        cwd=folder / "work",
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's job of its own; also heeds Ctrl-C where tests run in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_at_any_early_moment_it_is_one_line_and_the_exit_status_of_the_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Interpreter, imports, start of the server, imports of Prefect: wherever the moment falls."""
    dice = random.Random(number)
    for _ in range(4):
        process = start(tmp_path, COMMAND)
        time.sleep(0.3)  # the interpreter itself, which knows no line of ours
        time.sleep(dice.uniform(0, 8))
        process.send_signal(number)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 128 + number, (out, err)
        assert interruption.LINE in err.splitlines() and "Traceback" not in err, err
        assert nobody_works_in(tmp_path / "work"), "servers end with the command"


@pytest.mark.parametrize("to", ["the command", "every process"])
def test_sigterm_in_a_flow_ends_everything_in_order_and_the_command_goes_on(to: str, tmp_path: Path) -> None:
    """`docker stop` sends SIGTERM to one process, Slurm and systemd to all of a job."""
    process = start(tmp_path, COMMAND)
    state = tmp_path / "work" / ".racro"
    end = time.monotonic() + 240
    while not list((tmp_path / "work" / "runs" / "artifacts").glob("prepare/*/record.json")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.2)
    time.sleep(1)
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True) if to == "every process" else []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and interruption.LINE in err.splitlines(), err
    with contextlib.closing(sqlite3.connect(state / "prefect" / "prefect.db")) as prefect:
        states = prefect.execute("SELECT state_type FROM flow_run").fetchall()
    with contextlib.closing(sqlite3.connect(state / "mlflow" / "mlflow.db")) as database:
        statuses = database.execute("SELECT status FROM runs").fetchall()
    assert states == [("CRASHED",)] and statuses == [("KILLED",)], err
    assert nobody_works_in(tmp_path / "work")
    with contextlib.closing(sqlite3.connect(state / "mlflow" / "mlflow.db")) as database:
        crowned = database.execute(CHAMPIONS).fetchall()
    assert crowned == [], "a killed run's policy is no champion"

    if to == "the command":
        return
    again = start(tmp_path, [str(forkserver.shared().racro), *COMMAND[4:]])
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, out + err
    with contextlib.closing(sqlite3.connect(state / "mlflow" / "mlflow.db")) as database:
        statuses = database.execute("SELECT status FROM runs").fetchall()
        crowned = database.execute(CHAMPIONS).fetchall()
    assert statuses == [("FINISHED",)] and len(crowned) == 1


def test_wherever_in_mlflow_a_signal_falls_the_run_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """An open transaction would lock the database for what says so."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    request.addfinalizer(functools.partial(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM)))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    client, dice = store.client(), random.Random(0)
    experiment = track.experiment_id(client)

    @undisturbed
    def record(run: str) -> None:
        client.log_batch(run, metrics=[Metric(f"m{k}", 1.0, 0, 0) for k in range(5)])

    for _ in range(30):
        run = client.create_run(experiment).info.run_id
        with pytest.raises(KeyboardInterrupt) as interrupted:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.001, 0.05))
            while True:
                record(run)
        track.end_run(run, interrupted.value)
        assert client.get_run(run).info.status == "KILLED"


def test_what_runs_undisturbed_returns_raises_and_sees_as_before() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    @undisturbed
    def divided(by: int) -> tuple[float, int, bool]:
        """Its own words."""
        return 6 / by, variable.get(), threading.current_thread() is threading.main_thread()

    assert divided(by=2) == (3, 7, False) and divided.__doc__ == "Its own words."
    with pytest.raises(ZeroDivisionError):
        divided(0)


@pytest.mark.parametrize("handler", ["ours", "Prefect's"])
def test_a_signal_that_comes_in_a_finalizer_is_not_lost(handler: str) -> None:
    """Python drops what is raised there; Prefect handles SIGTERM itself while a flow runs."""
    theirs = "from prefect.utilities.engine import capture_sigterm\nfrom prefect.exceptions import TerminationSignal\n"
    program = (
        "import os, signal, time\nfrom flows import interruption\n"
        + ("from contextlib import nullcontext as capture_sigterm\n" if handler == "ours" else theirs)
        + "class Finalized:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        for _ in range(1000): pass\n"
        "        print('the rest of the finalizer')\n"
        "interruption.install()\n"
        "try:\n"
        "    with interruption.orderly(), capture_sigterm():\n"
        "        Finalized()\n"
        "        print('goes on')\n"
        "        time.sleep(60)\n"
        "except BaseException as error:\n"
        "    print(type(error).__name__, interruption.received())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["goes on", "KeyboardInterrupt True"]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """`nohup`, and jobs in the background."""
    program = (
        "import signal, os\nfrom flows import interruption\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "interruption.install()\nos.kill(os.getpid(), signal.SIGHUP)\nprint('lives')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "lives\n"


def _statuses(state: Path) -> list[tuple[str, str]]:
    """Of runs in MLflow, by their names."""
    with contextlib.suppress(sqlite3.OperationalError):  # there are no tables yet
        return _rows(state / "mlflow" / "mlflow.db", "SELECT name, status FROM runs ORDER BY name")
    return []


def _rows(database: Path, query: str) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return opened.execute(query).fetchall()


def _states(state: Path) -> list[tuple[str, str]]:
    """Of flow runs, by their names."""
    return _rows(state / "prefect" / "prefect.db", "SELECT name, state_type FROM flow_run ORDER BY name")


def test_the_next_command_says_of_one_that_was_killed_that_it_crashed_and_of_no_other(tmp_path: Path) -> None:
    state = tmp_path / "work" / ".racro"
    other = [part.replace("0.05", "5").replace("mine", "other") for part in COMMAND]
    with contextlib.ExitStack() as stack:
        killed = start(tmp_path, COMMAND)
        stack.callback(killed.kill)
        assert eventually(lambda: killed.poll() is not None or ("mine", "RUNNING") in _statuses(state))
        assert killed.poll() is None
        killed.kill()
        killed.wait()
        assert _states(state) == [("mine", "RUNNING")] and _statuses(state) == [("mine", "RUNNING")]

        lives = start(tmp_path, other)
        stack.callback(lives.kill)
        assert eventually(lambda: lives.poll() is not None or ("other", "RUNNING") in _statuses(state))
        assert _states(state) == [("mine", "CRASHED"), ("other", "RUNNING")]
        assert _statuses(state) == [("mine", "KILLED"), ("other", "RUNNING")]

        looks = start(tmp_path, [*COMMAND[:4], "ui", "--prefect-port", str(reserve()), "--mlflow-port", str(reserve())])
        stack.callback(looks.kill)
        assert looks.stdout is not None and looks.stdout.readline().startswith("Prefect  "), looks.communicate()
        assert lives.poll() is None
        assert _states(state) == [("mine", "CRASHED"), ("other", "RUNNING")]
        looks.send_signal(signal.SIGINT)
        assert looks.wait(60) == 0
