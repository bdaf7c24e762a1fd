"""Runs the notebooks in docs/notebooks and saves them with what they print: `make notebooks`.

`tests/docs/test_notebooks.py` runs them too, and fails when a cell prints something else than what is saved.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
DEADLINE = 900
"""Seconds for a cell: a training on a machine that does much else."""


def names() -> list[str]:
    """Files of the notebooks."""
    return sorted(file.name for file in FOLDER.glob("*.ipynb"))


def run(name: str, work: Path) -> Any:
    """The notebook with what its cells print now, run in the folder `work`. Raises CellExecutionError."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    client = NotebookClient(notebook, timeout=DEADLINE, kernel_name="python3", resources={"metadata": {"path": work}})
    # As in a user's Jupyter: our own processes, these tests too, do not import from the working directory.
    return client.execute(env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"})


def printed(notebook: Any) -> list[str]:
    """What each code cell prints, with # for every number: machines round differently, and clocks go on."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
            found.append(re.sub(r"[\d.]+(e-?\d+)?", "#", "".join(texts)))
    return found


def save(name: str) -> None:
    """Run a notebook and write it with its outputs, without what changes from run to run."""
    with tempfile.TemporaryDirectory(prefix="racro-notebook-") as work:
        notebook = run(name, Path(work))
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(notebook, FOLDER / name)


if __name__ == "__main__":
    for one in names():
        save(one)
