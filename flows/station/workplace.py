"""A step that Prefect runs in a flow run's process before it loads the flow: go to the worker's working directory.

Prefect imports a deployment's module with the working directory first on `sys.path`. The packages are imported here,
before, so a user's own `flows`, `tasks` or `racro` there cannot take their place. Named in flows/prefect.yaml.
"""

from __future__ import annotations

import os

import flows
import racro
import tasks

PACKAGES = (flows, racro, tasks)
"""Imported, so that their modules are found in them."""


def enter(directory: str) -> dict[str, str]:
    """Make it the working directory: relative paths in a recipe start there."""
    os.chdir(directory)
    return {"directory": os.getcwd()}
