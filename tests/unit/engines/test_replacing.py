"""A copy that is lost is replaced, its part is asked elsewhere, and nothing is answered twice or for other weights."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro import config
from racro.engines.balanced import LOSSES, Balanced
from racro.engines.protocol import Completion, Engine, EngineLost, Generation, Prompt, Request, Sampling
from racro.engines.worker.main import Feed, Host
from racro.processes.launcher import Placed
from tests.support.examples import examples


class Copy(Engine):
    """Answers with its weights' name, and is lost after so many answers."""

    def __init__(self, weights: str, answers: float = float("inf"), poison: int | None = None) -> None:
        self.weights, self.left, self.poison = weights, answers, poison
        self.closed = False
        self.asked: list[int] = []
        self.lock = threading.Lock()

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        for request in requests:
            with self.lock:
                self.asked.append(request.key)
                self.left -= 1
                if self.left < 0 or request.key == self.poison:
                    raise EngineLost("its node is gone")
            yield Generation(request.key, (), (Completion((1,), (), self.weights, "stop"),))

    def swap(self, folder: str) -> None:
        self.weights = folder

    def close(self) -> None:
        self.closed = True


def asked(count: int) -> list[Request]:
    return [Request(i, Prompt([{"role": "user", "content": str(i)}]), Sampling(), i) for i in range(count)]


@settings(max_examples=examples(60))
@given(
    lives=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    later=st.lists(st.integers(0, 60), max_size=4),
    count=st.integers(0, 120),
)
def test_everything_is_answered_once_whichever_copies_are_lost(lives: list[int], later: list[int], count: int) -> None:
    opened, coming = [Copy("w", answers) for answers in lives], iter(later)
    lock = threading.Lock()

    def reopen(copy: int, folder: str) -> Engine:
        with lock:
            opened.append(Copy(folder, next(coming, float("inf"))))
            return opened[-1]

    engine = Balanced(list(opened), 4, reopen, "w")
    try:
        found = list(engine.generate(asked(count)))
    except EngineLost:  # a request was with a copy that was lost, once too often
        lost = [copy for copy in opened if copy.left < 0]
        assert len(lost) > LOSSES
    else:
        assert sorted(answer.key for answer in found) == list(range(count))
    engine.close()


def test_a_single_copy_gets_whole_batches_and_several_small_parts() -> None:
    sizes: list[int] = []

    class Counting(Copy):
        def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
            given = list(requests)
            sizes.append(len(given))
            return super().generate(given)

    assert len(list(Balanced([Counting("w")], 16, None, "w").generate(asked(100)))) == 100
    assert sorted(sizes) == [4, *[16] * 6]
    sizes.clear()
    list(Balanced([Counting("w"), Counting("w")], 16, None, "w").generate(asked(100)))
    assert max(sizes) == 4 and sum(sizes) == 100


def test_a_request_that_loses_every_copy_ends_the_call() -> None:
    made: list[Copy] = []

    def reopen(copy: int, folder: str) -> Engine:
        made.append(Copy(folder, poison=3))
        return made[-1]

    with pytest.raises(EngineLost, match="its node is gone"):
        list(Balanced([Copy("w", poison=3), Copy("w", poison=3)], 4, reopen, "w").generate(asked(8)))
    assert len(made) <= LOSSES + 1


def test_a_copy_that_is_opened_again_gets_the_newest_weights() -> None:
    folders: list[str] = []

    def reopen(copy: int, folder: str) -> Engine:
        folders.append(folder)
        return Copy(folder)

    first = Copy("first", 5)
    engine = Balanced([first], 4, reopen, "first")
    assert {a.completions[0].text for a in engine.generate(asked(4)) if isinstance(a, Generation)} == {"first"}
    engine.swap("second")
    texts = [a.completions[0].text for a in engine.generate(asked(20)) if isinstance(a, Generation)]
    assert set(texts) == {"second"} and len(texts) == 20 and folders == ["second"] and first.closed


