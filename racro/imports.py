"""Imports of libraries without garbage collection: torch, transformers and trl then load in two thirds of the time.

A million objects are made that stay. Python's collector would look through them again and again, during the imports
and at each full collection afterwards.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

atexit.register(gc.unfreeze)  # bindings that count what is left at the end would print what they miss


@contextmanager
def quick() -> Iterator[None]:
    """Collect no garbage within; afterwards, exempt what is there from all later collections if modules were loaded.

    Objects that are exempt are still freed when their last reference goes. Contexts may be nested.
    """
    if not gc.isenabled():
        yield
        return
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if len(sys.modules) > before:
            gc.collect()
            gc.freeze()
