"""A root that was made before there were stages, curricula and judges is still read: keys are what they were.

But for what gives verdicts: the grader's rules have changed."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from prefect import Task

from racro import schema
from racro.config import loading
from racro.rewards.composition import terms
from tasks import caption, compose, generate, grade, prepare, questions, reward, rounds, select, update
from tasks.reward import STAGES, judging, needed
from tasks.running.policies import Identity
from tests.support.pages import REPOSITORY

RECIPE = loading.load("embedded", ["rewards=[{type: answer}, {type: describes, weight: 0.1, gate: answer}]"])
POLICY = schema.Policy(uri="a", rows=0, digest="p")
PROBLEMS = schema.ProblemTable(uri="a", rows=1, digest="q")
ROLLOUTS = schema.RolloutTable(uri="a", rows=1, digest="r")
VALUES = schema.RewardTable(uri="a", rows=1, digest="t")
SCORED = schema.ScoredTable(uri="a", rows=1, digest="s")
REASONER = schema.FrozenModel(uri="a", rows=0, digest="f")


def key(task: Task[..., Any], **inputs: Any) -> str:
    assert isinstance(task.cache_policy, Identity)
    return task.cache_policy.compute_key(SimpleNamespace(), inputs | {"runtime": RECIPE.runtime, "root": "x"}, {})  # type: ignore[arg-type]


def versions() -> dict[str, list[str]]:
    """Name of a stage -> the versions of its tasks."""
    found: dict[str, list[str]] = {}
    for module in (caption, compose, generate, grade, prepare, questions, reward, rounds, select, update):
        for task in [*vars(module).values(), *getattr(module, "STAGES", {}).values()]:
            if isinstance(task, Task) and isinstance(task.cache_policy, Identity):
                found.setdefault(task.name, []).append(task.cache_policy.version)
    return found


OTHER_RULES = """
import json, racro.grading
racro.grading.RULES += 1
from tests.unit.test_older_roots import versions
print(json.dumps(versions()))
"""


def test_what_gives_verdicts_is_made_again_under_other_rules() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_RULES], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    now, then = versions(), json.loads(done.stdout)
    changed = {name for name in now if now[name] != then[name]}
    assert changed == {"grade", "aggregate", "prepare", "reward-answer", "reward-self"}


def test_the_stages_of_a_plain_training_have_the_keys_of_before() -> None:
    shared = {"seed": 0, "iteration": 3, "max_unscored": 0.2}
    found = [
        key(
            caption.caption,
            problems=PROBLEMS,
            policy=POLICY,
            captioner=RECIPE.captioner,
            rollout=RECIPE.rollout.alone(),
            ahead=None,
            chosen=None,
            **shared,
        )
    ]
    for one in RECIPE.rewards:
        inputs = needed(
            one,
            policy=POLICY,
            captioner=RECIPE.captioner,
            reasoner_model=REASONER,
            reasoner=RECIPE.reasoner,
            gate=VALUES if one.gate else None,
            **judging(RECIPE, one, {}),
        )
        scoring = {"rollouts": ROLLOUTS, "problems": PROBLEMS, "settings": one.alone(), "title": one.title}
        found.append(key(STAGES[one.type], **scoring, **inputs, **shared))
    found.append(
        key(
            compose.compose,
            rollouts=ROLLOUTS,
            tables=(VALUES, VALUES),
            terms=terms(RECIPE.rewards),
            advantage=RECIPE.advantage,
            problems=None,
            before=None,
            refills=(),
        )
    )
    found.append(
        key(
            update.update,
            scored=SCORED,
            problems=PROBLEMS,
            policy=POLICY,
            initial=POLICY,
            captioner=RECIPE.captioner,
            temperature=1.0,
            config=RECIPE.update,
            seed=0,
            keep=True,
            save=True,
            objective=RECIPE.objective,
        )
    )
    assert found == [
        "artifacts/caption/74d051a7c4f74273854e",
        "artifacts/reward-answer/121df35723a146ebc1d8",
        "artifacts/reward-describes/acb156d5f5427d147c7d",
        "artifacts/compose/900fdf026f51747cfe6c",
        "artifacts/update/c573e7bb89bb5615ea3c",
    ]
