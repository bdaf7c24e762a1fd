"""Recipe section `rewards`: what a caption is worth. One section per kind of reward; `racro.rewards` computes them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from racro.config.base import Config, NeutralDefault, Share

Plain = bool | int | float | str
Setting = Plain | list[Plain] | None
"""What a function of your own may be given."""

NEVER_POSITIVE = ("describes", "minimal")
"""Kinds with values from -1 to 0."""
By = Literal["judge", "scene"]
Asked = dict[str, Literal["text", "image"]]


class RewardBase(Config):
    """What all kinds have: how a reward counts in the sum. A change of it asks no model again."""

    objectives: ClassVar[tuple[str, ...]] = ("caption",)
    """Objectives of a stage that this kind can reward."""
    scores: ClassVar[bool] = False
    """Does it ask the reasoner how probable a given text is? Not every server says that."""

    type: str
    """Kind of reward."""
    name: Annotated[str | None, NeutralDefault(), Field(pattern=r"^[\w-]+$")] = None
    """Name in gates, metrics and messages; None: the type. Two rewards of a recipe have different names."""
    weight: Annotated[float, NeutralDefault()] = 1.0
    """Factor in the sum of rewards. 0: the reward is measured and may be a gate, but adds nothing."""
    gate: Annotated[str | None, NeutralDefault()] = None
    """Name of a reward above this one, by whose value this one is multiplied. Kinds that ask the policy are then asked
    only about captions for which the gate is not 0."""
    max_unscored: Annotated[Share, NeutralDefault()] = 0.2
    """Largest share of captions of an iteration that this reward may leave unscored, 0 to 1; above it the run stops."""

    @property
    def title(self) -> str:
        """The name by which a recipe, metrics and messages know this reward."""
        return self.name or self.type

    @property
    def asked(self) -> Asked:
        """Keys of this reward that name judges, each with what its judge is shown; empty if it asks none."""
        return {}

    def alone(self) -> Any:
        """The same kind with the same settings, without how it counts in the sum: what its stage computes.

        Judges are no part of it by their names; the stage gets what they are.
        """
        counting = {name: field.default for name, field in RewardBase.model_fields.items() if name != "type"}
        return self.model_copy(update=counting | dict.fromkeys(self.asked))


class AnswerReward(RewardBase):
    """1 if the frozen reasoner's answer from the caption is right, 0 if it is wrong (RACRO). With objective answer, the
    policy's own answer counts, and no reasoner is asked (RAPID)."""

    objectives: ClassVar[tuple[str, ...]] = ("caption", "answer")

    type: Literal["answer"] = "answer"
    truncated: Literal["wrong", "unscored"] = "wrong"
    """How an output of the reasoner that reached the token limit counts: as wrong (0), or not at all."""


class DescribesReward(RewardBase):
    """0 if the caption describes an image, -1 if not, as the policy itself judges (RAPID, with weight 0.1 and the
    answer as gate)."""

    type: Literal["describes"] = "describes"


class LengthReward(RewardBase):
    """A value for the number of tokens of a caption."""

    objectives: ClassVar[tuple[str, ...]] = ("caption", "answer")

    type: Literal["length"] = "length"
    form: Literal["budget", "mask"] = "budget"
    """budget: 1 up to `budget` tokens, 0 from `limit` tokens, linear between (CapRL++). mask: 1 from `shortest` to
    `longest` times `reference` tokens, 0 outside, as a gate of other rewards (BalCapRL)."""
    budget: PositiveInt = 400
    """budget: most tokens that earn 1."""
    limit: PositiveInt = 600
    """budget: fewest tokens that earn 0."""
    reference: PositiveInt | None = None
    """mask: tokens of a caption as it should be."""
    shortest: Annotated[float, Field(ge=0)] = 0.5
    """mask: smallest ratio to the reference that earns 1."""
    longest: Annotated[float, Field(gt=0)] = 2.0
    """mask: largest ratio to the reference that earns 1."""

    @model_validator(mode="after")
    def _in_order(self) -> LengthReward:
        if self.budget >= self.limit:
            raise ValueError(f"budget ({self.budget} tokens) must be below limit ({self.limit} tokens)")
        if self.shortest > self.longest:
            raise ValueError(f"shortest ({self.shortest:g}) is above longest ({self.longest:g})")
        if self.form == "mask" and self.reference is None:
            raise ValueError("form mask needs reference: the tokens of a caption as it should be")
        return self


