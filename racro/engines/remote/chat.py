"""The chat-completions protocol: prompts to request bodies, responses to completions, complaints to errors. Pure.

Not a client: it opens no connection. Called by `racro.engines.remote.client`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image

from racro.engines.protocol import BadPrompt, Completion, Generation, Prompt, Request, Sampling
from racro.engines.protocol import too_long as prompt_too_long
from racro.prompts import Message, plain_text
from racro.schema import FinishReason

IMAGE_TOKEN = "<|image_pad|>"
"""Servers would take it for an image placeholder in a text, without an error."""
BAN = -100.0
"""The strongest bias in the protocol; e^-100 of a probability is practically zero."""
DIVERGED = "the model's probabilities are not numbers: its weights have diverged"
LED = {"add_generation_prompt": False, "continue_final_message": True}
"""Fields by which a vLLM server goes on with the last message, which is the beginning of the model's turn."""
SEEDS = 2**31
"""Seeds below are whole numbers to every server."""


class BadAnswer(Exception):
    """An answer that no working server gives."""


def messages(prompt: Prompt, sees: bool, vllm: bool = False) -> bytes:
    """The messages as JSON: text, or parts with the exact pixels as PNG. Raises BadPrompt.

    `sees`: the model reads images. `vllm`: the server goes on with a turn of the model's that was begun (`LED`); to
    others the lead is not sent, and the model begins its turn itself.
    """
    texts = [plain_text(message) for message in prompt.messages]
    if not sees:
        if prompt.images:
            raise BadPrompt("this model reads text only, the prompt has images")
    else:
        places = sum(part["type"] == "image" for message in prompt.messages for part in _parts(message))
        places += sum(text.count(IMAGE_TOKEN) for text in texts)
        if places != len(prompt.images):
            raise BadPrompt(f"{places} places for images in a prompt with {len(prompt.images)}: {texts[-1][:80]!r}")
    images = iter(prompt.images)
    said = [
        {**message, "content": _content(_parts(message), text, images)}
        for message, text in zip(prompt.messages, texts, strict=True)
    ]
    if prompt.lead and vllm:
        said.append({"role": "assistant", "content": prompt.lead})
    return json.dumps(said).encode()


def body(messages: bytes, fields: dict[str, Any]) -> bytes:
    """A request's body: the messages, which hold the images, are not encoded again for every attempt."""
    return json.dumps(fields).encode()[:-1] + b', "messages": ' + messages + b"}"


def vllm_fields(sampling: Sampling, seed: int, banned: Iterable[int], token_ids: bool) -> dict[str, Any]:
    """What a vLLM server is asked: all samples at once. It refuses several greedy ones, which would be equal."""
    fields: dict[str, Any] = {
        "n": samples(sampling),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
    }
    if token_ids:
        fields |= {"return_token_ids": True, "logprobs": True, "top_logprobs": 0}
        fields["logit_bias"] = {str(token): BAN for token in banned}
    return fields


def plain_fields(sampling: Sampling, seed: int, limit: str) -> dict[str, Any]:
    """What every other server is asked: one sample, by fields that all know. `limit`: the name of the token limit."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        limit: sampling.max_tokens,
        "seed": seed % SEEDS,
    }


def samples(sampling: Sampling) -> int:
    """Samples that differ: greedy ones do not."""
    return sampling.n if sampling.temperature else 1


def generation(answer: bytes, request: Request, n: int, token_ids: bool, positions: int | None) -> Generation:
    """All `n` completions of an answer. `positions`: prompt and completion of the model together, where known.

    Raises BadAnswer, BadPrompt (some servers shorten the completion instead of refusing), FloatingPointError.
    """
    try:
        said = json.loads(answer)
        choices = sorted(said["choices"], key=lambda choice: choice.get("index", 0))
        if len(choices) != n:
            raise BadAnswer(f"{len(choices)} choices instead of {n}")
        _fits(said.get("usage") or {}, choices, request.sampling.max_tokens, positions)
        prompt_ids = tuple(said["prompt_token_ids"]) if token_ids else ()
        completions = tuple(_completion(choice, token_ids) for choice in choices)
        return Generation(request.key, prompt_ids, completions, None if token_ids else _counted(said.get("usage")))
    except BadPrompt:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadAnswer(f"no chat completion: {answer[:80].decode(errors='replace')!r}") from error


def complaint(answer: bytes) -> str:
    """What a server says in an error's body, in one line."""
    text = answer.decode(errors="replace")
    try:
        said = json.loads(text)
        while isinstance(said, dict):
            said = next(said[key] for key in ("error", "message", "detail") if key in said)
        text = str(said)
    except (ValueError, StopIteration):
        text = re.sub(r"<[^>]*>", " ", text)  # a proxy's page
    return " ".join(text.split())[:300] or "no reason given"


def too_long(answer: bytes) -> bool:
    """Does an error's body say that prompt and completion exceed the model's context?"""
    pattern = r"context.{0,3}(length|size|window)|max_model_len|exceed_context|too many tokens|prompt is too long"
    return re.search(pattern, answer.decode(errors="replace"), re.IGNORECASE) is not None


def _parts(message: Message) -> list[dict[str, str]]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _content(parts: list[dict[str, str]], text: str, images: Iterator[Image.Image]) -> str | list[dict[str, Any]]:
    """Plain text where there are no images: not every server knows parts."""
    if not any(part["type"] == "image" for part in parts):
        return text
    return [_image(next(images)) if part["type"] == "image" else part for part in parts]


def _image(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}


def _completion(choice: dict[str, Any], token_ids: bool) -> Completion:
    message = choice["message"]
    text = message.get("content") or ""
    reason = finish_reason(choice.get("finish_reason"))
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if thoughts:  # where the server took them out of the text; without an end when the limit cut them
        text = f"<think>{thoughts}" + (f"</think>{text}" if text or reason == "stop" else "")
    if not token_ids:
        return Completion((), (), text, reason)
    ids = tuple(choice["token_ids"])
    logprobs = tuple(token["logprob"] for token in choice["logprobs"]["content"])
    if not all(value is not None and math.isfinite(value) for value in logprobs):
        raise FloatingPointError(DIVERGED)
    if len(ids) != len(logprobs):
        raise BadAnswer(f"{len(ids)} token ids and {len(logprobs)} log-probs")
    return Completion(ids, logprobs, text, reason)


def _counted(usage: Any) -> tuple[int, int] | None:
    """Tokens of prompt and completions, if the server says."""
    if not isinstance(usage, dict):
        return None
    prompt, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (prompt, written) if isinstance(prompt, int) and isinstance(written, int) else None


def finish_reason(said: str | None) -> FinishReason:
    """Raises BadAnswer where the server gave the request up.

    A content filter is a stop: time and the token limit had no part in it, asking again would not help, and what was
    written stands for itself; without an answer in it, it is `unparsed`.
    """
    if said in ("abort", "error", "cancelled"):
        raise BadAnswer(f"finish_reason {said!r}")
    return "length" if said == "length" else "stop"


def _fits(usage: dict[str, Any], choices: list[dict[str, Any]], max_tokens: int, positions: int | None) -> None:
    prompt, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prompt is None or written is None:
        return
    cut = len(choices) == 1 and choices[0].get("finish_reason") == "length" and written < max_tokens
    if cut or (positions is not None and prompt + max_tokens > positions):
        room = (
            f"the model's {positions} positions" if positions else f"the server's context ({prompt + written} tokens)"
        )
        raise prompt_too_long(prompt, max_tokens, room)
