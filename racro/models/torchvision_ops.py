"""Makes torchvision importable with a build of torch that it was not compiled for.

PyPI's torchvision is a CUDA build. With a CPU build of torch its compiled operators do not load, and its import fails
on the first of them (`operator torchvision::nms does not exist`), although image processors need none. vLLM and
transformers both import it. `install` is called when `racro` is imported; engine processes that never import `racro`
get it from `racro/processes/site`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

MISSING = tuple(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms"))
"""Operators to which torchvision's Python code attaches functions when it is imported."""

_kept: list[Any] = []
"""Keeps the library alive as long as its operators."""


def install() -> None:
    """Declare the operators if torchvision is imported and was built for another torch; otherwise do nothing."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch(importlib.abc.MetaPathFinder):
    """Finds torchvision as usual, and gives it a loader that declares the operators first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if (
            spec is not None
            and spec.origin is not None
            and isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        ):
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        if mismatch():
            _declare()
        super().exec_module(module)


def mismatch() -> str | None:
    """What does not match between torch and torchvision, in words; None if they match or torchvision is missing."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    import torch

    # The installed metadata does not say for which CUDA a wheel was built; this file does.
    found = re.search(r"__version__ = '([^']*)'", Path(spec.origin).with_name("version.py").read_text())
    built = found[1] if found else ""
    if ("+cu" in built) == (torch.version.cuda is not None):
        return None
    return f"torch {torch.__version__} beside torchvision {built}"


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in MISSING:
        library.define(operator)
    _kept.append(library)