class FormatReward(RewardBase):
    """1 if all that the policy wrote, thoughts included, has a form, 0 if not."""

    objectives: ClassVar[tuple[str, ...]] = ("caption", "answer")

    type: Literal["format"] = "format"
    form: Literal["vision_sr1", "perception_r1"] = "perception_r1"
    """vision_sr1: `<description>...</description><think>...</think>\\boxed{...}` (Vision-SR1). perception_r1: thoughts
    in `<think>` and an answer with a box in `<answer>`, the tags on lines of their own (Perception-R1)."""


class MinimalReward(RewardBase):
    """Minus the rank of a caption's length among those of its group that its gate lets through, from 0 to -1."""

    type: Literal["minimal"] = "minimal"

    @model_validator(mode="after")
    def _gated(self) -> MinimalReward:
        if self.gate is None:
            raise ValueError("minimal needs a gate: captions are ranked among those that it lets through")
        return self


class McqReward(RewardBase):
    """Share of multiple-choice questions about the image that a judge answers rightly from the caption alone (CapRL).

    The questions are the problem's own (`problems.columns.mcq`); the same for all captions of a problem."""

    type: Literal["mcq"] = "mcq"
    by: By = "judge"
    """Who answers: a judge, or for embedded problems (scene) a rule that reads their captions, without a model."""
    judge: str | None = None
    """Name of the judge, which sees text; None: the only one."""
    rounds: Annotated[PositiveInt, Field(le=64)] = 2
    """Questions for each caption, drawn without replacement; beyond all of them, once more with options shuffled anew.
    CapRL asks 8; 2 suffice, as its authors find."""

    @property
    def asked(self) -> Asked:
        """See RewardBase."""
        return {"judge": "text"} if self.by == "judge" else {}


class FactsReward(RewardBase):
    """Weighted share of the known facts about the image that the caption states (Perception-R1).

    The facts are the problem's own (`problems.columns.facts`)."""

    type: Literal["facts"] = "facts"
    by: By = "judge"
    """Who compares: a judge, or for embedded problems (scene) the known scene, without a model."""
    judge: str | None = None
    """Name of the judge, which sees text; None: the only one."""

    @property
    def asked(self) -> Asked:
        """See RewardBase."""
        return {"judge": "text"} if self.by == "judge" else {}


class CorrectnessReward(RewardBase):
    """Share of a caption's claims that are true of the image; 0 for a caption without claims (CCCaption)."""

    type: Literal["correctness"] = "correctness"
    by: By = "judge"
    """Who compares: judges, or for embedded problems (scene) the known scene, without a model."""
    splitter: str | None = None
    """Name of the judge that splits a caption into claims; it sees text. None: the only one."""
    judge: str | None = None
    """Name of the judge that compares claims with the image; it sees images. None: the only one."""
    claims: Annotated[PositiveInt, Field(le=100)] = 20
    """Most claims of a caption that are looked at, the first ones."""

    @property
    def asked(self) -> Asked:
        """See RewardBase."""
        return {"splitter": "text", "judge": "image"} if self.by == "judge" else {}


class ConfidenceReward(RewardBase):
    """How probable the gold answer is to the reasoner, from the caption and without reasoning (Listener)."""

    scores: ClassVar[bool] = True

    type: Literal["confidence"] = "confidence"
    lead: str = "The answer is"
    """How the reasoner's turn begins, before the gold answer."""
    floor: Annotated[float, Field(gt=0)] = 5.0
    """For answers that are texts: mean log-probs of a token from -floor to 0 become values from 0 to 1."""


