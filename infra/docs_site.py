"""Hooks of mkdocs for the site of docs (mkdocs.yml): what GitHub shows by itself, the site is told here.

Pages that lie beside docs/ (CONTRIBUTING.md, CHANGELOG.md) join it, notebooks become pages, the page of the API is
made, and links to source files become their paths, because the site holds none.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages beside docs/, by their names on the site."""
MODULES = {
    "racro": "The names for programs of your own.",
    "racro.config": "The recipe and its sections.",
    "racro.schema": "Rows of tables, and handles to artifacts.",
    "racro.summary": "Results of runs: `summary.json`.",
    "racro.answering.pipeline": "Questions about images.",
    "racro.rewards.protocol": "What a kind of reward needs and gives.",
    "racro.engines.protocol": "What generates text.",
    "racro.evaluation.compare": "Two evaluations question by question.",
    "racro.storage.artifacts": "Tables and files of a root.",
}
"""What the page of the API shows."""
LINK = re.compile(r"\[((?:[^\[\]]|\\\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
LONGEST = 2000
"""Characters of a cell's output that are shown."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not Markdown files in docs/."""
    from mkdocs.structure.files import File

    for beside, name in BESIDE.items():
        files.append(File.generated(config, name, content=(ROOT / beside).read_text(encoding="utf-8")))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page = notebook(Path(str(file.abs_src_path)))
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))
    files.append(File.generated(config, "api.md", content=api()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site needs them."""
    source = page.file.src_uri
    here = "" if source in BESIDE.values() else posixpath.join("docs", posixpath.dirname(source))
    return "".join(
        part if number % 2 else LINK.sub(lambda found: link(found, here, source), part)
        for number, part in enumerate(re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.DOTALL))
    )


def link(found: re.Match[str], here: str, source: str) -> str:
    """A link of a page in the folder `here` of the repository; one to a source file becomes its path."""
    path, _, anchor = found[2].partition("#")
    target = posixpath.normpath(posixpath.join(here, path))
    anchor = f"#{anchor}" if anchor else ""
    if target in BESIDE:
        place = BESIDE[target]
    elif target == "README.md":
        place = "README.md"
    elif target.startswith("docs/"):
        place = target.removeprefix("docs/").replace(".ipynb", ".md")
    else:
        return f"`{target}`"
    return f"[{found[1]}]({posixpath.relpath(place, posixpath.dirname(source) or '.')}{anchor})"


def api() -> str:
    """The page of the API, for mkdocstrings."""
    lines = ["# API", "", "Made from the docstrings. How to begin: [From Python](python.md).", ""]
    for module, text in MODULES.items():
        lines += [f"## {module}", "", text, "", f"::: {module}", ""]
    return "\n".join(lines)


def notebook(file: Path) -> str:
    """A notebook as Markdown: texts as they are, code, and what it printed."""
    parts: list[str] = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        said = "".join(_text(output) for output in cell["outputs"]).strip()
        if said:
            parts.append(f"```text\n{said[:LONGEST]}\n```")
    parts.append(f"This page is the notebook `docs/notebooks/{file.name}`.")
    return "\n\n".join(parts) + "\n"


def _text(output: dict[str, Any]) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ()))
