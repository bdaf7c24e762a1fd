"""The engine contract: every request is answered exactly once, and a refused one costs no other one anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.config import ScriptedReply
from racro.engines.balanced import Balanced
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.local.transformers import TransformersEngine
from racro.engines.prefetcher import Prefetcher
from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import reasoner_messages
from tests.support.examples import examples

RULES = (ScriptedReply(when=r"bar is (\d)", replies=(r"it is \1", "I do not know")),)
CAPTIONS = [f"The red bar is {height}. " * times for height, times in ((3, 1), (4, 2), (5, 4), (6, 1))]
PICTURE = Image.new("RGB", (28, 28))
SHORT, LONG = Sampling(n=2, max_tokens=4), Sampling(n=1, temperature=0.7, max_tokens=6)

transformers = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=3)


def good(caption: str) -> Prompt:
    return Prompt(reasoner_messages("What is the height of the red bar?", caption))


BAD: dict[str, list[tuple[Prompt, str]]] = {
    "scripted": [(Prompt([{"role": "user", "content": "hello"}]), "no rule of the scripted engine matches 'hello'")],
    "transformers": [
        (good("The red bar is 3. " * 1000), "exceed the model's 2048 positions; ask a shorter question"),
        (Prompt(good("").messages, (PICTURE,)), "this model reads text only, the prompt has images"),
    ],
}
"""Prompts that an engine refuses, and what it says."""


def engine(name: str, around: str) -> Engine:
    inner = transformers if name == "transformers" else ScriptedEngine(RULES)
    if around == "prefetcher":
        return Prefetcher(lambda: inner, 2)
    return Balanced([inner, inner, inner], sequences=3) if around == "balanced" else inner


@pytest.mark.parametrize("around", ["alone", "prefetcher", "balanced"])
@pytest.mark.parametrize("name", ["scripted", "transformers"])
@given(data=st.data())
@settings(max_examples=examples(12), deadline=None)
def test_any_mix_of_good_and_bad_requests(name: str, around: str, data: st.DataObject) -> None:
    bad = BAD[name][:1] if around == "prefetcher" else BAD[name]  # a Prefetcher is for text
    goods = st.tuples(st.sampled_from(CAPTIONS).map(good), st.none())
    chosen = data.draw(st.lists(st.one_of(goods, st.sampled_from(bad)), max_size=16))
    keys = data.draw(st.lists(st.integers(0, 10**6), min_size=len(chosen), max_size=len(chosen), unique=True))
    samplings = data.draw(st.lists(st.sampled_from([SHORT, LONG]), min_size=len(chosen), max_size=len(chosen)))
    asked = [
        Request(key, prompt, sampling, key % 7)
        for key, (prompt, _), sampling in zip(keys, chosen, samplings, strict=True)
    ]
    made = list(engine(name, around).generate(iter(asked)))
    assert sorted(answer.key for answer in made) == sorted(keys)
    by_key = {answer.key: answer for answer in made}
    for request, (_, complaint) in zip(asked, chosen, strict=True):
        answer = by_key[request.key]
        if complaint is not None:
            assert isinstance(answer, Refusal) and complaint in answer.reason and "\n" not in answer.reason
        else:
            assert isinstance(answer, Generation)
            [alone] = engine(name, "alone").generate([request])
            assert isinstance(alone, Generation)
            assert answer.prompt_ids == alone.prompt_ids
            assert [c.token_ids for c in answer.completions] == [c.token_ids for c in alone.completions]


@pytest.mark.parametrize("around", ["alone", "prefetcher", "balanced"])
def test_a_bug_in_an_engine_is_an_error_and_no_refusal(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("racro.engines.local.scripted._completion", broken)
    with pytest.raises(ValueError, match="a bug"):
        list(engine("scripted", around).generate([Request(0, good("The red bar is 3."), SHORT, 0)]))
