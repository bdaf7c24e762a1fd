"""What `tests.support.forkserver` imports before it forks, so that each child finds it there.

Prefect reads the environment when it is first imported. So Prefect itself, and every module of ours that imports it,
is taken out of sight again: it appears in a child when that child first imports one of them, and reads the environment
then, as in a new interpreter.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import importlib.abc
import importlib.machinery
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = (
    "hypothesis",
    "trio",
    "openai",
    "racro.answering.pipeline",
    "racro.evaluation.scenes",
    "racro.reports.curve",
    "racro.training.trainer",
    "racro.training.trl_without_vllm",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "transformers.models.qwen2.modeling_qwen2",
    "accelerate",
    "peft",
    "datasets",
    "s3fs",
    "pint",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "uvicorn",
    "prefect",
    "prefect.server.api.server",
    "prefect.server.database",
)
VLLM = (
    "racro.engines.worker.main",
    "racro.engines.vllm.core",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.llm_engine",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen2_5_vl",
)
OURS = ("tasks", "flows")
PROGRAMS = (
    "flows.cli.main",
    "flows.sweep_child",
    "flows.station.prefect_server",
    "flows.station.service_manager",
    "flows.station.worker",
)
"""Modules of ours that are run and not imported."""


def load(libraries: Iterable[str], shared: Path) -> None:
    """Import them; with Prefect among them, also what the commands of `racro` consist of.

    shared: the folder of the test run.
    """
    libraries = list(libraries)
    gc.disable()
    for name in libraries:
        importlib.import_module(name)
    if "prefect.server.api.server" in libraries:
        from tests.support import databases

        databases.install(shared)
        _make_api()
    _read_a_processor()
    if "prefect" in sys.modules:
        sys.meta_path.insert(0, Late(_import_ours()))
    gc.enable()
    gc.collect()
    gc.freeze()


def _import_ours() -> list[str]:
    """Import our packages. Names of the modules that import Prefect, directly or not."""
    imported: dict[str, set[str]] = defaultdict(set)
    real = builtins.__import__

    def noting(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if globals and not level:
            imported[str(globals.get("__name__"))].update([name, *(f"{name}.{item}" for item in fromlist or ())])
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = noting
    try:
        for package in OURS:
            for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
                if module.name not in PROGRAMS:
                    importlib.import_module(module.name)
    finally:
        builtins.__import__ = real
    found = {"prefect"}
    while more := {name for name, its in imported.items() if name not in found and _any_in(its, found)}:
        found |= more
    return [name for name in sys.modules if name in found and name.partition(".")[0] in OURS]


def _any_in(names: Iterable[str], found: set[str]) -> bool:
    """Is one of these names, or the root of one, among those found?"""
    return any(name in found or name.partition(".")[0] in found for name in names)


class Late(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Prefect and `others`, imported already, appear when one of them is first imported."""

    def __init__(self, others: Iterable[str]) -> None:
        prefect = [name for name in sys.modules if name.partition(".")[0] == "prefect"]
        self.modules = {name: sys.modules[name] for name in (*prefect, *others)}
        self.specs = {name: module.__spec__ for name, module in self.modules.items()}
        for name in self.modules:
            del sys.modules[name]
            if parent := self._visible_parent(name):
                delattr(parent, name.rpartition(".")[2])

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Once: then they are there."""
        return importlib.machinery.ModuleSpec(name, self) if name in self.modules else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module that was imported before."""
        return self.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """All of them, with settings from the environment as it is now."""
        sys.modules.update(self.modules)
        for name, one in self.modules.items():
            one.__spec__ = self.specs[name]
            if parent := self._visible_parent(name):
                setattr(parent, name.rpartition(".")[2], one)
        self.modules = {}
        importlib.import_module("prefect.context").refresh_global_settings_context()

    def _visible_parent(self, name: str) -> ModuleType | None:
        """The package that holds a module, unless it is itself one that appears late."""
        parent = name.rpartition(".")[0]
        return None if parent in self.modules else sys.modules.get(parent)


def _read_a_processor() -> None:
    """For the first, transformers imports hundreds of its modules; and this one is most often asked for."""
    from racro.models.folders import EMBEDDED, load_processor

    load_processor(EMBEDDED / "captioner")


def _make_api() -> None:
    """Make the API of Prefect's server, its thousand routes, which is the same in every server without a password."""
    import prefect
    from prefect.server.api import server

    make, made = server.create_api_app, [server.create_api_app(ignore_cache=True)]

    def create_api_app(fast_api_app_kwargs: dict[str, Any], **how: Any) -> Any:
        if not made or prefect.settings.PREFECT_SERVER_API_AUTH_STRING.value():
            return make(fast_api_app_kwargs=fast_api_app_kwargs, **how)
        app = made.pop()
        app.exception_handlers.update(fast_api_app_kwargs["exception_handlers"])
        return app

    server.create_api_app = create_api_app
