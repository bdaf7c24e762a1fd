"""Trainings whose engines run in processes of their own: the same policy, streaming, and deaths in the middle."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.engines.protocol import Role
from racro.summary import Summary
from tasks.running import engines, observing
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.task_runs import task_runs

pytestmark = pytest.mark.usefixtures("prefect_server")

BATCHES = ("runtime.caption_batch=4",)  # so that a stage has a middle
WORKERS = (*BATCHES, "runtime.captioner.worker=true", "runtime.reasoner.worker=true")


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Summary:
    return train(
        loading.load(EMBEDDED_RECIPE, [*TINY, *BATCHES]), run="inline", root=str(tmp_path_factory.mktemp("inline"))
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def when() -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """`when(what, act)`: act once, in the middle of the stage whose progress is called so."""
    watching: list[observing.Observer] = []

    def observe(what: str, act: Callable[[], None]) -> None:
        fired = threading.Event()

        def observer(stage: str, done: int, total: int) -> None:
            if stage == what and not fired.is_set():
                fired.set()
                act()

        observing.observers.append(observer)
        watching.append(observer)

    yield observe
    for observer in watching:
        observing.observers.remove(observer)


def scripted(replies: str, delay: float) -> str:
    return f"{{type: scripted, rules: [{{replies: [{replies}], delay: {delay}}}]}}"


def pid(role: Role) -> int:
    engine = engines._cached[role].engine
    return int(getattr(engine, "engine", engine).pid)  # the reasoner's is behind a Prefetcher


@pytest.mark.usefixtures("forked_engines")
def test_workers_give_the_policy_that_engines_in_this_process_give(inline: Summary, tmp_path: Path, when) -> None:
    pids: set[tuple[Role, int]] = set()
    for stage in ("caption 0", "caption 1", "describe"):
        when(stage, lambda: pids.add(("captioner", pid("captioner"))))
    for stage in ("reward answer 0", "reward answer 1"):
        when(stage, lambda: pids.add(("reasoner", pid("reasoner"))))
    summary = train(loading.load(EMBEDDED_RECIPE, [*TINY, *WORKERS]), run="workers", root=str(tmp_path))
    assert summary.policy.digest == inline.policy.digest
    assert (summary.base, summary.final) == (inline.base, inline.final)
    assert len(pids) == 2, "one process per role, warm from the first stage to the last"
    assert not any(alive(pid) for _, pid in pids)
    assert {file.name for file in (tmp_path / "workers" / "engines").iterdir()} == {"captioner.log", "reasoner.log"}


BLOWS: tuple[tuple[str, Role, int], ...] = (
    ("describe", "captioner", signal.SIGSTOP),
    ("caption 0", "captioner", signal.SIGKILL),
    ("reward answer 1", "reasoner", signal.SIGKILL),
)
"""Stage, role, signal."""


def test_a_worker_that_dies_or_hangs_costs_one_retry_of_one_stage(inline: Summary, tmp_path: Path, when) -> None:
    struck: list[int] = []

    def strike(role: Role, signal: int) -> None:
        struck.append(pid(role))
        os.kill(struck[-1], signal)

    for stage, role, blow in BLOWS:
        when(stage, partial(strike, role, blow))
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, *WORKERS, "runtime.captioner.silence=8"])
    summary = train(recipe, run="struck", root=str(tmp_path))
    assert summary.policy.digest == inline.policy.digest
    assert (summary.base, summary.final) == (inline.base, inline.final)
    assert len(struck) == len(BLOWS) and not any(map(alive, struck))
    retried = [stage.partition(" heldout")[0] for stage, count in task_runs("struck").items() if count > 1]
    if len(retried) < len(BLOWS):  # the reasoner works ahead: it may have answered everything before it was struck
        retried.append("reward answer 1")
    assert sorted(retried) == sorted(stage for stage, _, _ in BLOWS)


def test_the_reasoner_answers_while_the_captioner_still_writes(tmp_path: Path) -> None:
    captions, pause = 64, 0.08
    summary = train(
        loading.load(
            EMBEDDED_RECIPE,
            [
                *TINY,
                *WORKERS,
                "iterations=1",
                f"rollout.problems={captions // 4}",
                "captioner.engine={type: scripted, rules: [{replies: [a, b, c, d], delay: %g}]}".replace(
                    "%g", str(pause)
                ),
                "reasoner.engine={type: scripted, rules: [{replies: [unknown], delay: %g}]}".replace(
                    "%g", str(3 * pause)
                ),
                "evaluation.problems=4",
            ],
        ),
        run="streamed",
        root=str(tmp_path),
    )
    # equal questions are asked once, so it can be less than the slower of the two
    both = summary.stages["caption"].seconds + summary.stages["reward-answer"].seconds
    slower, faster = captions * 3 * pause, captions * pause
    assert 0.8 * slower < both < slower + 0.9 * faster, f"{both:.1f} s for stages of {faster:.1f} and {slower:.1f} s"
