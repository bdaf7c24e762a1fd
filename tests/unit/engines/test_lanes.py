"""Two batches of a small model at once give what one after the other gives, in order, and leave nothing behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro.embedded import world
from racro.engines.local.lanes import SIDE_BY_SIDE, Lanes
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Generation, Prompt, Refusal, Request, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import caption_messages


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def engine(dtype: str = "float32") -> TransformersEngine:
    return TransformersEngine.captioner(str(EMBEDDED / "captioner"), dtype, "cpu", batch=2)


def lanes(model: torch.nn.Module | None = None) -> Lanes:
    model = model or torch.nn.Linear(2, 2)
    model.device = torch.device("cpu")  # type: ignore[assignment]
    return Lanes(model)


def test_the_same_answers_side_by_side_and_one_after_the_other(two_threads: None) -> None:
    problems = [*world.generate("train", 7, 24)]
    requests = [
        Request(key, Prompt(caption_messages(p.question, len(p.scenes)), tuple(p.images())), Sampling(n=2), key)
        for key, p in enumerate(problems)
    ]
    requests.insert(5, Request(99, Prompt(caption_messages("What is <|image_pad|>?", 1)), Sampling(n=2), 0))
    both = engine()
    assert both.lanes.count == len(both.lanes.models) == SIDE_BY_SIDE
    torch.set_num_threads(1)
    alone = engine()
    assert alone.lanes.count == 1
    made = list(both.generate(requests))
    assert made == list(alone.generate(requests))
    assert sum(isinstance(one, Generation) for one in made) == 24 and sum(isinstance(one, Refusal) for one in made) == 1


def test_weights_are_there_once_and_gone_when_they_are_swapped(two_threads: None) -> None:
    both = engine()
    first, second = (dict(model.named_parameters()) for model in both.lanes.models)
    assert all(first[name] is second[name] for name in first)
    gone = weakref.ref(first["model.language_model.norm.weight"])
    del first, second
    both.swap(str(EMBEDDED / "captioner"))
    gc.collect()
    assert gone() is None and len(both.lanes.models) == SIDE_BY_SIDE
    both.close()
    assert both.lanes.models == []


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 20))
def test_results_come_in_order_and_items_are_read_as_they_are_needed(items: list[int], taken: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made, read, busy, most = lanes(), 0, 0, 0
        lock = threading.Lock()

        def reading() -> Iterator[int]:
            nonlocal read
            for item in items:
                read += 1
                yield item

        def work(item: int) -> int:
            nonlocal busy, most
            with made.one():
                with lock:
                    busy += 1
                    most = max(most, busy)
                with lock:
                    busy -= 1
            return item * item

        results = made.in_order(work, reading())
        found = [next(results) for _ in range(min(taken, len(items)))]
        assert found == [item * item for item in items[: len(found)]]
        assert read <= len(found) + SIDE_BY_SIDE
        results.close()  # type: ignore[attr-defined]
        assert busy == 0 and most <= SIDE_BY_SIDE
        with made.none_busy():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_reaches_who_asked_and_frees_the_lane(two_threads: None) -> None:
    made = lanes()

    def work(item: int) -> int:
        with made.one():
            return 1 // item

    with pytest.raises(ZeroDivisionError):
        list(made.in_order(work, [1, 0, 1, 1]))
    assert list(made.in_order(work, [1, 1, 1])) == [1, 1, 1]


def test_a_large_model_has_all_threads(two_threads: None) -> None:
    made = lanes(torch.nn.Linear(5000, 5000, device="meta"))
    assert made.count == 1
    with made.one():
        assert torch.get_num_threads() == 2
