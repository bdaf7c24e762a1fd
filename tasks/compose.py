"""Stage compose: the rewards of an iteration become one reward and one advantage for each caption.

Thin: `racro.rewards.composition` does it. It asks no model, so that another weight costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from racro import config as recipes
from racro.rewards import composition
from racro.rewards.composition import Term
from racro.rewards.measures import correlation, measured
from racro.rewards.moments import Ema, Moments, State
from racro.rollouts import references as referring
from racro.schema import (
    Problem,
    ProblemTable,
    RewardRow,
    RewardTable,
    Rollout,
    RolloutTable,
    ScoredRollout,
    ScoredTable,
)
from racro.storage import artifacts
from tasks.running.policies import Output, stage

MOMENTS = "moments.json"
"""Beside the table: the moving moments after this iteration, where the estimator has some."""

Valued = tuple[RolloutTable, tuple[RewardTable, ...]]
"""Captions with a table of values for each term."""


@stage("compose", version=1)
def compose(
    output: Output,
    rollouts: RolloutTable,
    tables: tuple[RewardTable, ...],
    terms: tuple[Term, ...],
    runtime: recipes.Runtime,
    root: str,
    advantage: recipes.Advantage = recipes.GroupAdvantage(),  # noqa: B008 (frozen)
    problems: ProblemTable | None = None,
    before: ScoredTable | None = None,
    refills: tuple[Valued, ...] = (),
    references: tuple[Valued | None, ...] = (),
    checked_by: str | None = None,
) -> ScoredTable:
    """The scored rollouts; a table of values for each term.

    `problems` and `before`, the iteration before this one, count for the estimator `ema` alone. `refills`: one round
    after the other; the groups without signal that they replaced stay in the table and enter no deviation of the batch.
    `references`: of each round, captions that join its groups if the reward `checked_by` says that they are right.
    """
    rounds = [_read(*one) for one in ((rollouts, tables), *refills)]
    asked = 0
    for i, found in enumerate(references):
        if found is not None:
            added = _read(*found)
            asked += len(added[0])
            rounds[i] = referring.joined(rounds[i], added, [term.name for term in terms].index(str(checked_by)))
    moving = Ema(advantage, moments(before)) if isinstance(advantage, recipes.EmaAdvantage) else None
    categories = {p.uid: p.category for p in artifacts.read_table(problems, Problem)} if problems else {}
    made = [r for captions, _ in rounds for r in captions]
    values = [[row for _, found in rounds for row in found[i]] for i in range(len(terms))]
    replaced = _replaced(rounds, terms, advantage)
    rows = composition.compose(made, values, terms, advantage, moving, categories, replaced)
    output.shards = artifacts.write_table(output.folder, rows, ScoredRollout)
    output.metrics = _metrics(rows, terms, values) | _of_rounds(rows, rounds, replaced)
    if references:
        output.metrics |= {"references": sum(row.reference for row in rows), "references_asked": asked}
    more = []
    if moving is not None:
        more = [State(moving.moments).model_dump_json(indent=1)]
        artifacts.write_file(f"{output.folder}/{MOMENTS}", more[0].encode())
        output.metrics |= {f"deviation_{name}": found.deviation for name, found in moving.moments.items()}
    return ScoredTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards, *more))


Round = tuple[list[Rollout], list[list[RewardRow]]]


def _read(rollouts: RolloutTable, tables: tuple[RewardTable, ...]) -> Round:
    values = [list(artifacts.read_table(table, RewardRow)) for table in tables]
    return list(artifacts.read_table(rollouts, Rollout)), values


def moments(before: ScoredTable | None) -> Mapping[str, Moments]:
    """The moving moments after an iteration; none before the first one, or after another estimator's."""
    record = artifacts.known_record(before.uri) if before else None
    if before is None or record is None or (record.inputs.get("advantage") or {}).get("type") != "ema":
        return {}
    return State.model_validate_json(artifacts.read_file(f"{before.uri}/{MOMENTS}")).root


def _replaced(rounds: list[Round], terms: tuple[Term, ...], advantage: recipes.Advantage) -> set[str]:
    """Problems of all rounds but the last that give no signal."""
    plain = (
        recipes.GroupAdvantage() if isinstance(advantage, recipes.EmaAdvantage) else advantage
    )  # both centre rewards
    found: set[str] = set()
    for captions, values in rounds[:-1]:
        rows = composition.compose(captions, values, terms, plain)
        found |= {row.uid for row in rows} - {row.uid for row in rows if row.advantage}
    return found


def _of_rounds(rows: list[ScoredRollout], rounds: list[Round], replaced: set[str]) -> dict[str, float]:
    """How often groups without signal were replaced, by how many groups, and how many captions were made in all."""
    if len(rounds) == 1:
        return {}
    more = {row.uid for captions, _ in rounds[1:] for row in captions}
    return {
        "refill_rounds": len(rounds) - 1,
        "groups_replaced": len(more),
        "rollouts": len([*referring.own(rows)]),
    }


def _metrics(every: list[ScoredRollout], terms: tuple[Term, ...], values: list[list[RewardRow]]) -> dict[str, float]:
    rows = [*referring.own(every)]
    found = measured(rows, [row.reward for row in rows])
    answer = next((i for i, own in enumerate(values) if any(row.verdict for row in own)), None)
    metrics = {
        "reward_mean": found["mean"],
        "reward_stderr": found["stderr"],
        "captions_distinct": len({(row.uid, row.caption) for row in rows}),
        "unscored": sum(row.reward is None for row in rows),
        "groups": found["groups"],
        "groups_informative": len({row.uid for row in every if row.advantage}),
    }
    for i, term in enumerate(terms):
        if answer is not None and i != answer:
            related = correlation([row.values[i] for row in rows], [row.values[answer] for row in rows])
            metrics |= {} if related is None else {f"correlation_{term.name}": related}
    return metrics
