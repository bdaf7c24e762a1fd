"""Writes docs/map.md from the opening lines of every folder and file: `make map`.

A folder is described by the docstring of its `__init__.py`, which opens with the question that the folder answers; a
file by its docstring or its opening comment. So the map says what the code says. `tests/docs/test_map.py` fails when
the page is stale.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "map.md"
ROOTS = ("racro", "tasks", "flows", "infra", "tests")
"""In the order of reading; folders inside them follow by name."""
OPENING = {".py": None, ".yaml": "#", ".txt": "#", "": "#", ".j2": "{#"}
"""Suffixes of the files that are listed, with what opens a comment in them; None: the docstring is read."""

INTRODUCTION = """# Map

Where is what? Dependencies point one way, infra → flows → tasks → racro, and a linter checks it. How to add a stage, a
reward, a benchmark and the like is in [CONTRIBUTING.md](../CONTRIBUTING.md).

This page is made by `make map` from the docstrings of the code: change those, not this page.
"""


class Undescribed(ValueError):
    """A folder or file that does not say what it is."""


def page(repository: Path) -> str:
    """The text of docs/map.md. Raises Undescribed, with the path, for a folder or file without an opening line."""
    folders = [folder for root in ROOTS for folder in packages(repository / root)]
    sections = {folder: list(files(folder)) for folder in folders}
    parts = [INTRODUCTION, "| folder | what it answers |", "|---|---|"]
    for folder in folders:
        name = folder.relative_to(repository).as_posix()
        heading = f"[{name}](#{_anchor(name)})" if sections[folder] else name
        parts.append(f"| {heading} | {description(folder / '__init__.py')} |")
    for folder, found in sections.items():
        if found:
            name = folder.relative_to(repository).as_posix()
            parts += ["", f"## {name}", "", "| file | what it holds |", "|---|---|"]
            parts += [_line(file, folder, repository) for file in found]
    return "\n".join(parts) + "\n"


def packages(root: Path) -> Iterator[Path]:
    """A package and all packages inside it, by name."""
    if (root / "__init__.py").exists():
        yield root
        for inner in sorted(root.iterdir()):
            yield from packages(inner)


def files(package: Path) -> Iterator[Path]:
    """The files of a package, also those in folders of it that are no packages themselves (recipes, manifests)."""
    for item in sorted(package.iterdir()):
        if item.is_dir() and item.name != "__pycache__" and not (item / "__init__.py").exists():
            yield from files(item)
        elif item.is_file() and item.suffix in OPENING and item.name != "__init__.py":
            yield item


def description(file: Path) -> str:
    """The first paragraph of a docstring, or the first sentence of an opening comment, as one line."""
    text = file.read_text(encoding="utf-8")
    mark = OPENING[file.suffix]
    found = _docstring(text) if mark is None else _comment(text, mark)
    if not found:
        raise Undescribed(f"{file} does not say what it is: open it with a one-line docstring or comment")
    return " ".join(found.split()).replace("|", "\\|")


def _docstring(text: str) -> str:
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]


def _comment(text: str, mark: str) -> str:
    if not text.startswith(mark):
        return ""
    if mark == "{#":
        comment = text.removeprefix(mark).partition("#}")[0]
    else:
        lines = text.splitlines()
        end = next((i for i, line in enumerate(lines) if not line.startswith(mark)), len(lines))
        comment = " ".join(line.removeprefix(mark).strip() for line in lines[:end])
    return re.split(r"(?<=\.)\s", comment.strip(), maxsplit=1)[0]


def _line(file: Path, folder: Path, repository: Path) -> str:
    target = file.relative_to(repository).as_posix()
    return f"| [{file.relative_to(folder).as_posix()}](../{target}) | {description(file)} |"


def _anchor(name: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return name.replace("/", "")


if __name__ == "__main__":
    PAGE.write_text(page(REPOSITORY), encoding="utf-8")
