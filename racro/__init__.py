"""What does everything else rest on? Prompts, identity, errors; the method itself is in the folders below.

RACRO (caption-reward optimisation, arXiv 2506.04559) as a library. Start reading at `racro.schema`. Nothing here knows
Prefect or MLflow; `tasks` and `flows` do. The names below are for programs of your own; each is imported when it is
first used, so that `import racro` takes no time (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from racro import environment
from racro.models import torchvision_ops, without_sklearn

if TYPE_CHECKING:
    from racro.answering.pipeline import Racro, answer
    from racro.command import CommandFailed, evaluate, train
    from racro.config.loading import load_recipe
    from racro.config.recipe import Recipe
    from racro.errors import BadInput
    from racro.evaluation.paired import accuracy, compare
    from racro.predictions.single import grade
    from racro.rewards.own import RewardFunction, reward
    from racro.rewards.protocol import Case
    from racro.schema import Verdict

__all__ = [
    "BadInput",
    "Case",
    "CommandFailed",
    "Racro",
    "Recipe",
    "RewardFunction",
    "Verdict",
    "accuracy",
    "answer",
    "compare",
    "evaluate",
    "grade",
    "load_recipe",
    "reward",
    "train",
]

_PLACES = {
    "BadInput": "racro.errors",
    "Case": "racro.rewards.protocol",
    "CommandFailed": "racro.command",
    "Racro": "racro.answering.pipeline",
    "Recipe": "racro.config.recipe",
    "RewardFunction": "racro.rewards.own",
    "Verdict": "racro.schema",
    "accuracy": "racro.evaluation.paired",
    "answer": "racro.answering.pipeline",
    "compare": "racro.evaluation.paired",
    "evaluate": "racro.command",
    "grade": "racro.predictions.single",
    "load_recipe": "racro.config.loading",
    "reward": "racro.rewards.own",
    "train": "racro.command",
}

environment.apply()
torchvision_ops.install()
without_sklearn.install()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
