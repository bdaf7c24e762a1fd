"""A request's prompt through the chat template of an engine's model (`racro.models.chat_template`)."""

from __future__ import annotations

from racro.engines.protocol import BadPrompt, Prompt
from racro.models.chat_template import ChatTemplate


def fill(prompt: Prompt, template: ChatTemplate) -> str:
    """The filled template. It contains the special tokens, so the tokenizer must not add them again.

    Raises BadPrompt when the template does not take these messages, or when images and image placeholders do not match.
    """
    try:
        return template.fill(prompt.messages, len(prompt.images))
    except ValueError as error:
        raise BadPrompt(error) from error
