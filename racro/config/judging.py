"""Which judge does a reward ask, and is there what it needs? The judge that it names, or the only one that fits."""

from __future__ import annotations

from collections.abc import Mapping

from racro.config.models import Judge
from racro.config.problems import EmbeddedProblems, Problems
from racro.config.rewards import RewardBase


def judges_of(reward: RewardBase, judges: Mapping[str, Judge]) -> dict[str, str]:
    """The name of the judge behind each key of a reward that names one. Raises ValueError where there is none."""
    return {key: _chosen(reward, key, sees, judges) for key, sees in reward.asked.items()}


def _chosen(reward: RewardBase, key: str, sees: str, judges: Mapping[str, Judge]) -> str:
    named: str | None = getattr(reward, key)
    if named is not None:
        if named not in judges:
            raise ValueError(f"rewards: {reward.title}: {key}: {named}: no judge has this name; {known(judges)}")
        if sees == "image" and not judges[named].reads_images:
            raise ValueError(
                f"rewards: {reward.title}: {key}: {named} must be shown images; set judges.{named}.sees=image if it is "
                "a vision-language model, or name another"
            )
        return named
    fitting = [name for name, judge in judges.items() if judge.sees == sees]
    if not fitting and sees == "text":
        fitting = list(judges)  # a vision-language model reads text too
    if len(fitting) != 1:
        missing = f"add one: judges: {{NAME: {{model: ..., sees: {sees}}}}}"
        remedy = f"name one of {', '.join(fitting)}" if fitting else missing
        raise ValueError(f"rewards: {reward.title}: {key}: {len(fitting) or 'no'} judges see {sees}; {remedy}")
    return fitting[0]


def known(judges: Mapping[str, Judge]) -> str:
    """The names that there are, for messages."""
    return f"there are: {', '.join(judges)}" if judges else "add it under judges"


def possible(reward: RewardBase, problems: Problems) -> None:
    """Raises ValueError for a reward that can have no values with these problems."""
    embedded = isinstance(problems, EmbeddedProblems)
    if getattr(reward, "by", "judge") == "scene" and not embedded:
        raise ValueError(f"rewards: {reward.title}: by: scene is for embedded problems alone; name a judge")
    columns = None if isinstance(problems, EmbeddedProblems) else problems.columns
    if reward.type in ("facts", "mcq") and columns is not None and getattr(columns, reward.type) is None:
        raise ValueError(f"rewards: {reward.title}: needs problems.columns.{reward.type}, the column that holds them")
