"""Bins in the order of their use; on a GPU the next one is decoded and encoded by a thread while the model computes.

On a CPU there is nothing to gain, because the model needs the same cores, and there tokenizers 0.23.3 has crashed in
that thread (a segmentation fault in `encode_batch`, seen three times in our tests, not explained).

Images are in memory for two bins, and for those that are used again and fit into KEPT. Called by
`racro.training.replay`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from racro.training.bins import Bin
from racro.training.passes import Prepared

KEPT = 2**28
"""Bytes of images that are kept from the pass for old log-probs to the optimizer step, so that each is decoded once."""


class Feed:
    """Prepares bins, one ahead if wanted. To be closed."""

    def __init__(
        self, prepare: Callable[[Bin], Prepared], order: Sequence[Bin], keep: int = KEPT, ahead: bool = True
    ) -> None:
        """`order`: all bins, as often as they are used. `keep`: bytes of images to keep for a second use.

        `ahead`: in a thread, while the bin before is used; otherwise when it is taken.
        """
        self.prepare, self.keep = prepare, keep
        self.order, self.uses = iter(order), Counter(order)
        self.kept: dict[Bin, Prepared] = {}
        self.pixel_bytes_peak = 0
        """Most bytes of images that were in memory at once, as the model takes them."""
        self.last: Prepared | None = None
        """The bin taken last."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="racro-bins") if ahead else None
        self.following = self._begin()

    def take(self) -> Prepared:
        """The next bin. Raises what its preparation raised."""
        assert self.following is not None
        self.last = self.following()
        self.following = self._begin()
        return self.last

    def close(self) -> None:
        """End the thread; the bin taken last stays."""
        if self.thread:
            self.thread.shutdown(cancel_futures=True)
        self.following = None
        self.kept.clear()

    def _begin(self) -> Callable[[], Prepared] | None:
        """How to get the next bin; None after the last."""
        following = next(self.order, None)
        if following is None:
            return None
        return (
            self.thread.submit(self._prepared, following).result if self.thread else partial(self._prepared, following)
        )

    def _prepared(self, following: Bin) -> Prepared:
        found = self.kept.pop(following, None) or self.prepare(following)
        alive = [found, *self.kept.values(), *([self.last] if self.last else [])]
        self.pixel_bytes_peak = max(self.pixel_bytes_peak, sum({id(bin): bin.pixel_bytes for bin in alive}.values()))
        self.uses[following] -= 1
        if self.uses[following] and sum(bin.pixel_bytes for bin in self.kept.values()) + found.pixel_bytes <= self.keep:
            self.kept[following] = found
        return found
