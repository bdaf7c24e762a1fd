"""The command `racro` as people use it: exit codes, one line for a mistake, nothing outside the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from racro.storage import runs
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.forkserver import STATE, Done, run, shared, typed
from tests.support.ports import reserve

RACRO = Path(sys.executable).with_name("racro")
SETS = [argument for override in TINY if "count" not in override for argument in ("--set", override)]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A user's: no settings of ours, a home and a place for temporary files that are empty."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    return kept | {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1"} | more


def racro(folder: Path, *arguments: str, program: Path = RACRO, **more: str) -> Done:
    """The command in a folder of its own."""
    (folder / "work").mkdir(exist_ok=True)
    return typed(program, arguments, folder / "work", environment(folder, **more))


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- help and recipes: before anything heavy is loaded ----------------------------------------------------------------


def test_help_loads_nothing_that_takes_seconds(tmp_path: Path) -> None:
    program = (
        "import sys, flows.cli.main\n"
        "sys.argv = ['racro', '--help']\n"
        "try: flows.cli.main.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'prefect', 'torch', 'mlflow', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert "train" in done.stdout and "ui" in done.stdout
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope.yaml"], "racro: nope.yaml: no such recipe file; known names: "),
        (["embeded"], "racro: embeded: no recipe has this name; did you mean embedded? known names: "),
        ([EMBEDDED_RECIPE, "--set", "update.learning_rte=1"], "did you mean learning_rate?"),
        ([EMBEDDED_RECIPE, "--run", "../elsewhere"], "racro: --run ../elsewhere: a name is letters, digits"),
        ([EMBEDDED_RECIPE, "--run", "artifacts"], "racro: --run artifacts: a name is letters, digits"),
    ],
)
def test_a_bad_recipe_or_name_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = racro(tmp_path, "train", *arguments)
    assert (done.code, done.out) == (2, "")
    assert line in done.err and len(done.err.splitlines()) == 1
    assert left(tmp_path) == ["home", "tmp", "work"]


@pytest.mark.parametrize(
    "command", [["train"], ["profile"], ["evaluate"], ["sweep", "--axis", "iterations=1,2"]], ids=str
)
def test_a_name_of_something_else_is_one_line_before_a_server_starts(command: list[str], tmp_path: Path) -> None:
    root = tmp_path / "work" / "runs"
    kind: runs.Kind = "profile" if command[0] != "profile" else "sweep"
    runs.take(str(root), "mine", runs.Owner(kind=kind, recipe="another"))
    done = racro(tmp_path, command[0], "smoke", *command[1:], "--run", "mine")
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"racro: --run mine: holds a {kind}; choose another name")


WORDLESS = """
import os, sys, flows.cli.main

class Pipe:
    def write(self, text):
        slow = {"prefect", "torch", "mlflow", "transformers", "pandas", "sqlalchemy"} & set(sys.modules)
        print(text.strip(), "|", *sorted(slow), flush=True)
        os._exit(0)
    def flush(self): ...
    def isatty(self): return False

