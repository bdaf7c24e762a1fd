"""A model's chat template: from chat messages to the text that the model reads.

Templates differ in what they take: some refuse a system role or drop it without a word, some want plain text and some
want lists of parts. What a model's template takes is found out once, by filling it with a probe, and a template that
takes none of the known forms is refused before anything runs. Not a tokenizer. Used by the engines that hold a
tokenizer, by the trainer, and by `racro.models.compatibility`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from racro.errors import BadInput
from racro.models.folders import load_processor, load_tokenizer
from racro.prompts import IMAGE_TAG, Message, plain_text

THOUGHT = "<think>"
SYSTEM_PROBE = "Words of the system 7319."
USER_PROBE = "Words of the user 7319: {x} & \"y\" < 'z'\n\\boxed{1}, " + "and so on, " * 200 + "to the end."
"""As long as a caption, with characters that filters in templates escape."""
FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What filling a template raises: it is a program of somebody else's."""
DEFAULT = "default"
"""The template that transformers takes of several."""


class BadTemplate(BadInput):
    """A model without a chat template, or with one that cannot carry this project's prompts."""


@dataclass(frozen=True)
class Form:
    """How messages are put to a template."""

    parts: bool
    """Contents are lists of parts; otherwise plain text, with the model's image token where an image stands."""
    system: bool
    """There is a system message; otherwise its text opens the user's turn."""
    system_text: bool = False
    """The system message alone is plain text."""

    def arrange(self, messages: Sequence[Message], image_token: str) -> list[Message]:
        """The messages in this form."""
        if not self.system:
            messages = folded(messages)
        return [self._message(message, image_token) for message in messages]

    def _message(self, message: Message, image_token: str) -> Message:
        content = message["content"]
        if not self.parts:
            texts = [content] if isinstance(content, str) else [part.get("text", image_token) for part in content]
            return {**message, "content": "".join(texts)}
        if message["role"] == "system" and self.system_text:
            return {**message, "content": plain_text(message)}
        return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


WITH_IMAGES = (
    Form(parts=True, system=True),
    Form(parts=True, system=True, system_text=True),
    Form(parts=False, system=True),
    Form(parts=True, system=False),
    Form(parts=False, system=False),
)
"""Forms of a vision-language model's prompts, the first that works is taken."""
TEXT_ONLY = (
    Form(parts=False, system=True),
    Form(parts=True, system=True),
    Form(parts=False, system=False),
    Form(parts=True, system=False),
)
"""Forms of a text-only model's prompts."""


