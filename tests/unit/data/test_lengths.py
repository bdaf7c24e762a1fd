"""Prompts are counted as the models count them; what cannot be asked is dropped, and usual tables load no model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.config import TableProblems
from racro.data.cells import Unusable
from racro.data.lengths import Fit, _Reader
from racro.data.problems import load
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Prompt, Sampling
from racro.models.folders import EMBEDDED, max_positions
from racro.prompts import caption_messages, reasoner_messages
from racro.schema import PromptReader
from tests.support.asking import generations, refusal
from tests.support.examples import examples
from tests.unit.data.test_problems import jsonl, row


def reader(role: str, room: int | None) -> PromptReader:
    return PromptReader(uri=str(EMBEDDED / role), rows=0, digest="", room=room)


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", 1)


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.tuples(st.integers(20, 300), st.integers(20, 300)), max_size=3), st.text("ab <>\n12é", max_size=90))
def test_the_count_is_the_engines(engine: TransformersEngine, sizes: list[tuple[int, int]], question: str) -> None:
    images = tuple(Image.effect_noise(size, 50).convert("RGB") for size in sizes)
    messages = caption_messages(question.replace("<image>", ""), len(images))
    counting = _Reader(reader("captioner", 100), sees=True)
    (made,) = generations(engine, [Prompt(messages, images)], Sampling(max_tokens=1), [0])
    assert counting.count(messages, sizes) == len(made.prompt_ids)
    assert all(counting.most_tokens(size) >= counting.count(caption_messages("", 1), [size]) - 60 for size in sizes)


@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(max_examples=examples(30), deadline=None)
def test_the_bound_of_an_image_is_one(width: int, height: int) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    alone = BOUNDED.count(caption_messages("", 0), [])
    assert BOUNDED.count(caption_messages("", 1), [(width, height)]) - alone - 2 <= BOUNDED.most_tokens((width, height))


BOUNDED = _Reader(reader("captioner", 100), sees=True)


def test_limits_on_the_size_of_images_count() -> None:
    """As the engine has them; what the bound says stays a bound, and a question fits that did not."""
    limited = reader("captioner", 100).model_copy(update={"max_pixels": 28 * 28})
    counting, messages = _Reader(limited, sees=True), caption_messages("", 1)
    saved = BOUNDED.count(messages, [(112, 112)]) - counting.count(messages, [(112, 112)])
    assert saved == 16 - 1
    assert counting.most_tokens((112, 112)) < BOUNDED.most_tokens((112, 112))
    room = {"room": BOUNDED.count(messages, [(112, 112)]) - 1}
    with pytest.raises(Unusable, match="prompt too long"):
        Fit(reader("captioner", 0).model_copy(update=room)).require("", [(112, 112)])
    Fit(limited.model_copy(update=room)).require("", [(112, 112)])


def test_what_is_dropped_is_what_the_engine_refuses(engine: TransformersEngine) -> None:
    image = Image.new("RGB", (112, 28))
    question = "How high is the red bar? " * 100
    messages = caption_messages(question, 1)
    counted = BOUNDED.count(messages, [image.size])
    positions = max_positions(EMBEDDED / "captioner")
    assert positions == engine.positions
    for room in (counted, counted - 1):
        fit, sampling = Fit(reader("captioner", room)), Sampling(max_tokens=positions - room)
        if room == counted:
            fit.require(question, [image.size])
            continue
        with pytest.raises(Unusable, match=f"prompt too long: {counted} tokens for the captioner, room for {room}"):
            fit.require(question, [image.size])
        assert "positions" in refusal(engine, Prompt(messages, (image,)), sampling)


def test_the_reasoner_needs_room_too() -> None:
    counting = _Reader(reader("reasoner", None), sees=False)
    words = counting.count(reasoner_messages("word " * 900, ""), ())
    with pytest.raises(Unusable, match=rf"prompt too long: {words} tokens for the reasoner"):
        Fit(reader("captioner", None), reader("reasoner", words - 1)).require("word " * 900, [(9, 9)])
    Fit(None, reader("reasoner", words)).require("word " * 900, [(9, 9)])


@pytest.mark.parametrize("token", ["<|vision_pad|>", "<|endoftext|>", "<|image_pad|>"])
def test_a_special_token_is_never_asked(token: str) -> None:
    with pytest.raises(Unusable, match="special token in the text"):
        Fit(reader("captioner", None)).require(f"What is {token}?", [(9, 9)])
    Fit(reader("captioner", None)).require("<image>What is | > <|?", [(9, 9)])


def test_rows_that_cannot_be_asked_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [row(0), row(1, question="word " * 5000), row(2, question="a <|image_pad|> b"), row(3, question="w " * 40)]
    config = TableProblems(source=jsonl(tmp_path, rows), max_bad_share=1, heldout_share=1e-6)
    made = load(config, str(tmp_path), 0, fit=Fit(reader("captioner", 2000), reader("reasoner", 2000)))
    assert [problem.uid for problem in made.problems] == ["0", "3"]
    assert made.statistics.unusable == {"prompt too long": 1, "special token in the text": 1}


def test_a_usual_question_loads_no_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    from racro.data import lengths

    for name in ("load_processor", "load_tokenizer"):
        monkeypatch.setattr(lengths, name, lambda folder: pytest.fail("a model was loaded"))
    Fit(reader("captioner", 2036), reader("reasoner", 2016)).require("<image>How high is the bar?", [(4000, 3000)])
    assert "racro.data.lengths" in sys.modules
