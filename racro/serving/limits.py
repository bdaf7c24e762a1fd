"""How much one request, and all of them together, may ask of this machine."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Set by the options of `racro serve`, where it has one; see docs/serving.md."""

    body: int = 20 * MIB
    """Bytes of a request, images included."""
    images: int = 8
    """Images of a question."""
    image: int = 20 * MIB
    """Bytes of an image behind a link, or uploaded on the page."""
    pixels: int = 40_000_000
    """Pixels of all images of a question together."""
    question: int = 16_000
    """Characters of a question."""
    concurrency: int = 16
    """Questions that are worked on at the same time."""
    queue: int = 64
    """Requests that wait besides."""
    rate: int = 0
    """Questions that one address may ask in a minute; 0: as many as it likes."""
    timeout: float = 300.0
    """Seconds for an answer, waiting included."""
    upload: float = 30.0
    """Seconds for a request to arrive, and for a client to take a part of the answer."""
    link: float = 10.0
    """Seconds for an image behind a link, redirects included."""
    redirects: int = 3
    """Redirects that are followed."""
    private_links: bool = False
    """May links lead to addresses that are not public, such as this machine or its network?"""

    @property
    def places(self) -> int:
        """Requests that are worked on or wait."""
        return self.concurrency + self.queue
