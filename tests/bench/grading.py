"""Verdicts per second of processor time of one core, by kind of answer: `python tests/bench/grading.py`.

Algebra is measured on the clock, with one warm process and every pair of texts new; other kinds never leave this one.
The registry of units, which is built once, is there before the first measurement.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from racro.grading import grade
from racro.schema import Gold

COUNT, ALGEBRA = 5000, 300
THINKING = "First I look at the bars, then I compare their heights. " * 60
OPTIONS = ("12 cm", "red", "30°", "none of these")


def boxed(answer: object) -> str:
    return f"<think>{THINKING}</think>The sum gives \\boxed{{{answer}}}."


def prose(answer: object) -> str:
    return f"{THINKING} Therefore, there are {answer} bars."


CASES: dict[str, tuple[int, Callable[[int], tuple[str, Gold]]]] = {
    "integer": (COUNT, lambda n: (boxed(n), Gold(str(n), "integer"))),
    "integer in prose": (COUNT, lambda n: (prose(n), Gold(str(n), "integer"))),
    "float with unit": (COUNT, lambda n: (boxed(f"{n / 7:.2f} cm"), Gold(f"{n / 70:.3f}", "float", unit="dm"))),
    "choice": (COUNT, lambda n: (boxed(random.choice(OPTIONS)), Gold("B", "choice", OPTIONS))),
    "several choices": (COUNT, lambda n: (boxed("A and C"), Gold("A, C", "choices"))),
    "text": (COUNT, lambda n: (boxed(f"the bar {n}"), Gold(f"bar {n}", "text"))),
    "set of numbers": (COUNT, lambda n: (boxed(f"{n}, {n + 1}"), Gold(f"{n + 1}, {n}", "set"))),
    "expression, algebra": (ALGEBRA, lambda n: (boxed(f"x + {n}x"), Gold(f"{n + 1}x", "expression"))),
}


def main() -> None:
    """A line for each kind."""
    grade(boxed("x+x"), "stop", Gold("2x", "expression"))
    grade(boxed("10 mm"), "stop", Gold("1 cm", "float"))
    for name, (count, case) in CASES.items():
        cases = [case(number) for number in range(3, count + 3)]
        clock = time.perf_counter if count == ALGEBRA else time.process_time
        started = clock()
        for response, gold in cases:
            grade(response, "stop", gold)
        print(f"{name:22}{count / (clock() - started):10.0f} per second")


if __name__ == "__main__":
    main()
