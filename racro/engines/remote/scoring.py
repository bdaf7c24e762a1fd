"""How probable is a given text to the model behind a vLLM server? What is asked for it, and how it is read. Pure.

Three questions: the tokens of the prompt, those of the text, and the log-probs of both in one prompt, so that a text
has the tokens that other engines give it, whatever stands before it. Servers of other kinds do not say the last one.
Called by `racro.engines.remote.exchange`; not a client.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from racro.engines.protocol import Completion, Generation, Request
from racro.engines.remote.chat import DIVERGED, LED, BadAnswer

TOKENIZE = "/tokenize"
"""Below the server's root."""
COMPLETIONS = "/completions"
"""Below the server's base URL."""


def of_prompt(model: str, lead: bool, template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that go with a prompt's messages. `lead`: the last message is the beginning of the model's turn."""
    fields: dict[str, Any] = {"model": model, **(LED if lead else {"add_generation_prompt": True})}
    return fields | ({"chat_template_kwargs": dict(template_kwargs)} if template_kwargs else {})


def of_text(model: str, text: str) -> dict[str, Any]:
    """A text by itself."""
    return {"model": model, "prompt": text, "add_special_tokens": False}


def of_both(model: str, ids: tuple[int, ...]) -> dict[str, Any]:
    """The log-probs of a prompt; the one token that follows it is needed by nobody."""
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def tokens(answer: bytes) -> tuple[int, ...]:
    """Token ids. Raises BadAnswer."""
    try:
        return tuple(int(token) for token in json.loads(answer)["tokens"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(f"no tokens: {answer[:80].decode(errors='replace')!r}") from error


def generation(answer: bytes, request: Request, begun: tuple[int, ...], own: tuple[int, ...]) -> Generation:
    """The text as a completion. `begun`, `own`: tokens of prompt and text. Raises BadAnswer, FloatingPointError."""
    try:
        entries = json.loads(answer)["choices"][0]["prompt_logprobs"]
        if len(entries) != len(begun) + len(own):
            raise BadAnswer(f"{len(entries)} log-probs for {len(begun) + len(own)} tokens")
        said = [entry[str(token)]["logprob"] for token, entry in zip(own, entries[len(begun) :], strict=True)]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BadAnswer(f"no log-probs of the prompt: {answer[:80].decode(errors='replace')!r}") from error
    if not all(value is not None and math.isfinite(value) for value in said):
        raise FloatingPointError(DIVERGED)
    return Generation(request.key, begun, (Completion(own, tuple(said), request.forced or "", "stop"),))
