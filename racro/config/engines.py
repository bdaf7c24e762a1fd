"""Recipe keys `captioner.engine` and `reasoner.engine`: what generates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from racro.config.base import Config


class Transformers(Config):
    """Hugging Face transformers in process: one prefill per prompt, its KV cache repeated for the group."""

    type: Literal["transformers"] = "transformers"


class ScriptedReply(Config):
    """What the scripted engine answers to prompts that match."""

    when: str = "(?s).*"
    """Regular expression searched in the text of the last user message."""
    replies: tuple[str, ...]
    """One reply per sample, in turn; \\1 and so on stand for the groups of `when`."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds before each reply; beyond the request deadline the request counts as failed."""
    tokens: PositiveInt | None = None
    """Pretended length; None: the reply's bytes. Above `max_tokens` the reply is cut and `finish_reason` is length."""


class Scripted(Config):
    """No model: replies by rules. For tests, examples and dry runs of a workflow."""

    type: Literal["scripted"] = "scripted"
    rules: tuple[ScriptedReply, ...] = (ScriptedReply(replies=("unknown",)),)
    """The first rule that matches answers; no match is an error."""


class Vllm(Config):
    """vLLM as a library, in a child process: continuous batching over the whole stage, prefix caching."""

    type: Literal["vllm"] = "vllm"
    quantization: str | None = None
    """fp8, awq, gptq ...: of a frozen reasoner whose checkpoint does not say it itself."""
    max_model_len: PositiveInt | None = None
    """Longest prompt with answer; the model's own when None."""


class Server(Config):
    """An OpenAI-compatible endpoint: those of `runtime.<role>.urls`, else a vLLM server that is started and stopped."""

    type: Literal["server"] = "server"
    quantization: str | None = None
    """As for `vllm`; of a server that is started."""
    max_model_len: PositiveInt | None = None
    """As for `vllm`; of a server that is started."""


EngineChoice = Annotated[Transformers | Vllm | Server | Scripted, Field(discriminator="type")]
