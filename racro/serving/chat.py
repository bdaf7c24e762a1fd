"""The body of `POST /v1/chat/completions` -> a question: what is honoured, what is ignored, and what is refused.

A pair answers one question about images, so it reads the last user message, with the images of the last user message
that has any. Pure: images are still links here (`racro.serving.pictures` gets them). Called by `racro.serving.api`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from racro.prompts import IMAGE_TAG
from racro.serving.errors import ApiError, invalid
from racro.serving.limits import Limits

DEFAULT = "racro"
"""The model that is meant when none is named."""
IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
"""Fields that change no answer."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logprobs": (False,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "functions": ([],),
    "stop": ([], ""),
    "logit_bias": ({},),
    "tool_choice": ("none", "auto"),
    "reasoning_effort": (),
    "top_logprobs": (0,),
}
"""Fields of the API that a pair of models cannot honour, with the values that ask for nothing."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class ImageUrl(_Part):
    """Where an image is: a data: URL, or a link."""

    url: str


class TextPart(_Part):
    """A piece of the question."""

    type: Literal["text"]
    text: str


class ImagePart(_Part):
    """An image, at this place of the question."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Part):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None


class StreamOptions(_Part):
    """What a stream holds besides the answer."""

    include_usage: bool = False


class ChatRequest(_Part):
    """The fields that are honoured."""

    model: str = DEFAULT
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


@dataclass(frozen=True)
class Inquiry:
    """A question as a client asks it. None: as the server was told to answer."""

    model: str
    question: str
    """With `<image>` placeholders where text and images alternate."""
    images: tuple[str | bytes, ...]
    """Links (data:, http:, https:), or the content of files."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stream: bool = False
    include_usage: bool = False


def parse(body: bytes, limits: Limits) -> Inquiry:
    """What a request asks. Raises ApiError 400."""
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON ({_reason(error)})", code="invalid_json") from error
    if not isinstance(content, dict):
        raise invalid("the body is no JSON object", code="invalid_json")
    _refuse(content)
    try:
        read = ChatRequest.model_validate(content)
    except ValidationError as error:
        raise _invalid(error) from error
    question, images = _question(read.messages)
    if not question.replace(IMAGE_TAG, "").strip():
        raise invalid("the last user message asks nothing; write a question as text", "messages")
    if len(question) > limits.question:
        raise invalid(f"a question of {len(question)} characters; at most {limits.question}", "messages")
    if not images:
        raise invalid("no image; add a part of type image_url to the user message", "messages")
    if len(images) > limits.images:
        raise invalid(f"{len(images)} images; at most {limits.images}", "messages")
    limit = read.max_completion_tokens or read.max_tokens
    usage = bool(read.stream_options and read.stream_options.include_usage)
    return Inquiry(
        read.model, question, images, limit, read.temperature, read.top_p, read.seed, bool(read.stream), usage
    )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _reason(error: Exception) -> str:
    return "too deeply nested" if isinstance(error, RecursionError) else str(error)[:200]


def _refuse(content: dict[str, Any]) -> None:
    """Raises ApiError for a field that would change the answer and cannot be honoured."""
    for name, value in content.items():
        if value is None or name in ChatRequest.model_fields or name in IGNORED:
            continue
        if name not in NEUTRAL:
            raise invalid(f"unknown field {name[:80]!r}; leave it out", name[:80], "unknown_parameter")
        if value not in NEUTRAL[name]:
            allowed = " or ".join(json.dumps(neutral) for neutral in NEUTRAL[name]) or "null"
            raise invalid(f"{name} is not supported here; leave it out, or give {allowed}", name, "unsupported_value")


def _invalid(error: ValidationError) -> ApiError:
    """The mistake that is found deepest, by its place in the request: of a union, that is the branch that was meant."""
    found = max(error.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
    place = [part for part in found["loc"] if part != "str" and not str(part).startswith("list[")]
    if "content" in place and len(place) > 4:  # the kind of a part stands after its number
        del place[4]
    param = ".".join(map(str, place))
    return invalid(f"{param}: {found['msg']}"[:500], param)


def _question(messages: list[Message]) -> tuple[str, tuple[str, ...]]:
    """The text of the last user message, and its images; if it has none, those of an earlier message of the user's."""
    asked = [message for message in messages if message.role == "user"]
    if not asked:
        raise invalid("no message with the role user", "messages")
    parts = _parts(asked[-1])
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    runs = [isinstance(part, TextPart) for part in parts]
    changes = sum(now != before for now, before in zip(runs[1:], runs, strict=False))
    if changes > 1 and not any(IMAGE_TAG in text for text in texts):
        question = "".join(part.text if isinstance(part, TextPart) else IMAGE_TAG for part in parts)
    else:  # images before or after the text: the models were trained on images that come first
        question = "\n".join(texts)
    for message in reversed(asked):
        if images := tuple(part.image_url.url for part in _parts(message) if isinstance(part, ImagePart)):
            return question, images
    return question, ()


def _parts(message: Message) -> list[TextPart | ImagePart]:
    if isinstance(message.content, str):
        return [TextPart(type="text", text=message.content)]
    return list(message.content or [])
