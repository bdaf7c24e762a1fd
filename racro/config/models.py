"""Recipe sections `captioner`, `reasoner` and `judges`: the trained model and the frozen ones."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from racro.config.base import Config, NeutralDefault
from racro.config.engines import EngineChoice, Transformers

DType = Literal["float32", "bfloat16", "float16"]
Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TemplateValue = bool | int | float | str
RENDERING = {
    "conversation",
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "return_tensors",
}
"""Arguments of a chat template that are not the recipe's to set."""


def _no_rendering(given: dict[str, TemplateValue]) -> dict[str, TemplateValue]:
    if wrong := sorted(RENDERING & given.keys()):
        raise ValueError(f"{', '.join(wrong)}: set by racro itself; give only what the chat template reads")
    return given


TemplateKwargs = Annotated[dict[str, TemplateValue], AfterValidator(_no_rendering), NeutralDefault()]

PixelRange = tuple[int | None, int | None]
"""Fewest and most pixels of an image as a captioner sees it; None: as its checkpoint says."""


class Lora(Config):
    """Low-rank adapters (LoRA, arXiv 2106.09685) for linear layers of the captioner's language model."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Rank of the two matrices whose product is added to a layer's weights."""
    alpha: PositiveInt = 32
    """Scale: the product of the two matrices is multiplied by alpha / rank."""
    targets: Annotated[tuple[Linear, ...], Field(min_length=1)] = get_args(Linear)
    """Names of the layers that are adapted, in every block of the language model. If a model fuses some of them, or has
    linear attention instead, the layers that take their part are adapted (`racro.models.adapters`)."""


class Captioner(Config):
    """The vision-language model that is trained."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    """`embedded`, a folder with a model or a LoRA adapter, or a Hugging Face id."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face model; None: its default branch."""
    dtype: DType = "bfloat16"
    """Precision of the engine's weights and of the trainer's computations; trained weights are kept in float32."""
    engine: EngineChoice = Transformers()
    """The software that generates captions."""
    lora: Lora | None = None
    """Train an adapter and leave the model's weights unchanged. None: train all weights, or the adapter that `model`
    names."""
    template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """What the chat template is given besides the messages, for example {enable_thinking: false}."""
    min_pixels: Annotated[PositiveInt | None, NeutralDefault()] = None
    """Fewest pixels of an image as the captioner sees it; smaller ones are enlarged. None: as in the checkpoint."""
    max_pixels: Annotated[PositiveInt | None, NeutralDefault()] = None
    """Most pixels of an image as the captioner sees it; larger ones are scaled down, which saves tokens. None: as in
    the checkpoint."""

    @model_validator(mode="after")
    def _ordered(self) -> Captioner:
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is larger than max_pixels ({self.max_pixels})")
        return self

    @property
    def pixels(self) -> PixelRange:
        """Both limits."""
        return self.min_pixels, self.max_pixels

    @property
    def reads_images(self) -> bool:
        """Is it a vision-language model that is shown images?"""
        return True


class Reasoner(Config):
    """The frozen text-only model that answers from captions. It can be exchanged without training again."""

    model: str = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    """`embedded`, a folder with a model, or a Hugging Face id."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face model; None: its default branch."""
    dtype: DType = "bfloat16"
    """Precision of the weights in the engine."""
    engine: EngineChoice = Transformers()
    """The software that generates answers."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature during training; 0 is greedy. Evaluations use `evaluation.temperature`."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling during training: only the most likely tokens with this total probability; 1: all tokens."""
    max_tokens: PositiveInt = 8192
    """Longest answer in tokens. An answer that reaches it without a result gets the verdict `truncated`."""
    template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """What the chat template is given besides the messages, for example {enable_thinking: false}."""

    @property
    def reads_images(self) -> bool:
        """Is it a vision-language model that is shown images?"""
        return False


class Judge(Config):
    """A frozen model that says something about captions, for the rewards that ask one."""

    model: str
    """`embedded`, a folder with a model, or a Hugging Face id."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face model; None: its default branch."""
    dtype: DType = "bfloat16"
    """Precision of the weights in the engine."""
    engine: EngineChoice = Transformers()
    """The software that generates the judgements."""
    sees: Literal["text", "image"] = "text"
    """What it is shown: text alone, or the images too (a vision-language model)."""
    temperature: Annotated[float | None, Field(ge=0)] = None
    """Sampling temperature; None: that of the reward which asks."""
    max_tokens: PositiveInt | None = None
    """Longest judgement in tokens; None: that of the reward which asks. A judge that thinks first needs thousands."""
    template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """What the chat template is given besides the messages, for example {enable_thinking: false}."""

    @property
    def reads_images(self) -> bool:
        """Is it a vision-language model that is shown images?"""
        return self.sees == "image"


ModelSection = Captioner | Reasoner | Judge
"""The section of a role: a model, and the engine that runs it."""
JUDGES = "judges."
"""What the role of a judge begins with; its name follows."""
REASONERS = "reasoners."
"""The same for a reasoner that has a place of its own among several."""