def test_new_weights_do_not_wait_for_a_copy_for_which_there_is_no_room() -> None:
    """It is opened with them when there is room; one that is lost at the swap itself is no other case."""
    room, tried = threading.Event(), threading.Event()

    def reopen(copy: int, folder: str) -> Engine:
        tried.set()
        room.wait(60)
        return Copy(folder)

    engine = Balanced([Copy("first", 1), Copy("first")], 4, reopen, "first")
    list(engine.generate(asked(20)))
    assert tried.wait(60)
    engine.swap("second")
    texts = [a.completions[0].text for a in engine.generate(asked(20)) if isinstance(a, Generation)]
    assert texts == ["second"] * 20 and engine.replacing == {0}
    room.set()
    with engine.changed:
        assert engine.changed.wait_for(lambda: not engine.replacing, 60)
    assert [copy.weights for copy in cast(list[Copy], engine.engines)] == ["second", "second"] and not engine.lost


def test_a_copy_that_is_lost_at_a_swap_is_opened_with_the_new_weights() -> None:
    class Gone(Copy):
        def swap(self, folder: str) -> None:
            raise EngineLost("its node is gone")

    engine = Balanced([Gone("first"), Copy("first")], 4, lambda copy, folder: Copy(folder), "first")
    engine.swap("second")
    with engine.changed:
        assert engine.changed.wait_for(lambda: not engine.replacing, 60)
    assert [copy.weights for copy in cast(list[Copy], engine.engines)] == ["second", "second"]
    alone = Balanced([Gone("first")], 4, lambda copy, folder: Copy(folder), "first")
    with pytest.raises(EngineLost, match="its node is gone"):
        alone.swap("second")


def test_without_anything_left_calls_end_and_the_engine_is_lost() -> None:
    def reopen(copy: int, folder: str) -> Engine:
        raise EngineLost("no room on the cluster")

    engine = Balanced([Copy("w", 2), Copy("w", 2)], 4, reopen, "w")
    with pytest.raises(EngineLost):
        list(engine.generate(asked(30)))
    assert engine.lost


class Listening:
    """The wire's other end, as far as a host sees it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send(self, kind: str, call: int = 0, content: Any = None) -> None:
        self.sent.append((kind, content))


def host(engine: Engine, holds: str) -> Host:
    made = Host(Listening(), "")  # type: ignore[arg-type]
    made.engine, made.holds = engine, holds
    return made


def feed(requests: list[Request]) -> Feed:
    made = Feed(lambda total: None)
    for request in requests:
        made.put(request)
    made.put(None)
    return made


def test_a_process_refuses_calls_that_expect_other_weights() -> None:
    """As after a restart, when it holds what it was started with."""
    engine = Copy("old")
    stale = host(engine, "old")
    with pytest.raises(EngineLost, match="holds old, and new are asked"):
        stale.generate(1, "new", feed(asked(3)))
    assert engine.asked == []
    stale.swap(Placed("new", "new"))
    stale.generate(2, "new", feed(asked(3)))
    assert engine.asked == [0, 1, 2]


def test_a_swap_that_fails_leaves_weights_that_nobody_asks_for() -> None:
    class Half(Copy):
        def swap(self, folder: str) -> None:
            raise RuntimeError("half way")

    half = host(Half("old"), "old")
    with pytest.raises(RuntimeError):
        half.swap(Placed("new", "new"))
    for expected in ("old", "new"):
        with pytest.raises(EngineLost, match="holds no weights"):
            half.generate(1, expected, feed(asked(1)))


@pytest.mark.parametrize("section", ["captioner", "reasoner", "trainer"])
def test_on_a_cluster_ray_chooses_the_gpus(section: str) -> None:
    with pytest.raises(ValueError, match=rf"{section}.gpus: on a cluster Ray chooses the GPUs"):
        config.Runtime.model_validate({"cluster": {"type": "ray"}, section: {"gpus": [0]}})
