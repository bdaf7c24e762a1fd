"""Answers in the form of OpenAI's chat completions: whole, or as the events of a stream. Pure.

Extra fields that OpenAI's do not have: `reasoning_content` (as DeepSeek's and vLLM's servers name it), and `racro` with
the parts of the answer.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from racro.answering.cases import Answer
from racro.serving import narration
from racro.serving.narration import Growing, Written


@dataclass(frozen=True)
class Usage:
    """Tokens of both models."""

    captioner: tuple[int, int] = (0, 0)
    """Of its prompts, and of what it wrote."""
    reasoner: tuple[int, int] = (0, 0)

    @property
    def total(self) -> int:
        """All tokens, read and written."""
        return sum(self.captioner) + sum(self.reasoner)

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's object; reasoning tokens are those of the captioner."""
        prompt, written = (self.captioner[i] + self.reasoner[i] for i in (0, 1))
        details = {"reasoning_tokens": self.captioner[1]}
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "completion_tokens_details": details,
        }


@dataclass(frozen=True)
class Answered:
    """A question's end."""

    answer: Answer
    written: Written
    usage: Usage
    seconds: float

    @property
    def finish_reason(self) -> str:
        """OpenAI's: `length` where the reasoner was cut off."""
        return "stop" if self.answer.finish.answer == "stop" else "length"

    @property
    def parts(self) -> dict[str, Any]:
        """The field `racro`: the answer alone, what led to it, and how long it took."""
        fields = self.answer.model_dump(
            mode="json", exclude_none=True, include={"caption", "attempt", "final", "finish"}
        )
        return fields | {"seconds": round(self.seconds, 3)}


@dataclass
class Completion:
    """One completion on its way to a client."""

    model: str
    number: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _reasoning: Growing = field(default_factory=Growing)
    _content: Growing = field(default_factory=Growing)

    def whole(self, answered: Answered) -> dict[str, Any]:
        """The answer as one object."""
        message = {
            "role": "assistant",
            "content": narration.content(answered.written),
            "reasoning_content": narration.reasoning(answered.written),
            "refusal": None,
        }
        choice = {"index": 0, "message": message, "finish_reason": answered.finish_reason, "logprobs": None}
        return self._object("chat.completion", [choice], usage=answered.usage.body, racro=answered.parts)

    def begin(self) -> str:
        """The first event of a stream."""
        return self._event({"role": "assistant", "content": ""})

    def pieces(self, written: Written) -> Iterator[str]:
        """Events for what is new."""
        if new := self._reasoning.more(narration.reasoning(written)):
            yield self._event({"reasoning_content": new})
        if new := self._content.more(narration.content(written)):
            yield self._event({"content": new})

    def end(self, answered: Answered, include_usage: bool) -> Iterator[str]:
        """The last events of a stream."""
        yield from self.pieces(answered.written)
        yield self._event({}, answered.finish_reason, racro=answered.parts)
        if include_usage:
            yield sse(self._object("chat.completion.chunk", [], usage=answered.usage.body))
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return sse(self._object("chat.completion.chunk", [choice], **more))

    def _object(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self.number, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more}


def sse(content: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {as_json(content)}\n\n"


def as_json(content: Any) -> str:
    """JSON that every client reads: characters beyond ASCII are escaped, lone surrogates too."""
    return json.dumps(content, separators=(",", ":"))
