"""Reward `python`: a function of the user's own, called once for each problem with its captions.

A fault of the function costs the captions of that call: they are unscored, and counted by what went wrong.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from numbers import Real
from typing import Any

from racro import config
from racro.errors import BadInput
from racro.rewards.protocol import Case, Kind, Means, Value

LARGEST = 1e100
"""Largest absolute value; squares of larger ones are not finite."""
DETAIL = 200
"""Characters of an error that are kept."""


class BadFunction(BadInput):
    """A function that cannot be called as the recipe says."""


class NoList(Exception):
    """What the function returned has no values one after the other."""


class Hung(Exception):
    """A call that did not return in time."""


class Python(Kind[config.PythonReward]):
    """What the function returns for each caption: a finite number, or None for unscored."""

    version = 1
    blind = True
    needs = frozenset(("gate",))
    remedy = "correct the function"

    def require(self) -> None:
        """Raises BadFunction if the function cannot be imported or does not take the settings."""
        function = self.load()
        try:
            inspect.signature(function).bind([], **self.settings.settings)
        except ValueError:  # some functions of C do not say what they take
            return
        except TypeError as error:
            raise BadFunction(
                f"rewards: {self.settings.title}: {self.settings.function} does not take these settings: {error}; "
                "it is called with a list of cases, and the settings as keyword arguments"
            ) from error

    def load(self) -> Callable[..., Any]:
        """The function. Raises BadFunction."""
        where, _, name = self.settings.function.partition(":")
        try:
            found = getattr(importlib.import_module(where), name)
        except (Exception, SystemExit) as error:  # a module of the user's may raise anything, or end as a program does
            reason = _words(error)
            raise BadFunction(
                f"rewards: {self.settings.title}: {self.settings.function} cannot be imported ({reason}); correct it, "
                "install its package, or put its folder on PYTHONPATH"
            ) from error
        if not callable(found):
            raise BadFunction(f"rewards: {self.settings.title}: {self.settings.function} is no function; name one")
        return found

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts problems.

        A call that takes longer than the deadline cannot be ended, so the function is not called again in this stage.
        """
        function = self.load()
        groups = [list(group) for _, group in itertools.groupby(cases, key=lambda case: case.problem.uid)]
        hung = False
        for done, group in enumerate(groups, 1):
            if hung:
                yield from _faults(group, "hung", "not called, because an earlier call did not return")
            else:
                given = _call(function, group, self.settings.settings, means.deadline)
                hung = isinstance(given, Hung)
                yield from _values(group, given)
            means.progress(done, len(groups))


def _call(function: Callable[..., Any], group: list[Case], settings: dict[str, Any], deadline: float) -> Any:
    """The values that the function returns as a list, or the exception that it raises; Hung if it does neither in time.

    It gets a list of its own, which it may change.
    """
    answer: Future[Any] = Future()

    def call() -> None:
        try:
            answer.set_result(_listed(function(list(group), **settings), len(group)))
        except BaseException as error:  # whatever it is, it belongs to this call
            answer.set_result(error)

    # A daemon: this process must be able to end while the function hangs.
    threading.Thread(target=call, name="reward", daemon=True).start()
    try:
        return answer.result(timeout=deadline)
    except TimeoutError:
        return Hung()


def _values(group: list[Case], given: Any) -> Iterator[Value]:
    if isinstance(given, Hung):
        return _faults(group, "hung", "the function did not return in time")
    if isinstance(given, NoList):
        return _faults(group, "no_list", f"returned {given}, not a list of numbers")
    if isinstance(given, BaseException):
        return _faults(group, "raised", f"raised {_words(given)}")
    if len(given) != len(group):
        count = f"more than {len(group)}" if len(given) > len(group) else str(len(given))
        return _faults(group, "wrong_count", f"returned {count} values for {len(group)} captions")
    return (_value(value) for value in given)


def _listed(given: Any, count: int) -> list[Any]:
    """The values, and at most one more than `count`: generators need not end. Raises NoList."""
    if hasattr(given, "tolist"):  # arrays and tensors
        given = given.tolist()
    if isinstance(given, str | bytes | dict):
        raise NoList(type(given).__name__)
    try:
        values = iter(given)
    except TypeError:
        raise NoList(type(given).__name__) from None
    return list(itertools.islice(values, count + 1))


def _words(error: BaseException) -> str:
    """What an exception says, as far as it can be written down."""
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:  # one whose own text fails
        said = type(error).__name__
    return " ".join(said.encode(errors="replace").decode().split())[:DETAIL]


def _value(value: Any) -> Value:
    if value is None:
        return Value(None, "the function says None")
    if not isinstance(value, Real) and hasattr(value, "item"):  # a number of NumPy or torch
        with contextlib.suppress(Exception):
            value = value.item()
    if not isinstance(value, Real):
        return Value(None, f"{type(value).__name__} is no number", fault="no_number")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not abs(number) <= LARGEST:
        said = "is too large" if math.isfinite(number) else "is not finite"
        return Value(None, f"{number:g} {said}", fault="not_finite")
    return Value(number)


def _faults(group: list[Case], fault: str, detail: str) -> Iterator[Value]:
    return iter([Value(None, " ".join(detail.split())[:DETAIL], fault=fault)] * len(group))
