"""Captions one policy behind: beside the update or after it, undisturbed or with failures, it is the same policy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.rehearsal import rehearse
from flows.training import train
from racro.config import Recipe, loading
from racro.storage import artifacts
from racro.storage.artifacts import Record
from racro.summary import Summary
from tasks.running import observing, stopping
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")

SOON = 600.0
"""Seconds after which something that is waited for will not come any more."""
LAGGED = (
    *TINY,
    "iterations=3",
    "rollout.lag=1",
    "evaluation.every=3",
    "evaluation.problems=4",
    "rollout.problems=4",
    "update.mini_batch=2",
    "runtime.caption_batch=2",
    "runtime.checkpoint_every=2",
    "reasoner.engine={type: scripted, rules: [{replies: ['\\boxed{3}'], delay: 0.005}]}",
    "rewards=[{type: answer}, {type: describes, weight: 0.2}, {type: length, weight: 0.5, budget: 6, limit: 12}]",
)
APART = ("runtime.captioner.worker=true", "runtime.reasoner.worker=true")


def lagged(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*LAGGED, *overrides])


def records(root: Path, stage: str) -> list[Record]:
    """In the order in which they were written."""
    found = [artifacts.read_record(str(folder)) for folder in (root / "artifacts" / stage).iterdir()]
    return sorted((record for record in found if record is not None), key=lambda record: record.finished)


@contextlib.contextmanager
def watching(observer: observing.Observer) -> Iterator[None]:
    observing.observers.append(observer)
    try:
        yield
    finally:
        observing.observers.remove(observer)


class Meeting:
    """Stages that wait for each other, the first time that each of them says how far it is."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = pairs
        self.here = {what: threading.Event() for pair in pairs for what in pair}
        self.missed: list[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        for pair in self.pairs:
            if what in pair and not self.here[what].is_set():
                self.here[what].set()
                other = pair[1 - pair.index(what)]
                if not self.here[other].wait(SOON):
                    self.missed.append(f"{what} without {other}")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Path, Summary]:
    """With all engines in the trainer's process, where nothing can overlap."""
    root = tmp_path_factory.mktemp("serial")
    return root, train(lagged(), run="serial", root=str(root))


def test_each_update_but_the_first_learns_from_captions_of_the_policy_before(serial: tuple[Path, Summary]) -> None:
    root, summary = serial
    assert all(call.record for call in rehearse(lagged(), str(root))), "the plan knows which policy writes"
    updates = records(root, "update")
    assert [record.metrics["staleness_iterations"] for record in updates] == [0, 1, 1]
    steps = [record.metrics["steps"] for record in updates]
    assert all(steps) and sum(steps) == summary.optimizer_steps
    assert [record.metrics["staleness_steps"] for record in updates] == [0, *steps[:2]]
    for record in updates:
        assert record.metrics["logprob_gap"] < 1e-4, "the gate compares with the policy that wrote"
    for record in updates[1:]:
        assert record.metrics["staleness_nats"] > 1e-3 and 0 <= record.metrics["importance_clipped"] <= 1
    first, second, third = (record.inputs["policy"]["digest"] for record in records(root, "caption"))
    made = [record.handle["digest"] for record in updates]
    assert (first, second, third) == (first, first, made[0])
    assert "writer" not in updates[0].inputs, "as without lag"


def test_with_engines_apart_it_overlaps_and_gives_the_same_policy(
    serial: tuple[Path, Summary], tmp_path: Path, forked_engines: None
) -> None:
    meeting = Meeting(("update", "reward answer 1"), ("reward answer 0", "reward describes 0"))
    with watching(meeting):
        summary = train(lagged(*APART), run="apart", root=str(tmp_path))
    assert not meeting.missed, "these were not under way at the same time"
    assert summary.policy.digest == serial[1].policy.digest
    assert (summary.base, summary.final) == (serial[1].base, serial[1].final)


def failing(*acts: tuple[str, Callable[[], None]]) -> observing.Observer:
    """Act where a stage of that name says for the first time how far it is."""
    left = dict(acts)

    def observer(what: str, done: int, total: int) -> None:
        if act := left.pop(what, None):
            act()

    return observer


def test_an_error_on_either_side_ends_the_other_and_the_run_goes_on_to_the_same_policy(
    serial: tuple[Path, Summary], tmp_path: Path, forked_engines: None
) -> None:
    recipe, root = lagged(*APART), tmp_path
    writing = threading.Event()

    def fail(error: BaseException) -> Callable[[], None]:
        def act() -> None:
            raise error

        return act

    def fail_meanwhile(error: BaseException) -> Callable[[], None]:
        def act() -> None:
            assert writing.wait(SOON)
            raise error

        return act

    def until_it_is_stopped() -> None:
        writing.set()
        end = time.monotonic() + SOON
        while not stopping.stopped() and time.monotonic() < end:
            time.sleep(0.02)

    with watching(failing(("reward answer 1", fail(ZeroDivisionError("judge"))))), pytest.raises(ZeroDivisionError):
        train(recipe, run="run", root=str(root))
    assert len(records(root, "update")) == 1, "the update beside it was finished"
    for error in (ZeroDivisionError("update"), KeyboardInterrupt()):
        writing.clear()
        acts = ("update", fail_meanwhile(error)), ("caption 2", until_it_is_stopped)
        with watching(failing(*acts)), pytest.raises(type(error)):
            train(recipe, run="run", root=str(root))
        assert (len(records(root, "update")), len(records(root, "caption"))) == (1, 2)
        assert not [thread for thread in threading.enumerate() if thread.name == "beside"]
    summary = train(recipe, run="run", root=str(root))
    assert summary.policy.digest == serial[1].policy.digest
    executed = {name: total.executed for name, total in summary.stages.items()}
    assert (executed["caption"], executed["reward-answer"], executed["update"]) == (1, 1, 2)
    assert records(root, "update")[1].metrics["replayed"] == 1, "no state has the weights before"


def test_a_finished_training_starts_nothing(serial: tuple[Path, Summary], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.running.trainer.opened", lambda *_: pytest.fail("the trainer was started"))
    again = train(lagged(), run="again", root=str(serial[0]))
    assert not any(total.executed for total in again.stages.values())
    assert again.policy.digest == serial[1].policy.digest


def test_without_lag_the_first_iteration_is_shared(serial: tuple[Path, Summary]) -> None:
    plain = train(lagged("rollout.lag=0", "iterations=1"), run="plain", root=str(serial[0]))
    assert not any(plain.stages[name].executed for name in ("caption", "reward-answer", "compose", "update"))
