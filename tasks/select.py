"""Stage select: the problems of an iteration by a curriculum, or those that replace groups without signal.

Thin: `racro.rollouts.curriculum` chooses. Each table carries what is known of all problems so far, so that the next one
needs nothing but this one and the last iteration.
"""

from __future__ import annotations

from racro import config as recipes
from racro.rollouts import curriculum as curricula
from racro.schema import (
    PassRate,
    PassRateTable,
    Problem,
    ProblemTable,
    ScoredRollout,
    ScoredTable,
    Standing,
    StandingTable,
)
from racro.storage import artifacts
from tasks.running.policies import Output, stage


@stage("select", version=1)
def select(
    output: Output,
    problems: ProblemTable,
    curriculum: recipes.Curriculum,
    count: int,
    seed: int,
    iteration: int,
    round: int,
    category: str | None,
    before: StandingTable | None,
    scored: ScoredTable | None,
    profile: PassRateTable | None,
    runtime: recipes.Runtime,
    root: str,
) -> StandingTable:
    """At most `count` problems for round `round` of an iteration: 0, or that of a refill. Raises NothingToDraw.

    `before`, `scored`: the table of the last selection and the rollouts scored since, if there are any; `profile`: what
    is known before the first iteration. `category`: the only one to choose from; `iteration` counts its own then.
    """
    pool = list(artifacts.read_table(problems, Problem))
    earlier = list(artifacts.read_table(before, Standing)) if before else []
    known = curricula.known_of(earlier)
    if profile is not None:
        known = curricula.profiled(artifacts.read_table(profile, PassRate)) | known
    rows_before = list(artifacts.read_table(scored, ScoredRollout)) if scored else []
    known = curricula.learned(known, rows_before)
    taken: dict[str, int] = {}
    if round:  # those of the plain walk are in no table but that of their captions
        taken = {row.uid: 0 for row in rows_before} | {r.uid: r.round for r in earlier if r.round is not None}
    uids = curricula.chosen(pool, curriculum, count, seed, iteration, round, known, taken, category)
    if not uids and not round:
        raise curricula.NothingToDraw(
            f"iteration {iteration}: the weight of every problem is 0 (recipe section curriculum); give the pools that "
            "are left a weight"
        )
    rows = curricula.standings(uids, round, known, taken)
    output.shards = artifacts.write_table(output.folder, rows, Standing)
    output.metrics = {"chosen": len(uids), "known": len(known)}
    return StandingTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards), round=round)


def require(problems: ProblemTable, curriculum: recipes.Curriculum) -> None:
    """Raises NoSuchCategory if the curriculum names a category that no problem has."""
    if isinstance(curriculum, recipes.OrderCurriculum):
        curricula.require_categories(curriculum, artifacts.read_table(problems, Problem))
