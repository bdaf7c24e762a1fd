"""A request's prompt through the chat template of an engine's model (`racro.models.chat_template`)."""

from __future__ import annotations

from racro.engines.protocol import BadPrompt, Prompt
from racro.models.chat_template import ChatTemplate


def fill(prompt: Prompt, template: ChatTemplate) -> str:
    """The filled template, with the lead of the model's turn.

    It contains the special tokens, so the tokenizer must not add them again.

    Raises BadPrompt when the template does not take these messages, or when images and image placeholders do not match.
    """
    try:
        filled = template.fill(prompt.messages, len(prompt.images))
    except ValueError as error:
        raise BadPrompt(error) from error
    if not prompt.lead:
        return filled
    # A template that opens a thought is taken out of it: the lead begins the answer.
    return filled + ("\n</think>\n\n" if template.opening else "") + prompt.lead
