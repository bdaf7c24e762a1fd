"""From chat messages to the text that a model reads: one way for every engine that holds a tokenizer.

Not a tokenizer; the chat templates are the models' own. Called by `racro.engines.local.transformers` and `.vllm`.
"""

from __future__ import annotations

from typing import Any

from racro.engines.protocol import Prompt
from racro.prompts import plain_text


def fill(prompt: Prompt, tokenizer: Any, processor: Any) -> str:
    """The chat template, filled; special tokens are in it, so none may be added when it is tokenized.

    `processor` is None for a text-only model. Raises ValueError when images and their places do not match.
    """
    if processor is None:
        if prompt.images:
            raise ValueError("this model reads text only, the prompt has images")
        messages = [{**message, "content": plain_text(message)} for message in prompt.messages]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    places = text.count(processor.image_token)
    if places != len(prompt.images):
        raise ValueError(f"{places} places for images in a prompt with {len(prompt.images)}: {text[:80]!r}")
    return text
