"""What a kind of reward needs and gives: cases in, a value or None for each.

A kind is a class in a file of its own; `racro.rewards.kinds` lists them all. What its values add up to is decided
later, by `racro.rewards.composition`: a kind knows nothing of weights. Called by the stages of `tasks.reward`, one for
each kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

from racro import config
from racro.engines.protocol import Engine
from racro.rollouts.captioner import Progress, Refused, ignored, silent
from racro.schema import Problem, RewardRow, Rollout, Verdict

S = TypeVar("S", bound=config.RewardBase)

Need = Literal["reasoner", "policy", "gate", "judges"]
"""What a kind may ask for. reasoner: the frozen model and its settings. policy: the model that wrote the captions.
gate: the values of the reward that is its gate. judges: the models that its settings name. What a kind does not need is
no part of its stage's identity."""


class Case(NamedTuple):
    """A caption to be scored."""

    problem: Problem
    rollout: Rollout
    gate: float | None = 1.0
    """Value of the gate for this caption; 1 without a gate, None where the gate left it unscored."""

    @classmethod
    def of(cls, problem: Problem, caption: str, sample: int = 0) -> Case:
        """A caption that no model wrote, to try a reward with: one token for each word."""
        ids = tuple(range(len(caption.split())))
        written = Rollout(
            uid=problem.uid,
            sample=sample,
            policy="",
            prompt_ids=(),
            completion_ids=ids,
            logprobs=(0.0,) * len(ids),
            finish_reason="stop",
            caption=caption,
        )
        return cls(problem, written)


class Value(NamedTuple):
    """What a kind says about a caption."""

    value: float | None
    """None: unscored."""
    detail: str = ""
    """Why, in a few words for people."""
    response: str | None = None
    """What a model answered from the caption, if one did."""
    verdict: Verdict | None = None
    """Verdict on that answer."""
    fault: str = ""
    """Name of the metric that counts what went wrong, if something did."""


class JudgeModel(NamedTuple):
    """A judge that can be asked."""

    engine: Engine
    settings: config.Judge


@dataclass(frozen=True)
class Means:
    """What a kind may use. Only what it needs is there."""

    seed: int
    iteration: int
    deadline: float
    """Seconds for each request to an engine, or call of a function."""
    reasoner: Engine | None = None
    reasoner_settings: config.Reasoner | None = None
    policy: Engine | None = None
    judges: Mapping[str, JudgeModel] = field(default_factory=dict)
    """By the key of the settings that names the judge."""
    images: str = ""
    """Folder that relative paths of images start from."""
    progress: Progress = silent
    refused: Refused = ignored


class Kind(ABC, Generic[S]):
    """A kind of reward with its settings."""

    version: ClassVar[int]
    """To be raised in the commit that changes values."""
    prompts: ClassVar[str] = ""
    """Digest of the prompts it uses."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    blind: ClassVar[bool] = False
    """Does it judge a caption without the gold answer and other facts about the problem? Only such kinds may choose
    among captions in an evaluation."""
    remedy: ClassVar[str]
    """What to do about many unscored captions."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def require(self) -> None:
        """Raises BadInput if this kind cannot work here, with the remedy. Called before anything starts."""
        return None

    @abstractmethod
    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The value of each caption, in the order of the cases; captions of a problem are neighbours."""


def rows(cases: Sequence[Case], values: Iterable[Value]) -> list[RewardRow]:
    """The values as rows of a table, in the order of the cases."""
    return [
        RewardRow(
            uid=case.rollout.uid,
            sample=case.rollout.sample,
            value=found.value,
            detail=found.detail,
            response=found.response,
            verdict=found.verdict,
        )
        for case, found in zip(cases, values, strict=True)
    ]


def counted(cases: Sequence[Case]) -> list[Case]:
    """The cases whose gate lets them count: those about which it is worth asking."""
    return [case for case in cases if case.gate]


def tokens(rollout: Rollout) -> int | None:
    """Number of tokens that the policy wrote; None if the time limit cut the caption, so that nobody knows."""
    return None if rollout.finish_reason == "deadline" else len(rollout.completion_ids)
