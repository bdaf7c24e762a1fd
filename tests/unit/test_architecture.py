"""What may load what. Layers between packages are import-linter's (`make lint`); here is what a linter cannot see."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import GROUPS, LONGEST, REPOSITORY

HEAVY = ("torch", "vllm", "trl", "transformers", "datasets", "accelerate", "ray")
"""Seconds to import, and a GPU build where there is none to be: the Prefect UI imports flows to show their forms."""


def loaded(statement: str) -> set[str]:
    """Top-level modules that are there after a statement in a fresh interpreter."""
    program = (
        f"{statement}\nimport sys, json\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_flows_and_tasks_load_no_torch() -> None:
    """Every module of both, so that what is loaded late stays late."""
    names = [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        for package in ("flows", "tasks")
        for file in sorted((REPOSITORY / package).rglob("*.py"))
        if file.stem != "__init__"
    ]
    assert "flows.training" in names and "tasks.update" in names
    assert not loaded(f"import {', '.join(names)}").intersection(HEAVY)


def test_the_nouns_load_nothing_but_pydantic() -> None:
    modules = loaded(
        "import racro.schema, racro.config, racro.identity, racro.storage.layout, racro.summary, racro.errors"
    )
    assert not modules.intersection((*HEAVY, "pyarrow", "fsspec", "numpy", "PIL", "prefect", "mlflow"))


def test_the_library_without_models_loads_no_torch() -> None:
    modules = loaded("import racro.storage.artifacts, racro.data.problems, racro.grading, racro.reports.training")
    assert not modules.intersection((*HEAVY, "prefect", "mlflow"))


def test_the_tests_that_begin_first_are_there() -> None:
    """A file that is renamed would silently begin last."""
    assert [name for name in (*LONGEST, *GROUPS, *GROUPS.values()) if not (REPOSITORY / name).is_file()] == []
