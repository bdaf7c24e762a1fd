"""The recipe: all sections together, and the conditions between them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError, model_validator

from racro.config.advantage import Advantage, GroupAdvantage, refusal
from racro.config.alarms import Alarms
from racro.config.base import Config, NeutralDefault
from racro.config.curriculum import Curriculum, OrderCurriculum, UniformCurriculum
from racro.config.judging import judges_of, known, possible
from racro.config.models import JUDGES, Captioner, Judge, ModelSection, Reasoner
from racro.config.problems import EmbeddedProblems, Problems
from racro.config.rewards import AnswerReward, RetrievalReward, Reward, Rewards, as_list
from racro.config.runtime import Runtime
from racro.config.stages import STAGED, Changes, Objective, TrainingStage, TrainingStages
from racro.config.training import EvaluationSettings, RolloutSettings, UpdateSettings

BESIDE = ("runtime", "alarms")
"""Sections that change no policy, no digest and no cache key."""


class Recipe(Config):
    """Everything that determines a training: the same recipe gives the same policy."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of all random choices: split, order of problems, sampling."""
    objective: Annotated[Objective, NeutralDefault()] = "caption"
    """caption: the policy writes captions. answer: it answers the questions from the images, and a rule grades it."""
    iterations: PositiveInt = 100
    """Number of rounds caption -> rewards -> update (K), in each stage that says no other number."""
    problems: Problems = EmbeddedProblems()
    """Where questions, images and gold answers come from."""
    captioner: Captioner = Captioner()
    """The model that is trained to write captions."""
    reasoner: Reasoner = Reasoner()
    """The frozen model that answers from captions."""
    judges: Annotated[dict[str, Judge], NeutralDefault()] = Field(default_factory=dict)
    """Further frozen models, by the names under which rewards ask them."""
    curriculum: Annotated[Curriculum, NeutralDefault()] = UniformCurriculum()
    """Which problems an iteration is about."""
    rollout: RolloutSettings = RolloutSettings()
    """How captions are sampled."""
    rewards: Rewards = (AnswerReward(),)
    """What a caption is worth: a weighted sum of rewards."""
    advantage: Annotated[Advantage, NeutralDefault()] = GroupAdvantage()
    """How rewards become advantages."""
    update: UpdateSettings = UpdateSettings()
    """How rewards change the policy (GRPO)."""
    stages: Annotated[TrainingStages, NeutralDefault()] = ()
    """Parts of the training, one after the other, with what differs from the sections above. Empty: the training is one
    stage, as these say."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How and how often the policy is evaluated on held-out problems."""
    alarms: Alarms = Alarms()
    """Signs of drift that are said, or stop the run. Change no digest and no cache key."""
    runtime: Runtime = Runtime()
    """Where and how fast it runs. Changes no result, no digest and no cache key."""

    @model_validator(mode="before")
    @classmethod
    def _rewards_as_list(cls, content: Any) -> Any:
        if isinstance(content, dict) and "reward" in content:
            raise ValueError(as_list(content["reward"]))
        return content

    @model_validator(mode="after")
    def _judged(self) -> Recipe:
        for name in self.judges:
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"judges: {name!r} is no name; use letters, digits, - and _")
        if unknown := sorted(self.runtime.judges.keys() - self.judges.keys()):
            raise ValueError(f"runtime.judges.{unknown[0]}: no judge has this name; {known(self.judges)}")
        for reward in () if self.stages else self.rewards:
            judges_of(reward, self.judges)
            possible(reward, self.problems)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.stages:
            for number, (before, after) in enumerate(itertools.pairwise(self.phases), 1):  # each of them is checked
                kept = [(one.update.freeze, one.update.optimizer) for one in (before, after)]
                if self.stages[number].start == "continued" and kept[0] != kept[1]:
                    raise ValueError(
                        f"stages.{number}.start: continued goes on with the optimizer of the stage before, so "
                        "update.freeze and update.optimizer must be as there; give the same, or leave start out"
                    )
                profiles = [getattr(one.curriculum, "profile", None) for one in (before, after)]
                if self.stages[number].start == "continued" and profiles[1] not in (None, profiles[0]):
                    raise ValueError(
                        f"stages.{number}.curriculum.profile: pass rates are measured where a stage starts fresh, and "
                        "this one is continued; leave profile out, or start"
                    )
            return self
        if self.update.mini_batch > self.rollout.problems:
            raise ValueError(
                f"update.mini_batch ({self.update.mini_batch} problems) is larger than rollout.problems "
                f"({self.rollout.problems}): a mini-batch is a part of an iteration"
            )
        if self.update.freeze and self.captioner.lora is not None:
            raise ValueError("update.freeze: adapters change the language model only; leave it out, or captioner.lora")
        if self.update.optimizer != "adamw" and self.runtime.trainer.optimizer == "offload":
            raise ValueError(
                f"update.optimizer: {self.update.optimizer} keeps no moments in float32, as runtime.trainer.optimizer: "
                "offload does; choose one"
            )
        for reason in self._refused():
            raise ValueError(reason)
        return self

    def _refused(self) -> Iterator[str]:
        """Reasons why the sections do not go with each other, with the objective or with the problems."""
        for number, reward in enumerate(self.rewards):
            if self.objective not in reward.objectives:
                yield (
                    f"rewards.{number}: {reward.type} judges captions, and with objective {self.objective} the policy "
                    "writes none; give other rewards there, for example [{type: answer}]"
                )
        problems = self.problems
        if not isinstance(problems, EmbeddedProblems):
            if isinstance(self.curriculum, OrderCurriculum) and problems.columns.category is None:
                yield "curriculum: order goes by categories; name their column in problems.columns.category"
        elif self.rollout.refill and problems.count <= self.rollout.problems:
            yield (
                f"rollout.refill: no new problems can replace groups, because every iteration has all {problems.count} "
                f"(problems.count) of them; lower rollout.problems ({self.rollout.problems})"
            )
        if self.rollout.references:
            yield from self._without_references()
        if reason := refusal(self.advantage, tuple(reward.title for reward in self.rewards)):
            yield reason

    def _without_references(self) -> Iterator[str]:
        """Reasons why no reference can join a group."""
        if self.objective != "caption":
            yield "rollout.references: these are captions, and with objective answer none are written; leave it out"
        elif not any(isinstance(reward, AnswerReward) for reward in self.rewards):
            yield (
                "rollout.references: a reference joins where no answer is right, and no reward says which are; add "
                "{type: answer} to rewards, with weight 0 if it is not to count"
            )
        if any(isinstance(reward, RetrievalReward) for reward in self.rewards):
            yield (
                "rollout.references: a reference has no second caption of its image, which the reward retrieval needs; "
                "leave one of them out"
            )
        if not isinstance(self.problems, EmbeddedProblems) and self.problems.columns.reference is None:
            yield "rollout.references: name the column that holds them in problems.columns.reference"

    @property
    def phases(self) -> tuple[Recipe, ...]:
        """A recipe for each stage: the sections with what it changes. Without stages, the recipe itself."""
        return tuple(self._with(number, stage) for number, stage in enumerate(self.stages)) or (self,)

    @property
    def rounds(self) -> int:
        """Number of iterations of all stages."""
        return sum(phase.iterations for phase in self.phases)

    def _with(self, number: int, stage: TrainingStage) -> Recipe:
        """The recipe of a stage. Raises ValidationError with the places of keys as they are in this recipe."""
        content = dict(self) | {"stages": ()}
        for name in STAGED:
            given = getattr(stage, name)
            if given is not None:
                content[name] = dict(content[name]) | given.given() if isinstance(given, Changes) else given
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            raise _inside(error, number) from None

    @property
    def roles(self) -> dict[str, ModelSection]:
        """All models, by role: captioner, reasoner or reasoners.NAME, judges.NAME. Not those that no reward asks."""
        judges = {JUDGES + name: self.judges[name] for name in self.judged()}
        return {"captioner": self.captioner, self.runtime.role_of(self.reasoner): self.reasoner, **judges}

    def judged(self, rewards: Iterable[Reward] | None = None) -> list[str]:
        """Names of the judges that rewards ask; None: those of all stages."""
        if rewards is None:
            rewards = (reward for phase in self.phases for reward in phase.rewards)
        return list(dict.fromkeys(name for reward in rewards for name in judges_of(reward, self.judges).values()))

    @property
    def max_unscored(self) -> float:
        """Largest share of an iteration's problems that may have no captions: no reward allows fewer."""
        return min(reward.max_unscored for reward in self.rewards)


def _inside(error: ValidationError, number: int) -> ValidationError:
    """The same errors with places that begin with the stage's."""
    lines: list[Any] = []
    for found in error.errors():
        line = {key: found[key] for key in ("type", "loc", "input", "ctx") if key in found}
        if found["loc"]:
            line["loc"] = ("stages", number, *found["loc"])
        else:  # about several keys; the message names the first
            line["ctx"] = {"error": ValueError(f"stages.{number}.{found['msg'].removeprefix('Value error, ')}")}
        lines.append(line)
    return ValidationError.from_exception_data(error.title, lines)
