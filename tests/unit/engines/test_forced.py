"""A turn that was begun, and a given text that is scored: what an engine makes of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from racro.config import ScriptedReply
from racro.embedded import world
from racro.engines.local.scripted import UNLIKELY, ScriptedEngine
from racro.engines.local.transformers import TransformersEngine
from racro.engines.prefetcher import Prefetcher
from racro.engines.protocol import Generation, Prompt, Request, Sampling
from racro.engines.remote import chat
from racro.engines.templates import fill
from racro.models.folders import EMBEDDED
from racro.prompts import caption_messages, reasoner_messages

TEXTS = ["\\boxed{3}", " red three", "x", "", "bars red three, blue four: \\boxed{7}"]


@pytest.fixture(scope="module")
def reasoner() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=3)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def captioner() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=3)
    yield engine
    engine.close()


def reader(lead: str = "") -> Prompt:
    return Prompt(reasoner_messages("What is the height of the red bar?", "red three. blue four."), lead=lead)


@torch.inference_mode()
def plainly(engine: TransformersEngine, prompt: Prompt, forced: str) -> tuple[list[int], list[float]]:
    """Ids and log-probs by one forward of the whole text, without padding and cache."""
    own = engine.tokenizer(forced, add_special_tokens=False)["input_ids"]
    begun = engine.tokenizer(fill(prompt, engine.template), add_special_tokens=False)["input_ids"]
    logits = engine.model(input_ids=torch.tensor([begun + own])).logits[0, len(begun) - 1 : -1].double()
    logits[:, engine.banned] = -torch.inf
    return own, logits.log_softmax(-1).gather(1, torch.tensor(own)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("lead", ["", "bars"])
def test_a_given_text_is_scored_as_a_plain_forward_scores_it(reasoner: TransformersEngine, lead: str) -> None:
    """In a batch with texts of other lengths, whatever the sampling says."""
    how = Sampling(n=4, temperature=0.3, top_p=0.5, max_tokens=2)
    asked = [Request(i, reader(lead), how, i, forced=text) for i, text in enumerate(TEXTS)]
    found = {made.key: made for made in reasoner.generate(asked)}
    for i, text in enumerate(TEXTS):
        made = found[i]
        assert isinstance(made, Generation)
        [completion] = made.completions
        assert (completion.text, completion.finish_reason) == (text, "stop")
        if text:
            ids, logprobs = plainly(reasoner, reader(lead), text)
            assert list(completion.token_ids) == ids
            assert list(completion.logprobs) == pytest.approx(logprobs, abs=1e-4)


def test_given_texts_and_sampled_ones_mix_in_a_call(captioner: TransformersEngine) -> None:
    made = next(p for p in world.generate("train", 7, 40) if p.category == "two_images")
    prompt = Prompt(caption_messages(made.question, 2), tuple(made.images()))
    how = Sampling(temperature=0.0, max_tokens=12)
    [alone] = list(captioner.generate([Request(0, prompt, how, 0)]))
    assert isinstance(alone, Generation)
    own = alone.completions[0]
    both = {m.key: m for m in captioner.generate([Request(0, prompt, how, 0), Request(1, prompt, how, 0, own.text)])}
    assert isinstance(both[0], Generation) and isinstance(both[1], Generation)
    assert both[0].completions[0].token_ids == own.token_ids
    scored = both[1].completions[0]
    if own.token_ids[: len(scored.token_ids)] == scored.token_ids:
        assert scored.logprobs == pytest.approx(own.logprobs[: len(scored.logprobs)], abs=1e-4)


def test_the_model_goes_on_from_the_lead_and_does_not_repeat_it(reasoner: TransformersEngine) -> None:
    how = Sampling(temperature=0.0, max_tokens=60)
    [whole] = list(reasoner.generate([Request(0, reader(), how, 0)]))
    assert isinstance(whole, Generation)
    text = whole.completions[0].text
    begun = text[: text.index("three")]
    [rest] = list(reasoner.generate([Request(0, reader(begun.rstrip()), how, 0)]))
    assert isinstance(rest, Generation)
    assert (begun.rstrip() + rest.completions[0].text).split() == text.split()


def test_a_script_finds_a_given_text_in_its_reply_or_not() -> None:
    engine = ScriptedEngine([ScriptedReply(replies=("the answer is 3",))])
    sums = []
    for text in (" 3", " 4"):
        [made] = list(engine.generate([Request(0, reader(), Sampling(), 0, forced=text)]))
        assert isinstance(made, Generation)
        sums.append(sum(made.completions[0].logprobs))
    assert sums == [0.0, UNLIKELY]


def test_background_answers_are_told_apart_by_lead_and_given_text() -> None:
    engine = Prefetcher(lambda: ScriptedEngine([ScriptedReply(replies=("3",))]), 1)
    plain = Request(0, reader(), Sampling(), 0)
    others = [
        dataclasses.replace(plain, key=1, forced="3"),
        dataclasses.replace(plain, key=2, forced="4"),
        dataclasses.replace(plain, key=3, prompt=reader("x")),
    ]
    engine.prefetch([plain, *others])
    assert len(engine.answers) == 4
    found = {m.key: m for m in engine.generate([plain, *others])}
    assert isinstance(found[2], Generation) and found[2].completions[0].text == "4"
    engine.close()


def test_a_vllm_server_is_sent_the_beginning_of_the_turn_and_others_are_not() -> None:
    assert chat.messages(reader("It is"), False, True).endswith(b'{"role": "assistant", "content": "It is"}]')
    assert chat.messages(reader("It is"), False) == chat.messages(reader(), False)


def test_a_lead_begins_the_answer_where_the_template_opens_a_thought() -> None:
    class Thinking:
        opening = "<think>\n"

        def fill(self, messages: object, images: int) -> str:
            return "<user>?<model><think>\n"

    thinking: Any = Thinking()
    assert fill(reader("It is"), thinking) == "<user>?<model><think>\n\n</think>\n\nIt is"
    assert fill(reader(), thinking) == "<user>?<model><think>\n"
