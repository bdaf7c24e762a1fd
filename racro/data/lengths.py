"""Do a problem's prompts fit the models? Counted as the models count: tokens of template, text and images.

A bound that needs no model comes first, and only what exceeds it is counted, so a usual table loads no model. Not here:
captions that make a reasoner's prompt too long; they only exist at run time. Called by `racro.data.problems`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from racro.data.cells import Unusable
from racro.models.chat_template import ChatTemplate
from racro.models.folders import load_processor, load_tokenizer
from racro.prompts import IMAGE_TAG, Message, caption_messages, reasoner_messages
from racro.schema import PromptReader

TEMPLATE = 1024
"""Tokens that a chat template adds, at most; some bring a system text of their own."""
IMAGE = 10_000
"""Tokens of an image where only the processor itself can tell."""

Size = tuple[int, int]
"""Width and height of an image."""


class Fit:
    """Checks questions against what captioner and reasoner can read; None for a model whose files are not here."""

    def __init__(self, captioner: PromptReader | None = None, reasoner: PromptReader | None = None) -> None:
        self.captioner = _Reader(captioner, sees=True) if captioner else None
        self.reasoner = _Reader(reasoner, sees=False) if reasoner else None

    def require(self, question: str, sizes: Sequence[Size]) -> None:
        """Raises Unusable for a question that writes special tokens, or that leaves no room for `max_tokens`."""
        if self.captioner:
            self.captioner.require("captioner", question, caption_messages(question, len(sizes)), sizes)
        if self.reasoner:
            self.reasoner.require("reasoner", question, reasoner_messages(question, ""), ())


class _Reader:
    """One model's tokenizer, template and processor, loaded when they are first needed."""

    def __init__(self, reader: PromptReader, sees: bool) -> None:
        self.folder, self.room, self.sees = Path(reader.uri), reader.room, sees
        self.template_kwargs = reader.template_kwargs
        self.limits = reader.min_pixels, reader.max_pixels
        self.turn = threading.Lock()  # tokenizers may not be used by several threads at once

    def require(self, role: str, question: str, messages: list[Message], sizes: Sequence[Size]) -> None:
        text = question.replace(IMAGE_TAG, "")
        if found := next((token for token in self.special_tokens if token in text), None):
            raise Unusable("special token in the text", f"{found} means something to the {role}: {question}")
        if self.room is None:
            return
        written = sum(len(part.get("text", "").encode()) for message in messages for part in message["content"])
        if TEMPLATE + written + sum(map(self.most_tokens, sizes)) <= self.room:
            return  # a token is a byte at least
        with self.turn:
            tokens = self.count(messages, sizes)
        if tokens > self.room:
            raise Unusable(
                "prompt too long", f"{tokens} tokens for the {role}, room for {self.room} before max_tokens: {question}"
            )

    def count(self, messages: list[Message], sizes: Sequence[Size]) -> int:
        """Tokens of a prompt. Blank images stand for its images: a processor goes by their size."""
        import torch  # late, as what follows loads it too

        from racro.models.encoding import Takes, encode

        try:
            text = self.template.fill(messages, len(sizes))
        except ValueError as error:
            raise Unusable("prompt refused", str(error)) from error
        images = [Image.new("RGB", size) for size in sizes]
        inputs = encode(
            self.processor, self.tokenizer, [text], [images], Takes(frozenset(["input_ids"]), torch.float32)
        )
        return int(inputs["input_ids"].shape[1])

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.folder, self.limits) if self.sees else None

    @cached_property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer if self.sees else load_tokenizer(self.folder)

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(str(self.folder), self.tokenizer, self.processor, self.template_kwargs)

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer takes for more than text."""
        config = _json(self.folder / "tokenizer_config.json")
        added = list(config.get("added_tokens_decoder", {}).values())
        added = added or _json(self.folder / "tokenizer.json").get("added_tokens", [])
        found = {token["content"] for token in added if token.get("special")}
        extra = config.get("extra_special_tokens") or []
        named = [value for key, value in config.items() if key.endswith("_token")]
        named += extra.values() if isinstance(extra, dict) else extra
        found |= {token for token in named if isinstance(token, str)}
        return tuple(sorted(token for token in found if len(token.strip()) > 1 and token != IMAGE_TAG))

    def most_tokens(self, size: Size) -> float:
        """Tokens of an image, at most."""
        if not self.pixels:
            return IMAGE
        side, least, most = self.pixels
        area = size[0] * size[1]
        scale = min(max(1.0, math.sqrt(least / area)), math.sqrt(most / area))
        width, height = (length * scale + side for length in size)  # sides are rounded to whole patches
        return width * height / side**2 + 2

    @cached_property
    def pixels(self) -> tuple[int, int, int] | None:
        """Side of a token's patch in pixels, fewest and most pixels of an image; None for other kinds of processor."""
        config = _json(self.folder / "preprocessor_config.json")
        config = config or _json(self.folder / "processor_config.json").get("image_processor", {})
        size = config.get("size") or {}
        least = self.limits[0] or config.get("min_pixels") or size.get("shortest_edge")
        most = self.limits[1] or config.get("max_pixels") or size.get("longest_edge")
        numbers: list[Any] = [config.get("merge_size"), config.get("patch_size"), least, most]
        if not str(config.get("image_processor_type")).startswith("Qwen"):
            return None
        if not all(isinstance(number, int) for number in numbers):
            return None
        return numbers[0] * numbers[1], numbers[2], numbers[3]


def _json(file: Path) -> dict[str, Any]:
    """The content of a model's file; nothing when there is no such file."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