class SelfReward(RewardBase):
    """1 if the policy itself, without the image, answers rightly from its own caption, 0 if not (Vision-SR1)."""

    type: Literal["self"] = "self"
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature of these answers; 0 is greedy."""
    max_tokens: PositiveInt = 2048
    """Longest answer in tokens; one that reaches it without a result is wrong."""


class RetrievalReward(RewardBase):
    """1 if a judge finds, among captions of look-alike images, the one of the same image; 0 if not."""

    type: Literal["retrieval"] = "retrieval"
    judge: str | None = None
    """Name of the judge, which sees text; None: the only one."""
    candidates: Annotated[int, Field(ge=2, le=10)] = 4
    """Captions to choose from, one of them of the same image. The others are of this iteration's problems whose images
    look most like it."""

    @property
    def asked(self) -> Asked:
        """See RewardBase."""
        return {"judge": "text"}


class PythonReward(RewardBase):
    """A function of your own: see docs/rewards.md."""

    objectives: ClassVar[tuple[str, ...]] = ("caption", "answer")

    type: Literal["python"] = "python"
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`package.module:name` of a function that takes cases and the settings, and returns a number or None for each."""
    settings: dict[str, Setting] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    version: PositiveInt
    """Version of the function. Raise it when the function computes something else: values are cached under it."""


Reward = Annotated[
    AnswerReward
    | DescribesReward
    | LengthReward
    | FormatReward
    | MinimalReward
    | McqReward
    | FactsReward
    | CorrectnessReward
    | ConfidenceReward
    | SelfReward
    | RetrievalReward
    | PythonReward,
    Field(discriminator="type"),
]


def composable(rewards: tuple[Reward, ...]) -> tuple[Reward, ...]:
    """The list as it is. Raises ValueError if it cannot be summed."""
    if not rewards:
        raise ValueError("give at least one reward, for example {type: answer}")
    names = [reward.title for reward in rewards]
    for place, reward in enumerate(rewards):
        above = names[:place]
        if reward.title in above:
            raise ValueError(f"two rewards are called {reward.title}; give one of them another name")
        if reward.gate is not None and reward.gate not in above:
            known = f"a reward above {reward.title}: {', '.join(above)}" if above else "a reward above it, and none is"
            raise ValueError(f"{reward.title}: gate: {reward.gate} is not {known}")
        gate = next((one for one in rewards[:place] if one.title == reward.gate), None)
        if gate is not None and gate.type in NEVER_POSITIVE:
            raise ValueError(
                f"{reward.title}: gate: {gate.title} is never above 0 ({gate.type}), and would turn {reward.title} "
                "around; name a reward from 0 to 1"
            )
    types = [reward.type for reward in rewards]
    if "self" in types and "answer" in types[types.index("self") :] and "answer" not in types[: types.index("self")]:
        raise ValueError("answer must stand above self: the first answers in the list are shown as the reasoner's")
    if not any(reward.weight for reward in rewards):
        raise ValueError("all weights are 0, so there is nothing to learn from; give one reward a weight")
    return rewards


Rewards = Annotated[tuple[Reward, ...], AfterValidator(composable)]


def as_list(reward: Any) -> str:
    """How a recipe with the old section `reward` is written now, as one line for its owner."""
    old = reward if isinstance(reward, dict) else {}
    kept = {key: old[key] for key in ("truncated", "max_unscored") if isinstance(old.get(key), str | float | int)}
    listed = [{"type": "answer"} | kept]
    if isinstance(old.get("penalty"), float | int) and old["penalty"]:
        kept.pop("truncated", None)
        listed.append({"type": "describes", "weight": old["penalty"], "gate": "answer"} | kept)
    text = yaml.safe_dump(listed, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return f"reward: is a list now; write rewards: {text}"
