"""From chat messages to the text that a model reads, for every engine that has a tokenizer.

Not a tokenizer; the chat templates come with the models. Called by `racro.engines.local.transformers` and
`racro.engines.vllm.engine`.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from racro.engines.protocol import BadPrompt, Prompt
from racro.prompts import plain_text


def fill(prompt: Prompt, tokenizer: Any, processor: Any) -> str:
    """The filled chat template. It contains the special tokens, so the tokenizer must not add them again.

    `processor` is None for a text-only model. Raises BadPrompt when the template does not take these messages, or when
    images and image placeholders do not match.
    """
    messages: list[dict[str, Any]] = [dict(message) for message in prompt.messages]
    if processor is None:
        if prompt.images:
            raise BadPrompt("this model reads text only, the prompt has images")
        messages = [{**message, "content": plain_text(message)} for message in prompt.messages]
    try:
        text: str = (processor or tokenizer).apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise BadPrompt(f"the model's chat template does not take this: {error}") from error
    if processor is not None and (places := text.count(processor.image_token)) != len(prompt.images):
        raise BadPrompt(f"{places} places for images in a prompt with {len(prompt.images)}: {text[:80]!r}")
    return text
