"""Arms of an evaluation: a benchmark answered in one mode by one reasoner. Captions -> answers -> grades -> scores.

Composition only, used by the flows `train` (held-out problems, from captions) and `evaluate`. Every stage is cached:
captions and answers by part of a benchmark, grades and scores by arm.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from racro.config import Captioner, Reasoner, Recipe
from racro.evaluation.heldout import HELDOUT
from racro.evaluation.modes import ATTEMPTED, CAPTIONED, SAMPLED
from racro.rollouts.votes import ELECTION
from racro.schema import EntryTable, FrozenModel, Mode, Policy, QuestionPart, ResultTable, WritingTable
from tasks.generate import NextAnswers, answer, attempt, describe
from tasks.grade import aggregate, grade
from tasks.running.stages import Stages


class Captioned(NamedTuple):
    """A benchmark after the captioner has seen it."""

    benchmark: str
    parts: tuple[QuestionPart, ...]
    captioner: str | None
    """Its name in tables; None where no mode needs a captioner."""
    captions: tuple[WritingTable, ...]
    """Of each part; empty where no mode needs them."""
    attempts: tuple[WritingTable, ...]
    """The captioner's own answers to each part; empty where no mode needs them."""
    samples: tuple[WritingTable, ...] = ()
    """Several sampled captions of each question; empty where no mode needs them."""
    best: tuple[WritingTable, ...] = ()
    """One of these for each question, chosen by a reward; empty where no mode needs it."""

    def shown(self, mode: Mode) -> tuple[WritingTable, ...]:
        """The captions from which the reasoner answers in a mode; empty where it reads none."""
        if mode in SAMPLED:
            return self.samples if mode == "vote" else self.best
        return self.captions if mode in CAPTIONED else ()


class Arm(NamedTuple):
    """One benchmark answered in one mode by one reasoner, or by the captioner alone."""

    benchmark: str
    mode: Mode
    reasoner: Reasoner | None
    results: ResultTable
    entry: EntryTable


def evaluate_heldout(
    recipe: Recipe, stages: Stages, policy: Policy, reasoner: FrozenModel, parts: tuple[QuestionPart, ...], label: str
) -> Arm:
    """A policy on held-out problems, answered from its captions. `label` ends the names of the task runs."""
    ahead = NextAnswers(
        recipe.reasoner, reasoner, recipe.evaluation.temperature, recipe.evaluation.top_p, samples=1, seed=recipe.seed
    )
    mode: Mode = "caption"
    captioned = ask_captioner(recipe, stages, policy, (mode,), HELDOUT, parts, label, ahead)
    answers = ask_reasoner(recipe, stages, captioned, mode, recipe.reasoner, reasoner, 1, label)
    name = model_name(recipe.reasoner)
    return score(stages, captioned, mode, recipe.reasoner, name, answers, label)


def ask_captioner(
    recipe: Recipe,
    stages: Stages,
    policy: Policy | None,
    modes: Collection[Mode],
    benchmark: str,
    parts: tuple[QuestionPart, ...],
    label: str = "",
    ahead: NextAnswers | None = None,
) -> Captioned:
    """What the captioner writes about a benchmark: all that the modes need."""
    written: dict[str, tuple[WritingTable, ...]] = {}
    for task, needing, longest, more in (
        (describe, CAPTIONED, recipe.rollout.max_tokens, {"ahead": ahead}),
        (attempt, ATTEMPTED, recipe.reasoner.max_tokens, {}),  # an answer, with its steps
    ):
        needed = not set(needing).isdisjoint(modes)
        written[task.name] = tuple(
            stages.run(
                task,
                f"{task.name} {benchmark} {i}/{len(parts)}{label}",
                WritingTable,
                part=part,
                policy=policy,
                captioner=recipe.captioner,
                max_tokens=longest,
                **more,
            )
            for i, part in enumerate(parts if needed else (), 1)
        )
    captioner = f"{model_name(recipe.captioner)}@{policy.digest[:8]}" if policy else None
    return Captioned(benchmark, parts, captioner, written[describe.name], written[attempt.name])


def ask_reasoner(
    recipe: Recipe,
    stages: Stages,
    captioned: Captioned,
    mode: Mode,
    reasoner: Reasoner,
    model: FrozenModel,
    samples: int,
    label: str = "",
) -> tuple[WritingTable, ...]:
    """A reasoner's answers to all parts of a benchmark, in a mode without further rounds (`flows.rounds`)."""
    shown = captioned.shown(mode)
    return tuple(
        stages.run(
            answer,
            f"answer {captioned.benchmark}, {mode} {i + 1}/{len(captioned.parts)}{label}",
            WritingTable,
            mode="caption" if mode in SAMPLED else mode,  # asked alike, so an answer known in one is known in both
            part=part,
            captions=shown[i] if shown else None,
            attempts=captioned.attempts[i] if mode in ATTEMPTED else None,
            samples=1 if mode == "vote" else samples,
            **answering(recipe, reasoner, model),
        )
        for i, part in enumerate(captioned.parts)
    )


def answering(recipe: Recipe, reasoner: Reasoner, model: FrozenModel) -> dict[str, Any]:
    """A reasoner as inputs of the stages that ask it."""
    return {
        "reasoner_model": model,
        "reasoner": reasoner,
        "temperature": recipe.evaluation.temperature,
        "top_p": recipe.evaluation.top_p,
        "seed": recipe.seed,
    }


def score(
    stages: Stages,
    captioned: Captioned,
    mode: Mode,
    reasoner: Reasoner | None,
    name: str | None,
    answers: tuple[WritingTable, ...],
    label: str = "",
    more: tuple[WritingTable, ...] = (),
) -> Arm:
    """Answers -> grades -> scores. `name`: the reasoner's in tables; None where the captioner answers itself.

    `more`: what the captioner wrote in a second round.
    """
    results = stages.run(
        grade,
        f"grade {captioned.benchmark}, {mode}{label}",
        ResultTable,
        parts=captioned.parts,
        mode=mode,
        captioner=captioned.captioner if mode != "text" else None,
        reasoner=name,
        captions=captioned.shown(mode),
        attempts=captioned.attempts if mode in ATTEMPTED else more,
        answers=answers,
        election=ELECTION if mode == "vote" else 1,
    )
    several = results.rows > sum(part.rows for part in captioned.parts)
    entry = stages.run(
        aggregate,
        f"aggregate {captioned.benchmark}, {mode}{label}",
        EntryTable,
        name=captioned.benchmark,
        parts=captioned.parts,
        graded=results,
        election=ELECTION if several else 1,
    )
    return Arm(captioned.benchmark, mode, reasoner, results, entry)


def model_name(model: Captioner | Reasoner) -> str:
    """A model's name in tables; the last part of a folder."""
    return Path(model.model).name if Path(model.model).is_absolute() else model.model
