"""Rounds of an evaluation: what the modes vote, best, clues, check and shots ask beside caption and answer.

Composition only, used by the flow `evaluate`. Stages are cached like those of `flows.arms`, by part of a benchmark.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from prefect import Task

from flows.arms import Captioned, answering
from racro.config import JUDGES, Judge, ModeSettings, Reasoner, Recipe
from racro.evaluation.modes import SAMPLED
from racro.rewards import choosing
from racro.schema import FrozenModel, Mode, Policy, ProblemTable, ShotTable, WritingTable
from tasks import rounds
from tasks.prepare import adopt_judges
from tasks.reward import judging, needed
from tasks.running.engines import release, release_reasoner
from tasks.running.stages import Stages

ROUNDS: tuple[Mode, ...] = ("clues", "check", "shots")
"""Modes whose answers are asked for here."""
TURNS: tuple[Mode, ...] = ("clues", "check")
"""Modes in which the captioner is asked again, after the reasoner."""
ALONE: dict[str, None] = {"attempts": None, "checked": None, "shots": None}
"""Inputs of answers that only some modes have."""

Exchanged = dict[tuple[str, Mode], tuple[WritingTable, ...]]
"""By benchmark and mode."""


class Exchange(NamedTuple):
    """Reasoner and captioner in turn, about all parts of a benchmark in one mode. Empty where there are no turns."""

    asked: tuple[WritingTable, ...] = ()
    """By the reasoner: its sub-questions, or its first answers."""
    more: tuple[WritingTable, ...] = ()
    """By the captioner: answers to the sub-questions, or second captions."""


def require(modes: Collection[Mode], settings: ModeSettings, judges: Mapping[str, Judge]) -> ModeSettings:
    """The settings as the modes use them: what none uses is at its default. Raises BadInput."""
    used = ModeSettings()
    if not {*SAMPLED}.isdisjoint(modes):
        used = used.model_copy(
            update={"captions": settings.captions, "caption_temperature": settings.caption_temperature}
        )
    if "best" in modes:
        used = used.model_copy(update={"kind": choosing.require(settings.kind, judges)})
    for mode in ("clues", "shots"):
        if mode in modes:
            used = used.model_copy(update={mode: getattr(settings, mode)})
    return used


def sample(
    recipe: Recipe,
    stages: Stages,
    policy: Policy | None,
    modes: Collection[Mode],
    settings: ModeSettings,
    captioned: Captioned,
) -> Captioned:
    """With the sampled captions that the modes need, and the best of them."""
    if {*SAMPLED}.isdisjoint(modes):
        return captioned
    asking: dict[str, Any] = {"policy": policy, "captioner": recipe.captioner}
    samples = _each(
        stages,
        rounds.describe_samples,
        captioned,
        max_tokens=recipe.rollout.max_tokens,
        captions=settings.captions,
        temperature=settings.caption_temperature,
        top_p=recipe.rollout.top_p,
        seed=recipe.seed,
        **asking,
    )
    best: tuple[WritingTable, ...] = ()
    if "best" in modes:
        kind = choosing.require(settings.kind, recipe.judges)
        asked = judging(recipe, kind, adopt_judges(recipe, [kind]) if recipe.judged([kind]) else {})
        task, inputs = rounds.DESCRIBE_BEST[kind.type], needed(kind, **asking, **asked)
        best = _each(stages, task, captioned, {"samples": samples}, settings=kind.alone(), seed=recipe.seed, **inputs)
        for name in recipe.judges:
            release(f"{JUDGES}{name}")
    return captioned._replace(samples=samples, best=best)


def shots(
    recipe: Recipe, stages: Stages, policy: Policy | None, settings: ModeSettings, problems: ProblemTable
) -> ShotTable:
    """Solved examples from the recipe's training problems, captioned by the same policy."""
    return stages.run(
        rounds.describe_shots,
        "describe-shots",
        ShotTable,
        problems=problems,
        count=settings.shots,
        policy=policy,
        captioner=recipe.captioner,
        max_tokens=recipe.rollout.max_tokens,
        seed=recipe.seed,
    )


def exchange(
    recipe: Recipe,
    stages: Stages,
    policy: Policy | None,
    modes: Collection[Mode],
    settings: ModeSettings,
    seen: Collection[Captioned],
    reasoner: Reasoner,
    model: FrozenModel,
    samples: int,
) -> dict[tuple[str, Mode], Exchange]:
    """What one reasoner asks and the captioner answers, by benchmark and mode.

    All is asked before anything is answered, and the engine of the one is closed before the other's is opened, because
    its memory may be needed.
    """
    turns: list[tuple[Captioned, Mode]] = [(captioned, mode) for captioned in seen for mode in TURNS if mode in modes]
    if not turns:
        return {}
    asking = answering(recipe, reasoner, model)
    first: Exchanged = {}
    for captioned, mode in turns:
        tables = {"captions": captioned.captions}
        first[captioned.benchmark, mode] = (
            _each(stages, rounds.ask_clues, captioned, tables, count=settings.clues, **asking)
            if mode == "clues"
            else _each(stages, rounds.check, captioned, tables, samples=samples, **ALONE, **asking)
        )
    release_reasoner()
    captioner = {"policy": policy, "captioner": recipe.captioner, "max_tokens": recipe.rollout.max_tokens}
    second: Exchanged = {}
    for captioned, mode in turns:
        asked = first[captioned.benchmark, mode]
        second[captioned.benchmark, mode] = (
            _each(stages, rounds.answer_clues, captioned, {"asked": asked}, count=settings.clues, **captioner)
            if mode == "clues"
            else _each(stages, rounds.caption_again, captioned, {"checked": asked}, **captioner)
        )
    release("captioner")
    return {key: Exchange(first[key], second[key]) for key in first}


def answers(
    recipe: Recipe,
    stages: Stages,
    captioned: Captioned,
    mode: Mode,
    reasoner: Reasoner,
    model: FrozenModel,
    samples: int,
    turns: Exchange,
    shots: ShotTable | None,
) -> tuple[WritingTable, ...]:
    """A reasoner's answers to all parts of a benchmark, in one of the modes of ROUNDS."""
    tables = {"captions": captioned.captions}
    inputs = {**ALONE, "samples": samples, **answering(recipe, reasoner, model)}
    if mode == "shots":
        return _each(stages, rounds.answer_after_shots, captioned, tables, **inputs | {"shots": shots})
    tables["attempts"] = turns.more
    if mode == "clues":
        return _each(stages, rounds.answer_clued, captioned, tables, **inputs)
    return _each(stages, rounds.answer_checked, captioned, tables | {"checked": turns.asked}, **inputs)


def _each(
    stages: Stages,
    task: Task[..., Any],
    captioned: Captioned,
    tables: dict[str, tuple[WritingTable, ...]] | None = None,
    **inputs: Any,
) -> tuple[WritingTable, ...]:
    """A stage on each part of a benchmark. `tables`: inputs that have one table for each part."""
    count = len(captioned.parts)
    return tuple(
        stages.run(
            task,
            f"{task.name} {captioned.benchmark} {i + 1}/{count}",
            WritingTable,
            part=part,
            **inputs | {name: each[i] for name, each in (tables or {}).items()},
        )
        for i, part in enumerate(captioned.parts)
    )
