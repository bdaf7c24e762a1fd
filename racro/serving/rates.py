"""How often may a client ask? So many times in any minute, told apart by address. Knows no HTTP.

The address is that of the connection. What a header says of it counts only if the server was told to believe its proxy
(`racro.serving.server`).
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict, deque

from racro.serving.errors import ApiError

MINUTE = 60.0
KNOWN = 10_000
"""Addresses that are remembered, those that asked last."""


class Rates:
    """When each client asked. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        """`limit`: questions in a minute; 0: as many as a client likes."""
        self.limit = limit
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, address: str, now: float | None = None) -> None:
        """A client asks, now by default (monotonic seconds). Raises ApiError 429, which is not counted."""
        if not self.limit:
            return
        now = time.monotonic() if now is None else now
        client = network(address)
        asked = self._asked.setdefault(client, deque(maxlen=self.limit))
        self._asked.move_to_end(client)
        if len(self._asked) > KNOWN:
            self._asked.popitem(last=False)
        if len(asked) == self.limit and now - asked[0] < MINUTE:
            seconds = math.ceil(asked[0] + MINUTE - now)
            message = f"at most {self.limit} a minute from one address; try again in {seconds} s"
            code = "rate_limit_exceeded"
            raise ApiError(429, message, kind="rate_limit_error", code=code, retry_after=seconds)
        asked.append(now)


def network(address: str) -> str:
    """What one client has: an address of IPv4, or the 64 bits before all addresses of an IPv6 line."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a socket without addresses
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
