"""Lets transformers load without scikit-learn and scipy.stats, which it imports where they are and which nobody uses.

Where scikit-learn is installed (MLflow brings it), two modules of transformers import it: for assisted generation with
an adaptive confidence, and for scores of the GLUE tasks. That takes a second of each process that loads a model, and
nothing here uses it. `install` is called when `racro` is imported. All else finds scikit-learn as ever.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

IMPORTERS = ("transformers.generation.candidate_generator", "transformers.data.metrics")
ASKS = "is_sklearn_available"


def install() -> None:
    """These modules are told that there is none when they are imported."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in IMPORTERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.origin and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        utils = sys.modules["transformers.utils"]
        there = getattr(utils, ASKS, None)
        if there is None:  # another version of transformers, which does without this
            super().exec_module(module)
            return
        setattr(utils, ASKS, lambda: False)
        try:
            super().exec_module(module)
        finally:
            setattr(utils, ASKS, there)
