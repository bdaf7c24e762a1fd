"""Which process runs which tests: those of a group in one, and nothing twice when a process dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByGroup(LoadScopeScheduling):
    """Tests of a group run in one process. Markers (`--dist loadgroup`) do not do it: pytest 9.2 keeps no suffix."""

    def __init__(self, config: pytest.Config, log: Any, group: Callable[[str], str]) -> None:
        """`group`: a test's, by its id."""
        super().__init__(config, log)
        self.group = group

    def _split_scope(self, nodeid: str) -> str:
        return self.group(nodeid)

    def remove_node(self, node: Any) -> str | None:
        """A process has ended. Where it died, the test that it ran has failed, and others run the rest.

        xdist would run that test again, and would hand out groups that are finished, for whose end it then waits.
        """
        groups = self.assigned_work[node]
        left = [(tests, test) for tests in groups.values() for test, done in tests.items() if not done]
        if not left:
            return super().remove_node(node)
        tests, died = left[0]
        tests[died] = True
        for name in [name for name, tests in groups.items() if all(tests.values())]:
            del groups[name]
        super().remove_node(node)
        return died
