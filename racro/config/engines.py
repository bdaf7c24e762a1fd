"""Recipe keys `captioner.engine` and `reasoner.engine`: which software generates text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from racro.config.base import Config, NeutralDefault

KvCacheDType = Literal["auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"]
"""vLLM's names for the precision of keys and values."""


class Transformers(Config):
    """Hugging Face transformers in the run's process: one prefill per prompt, shared by all its samples."""

    type: Literal["transformers"] = "transformers"


class ScriptedReply(Config):
    """A rule of the scripted engine: which prompts match, and what it replies to them."""

    when: str = "(?s).*"
    """Regular expression that is searched in the text of the last user message."""
    replies: tuple[str, ...]
    """Replies to the samples of a prompt, in turn; \\1, \\2 ... are replaced by the groups of `when`."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds before each reply. Beyond `runtime.request_deadline` the request counts as failed."""
    tokens: PositiveInt | None = None
    """Pretended length in tokens; None: its number of bytes. Above `max_tokens` the reply is cut off."""


class Scripted(Config):
    """Replies by rules, without a model. For tests, examples and dry runs of a workflow."""

    type: Literal["scripted"] = "scripted"
    rules: tuple[ScriptedReply, ...] = (ScriptedReply(replies=("unknown",)),)
    """The first rule that matches a prompt replies to it. A prompt without a match is an error."""


class Vllm(Config):
    """vLLM as a library in a child process: continuous batching over the whole stage, prefix caching."""

    type: Literal["vllm"] = "vllm"
    quantization: str | None = None
    """Quantization of a reasoner, if its checkpoint names none: fp8, awq, gptq ... None: as in the checkpoint."""
    max_model_len: PositiveInt | None = None
    """Largest number of tokens of a prompt and its answer together; None: the model's maximum."""
    kv_cache_dtype: Annotated[KvCacheDType, NeutralDefault()] = "auto"
    """Precision of the keys and values that are kept; auto: that of the weights. fp8 holds twice as many tokens and
    changes log-probs a little."""


class Server(Config):
    """OpenAI-compatible servers: those at `runtime.<role>.urls`, or a vLLM server that the run starts and stops."""

    type: Literal["server"] = "server"
    quantization: str | None = None
    """As for `vllm`; only for a server that the run starts."""
    max_model_len: PositiveInt | None = None
    """As for `vllm`; only for a server that the run starts."""
    kv_cache_dtype: Annotated[KvCacheDType, NeutralDefault()] = "auto"
    """As for `vllm`; only for a server that the run starts."""


EngineChoice = Annotated[Transformers | Vllm | Server | Scripted, Field(discriminator="type")]
