"""What may load what. Layers between packages are import-linter's (`make lint`); here is what a linter cannot see."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import GROUPS, LONGEST, REPOSITORY

HEAVY = ("torch", "vllm", "trl", "transformers", "datasets", "accelerate", "ray")
"""Seconds to import, and a GPU build where there is none to be: the Prefect UI imports flows to show their forms."""


NOUNS = "racro.schema, racro.config, racro.identity, racro.storage.layout, racro.summary, racro.errors"
LIBRARY = "racro.storage.artifacts, racro.data.problems, racro.grading, racro.reports.training"


def loaded(*imports: str) -> list[set[str]]:
    """Top-level modules that are there after each import, one after the other in a fresh interpreter."""
    show = "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    program = "\n".join(["import sys, json", *(line for names in imports for line in (f"import {names}", show))])
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()[-len(imports) :]]


def test_what_is_loaded_late_stays_late() -> None:
    """The nouns, the library without models, and every module of flows and tasks."""
    names = [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        for package in ("flows", "tasks")
        for file in sorted((REPOSITORY / package).rglob("*.py"))
        if file.stem != "__init__"
    ]
    assert "flows.training" in names and "tasks.update" in names
    nouns, library, everything = loaded(NOUNS, LIBRARY, ", ".join(names))
    assert not nouns.intersection((*HEAVY, "pyarrow", "fsspec", "numpy", "PIL", "prefect", "mlflow"))
    assert not library.intersection((*HEAVY, "prefect", "mlflow"))
    assert not everything.intersection(HEAVY)


def test_the_tests_that_begin_first_are_there() -> None:
    """A file that is renamed would silently begin last."""
    assert [name for name in (*LONGEST, *GROUPS, *GROUPS.values()) if not (REPOSITORY / name).is_file()] == []
