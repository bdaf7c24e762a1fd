"""Judges in a real training: each kind through one update, what runs again when a judge changes, and bad judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.training import train
from racro.config import Recipe, loading
from racro.embedded import checks, world
from racro.schema import RewardRow, RewardTable
from racro.storage import artifacts
from racro.summary import Summary
from tasks.reward import TooManyUnscored
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.task_runs import task_runs

pytestmark = pytest.mark.usefixtures("prefect_server")

EVALUATION = ("describe", "answer", "grade", "aggregate")
LETTERS = {"when": "(?s)one letter", "replies": [" A", " B", " C"]}
FACTS = {"when": r"(?s)exactly 4 digits.*red", "replies": ["1 0 0 0"]}
FOUR, EIGHT = ({"when": f"exactly {n} digits", "replies": [" ".join("1" * n)]} for n in (4, 8))
SPLIT = {"when": r"(?s)into claims.*### Caption\n(\w+ \w+)", "replies": ["\\1"]}
NONE = {"when": "into claims", "replies": ["none"]}
NUMBER = {"when": "by its number", "replies": ["1", "2"]}
READER = [LETTERS, FACTS, FOUR, EIGHT, SPLIT, NONE, NUMBER]
SEER = [{"when": r"1\. red", "replies": ["1. true"]}, {"replies": ["1. false"]}]
JUDGES: dict[str, Any] = {
    "reader": {"model": "m", "engine": {"type": "scripted", "rules": READER}},
    "seer": {"model": "v", "sees": "image", "engine": {"type": "scripted", "rules": SEER}},
}
ALL: list[dict[str, Any]] = [
    {"type": "answer"},
    {"type": "mcq", "rounds": 3},
    {"type": "mcq", "name": "mcq-scene", "by": "scene"},
    {"type": "facts", "weight": 0.7},
    {"type": "facts", "name": "facts-scene", "by": "scene", "weight": 0.7},
    {"type": "correctness", "weight": 0.5},
    {"type": "correctness", "name": "correctness-scene", "by": "scene", "weight": 0.5},
    {"type": "confidence", "lead": "\\boxed{", "weight": 0.5},
    {"type": "self", "max_tokens": 24},
    {"type": "retrieval"},
]


def recipe(rewards: list[dict[str, Any]] = ALL, judges: dict[str, Any] = JUDGES, *overrides: str) -> Recipe:
    content = loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1", "evaluation.problems=8", *overrides]).model_dump(
        mode="json"
    )
    return Recipe.model_validate(content | {"rewards": rewards, "judges": judges})


def executed(summary: Summary) -> dict[str, int]:
    """The stages of the training that ran; an evaluation may find that the new policy says what the old one said."""
    ran = {name: total.executed for name, total in summary.stages.items() if total.executed}
    return {name: count for name, count in ran.items() if name not in EVALUATION}


def records(root: str, stage: str) -> list[artifacts.Record]:
    folders = sorted((Path(root) / "artifacts" / stage).iterdir())
    return [record for folder in folders if (record := artifacts.read_record(str(folder)))]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def first(root: str, prefect_server: str) -> Summary:
    return train(recipe(), run="first", root=root)


def test_every_kind_gives_values_that_the_policy_is_trained_with(first: Summary, root: str) -> None:
    ran = executed(first)
    twice = dict.fromkeys(("reward-mcq", "reward-facts", "reward-correctness"), 2)
    once = dict.fromkeys(("reward-answer", "reward-confidence", "reward-self", "reward-retrieval", "update"), 1)
    assert twice | once == {name: ran[name] for name in (*twice, *once)}
    for stage in (*twice, *once):
        if stage != "update":
            for record in records(root, stage):
                assert (record.metrics["unscored"], record.metrics["captions"]) == (0, 32), stage


def test_another_name_or_place_of_a_judge_runs_nothing_again(first: Summary, root: str) -> None:
    moved = {"other": JUDGES["reader"], "seer": JUDGES["seer"]}
    content = recipe(ALL, moved).model_dump(mode="json")
    content["runtime"]["judges"] = {"other": {"sequences": 2}}
    renamed = train(Recipe.model_validate(content), run="renamed", root=root)
    assert executed(renamed) == {}
    assert renamed.policy.digest == first.policy.digest


def test_another_judge_runs_its_own_stages_and_what_follows(first: Summary, root: str) -> None:
    colder = {**JUDGES, "reader": {**JUDGES["reader"], "temperature": 0.1}}
    changed = train(recipe(ALL, colder), run="colder", root=root)
    judged = dict.fromkeys(("reward-mcq", "reward-facts", "reward-correctness", "reward-retrieval"), 1)
    assert executed(changed) == judged, "a script says the same at any temperature, so that what follows is known"


# --- faults -----------------------------------------------------------------------------------------------------------


def alone(kind: str, *rules: dict[str, Any], max_unscored: float = 0.2, deadline: str = "30") -> Recipe:
    judges = {"reader": {"model": "m", "engine": {"type": "scripted", "rules": list(rules)}}}
    rewards = [{"type": "answer"}, {"type": kind, "max_unscored": max_unscored}]
    return recipe(rewards, judges, f"runtime.request_deadline={deadline}")


@pytest.mark.parametrize("kind", ["mcq", "facts", "retrieval"])
def test_a_judge_that_answers_garbage_ends_the_run_with_one_line(first: Summary, root: str, kind: str) -> None:
    line = (
        rf"^iteration 0: too many of 32 captions have no reward {kind} \(32 the judge's answer cannot be read\); above "
        r"max_unscored = 0\.2 of this reward the run stops\. Remedy: .*what the judge answers$"
    )
    with pytest.raises(TooManyUnscored, match=line):
        train(alone(kind, {"replies": ["Well, hard to say."]}), run=f"garbage-{kind}", root=root)
    assert task_runs(f"garbage-{kind}")[f"reward {kind} 0"] == 1, "it would only repeat"


def test_a_judge_that_never_answers_ends_the_run_with_one_line(first: Summary, root: str) -> None:
    content = alone("facts", {"replies": ["1 1 1 1"], "delay": 3600.0}).model_dump(mode="json")
    content["runtime"]["request_deadline"] = 0.05
    with pytest.raises(
        TooManyUnscored, match=r"^iteration 0: .*no reward facts \(32 the judge did not answer in time\)"
    ):
        train(Recipe.model_validate(content), run="never", root=root)


def test_a_judge_that_refuses_some_prompts_leaves_their_captions_unscored(first: Summary, root: str) -> None:
    """No rule is there for scenes without a red bar."""
    red = {"when": "The red bar", "replies": ["1 1 1 1"]}
    summary = train(alone("facts", red, max_unscored=0.9), run="some", root=root)
    assert executed(summary)["reward-facts"] == 1
    found = [r for r in records(root, "reward-facts") if r.metrics["unscored"]]
    assert len(found) == 1
    metrics = found[0].metrics
    assert 0 < metrics["unscored"] == metrics["fault_refused"] < 32
    [rows] = [
        list(artifacts.read_table(RewardTable(uri=str(folder), rows=0, digest=""), RewardRow))
        for folder in (Path(root) / "artifacts" / "reward-facts").iterdir()
        if (record := artifacts.read_record(str(folder))) and record.identity == found[0].identity
    ]
    assert sum(row.value is None for row in rows) == metrics["unscored"]
    assert {row.detail for row in rows if row.value is None} == {"the judge refuses the prompt"}


def table(folder: Path) -> Path:
    """Problems of the embedded world as somebody's table; every second row knows no facts."""
    rows = []
    for number, made in enumerate(p for p in world.generate("train", 9, 60) if len(p.scenes) == 1):
        made.images()[0].save(folder / f"{number}.png")
        facts = [{"text": fact.text, "weight": 2} for fact in checks.facts(made.scene_json())]
        row = {"question": made.question, "answer": made.answer, "image": f"{number}.png", "kind": made.kind}
        rows.append({**row, "facts": facts if number % 2 else None})
    file = folder / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_rows_without_facts_are_unscored_and_counted_and_the_limit_holds(root: str, tmp_path: Path) -> None:
    columns = {"facts": "facts", "kind": "kind"}
    source = {"type": "table", "source": str(table(tmp_path)), "columns": columns, "heldout_share": 0.3}
    content = alone("facts", FOUR).model_dump(mode="json") | {"problems": source}
    line = r"captions have no reward facts \(\d+ no facts\); above max_unscored = 0\.2"
    with pytest.raises(TooManyUnscored, match=line):
        train(Recipe.model_validate(content), run="half", root=root)
    content["rewards"][1]["max_unscored"] = 0.9
    train(Recipe.model_validate(content), run="half-allowed", root=root)
    found = [r.metrics for r in records(root, "reward-facts") if "fault_no_facts" in r.metrics]
    assert [(m["unscored"], m["mean"]) for m in found] == [(found[0]["fault_no_facts"], 1.0)]
    assert 0 < found[0]["unscored"] < found[0]["captions"]
    composed = [r.metrics["unscored"] for r in records(root, "compose")]
    assert set(composed) == {0}, "where no caption of a problem has facts, the answer still counts"
