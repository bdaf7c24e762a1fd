"""All kinds of rewards, by the type that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from racro import config
from racro.rewards.answer import Answer
from racro.rewards.confidence import Confidence
from racro.rewards.correctness import Correctness
from racro.rewards.describes import Describes
from racro.rewards.facts import Facts
from racro.rewards.format import Format
from racro.rewards.length import Length
from racro.rewards.mcq import Mcq
from racro.rewards.minimal import Minimal
from racro.rewards.protocol import Kind
from racro.rewards.python import Python
from racro.rewards.retrieval import Retrieval
from racro.rewards.self import Self

KINDS: dict[str, type[Kind[Any]]] = {
    "answer": Answer,
    "confidence": Confidence,
    "correctness": Correctness,
    "describes": Describes,
    "facts": Facts,
    "format": Format,
    "length": Length,
    "mcq": Mcq,
    "minimal": Minimal,
    "python": Python,
    "retrieval": Retrieval,
    "self": Self,
}


def kind_of(reward: config.Reward) -> Kind[Any]:
    """The kind that a recipe names, with its settings."""
    return KINDS[reward.type](reward)


def require(rewards: Iterable[config.Reward]) -> None:
    """Raises BadInput for the first reward that cannot work here. Called before anything starts."""
    for reward in rewards:
        kind_of(reward).require()


def answering(rewards: Iterable[config.Reward]) -> config.AnswerReward | None:
    """The reward that has the reasoner answer from each caption, the first of them; None if there is none."""
    return next((reward for reward in rewards if isinstance(reward, config.AnswerReward)), None)
