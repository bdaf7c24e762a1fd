"""`racro judge`: judges of a recipe against labels, as a table and as JSON; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import running
from flows.cli.app import app
from flows.cli.judging import NoReward
from racro.embedded import world
from racro.embedded.sentences import state
from racro.rewards.agreement import BadLabels

STATED = {"when": r"(?s)Caption\n[^#]*red.*1\. It is red", "replies": ["1"]}
RULES = [STATED, {"when": "slow", "replies": ["1"], "delay": 60.0}, {"replies": ["0"]}]
JUDGES = {"reader": {"model": "m", "engine": {"type": "scripted", "rules": RULES}}}
LABELS = [("red", 1), ("a red bar", 1), ("blue", 0), ("reddish", 0), ("crimson", 1), ("slow", 0)]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "settle", lambda: tmp_path)


def recipe(folder: Path, *rewards: dict[str, Any]) -> str:
    file = folder / "recipe.yaml"
    listed = list(rewards) or [{"type": "answer"}, {"type": "facts"}]
    content = {"judges": JUDGES, "rewards": listed, "runtime": {"request_deadline": 0.2, "device": "cpu"}}
    file.write_text(yaml.safe_dump(content))
    return str(file)


def labels(folder: Path) -> str:
    file = folder / "labels.jsonl"
    rows = [{"caption": caption, "label": label, "facts": ["It is red."]} for caption, label in LABELS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_agreement_as_a_table_and_as_json(tmp_path: Path) -> None:
    command = ["judge", recipe(tmp_path), labels(tmp_path)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "facts, judges reader" in shown.output and "60.0" in shown.output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (found["n"], found["unscored"], found["accuracy"]["value"]) == (5, 1, 0.6)
    assert found["counts"] == {"both": 2, "neither": 1, "judge": 1, "label": 1}
    assert found["kappa"] == pytest.approx((0.6 - 0.52) / 0.48)
    assert found["faults"] == {"the judge did not answer in time": 1}
    assert found["judges"] == {"judge": "reader"} and len(found["rows"]) == 6


def test_the_scene_in_a_judge_s_place_agrees_with_what_captions_state(tmp_path: Path) -> None:
    file, rows = tmp_path / "labels.jsonl", []
    for made in world.generate("train", 3, 12):
        for facts in (made.facts, made.facts[:1]):
            caption = " ".join(state(fact, len(made.scenes)) for fact in facts)
            rows.append({"caption": caption, "scene": made.scene_json(), "label": int(facts == made.facts)})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = recipe(tmp_path, {"type": "facts", "by": "scene"})
    shown = CliRunner().invoke(app, ["judge", given, str(file), "--reward", "facts", "--threshold", "0.9", "--json"])
    assert json.loads(shown.stdout)["kappa"] == 1.0


def test_with_the_scene_a_row_s_own_facts_do_not_count_and_no_scene_is_one_line(tmp_path: Path) -> None:
    made = next(iter(world.generate("train", 3, 1)))
    row = {"caption": state(made.facts[0], len(made.scenes)), "label": 1, "facts": ["It is red."]}
    (file := tmp_path / "labels.jsonl").write_text(json.dumps(row | {"scene": made.scene_json()}) + "\n")
    for kind in ("facts", "mcq", "correctness"):
        command = ["judge", recipe(tmp_path, {"type": kind, "by": "scene"}), str(file), "--reward", kind, "--json"]
        assert json.loads(CliRunner().invoke(app, command).stdout)["n"] == 1, kind
    file.write_text(json.dumps(row) + "\n")
    failed = CliRunner().invoke(app, command).exception
    assert isinstance(failed, BadLabels) and "labels.jsonl: row 0: no scene" in str(failed)


def test_a_reward_of_a_stage_is_measured_too(tmp_path: Path) -> None:
    given = yaml.safe_load(Path(recipe(tmp_path)).read_text())
    given |= {"stages": [{"iterations": 1, "rewards": given["rewards"]}], "rewards": [{"type": "answer"}]}
    Path(tmp_path / "staged.yaml").write_text(yaml.safe_dump(given))
    found = CliRunner().invoke(app, ["judge", str(tmp_path / "staged.yaml"), labels(tmp_path), "--json"])
    assert found.exit_code == 0 and json.loads(found.stdout)["reward"] == "facts"


@pytest.mark.parametrize(
    ("rewards", "option", "line"),
    [
        ([{"type": "answer"}], [], "no reward of the recipe asks a judge"),
        ([{"type": "facts"}, {"type": "mcq"}], [], "facts, mcq ask judges; name one with --reward"),
        ([{"type": "facts"}], ["--reward", "mine"], "--reward mine: the recipe has no such reward; it has facts"),
    ],
)
def test_a_reward_that_cannot_be_meant_is_one_line(
    tmp_path: Path, rewards: list[dict[str, Any]], option: list[str], line: str
) -> None:
    found = CliRunner().invoke(app, ["judge", recipe(tmp_path, *rewards), labels(tmp_path), *option])
    assert isinstance(found.exception, NoReward) and line in str(found.exception)
