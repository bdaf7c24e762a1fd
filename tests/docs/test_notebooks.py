"""The notebooks run, and print what is saved in them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.docs.notebooks import FOLDER, names, printed, run


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", names())
def test_a_notebook_runs_and_prints_what_is_saved(name: str, tmp_path: Path) -> None:
    saved = printed(nbformat.read(FOLDER / name, as_version=4))
    assert any(saved), f"{name} was saved without outputs: run `make notebooks`"
    assert printed(run(name, tmp_path)) == saved, f"{name} prints something else now: run `make notebooks`"


def test_a_cell_that_prints_something_else_is_noticed() -> None:
    notebook = nbformat.read(FOLDER / "grading.ipynb", as_version=4)
    before = printed(notebook)
    [first, *_] = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    first.outputs[0]["text"] = "another word"
    assert printed(notebook) != before
