"""The commands `racro recipe`, `--version` and completion: quick, without anything heavy, and right in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from racro.config import loading
from tests.conftest import REPOSITORY
from tests.support import forkserver


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_list_names_every_shipped_recipe() -> None:
    listed = json.loads(said("recipe", "list", "--json"))
    assert [row["name"] for row in listed] == loading.names()
    table = said("recipe", "list")
    assert all(name in table for name in loading.names()) and "Qwen2.5-VL-3B-Instruct" in table


def test_what_show_prints_is_the_recipe_with_overrides() -> None:
    text = said("recipe", "show", "embedded", "--set", "iterations=2")
    assert loading.parse(yaml.safe_load(text), "shown") == loading.load("embedded", ["iterations=2"])
    whole = json.loads(said("recipe", "show", "racro-3b", "--json"))
    assert loading.parse(whole, "json") == loading.load("racro-3b")


def test_the_schema_takes_every_shipped_recipe_and_refuses_what_the_recipe_refuses() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(said("recipe", "schema")))
    for name in loading.names():
        assert schema.is_valid(yaml.safe_load(loading.find(name).read_text())), name
    for wrong in ({"update": {"lr": 1}}, {"rollout": {"group_size": 1}}, {"rewards": [{"type": "praise"}]}):
        assert not schema.is_valid(wrong)


def test_explain_says_type_default_bounds_meaning_and_whether_it_changes_the_result() -> None:
    text = said("recipe", "explain", "update.clip_low")
    for part in ("number", "> 0, < 1", "default 0.2", "changes the result", "PPO clipping"):
        assert part in text
    assert "changes no result" in said("recipe", "explain", "gpu_memory")
    assert "learning_rate" in said("recipe", "explain", "update"), "a section shows its keys"


def test_the_version_is_the_package_s() -> None:
    assert said("--version") == f"racro {version('racro')}\n"


# --- in a shell -------------------------------------------------------------------------------------------------------


def completed(line: str, folder: Path) -> list[str]:
    """What bash is offered at the end of a line."""
    words = line.split(" ")
    environment = {"_RACRO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [forkserver.shared().racro], cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("racro recipe ex", ["explain"]),
        ("racro train embedded-rapid-", ["embedded-rapid-again"]),
        ("racro runs show f", ["first"]),
        ("racro runs show --root other o", ["of-other"]),
        ("racro recipe explain update.learning", ["update.learning_rate"]),
    ],
)
def test_commands_recipes_runs_and_keys_complete(line: str, offered: list[str], tmp_path: Path) -> None:
    for run in ("runs/first", "runs/second", "other/of-other"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").touch()
    assert completed(line, tmp_path) == offered


def test_completion_installs_into_a_shell(tmp_path: Path) -> None:
    """Not by `forked` processes: the shell is found among the process's ancestors."""
    command = f"{sys.executable} -P -m flows.cli.main --install-completion; echo ended $?"
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "ended 0" in done.stdout, done.stderr
    assert "_RACRO_COMPLETE" in (tmp_path / ".bash_completions" / "racro.sh").read_text()


def test_on_windows_the_command_says_what_to_do() -> None:
    program = "import sys; sys.platform = 'win32'; from flows.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "WSL 2" in done.stderr and len(done.stderr.splitlines()) == 1