sys.stderr = Pipe()
sys.argv = ["racro", *sys.argv[1:]]
flows.cli.main.main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "smoke"],
        ["profile", "smoke"],
        ["sweep", "smoke", "--axis", "seed=0,1"],
        ["evaluate", "smoke"],
        ["prune"],
        ["plan", "smoke"],
        ["answer"],
        ["serve", "--port", "{port}"],
        ["judge", "embedded-caprl", "labels.jsonl"],
        ["export", "initial", "--out", "captioner"],
        ["doctor"],
        ["ui", "--prefect-port", "{port}", "--mlflow-port", "{other}"],
        ["up", "--prefect-port", "{port}", "--mlflow-port", "{other}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_takes_time_says_so_in_a_pipe_before_it_imports_what_is_slow(arguments: list[str], tmp_path: Path) -> None:
    ports = {name: str(reserve()) for name in ("port", "other")}
    command = [sys.executable, "-c", WORDLESS, *(argument.format(**ports) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path))
    line, _, slow = done.stdout.splitlines()[0].partition(" | ")
    assert line.startswith("racro: ") and slow == "", done.stdout + done.stderr


def test_an_unknown_option_exits_with_2(tmp_path: Path) -> None:
    done = racro(tmp_path, "train", EMBEDDED_RECIPE, "--bogus")
    assert done.code == 2 and "No such option: --bogus" in done.err and "Traceback" not in done.err


# --- bad input that only a run can find -------------------------------------------------------------------------------

NEVER = "reasoner.engine={type: scripted, rules: [{replies: [unknown], delay: 3600}]}"
SCRIPTED = "captioner.engine={type: scripted, rules: [{replies: [bars]}]}"

MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "model folder that is not there": (
        ["--set", "captioner.model=/nowhere/model"],
        2,
        "captioner.model: '/nowhere/model' is not a folder and could not be downloaded from Hugging Face",
    ),
    "folder that is no model": (
        ["--set", "reasoner.model=."],
        2,
        "reasoner.model: the folder . holds no config.json; is it a model folder?",
    ),
    "hub out of reach": (
        ["--set", "reasoner.model=some/model"],
        2,
        "reasoner.model: 'some/model' is not a folder and could not be downloaded from Hugging Face",
    ),
    "root in a read-only place": (["--root", "/proc/racro"], 2, "--root /proc/racro: cannot be written to"),
    "root that is a file": (["--root", "a-file"], 2, "a-file: cannot be written to (Not a directory); choose another"),
    "root of an unknown protocol": (["--root", "nothing://x"], 2, "--root nothing://x: cannot be written to (Protocol"),
    "source that is not there": (
        ["--set", "problems.type=table", "--set", "problems.source=rows.parquet"],
        2,
        "rows.parquet: no such file or folder; correct problems.source",
    ),
    "failure": (
        ["--set", NEVER, "--set", SCRIPTED, "--set", "runtime.request_deadline=0.01", "--set", "evaluation.problems=2"],
        1,
        "failed: NothingEvaluated: heldout: none of 2 texts was finished in time; raise runtime.request_deadline",
    ),
}


@pytest.fixture(scope="module")
def mistakes(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every command of MISTAKES, one after the other, in one working directory."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "work").mkdir()
    (folder / "work" / "a-file").touch()
    commands = [["train", EMBEDDED_RECIPE, *SETS, *arguments] for arguments, _, _ in MISTAKES.values()]
    results = run(commands, folder / "work", environment(folder, PREFECT_API_URL=prefect_server))
    return {"folder": folder, **dict(zip(MISTAKES, results, strict=True))}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_exit_code_and_its_line(mistakes: dict[str, Any], name: str) -> None:
    _, code, line = MISTAKES[name]
    done = mistakes[name]
    assert done.code == code, done.err
    ours = [printed for printed in done.err.splitlines() if printed.startswith("racro: ")]
    assert ours[0] == "racro: connecting to the Prefect server, then the flow"
    assert len(ours) == 2 and line in ours[1], done.err
    assert done.out == ""
    if code == 2:
        assert "Traceback" not in done.err


def test_mistakes_leave_nothing_outside_the_working_directory(mistakes: dict[str, Any]) -> None:
    folder: Path = mistakes["folder"]
    assert left(folder / "home") == []
    assert {path.name for path in (folder / "work").iterdir()} <= {".racro", "runs", "a-file"}


# --- a run, with the server that the command starts for itself --------------------------------------------------------


@pytest.mark.parametrize("home", ["work/.racro", "state"], ids=["by default", "by RACRO_HOME"])
def test_a_run_exits_with_0_and_keeps_everything_in_its_places(home: str, tmp_path: Path) -> None:
    set_by_user = {"RACRO_HOME": "../state"} if home == "state" else {}
    answers = "reasoner.engine={type: scripted, rules: [{replies: [unknown]}]}"
    command = ["train", EMBEDDED_RECIPE, *SETS, "--set", SCRIPTED, "--set", answers, "--run", "mine"]
    # What importing the libraries leaves behind, the first says.
    program = {"program": shared().racro} if set_by_user else {}
    done = racro(tmp_path, *command, **program, **set_by_user)
    assert done.code == 0, done.err[-3000:]
    summary = Summary.model_validate_json((tmp_path / "work" / "runs" / "mine" / "summary.json").read_text())
    assert summary.policy.uri in done.out and "runs/mine/report.html" in done.out
    assert "Traceback" not in done.err
    work = {path.name for path in (tmp_path / "work").iterdir()}
    assert work == ({"runs"} if set_by_user else {".racro", "runs"})
    assert {path.name for path in (tmp_path / "work" / "runs").iterdir()} == {"artifacts", "mine"}
    assert left(tmp_path / "home") == []
    assert left(tmp_path / "tmp") == []
    state = {path.name for path in (tmp_path / home).iterdir()}
    assert {"prefect", "mlflow", ".gitignore"} <= state
    assert (tmp_path / home / "prefect" / "prefect.db").is_file()
    assert (tmp_path / home / "mlflow" / "mlflow.db").is_file()
