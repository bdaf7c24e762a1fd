"""The last question to the reasoner, by mode: from which texts it answers."""

from __future__ import annotations

from collections.abc import Sequence

from racro.engines.protocol import Prompt, Request, Sampling, prompt_seed
from racro.prompts import (
    check_messages,
    checked_messages,
    clues_messages,
    joint_messages,
    shots_messages,
    text_messages,
)
from racro.rollouts.reasoner import question_to
from racro.schema import Mode, Shot

FROM_CAPTION: tuple[Mode, ...] = ("caption", "vote", "best")
"""Modes whose answers come from one caption each, with the prompt of training."""


def final_request(
    mode: Mode, inputs: tuple[str, ...], sampling: Sampling, seed: int, key: int = 0, shots: Sequence[Shot] = ()
) -> Request:
    """What the reasoner is asked. `inputs`: the question, then the captioner's texts that the mode needs.

    Without any clue, mode `clues` asks as mode `caption` does; mode `check` gives one caption, or two where one was not
    enough. The seed comes from the content.
    """
    if mode in FROM_CAPTION or (mode == "clues" and not inputs[2]):
        return question_to(inputs[0], inputs[1], sampling, seed, key)
    match mode:
        case "clues":
            messages = clues_messages(*inputs)
        case "check":
            messages = check_messages(*inputs) if len(inputs) == 2 else checked_messages(*inputs)
        case "shots":
            messages = shots_messages(
                inputs[0], inputs[1], [(shot.question, shot.caption, shot.answer) for shot in shots]
            )
        case "joint":
            messages = joint_messages(*inputs)
        case _:
            messages = text_messages(*inputs)
    return Request(key, Prompt(messages), sampling, prompt_seed(seed, mode, *inputs))
