"""Recipe sections `captioner` and `reasoner`: the trained model and the frozen one."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, PositiveInt

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


class Lora(Config):
    """Low-rank adapters (arXiv 2106.09685) of the language model's linear layers."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Columns of the two matrices by which a layer is changed."""
    alpha: PositiveInt = 32
    """Their product is multiplied by alpha / rank."""
    targets: Annotated[tuple[Linear, ...], Field(min_length=1)] = get_args(Linear)
    """The layers that are changed, by what they do: where a model fuses some of them or has linear attention in place
    of softmax attention, the layers that take their part (`racro.models.adapters`)."""


class Captioner(Config):
    """The vision-language model that is trained."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    """`embedded`, a local folder of a model or of a LoRA adapter, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dtype: DType = "bfloat16"
    """Precision of weights in engine and trainer."""
    engine: EngineChoice = Transformers()
    """What generates captions."""
    lora: Lora | None = None
    """Train an adapter and leave the weights as they are. None: all weights, or `model` where that is an adapter."""
    template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """What the chat template is given besides the messages, for example {enable_thinking: false}."""


class Reasoner(Config):
    """The frozen text-only model. Swap it and retrain nothing."""

    model: str = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    """`embedded`, a local folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dtype: DType = "bfloat16"
    """Precision of the weights."""
    engine: EngineChoice = Transformers()
    """What generates answers."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature in training; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling in training."""
    max_tokens: PositiveInt = 8192
    """Longest answer; beyond it the verdict is `truncated`."""
    template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """What the chat template is given besides the messages, for example {enable_thinking: false}."""
