"""Captions as kinds of rewards get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from racro.rewards.protocol import Case
from racro.schema import FinishReason, Problem, Rollout

QUESTION = "What is the height of the red bar?"


def problem(uid: str = "p", **known: Any) -> Problem:
    """A question whose answer is 3. `known`: other fields."""
    own = {"question": QUESTION, "answer": "3", "kind": "integer", "category": "value"}
    return Problem(**{"uid": uid, "choices": (), "images": (), "scene": None, **own, **known})


def rollout(
    caption: str = "", finish_reason: FinishReason = "stop", sample: int = 0, uid: str = "p", tokens: int = 1
) -> Rollout:
    """A caption of so many tokens."""
    return Rollout(
        uid=uid,
        sample=sample,
        policy="digest",
        prompt_ids=(1,),
        completion_ids=(2,) * tokens,
        logprobs=(0.0,) * tokens,
        finish_reason=finish_reason,
        caption=caption,
    )


def group(captions: Sequence[str | Rollout], gates: Sequence[float | None] | None = None, **known: Any) -> list[Case]:
    """The captions of one problem, with the values of their gate. `known`: fields of the problem."""
    rows = [c if isinstance(c, Rollout) else rollout(c, sample=i) for i, c in enumerate(captions)]
    values = gates if gates is not None else [1.0] * len(rows)
    return [Case(problem(row.uid, **known), row, gate) for row, gate in zip(rows, values, strict=True)]
