"""A reward from a function of your own: what such a function is, and the entry of a recipe that names it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from racro.config import PythonReward
from racro.errors import BadInput
from racro.rewards.protocol import Case


class RewardFunction(Protocol):
    """A function that scores the captions of one problem."""

    def __call__(self, cases: Sequence[Case], /, **settings: Any) -> Sequence[float | None]:
        """A number for each caption, in order; None: not scored, which is not 0.

        cases: the G captions of one problem; `case.rollout.caption` is the text, `case.rollout.completion_ids` its T
        token ids, `case.problem` has question, gold answer, category and, for embedded problems, the scene.
        settings: what the recipe gives it.
        """
        ...


def reward(
    function: RewardFunction,
    *,
    version: int,
    name: str | None = None,
    weight: float = 1.0,
    gate: str | None = None,
    **settings: Any,
) -> PythonReward:
    """The entry of a recipe's `rewards` for a function of your own.

    Args:
        function: A function at the top level of a module (a file), because the training imports it by its name.
        version: Values are cached under it: raise it when the function computes something else.
        name: Name in metrics; None: that of the function.
        weight: Factor in the sum of rewards.
        gate: Name of a reward above it, by whose value it is multiplied.
        settings: Keyword arguments for the function: numbers, texts, truth values or lists of them.

    Raises:
        BadInput: A function that another process cannot import.
    """
    module, title = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__") or not title.isidentifier():
        raise BadInput(
            f"reward: {title or function!r} cannot be imported by the training; write it at the top level of a file "
            "beside your program, and import it from there"
        )
    if getattr(sys.modules.get(str(module)), title, None) is not function:
        raise BadInput(f"reward: {module}.{title} is not this function; give its module a name for it")
    entry = {"name": name or title, "weight": weight, "gate": gate, "function": f"{module}:{title}"}
    try:
        return PythonReward.model_validate(entry | {"settings": settings, "version": version})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"reward: {title}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
