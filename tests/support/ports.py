"""Ports that no other program gets: a server that is meant for one may take seconds to start."""

from __future__ import annotations

import contextlib

from racro.processes.child import reserved_port

_HELD = contextlib.ExitStack()


def reserve() -> int:
    """A TCP port of the loopback interface, for a server that sets SO_REUSEADDR, until this process ends."""
    return _HELD.enter_context(reserved_port())