class ChatTemplate:
    """The template of one model, and the form of messages that it takes."""

    def __init__(
        self, model: str, tokenizer: Any, processor: Any = None, options: Mapping[str, Any] | None = None
    ) -> None:
        """`model`: its name in messages. `processor` is None for a text-only model. `options`: `template_kwargs`.

        Raises BadTemplate.
        """
        self.model, self.options = model, dict(options or {})
        self.renderer = tokenizer if processor is None else processor
        self.image_token: str = "" if processor is None else processor.image_token
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special = added.union(tokenizer.all_special_tokens) - {IMAGE_TAG}
        self.special = tuple(sorted(token for token in special if len(token.strip()) > 1))
        """Texts that the tokenizer takes for more than text."""
        self.text = getattr(processor, "chat_template", None) or tokenizer.chat_template
        if isinstance(self.text, Mapping):
            if DEFAULT not in self.text:
                raise BadTemplate(
                    f"{model} has several chat templates ({', '.join(self.text)}) and none is called {DEFAULT}; keep "
                    "one of them as chat_template.jinja in a local copy of the folder"
                )
            self.text = self.text[DEFAULT]
        if not self.text:
            raise BadTemplate(
                f"{model} has no chat template: it is a base model, or a file is missing; use an instruction-tuned "
                "model, or put a chat_template.jinja into a local copy of the folder"
            )
        for name in self.options:
            if not re.search(rf"\b{re.escape(name)}\b", str(self.text)):
                raise BadTemplate(
                    f"template_kwargs.{name}: the chat template of {model} does not read it; leave it out"
                )
        self.form = self._form(WITH_IMAGES if processor is not None else TEXT_ONLY)
        asked = self._render([{"role": "user", "content": USER_PROBE}])
        self.opening = f"{THOUGHT}\n" if asked.rstrip().endswith(THOUGHT) else ""
        """What the template itself writes at the start of the model's turn: the model then begins inside a thought."""

    @property
    def note(self) -> str | None:
        """What a user should know about how prompts are put to this model; None if there is nothing to say."""
        if self.form.system:
            return None
        return f"the chat template of {self.model} takes no system message: its text opens the user's turn instead"

    def fill(self, messages: Sequence[Message], images: int) -> str:
        """The text of a prompt. Special tokens are in it, so the tokenizer must not add them again.

        Raises ValueError when the template does not take the messages, when images and their places do not match, and
        when a message writes a special token of this model: it would end a turn or open another.
        """
        written = "\n".join(plain_text(message) for message in messages)
        if found := next((token for token in self.special if token in written), None):
            raise ValueError(
                f"special token in the text: {found} means more than text to {self.model}; write it otherwise"
            )
        try:
            text = self._render(messages)
        except FAILURES as error:
            raise ValueError(f"the chat template of {self.model} refuses this prompt: {error}") from error
        if not self.image_token:
            if images:
                raise ValueError("this model reads text only, the prompt has images")
            return text
        places = text.count(self.image_token)
        if places != images:
            raise ValueError(f"{places} places for images in a prompt with {images}: {text[:80]!r}")
        return text

    def turn(self, text: str) -> str:
        """A model's turn as it reads in full: with the thought that the template has opened for it."""
        return text if text.lstrip().startswith(THOUGHT) else self.opening + text

    def _render(self, messages: Sequence[Message], form: Form | None = None) -> str:
        arranged = (form or self.form).arrange(messages, self.image_token)
        options = {**self.options, "add_generation_prompt": True, "tokenize": False}
        return str(self.renderer.apply_chat_template(arranged, chat_template=self.text, **options))

    def _form(self, forms: Sequence[Form]) -> Form:
        """The first form in which all of a prompt comes out."""
        image: list[dict[str, str]] = [{"type": "image"}] if self.image_token else []
        probe: list[Message] = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROBE}]},
            {"role": "user", "content": [*image, {"type": "text", "text": USER_PROBE}]},
        ]
        reasons: list[str] = []
        for form in forms:
            try:
                text = self._render(probe, form)
            except FAILURES as error:
                reasons.append(" ".join(str(error).split()))
                continue
            places = text.count(self.image_token) if self.image_token else 0
            whole = text.count(SYSTEM_PROBE) == text.count(USER_PROBE) == 1 and places == len(image)
            if whole and "'type'" not in text:
                return form
            reasons.append("it leaves out or changes a part of the messages")
        raise BadTemplate(
            f"the chat template of {self.model} cannot carry a prompt of this project ({reasons[-1][:200]}); use "
            "another model, or correct the template in a local copy of the folder"
        )


def chat_template(sees: bool, folder: Path, options: Mapping[str, Any] | None = None) -> ChatTemplate:
    """The template of the model in a folder, with its processor if it `sees` images. Raises BadTemplate."""
    processor = load_processor(folder) if sees else None
    tokenizer = load_tokenizer(folder) if processor is None else processor.tokenizer
    return ChatTemplate(str(folder), tokenizer, processor, options)


def folded(messages: Sequence[Message]) -> list[Message]:
    """The messages without a system message: its text opens the first user's turn."""
    system = "\n\n".join(plain_text(message) for message in messages if message["role"] == "system")
    others = [message for message in messages if message["role"] != "system"]
    if not system:
        return others
    first, *rest = others
    content = first["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{**first, "content": [{"type": "text", "text": f"{system}\n\n"}, *parts]}, *rest]
