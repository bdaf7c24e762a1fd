"""Which of several captions does a reward like best? For captions of questions whose answer must not be known.

Called by the mode `best` of evaluations and of `racro.answering`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racro import config
from racro.errors import BadInput
from racro.rewards.kinds import KINDS, kind_of
from racro.rewards.protocol import Case, Means, Need, Value
from racro.schema import Problem, Rollout

AVAILABLE: frozenset[Need] = frozenset({"policy", "gate", "judges"})
"""What a kind may ask for here. Every gate is open."""


class CannotChoose(BadInput):
    """A reward that cannot choose among captions."""


def able(name: str) -> bool:
    """Can a kind of reward choose?"""
    return KINDS[name].blind and KINDS[name].needs <= AVAILABLE


def require(reward: config.Reward | None, judges: Mapping[str, config.Judge] | None = None) -> config.Reward:
    """The reward as it chooses, without weight and limit but with the names of its judges.

    `judges`: those of the recipe; None where none can be asked. Raises CannotChoose, and BadInput of the kind itself.
    """
    asking = {name for name in KINDS if "judges" in KINDS[name].needs}
    remedy = f"name one of {', '.join(name for name in KINDS if able(name) and (judges or name not in asking))}"
    if reward is None:
        raise CannotChoose(f"mode best: the reward that chooses among the captions is missing; {remedy}")
    if able(reward.type) and reward.type in asking:
        if judges is None:
            raise CannotChoose(f"mode best: {reward.type} asks judges, which only evaluations do; {remedy}")
        try:
            config.judges_of(reward, judges)
        except ValueError as error:
            raise CannotChoose(f"mode best: {error}") from error
    if not able(reward.type) or getattr(reward, "by", "judge") == "scene":
        raise CannotChoose(
            f"mode best: {reward.type} judges captions by the right answer or other facts about a problem, which an "
            f"evaluation must not use; {remedy}"
        )
    if reward.gate is not None:
        raise CannotChoose(f"mode best: {reward.type} has the gate {reward.gate}, and one reward chooses; {remedy}")
    kind_of(reward).require()
    alone: config.Reward = reward.alone()
    return alone.model_copy(update={key: getattr(reward, key) for key in reward.asked})


def values(
    reward: config.Reward, problems: Sequence[Problem], rollouts: Sequence[Rollout], means: Means
) -> list[Value]:
    """The value of each caption, those of a question side by side. The kind does not get to see what is known of it."""
    unknown = {"answer": "", "scene": None, "facts": (), "mcq": ()}
    hidden = {one.uid: one.model_copy(update=unknown) for one in problems}
    return list(kind_of(reward).score([Case(hidden[row.uid], row) for row in rollouts], means))


def favourite(values: Sequence[float | None]) -> int:
    """Number of the caption with the largest value; the first of several, and of those that are all unscored."""
    return max(range(len(values)), key=lambda i: (values[i] is not None, values[i] or 0.0, -i))
