"""The command `racro judge`: how far do the judges of a recipe agree with labels that people gave? No server."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flows import interruption
from flows.cli import running
from flows.cli.options import Json, Overrides, RecipeName
from flows.saying import say
from racro import config
from racro.engines.protocol import Engine
from racro.errors import BadInput

PROMPTS_SHOWN = 3
"""Reasons for refusals that are printed."""


class NoReward(BadInput):
    """The recipe has no such reward, or more than one that could be meant."""


def judge(
    recipe: RecipeName,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rows with caption, label (0 to 1) and what the reward needs.")
    ],
    reward: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which reward. (default: the one that asks a judge)"),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Values and labels from here on are good.")] = 0.5,
    as_json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Measure a judge: how far a reward agrees with labels (accuracy, Cohen's kappa), before it is believed."""
    loaded = running.load(recipe, overrides)
    running.settle()
    chosen = _chosen(loaded, reward)
    say("loading the judge")
    with tempfile.TemporaryDirectory() as folder, interruption.orderly():
        _measure(loaded, chosen, file, Path(folder), threshold, as_json)


def _measure(
    recipe: config.Recipe, reward: config.Reward, file: Path, folder: Path, threshold: float, as_json: bool
) -> None:
    from racro.rewards import agreement
    from racro.rewards.kinds import kind_of
    from racro.rewards.protocol import JudgeModel, Means
    from racro.schema import Problem

    labelled = agreement.read(file, folder)
    if getattr(reward, "by", None) == "scene":
        labelled = agreement.of_scenes(labelled, file)
    refused: list[str] = []

    def report(problem: Problem, reason: str) -> None:
        refused.append(f"{problem.uid}: {reason}")

    with _opened(recipe, reward) as engines:
        means = Means(
            seed=recipe.seed,
            iteration=0,
            deadline=recipe.runtime.request_deadline,
            judges={key: JudgeModel(engine, recipe.judges[name]) for key, (name, engine) in engines.items()},
            images=str(folder),
            refused=report,
        )
        values = list(kind_of(reward).score([one.case for one in labelled], means))
    found = agreement.agreement(reward.title, values, [one.label for one in labelled], threshold)
    for line in refused[:PROMPTS_SHOWN]:
        print(f"racro: refused: {line}", file=sys.stderr)
    if as_json:
        rows = [
            {"uid": one.case.problem.uid, "label": one.label, "value": value.value, "detail": value.detail}
            for one, value in zip(labelled, values, strict=True)
        ]
        content = found.model_dump(mode="json") | {"judges": {key: name for key, (name, _) in engines.items()}}
        print(json.dumps(content | {"rows": rows}, indent=1, ensure_ascii=False))
    else:
        from flows.cli import terminal

        terminal.show_agreement(found, [name for name, _ in engines.values()])


def _chosen(recipe: config.Recipe, name: str | None) -> config.Reward:
    """The reward that is measured: the one that is named, or the only one that asks a judge."""
    from racro.rewards.agreement import measured

    every = (reward for rewards in (recipe.rewards, *(phase.rewards for phase in recipe.phases)) for reward in rewards)
    there: dict[str, config.Reward] = {}
    for reward in every:  # of all stages, the first of each name
        there.setdefault(reward.title, reward)
    if name is not None and name not in there:
        raise NoReward(f"--reward {name}: the recipe has no such reward; it has {', '.join(there)}")
    asking = [name] if name is not None else [title for title, reward in there.items() if reward.asked]
    if len(asking) != 1:
        found = f"the rewards {', '.join(asking)} ask judges" if asking else "no reward of the recipe asks a judge"
        raise NoReward(f"{found}; name one with --reward")
    measured(there[asking[0]])
    return there[asking[0]]


@contextlib.contextmanager
def _opened(recipe: config.Recipe, reward: config.Reward) -> Iterator[dict[str, tuple[str, Engine]]]:
    """The judges of a reward, by the key that names them: name and engine."""
    from racro.engines.opening import open_judge
    from racro.models import compatibility
    from racro.models.folders import model_folder

    with contextlib.ExitStack() as open_engines:
        by_name: dict[str, Engine] = {}
        names = config.judges_of(reward, recipe.judges)
        for name in dict.fromkeys(names.values()):
            own, role = recipe.judges[name], f"{config.JUDGES}{name}"
            folder = ""
            if own.engine.type != "scripted" and not (own.engine.type == "server" and recipe.runtime.place(role).urls):
                found = model_folder(own.model, role, own.revision, sees=own.reads_images)
                compatibility.check(role, own.model, found, own.template_kwargs, sees=own.reads_images)
                folder = str(found)
            engine = open_judge(name, own, folder, recipe.runtime)
            open_engines.callback(engine.close)
            by_name[name] = engine
        yield {key: (name, by_name[name]) for key, name in names.items()}
