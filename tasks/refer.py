"""Stage refer: known captions for the groups of an iteration in which no caption leads to the right answer.

Thin: `racro.rollouts.references` chooses. They are scored by the rewards as captions are, and join their groups in the
stage compose. It asks no model.
"""

from __future__ import annotations

from racro import config as recipes
from racro.errors import BadInput
from racro.models import endings
from racro.rollouts import references
from racro.schema import Policy, Problem, ProblemTable, RewardRow, RewardTable, Rollout, RolloutTable
from racro.storage import artifacts
from tasks.running.engines import on_disk
from tasks.running.policies import Output, stage


class NoReferences(BadInput):
    """There is nothing that could join a group."""


@stage("refer", version=1)
def refer(
    output: Output,
    rollouts: RolloutTable,
    answers: RewardTable,
    problems: ProblemTable,
    policy: Policy,
    runtime: recipes.Runtime,
    root: str,
) -> RolloutTable:
    """A reference for each group that wants one and whose problem has one. `answers`: values of the reward `answer`.

    `policy`: the one that wrote the captions, whose tokens these are.
    """
    captions = list(artifacts.read_table(rollouts, Rollout))
    wanting = references.wanting(captions, list(artifacts.read_table(answers, RewardRow)))
    known = {problem.uid: problem for problem in artifacts.read_table(problems, Problem)}
    with on_disk(policy, runtime) as folder:
        rows = list(references.refer(wanting, known, endings.turn(folder)))
    output.shards = artifacts.write_table(output.folder, rows, Rollout)
    output.metrics = {"groups_wanting": len(wanting), "captions": len(rows), "problems": len(rows)}
    return RolloutTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


def require(recipe: recipes.Recipe, problems: ProblemTable, initial: Policy) -> None:
    """Called before a model is asked. Raises NoReferences if references are to join and no problem has one, and
    OpensThought."""
    if not any(phase.rollout.references for phase in recipe.phases):
        return
    with on_disk(initial, recipe.runtime) as folder:
        endings.require(folder, recipe.captioner.template_kwargs)
    if not any(map(references.reference_of, artifacts.read_table(problems, Problem))):
        raise NoReferences(
            "rollout.references: no problem has one; fill the column that problems.columns.reference names, or leave "
            "rollout.references out"
        )
