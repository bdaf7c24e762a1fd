"""Prompts whose common beginning is read once are answered as prompts that are read whole."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.engines.local import prefix
from racro.engines.local.prefix import WORTH, Prefix
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Generation, Prompt, Request, Sampling
from racro.models.folders import EMBEDDED
from tests.support.examples import examples

WORDS = ["which", "bar", "is", "taller", "red", "or", "blue", "what", "sum", "of", "both", "how", "many", "are"]
IMAGE = Image.new("RGB", (56, 56), "red")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=32)


def prompt(question: str, images: int) -> Prompt:
    content = [{"type": "text", "text": "Describe what the image shows."}, *[{"type": "image"}] * images]
    messages = [
        {"role": "system", "content": "You are given an image and a question about it. Do not answer it."},
        {"role": "user", "content": [*content, {"type": "text", "text": question}]},
    ]
    return Prompt(messages, (IMAGE,) * images)


def asked(engine: TransformersEngine, shares: bool | None, requests: list[Request]) -> list[Generation]:
    engine.prefix.shares = shares
    return [answer for answer in engine.generate(requests) if isinstance(answer, Generation)]


@settings(max_examples=examples(30))
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), st.integers(0, 2)), max_size=6),
    st.integers(1, 3),
    st.sampled_from([None, "a red bar", ""]),
)
def test_whatever_is_asked_the_answers_are_the_same(
    engine: TransformersEngine, questions: list[tuple[str, int]], n: int, forced: str | None
) -> None:
    sampling = Sampling(n=n if forced is None else 1, temperature=1.0, max_tokens=8)
    requests = [Request(k, prompt(*one), sampling, k, forced=forced) for k, one in enumerate(questions)]
    once, whole = asked(engine, None, requests), asked(engine, False, requests)
    assert len(once) == len(whole) == len(questions)
    for ours, theirs in zip(once, whole, strict=True):
        assert ours.prompt_ids == theirs.prompt_ids
        for made, expected in zip(ours.completions, theirs.completions, strict=True):
            assert made.token_ids == expected.token_ids
            assert made.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_the_beginning_costs_one_row(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    forward = type(engine.model).forward

    def counted(model: Any, **inputs: Any) -> Any:
        read.append(tuple(inputs["input_ids"].shape))
        return forward(model, **inputs)

    requests = [Request(k, prompt("which bar is taller?", 1), Sampling(max_tokens=1), k) for k in range(8)]
    engine.prefix.shares = True
    monkeypatch.setattr(type(engine.model), "forward", counted)
    members = [(request, engine._fill(request.prompt)) for request in requests]
    made = list(engine._batch(engine.model, members, requests[0].sampling))
    assert isinstance(made[0], Generation)
    (one, beginning), (rows, rest) = read
    assert (one, rows) == (1, 8) and beginning >= WORTH
    assert beginning + rest == len(made[0].prompt_ids)


def test_a_model_that_does_not_go_on_from_a_beginning_reads_whole_prompts(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forgetful(model: Any, inputs: Any, count: int) -> prefix.Read:
        read = shared(model, inputs, count)
        assert read is not None
        return read._replace(logits=read.logits.roll(1, -1))

    shared = prefix.shared
    requests = [Request(k, prompt(word, 1), Sampling(max_tokens=4), k) for k, word in enumerate(WORDS)]
    whole = asked(engine, False, requests)
    monkeypatch.setattr(prefix, "shared", forgetful)
    with caplog.at_level(logging.WARNING, prefix.__name__):
        assert asked(engine, None, requests) == whole
    assert engine.prefix.shares is False
    assert "Qwen2_5_VLForConditionalGeneration reads whole prompts" in caplog.text


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=5), st.integers(0, 40))
def test_a_common_beginning_leaves_every_prompt_a_token_and_has_no_image(rows: list[list[int]], alike: int) -> None:
    vision = 2
    prompts = [[0, 1] * (alike // 2) + row for row in rows]
    longest = max(map(len, prompts))
    padded = torch.tensor([[vision] * (longest - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    found = Prefix(torch.tensor([vision])).common({"input_ids": padded, "attention_mask": mask})
    expected = 0
    while all(len(ids) > expected + 1 and ids[expected] == prompts[0][expected] != vision for ids in prompts):
        expected += 1
    assert found == (expected if len(prompts) > 1 and expected >= WORTH else 0)
