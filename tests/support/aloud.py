"""What failed and what took minutes, said at once: a run of the tests that is stopped has said it too."""

from __future__ import annotations

from typing import Any

import pytest

SLOW = 120
"""Seconds after which a test is named."""


class Aloud:
    """A plugin of pytest."""

    def __init__(self, terminal: Any) -> None:
        """`terminal`: pytest's reporter."""
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of a test."""
        if report.failed:
            self.terminal.write_line(f"\n{report.nodeid} failed in {report.when}: {report.longreprtext[-300:]}")
        elif report.duration > SLOW:
            self.terminal.write_line(f"\n{report.nodeid}: {report.duration:.0f} s ({report.when})")
