"""Algebra runs in processes that end in time whatever they are asked, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from racro.grading import GraderFailed, grade, symbolic
from racro.grading.symbolic_main import SECONDS
from racro.schema import Gold, Verdict

ENDLESS = "9^{9^{9^{9}}}"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    symbolic.equal.cache_clear()
    yield


@pytest.mark.parametrize(
    "answer",
    ["10^{10000}", "(x+1)^{10000}", "100000!!!", "\\frac{1}{" * 300 + "1" + "}{2}" * 300, "x" + "+x" * 1_000],
    ids=lambda answer: answer[:12],
)
def test_no_answer_takes_long_or_does_harm(answer: str) -> None:
    started = time.monotonic()
    found = grade(f"\\boxed{{{answer}}}", "stop", Gold("9x", "expression"))
    assert found.verdict in (Verdict.WRONG, Verdict.FAILED)
    assert time.monotonic() - started < symbolic.WAIT
    assert grade(r"\boxed{x \cdot 9}", "stop", Gold("9x", "expression")).verdict is Verdict.CORRECT


def test_an_answer_that_takes_too_long_is_failed_and_not_wrong() -> None:
    started = time.monotonic()
    with pytest.raises(GraderFailed, match="limits"):
        symbolic.equal("9x", ENDLESS)
    assert grade(f"\\boxed{{{ENDLESS}}}", "stop", Gold("9x", "expression")).verdict is Verdict.FAILED
    assert time.monotonic() - started < 2 * symbolic.WAIT


def test_a_process_that_is_killed_is_replaced() -> None:
    assert symbolic.equal("2x", "x+x")
    for worker in symbolic._pool._idle:
        os.kill(worker._child.pid, 9)
    for number in range(symbolic.WORKERS + 1):
        grade("\\boxed{x+x}", "stop", Gold(f"{number}x", "expression"))
    assert symbolic.equal("3x", "x+2x")


def test_threads_get_their_own_verdicts() -> None:
    def ask(number: int) -> bool:
        return symbolic.equal(f"{number % 7}x", f"{number % 7 - 1}x + x") and not symbolic.equal("x", f"{number + 2}x")

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(40)))
    assert len(symbolic._pool._idle) <= symbolic.WORKERS


def test_no_process_is_started_for_what_needs_no_algebra() -> None:
    program = (
        "from racro.grading import grade, symbolic\n"
        "from racro.schema import Gold\n"
        "for kind in ('integer', 'float', 'choice', 'choices', 'yesno', 'text', 'expression', 'list', 'set'):\n"
        "    grade(r'\\boxed{3}', 'stop', Gold('3', kind)); grade(r'\\boxed{4}', 'stop', Gold('3', kind))\n"
        "import sys\n"
        "assert not symbolic._pool._idle and 'sympy' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_process_outlives_the_one_that_asked(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from racro.grading import symbolic\n"
        "symbolic.equal('2x', 'x+x')\n"
        "pathlib.Path(sys.argv[1]).write_text(str(symbolic._pool._idle[0]._child.pid))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "pid")])
    pid = int((tmp_path / "pid").read_text())
    try:
        psutil.Process(pid).wait(SECONDS * 60)
    except psutil.NoSuchProcess:
        return
    assert not psutil.pid_exists(pid)


def test_a_forked_process_starts_its_own() -> None:
    assert symbolic.equal("2x", "x+x")
    child = os.fork()
    if child == 0:
        os._exit(0 if not symbolic._pool._idle else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert symbolic.equal("4x", "2x+2x")


def test_an_option_that_takes_too_long_to_compare_is_failed_too() -> None:
    found = grade(f"The answer is {ENDLESS}", "stop", Gold("A", "choice", ("√3", "√5")))
    assert found.verdict is Verdict.FAILED
