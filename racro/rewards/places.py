"""Where are the engines that captions and rewards ask, and may they work while others do?

Rewards whose engines run outside the run's process can be made side by side. Captions and rewards of an iteration can
be made while an update runs if no engine shares a process or a GPU with the trainer. The results are the same either
way. Called by `flows.sampling`, `flows.training` and `racro doctor RECIPE`.
"""

from __future__ import annotations

from collections.abc import Iterator

from racro import config
from racro.engines.opening import runs_outside
from racro.models import devices
from racro.rewards.kinds import KINDS


def asked(recipe: config.Recipe, reward: config.Reward) -> list[str]:
    """Roles of the engines that a reward asks. `recipe`: that of its stage."""
    needs, found = KINDS[reward.type].needs, []
    if "reasoner" in needs and recipe.objective == "caption":
        found.append(recipe.runtime.role_of(recipe.reasoner))
    if "policy" in needs:
        found.append("captioner")
    if "judges" in needs:
        found += [config.JUDGES + name for name in config.judges_of(reward, recipe.judges).values()]
    return list(dict.fromkeys(found))


def outside(recipe: config.Recipe, reward: config.Reward) -> bool:
    """Does a reward ask engines, and do all of them run outside the run's process?"""
    roles = asked(recipe, reward)
    return bool(roles) and all(_outside(recipe, role) for role in roles)


def hindrance(recipe: config.Recipe) -> str | None:
    """Why captions and rewards of a stage cannot be made while the update runs, and the remedy; None if they can."""
    return next(_hindrances(recipe), None)


def _hindrances(recipe: config.Recipe) -> Iterator[str]:
    runtime = recipe.runtime
    inline = runtime.trainer.inline and runtime.cluster.type == "local"
    roles = dict.fromkeys(["captioner", *(role for reward in recipe.rewards for role in asked(recipe, reward))])
    for role in roles:
        if inline and not _outside(recipe, role):
            yield (
                f"the engine of the {role} runs in the trainer's process; set worker: true in runtime.{role}, or "
                "runtime.trainer.processes=1"
            )
        elif devices.shared(runtime, role):
            yield (
                f"the engine of the {role} and the trainer take turns on a GPU; give them different ones "
                f"(runtime.{role}.gpus, runtime.trainer.gpus)"
            )
    for reward in recipe.rewards:
        if inline and reward.type == "python":
            yield (
                f"the function of the reward {reward.title} runs in the trainer's process; set "
                "runtime.trainer.processes=1"
            )


def _outside(recipe: config.Recipe, role: str) -> bool:
    return runs_outside(recipe.roles[role], recipe.runtime, role)
