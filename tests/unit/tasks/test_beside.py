"""What runs beside something else ends with it, nothing is begun after that, and an error reaches the caller once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from racro.engines.protocol import EngineLost
from tasks.running import beside as module
from tasks.running import policies, stopping
from tasks.running.beside import beside, together
from tasks.running.stopping import Stopped

SOON = 60.0


class Engine:
    """Answers nothing until it is closed."""

    def __init__(self) -> None:
        self.asked, self.closed = threading.Event(), threading.Event()

    def ask(self) -> str:
        self.asked.set()
        assert self.closed.wait(SOON)
        raise EngineLost("closed")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(module, "interrupt", made.closed.set)
    return made


def none_is_left() -> bool:
    return not any(thread.name == "beside" for thread in threading.enumerate())


def test_a_call_runs_while_the_block_runs() -> None:
    began, may_end = threading.Event(), threading.Event()

    def call() -> str:
        began.set()
        assert may_end.wait(SOON)
        return "made"

    with beside([call]) as [made]:
        assert began.wait(SOON), "it waits for the block to end"
        may_end.set()
    assert made.result() == "made" and none_is_left()


@pytest.mark.parametrize("error", [ValueError("update"), KeyboardInterrupt()])
def test_an_error_in_the_block_ends_the_calls_and_what_waits_is_not_begun(error: BaseException, engine: Engine) -> None:
    healing: list[bool] = []

    def retried() -> str:
        try:
            return engine.ask()
        except EngineLost as lost:
            healing.append(policies.heals(lost))
            raise

    with pytest.raises(type(error)), beside([retried, lambda: "never"]) as made:
        assert engine.asked.wait(SOON)
        raise error
    assert isinstance(made[0].exception(0), EngineLost) and isinstance(made[1].exception(0), Stopped)
    assert healing == [False], "an engine that was closed on purpose is not opened again"
    assert policies.heals(EngineLost("another")) and not stopping.stopped() and none_is_left()


def test_an_error_in_a_call_lets_the_block_and_the_others_finish() -> None:
    def fails() -> str:
        raise ValueError("reward")

    with beside([fails, lambda: "made"]) as made:
        finished = True
    assert finished and made[1].result() == "made"
    with pytest.raises(ValueError, match="reward"):
        made[0].result()
    with pytest.raises(ValueError, match="reward"):
        together([lambda: "made", fails], 2)


@pytest.mark.parametrize("most", [1, 2])
def test_so_many_at_a_time_and_results_in_order(most: int) -> None:
    both, running, peak = threading.Barrier(most), threading.Semaphore(most), []

    def call(number: int) -> Callable[[], int]:
        def made() -> int:
            peak.append(running.acquire(blocking=False))
            both.wait(SOON)
            running.release()
            return number

        return made

    assert together([call(i) for i in range(4)], most) == [0, 1, 2, 3]
    assert all(peak)


def test_calls_beside_a_call_end_with_it(engine: Engine) -> None:
    def inner() -> list[str]:
        return together([engine.ask, engine.ask], 2)

    with pytest.raises(ValueError), beside([inner]) as [made]:
        assert engine.asked.wait(SOON)
        raise ValueError("update")
    assert isinstance(made.exception(0), EngineLost | Stopped) and none_is_left()
