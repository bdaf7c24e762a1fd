"""What an iteration learns from: problems by a curriculum -> captions -> rewards -> advantages.

Then again with new problems in place of those that give no signal (`rollout.refill`). Composition only;
`flows.training` updates the policy with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from flows.captions import Sampled, captioned, valued, written
from racro.config import (
    AnswerReward,
    EmaAdvantage,
    OrderCurriculum,
    Recipe,
    UniformCurriculum,
    WeightedCurriculum,
)
from racro.engines.protocol import prompt_seed
from racro.rewards import kinds
from racro.rewards.composition import terms
from racro.schedule import Round
from racro.schema import (
    FrozenModel,
    Parity,
    PassRateTable,
    Policy,
    ProblemTable,
    RewardTable,
    ScoredTable,
    StandingTable,
)
from tasks.compose import compose
from tasks.parity import parity
from tasks.profile import profile as profile_stage
from tasks.reward import check
from tasks.running.stages import Stages
from tasks.select import select

PROFILED = 1024
"""Most problems whose captions are one stage while pass rates are measured."""


class Batch(NamedTuple):
    """What an iteration learns from."""

    writer: Policy
    """The policy that wrote the captions."""
    made: Sampled
    scored: ScoredTable
    selected: StandingTable | None
    """The last selection of problems; None where the plain walk chose."""

    @property
    def rewarded(self) -> tuple[dict[str, RewardTable], ...]:
        """Rewards of all captions, and then of references."""
        return (*self.made.rewards, *(known.rewards for known in self.made.references if known is not None))


def agreement(recipe: Recipe, stages: Stages, problems: ProblemTable, policy: Policy) -> None:
    """Engine and trainer compared on the initial policy. A script has no log-probs to compare."""
    if recipe.captioner.engine.type != "scripted":
        first = recipe.phases[0]
        stages.run(
            parity,
            "parity",
            Parity,
            problems=problems,
            policy=policy,
            captioner=recipe.captioner,
            rollout=first.rollout.alone(),
            max_gap=first.update.max_logprob_gap,
            seed=recipe.seed,
        )


def learning(one: Round, batch: Batch, problems: ProblemTable, policy: Policy, initial: Policy) -> dict[str, Any]:
    """Inputs of the update of an iteration that follow from the recipe and what was sampled."""
    return {
        "scored": batch.scored,
        "problems": problems,
        "policy": policy,
        "initial": initial,
        "captioner": one.phase.captioner,
        "temperature": one.phase.rollout.temperature,
        "config": one.phase.update,
        "seed": one.phase.seed,
        "objective": one.phase.objective,
        "writer": None if batch.writer.digest == policy.digest else batch.writer,
    }


def sample(
    one: Round,
    stages: Stages,
    problems: ProblemTable,
    policy: Policy,
    reasoner: FrozenModel,
    judges: Mapping[str, FrozenModel],
    before: Batch | None = None,
    profile: PassRateTable | None = None,
) -> Batch:
    """An iteration by a policy: captions, their scores, and the last selection if one was made.

    `before`: what the iteration before it learns from; None for the first of a training, and of a stage that begins as
    one. `profile`: what the curriculum knows at the start. Depends on no update, except through the policy.
    """
    recipe, k = one.phase, one.number
    selected = _first(one, stages, problems, before, profile)
    made = captioned(recipe, stages, k, problems, policy, reasoner, judges, selected, Sampled((), ()))
    scored = _composed(recipe, stages, k, problems, made, before)
    wanted = int(stages.record(scored).metrics["groups"])
    for number in range(1, recipe.rollout.refill + 1):
        missing = wanted - int(stages.record(scored).metrics["groups_informative"])
        if missing == 0:
            break
        selected = stages.run(
            select,
            f"select {k}, refill {number}",
            StandingTable,
            **_by_curriculum(one),
            problems=problems,
            count=missing,
            round=number,
            before=selected,
            scored=scored,
            profile=None if selected else profile,
        )
        if not stages.record(selected).metrics["chosen"]:
            break  # every problem is in this iteration
        more = captioned(recipe, stages, k, problems, policy, reasoner, judges, selected, made)
        if more is made:
            break  # none of the new ones can be captioned
        made = more
        scored = _composed(recipe, stages, k, problems, made, before)
    return Batch(policy, made, scored, selected)


def _first(
    one: Round,
    stages: Stages,
    problems: ProblemTable,
    before: Batch | None,
    profile: PassRateTable | None,
) -> StandingTable | None:
    """The problems with which an iteration begins; None: those of the plain walk."""
    recipe, k = one.phase, one.number
    if isinstance(recipe.curriculum, UniformCurriculum):
        return None
    carried = None if isinstance(recipe.curriculum, OrderCurriculum) else before
    return stages.run(
        select,
        f"select {k}",
        StandingTable,
        **_by_curriculum(one),
        problems=problems,
        count=recipe.rollout.problems,
        round=0,
        before=carried.selected if carried else None,
        scored=carried.scored if carried else None,
        profile=None if carried else profile,
    )


def _by_curriculum(one: Round) -> dict[str, Any]:
    """Inputs of the stage select that follow from the recipe and the number of the iteration."""
    recipe, category, k = one.phase, None, one.number
    if isinstance(recipe.curriculum, OrderCurriculum):
        category, k = recipe.curriculum.phase(k - one.begin, recipe.iterations)
    return {"curriculum": recipe.curriculum, "seed": recipe.seed, "iteration": k, "category": category}


def _composed(
    recipe: Recipe, stages: Stages, k: int, problems: ProblemTable, made: Sampled, before: Batch | None
) -> ScoredTable:
    moving = isinstance(recipe.advantage, EmaAdvantage)
    tables = [tuple(values.values()) for values in made.rewards]
    refill = f", refill {len(tables) - 1}" if len(tables) > 1 else ""
    answering = kinds.answering(recipe.rewards)
    return stages.run(
        compose,
        f"compose {k}{refill}",
        ScoredTable,
        rollouts=made.rollouts[0],
        tables=tables[0],
        terms=terms(recipe.rewards),
        advantage=recipe.advantage,
        problems=problems if moving else None,
        before=before.scored if moving and before else None,
        refills=tuple(zip(made.rollouts[1:], tables[1:], strict=True)),
        references=tuple(one and (one.rollouts, tuple(one.rewards.values())) for one in made.references),
        checked_by=answering.title if made.references and answering else None,
    )


def starting_point(
    recipe: Recipe, stages: Stages, problems: ProblemTable, policy: Policy, reasoner: FrozenModel
) -> PassRateTable | None:
    """What the curriculum knows before the first iteration, where the recipe asks for it."""
    curriculum = recipe.curriculum
    if isinstance(curriculum, WeightedCurriculum) and curriculum.profile:
        return pass_rates(recipe, stages, problems, policy, reasoner, curriculum.profile)
    return None


def pass_rates(
    recipe: Recipe, stages: Stages, problems: ProblemTable, policy: Policy, reasoner: FrozenModel, captions: int
) -> PassRateTable:
    """The share of right answers from so many captions of each problem, by the recipe's reward `answer`.

    Sampled as in training, with seeds that no iteration has.
    """
    reward = kinds.answering(recipe.rewards) or AnswerReward()
    seed = prompt_seed(recipe.seed, "profile") % 2**31
    parts = math.ceil(problems.rows / PROFILED)
    size = {"problems": math.ceil(problems.rows / parts), "group_size": captions}
    rollout = recipe.rollout.model_copy(update=size)
    values = []
    for i in range(parts):
        label = f", profile {i + 1}/{parts}"
        rollouts = written(recipe, stages, problems, policy, rollout, seed, i, label, reasoner=reasoner)
        table = valued(
            recipe,
            stages,
            reward,
            problems,
            policy,
            reasoner,
            rollouts,
            seed,
            i,
            label,
            reward.max_unscored,
            {"gate": None},
        )
        check([stages.record(table)], reward, i)
        values.append(table)
    return stages.run(profile_stage, "profile", PassRateTable, problems=problems, values=tuple(values))
