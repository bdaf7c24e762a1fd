"""How a turn of a model ends: the token that it writes last, and a text that it did not write as a turn of its own.

Not a chat template, which opens the turn (`racro.models.chat_template`). Used by the stage refer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from racro.errors import BadInput
from racro.models.chat_template import THOUGHT, chat_template
from racro.models.folders import base_folder, load_tokenizer


class OpensThought(BadInput):
    """A model whose turns begin inside a thought."""


def turn(folder: Path) -> Callable[[str], tuple[int, ...]]:
    """From a text to the token ids of a turn that says it, the end included, by the model in a folder."""
    tokenizer = load_tokenizer(folder)
    last = end(base_folder(folder), tokenizer.eos_token_id)
    return lambda text: (*tokenizer(text, add_special_tokens=False)["input_ids"], last)


def require(folder: Path, template_kwargs: Mapping[str, Any]) -> None:
    """Raises OpensThought if a captioner's turns begin inside a thought, which no given text has."""
    if chat_template(True, base_folder(folder), template_kwargs).opening:
        raise OpensThought(
            f"rollout.references: the chat template of the captioner opens each turn with {THOUGHT}, and references "
            "have no thoughts; turn them off in captioner.template_kwargs, or leave rollout.references out"
        )


def end(folder: Path, of_tokenizer: int) -> int:
    """The id of the token that ends a turn: the tokenizer's, unless generation stops at others only."""
    file = folder / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    stops = said if isinstance(said, list) else [] if said is None else [said]
    return int(of_tokenizer if of_tokenizer in stops or not stops else stops[0])
