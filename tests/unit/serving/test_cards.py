"""What the page shows of an answer: the parts that its mode has, and none that is still to come at the end."""

from __future__ import annotations

import asyncio
import io
import re

import pytest
from PIL import Image

from racro import config
from racro.answering.cases import ANSWERING, SECOND
from racro.answering.pipeline import Racro
from racro.config import Scripted, ScriptedReply
from racro.schema import Mode, Shot
from racro.serving import cards
from racro.serving.chat import Inquiry
from racro.serving.completion import Answered
from racro.serving.limits import Limits
from racro.serving.narration import Written, reasoning
from racro.serving.pairs import Pairs
from racro.serving.service import Service


def parts(html: str) -> dict[str, str]:
    """Headings of the parts, with their states."""
    return {name: state for state, name in re.findall(r'racro-part racro-(\w+)"[^>]*><h3>([^<]*)', html)}


@pytest.mark.parametrize("mode", ANSWERING)
def test_every_mode_shows_the_parts_that_it_has(mode: Mode) -> None:
    pair = Racro(
        config.Captioner(engine=Scripted(rules=(ScriptedReply(replies=("three bars",), delay=0.02),))),
        config.Reasoner(engine=Scripted(rules=(ScriptedReply(replies=("1. What colour? \\boxed{3}",), delay=0.02),))),
        mode=mode,
        settings=config.ModeSettings(kind=config.LengthReward(budget=10)),
        shots=[Shot(uid="0", question="How many?", caption="one bar", answer="1")],
    )
    service = Service(Pairs(lambda *_: pair, ["mind"], list), Limits())
    picture = io.BytesIO()
    Image.new("RGB", (28, 28)).save(picture, "PNG")

    async def ask() -> list[Written | Answered]:
        return [made async for made in service.ask(Inquiry("racro", "How many?", (picture.getvalue(),))) if made]

    *partial, answered = asyncio.run(ask())
    assert isinstance(answered, Answered)
    wanted = ["Caption", "Reasoning"]
    if mode in SECOND:
        wanted.insert(1, {"joint": "Tentative answer", "clues": "Sub-questions", "check": "Second caption"}[mode])
    assert list(parts(cards.waiting(mode))) == wanted
    for written in partial:
        assert isinstance(written, Written) and not {*wanted} - {*parts(cards.writing(written))} - {"Second caption"}
        assert reasoning(answered.written).startswith(reasoning(written)), "what was streamed is never taken back"
    shown = parts(cards.answered(answered))
    assert set(shown.values()) == {"done"} and set(wanted) - set(shown) <= {"Second caption"}, "looked again if needed"
