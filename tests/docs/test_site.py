"""The site of docs builds without a warning, holds every page, and fetches nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.docs_site import BESIDE, link, notebook
from infra.docs_site import LINK as PATTERN
from tests.conftest import REPOSITORY
from tests.docs.notebooks import FOLDER, names

FETCHED = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    pages = {file.relative_to(REPOSITORY / "docs").as_posix() for file in (REPOSITORY / "docs").rglob("*.md")}
    pages |= {f"notebooks/{name.replace('.ipynb', '.md')}" for name in names()} | {*BESIDE.values(), "api.md"}
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    entries = [entry for part in nav for entry in next(iter(part.values()))]
    listed = {entry if isinstance(entry, str) else next(iter(entry.values())) for entry in entries}
    assert listed == pages
    for page in pages - {"README.md"}:
        assert (site / page.replace(".md", ".html")).exists(), page


def test_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    assert [str(file) for file in site.rglob("*.html") if FETCHED.search(file.read_text())] == []


def test_the_api_page_has_the_public_names_with_their_docstrings(site: Path) -> None:
    import racro

    text = (site / "api.html").read_text()
    missing = [name for name in racro.__all__ if f'id="racro.{name}"' not in text]
    assert missing == []
    assert "The same call goes on where it stopped" in text


def test_a_notebook_s_outputs_are_on_its_page(site: Path) -> None:
    assert "B minus A:" in (site / "notebooks" / "grading.html").read_text()
    assert "%%writefile" in notebook(FOLDER / "reward.ipynb")


@pytest.mark.parametrize(
    ("written", "here", "source", "on_the_site"),
    [
        ("[x](../racro/schema)", "docs", "a.md", "`racro/schema`"),
        ("[x](../CONTRIBUTING.md#add-a-loss)", "docs", "a.md", "[x](contributing.md#add-a-loss)"),
        ("[x](../grading.md)", "docs/notebooks", "notebooks/a.md", "[x](../grading.md)"),
        ("[x](docs/start.md)", "", "contributing.md", "[x](start.md)"),
        ("[x](notebooks/reward.ipynb)", "docs", "a.md", "[x](notebooks/reward.md)"),
    ],
)
def test_links_lead_where_the_site_has_them(written: str, here: str, source: str, on_the_site: str) -> None:
    assert PATTERN.sub(lambda found: link(found, here, source), written) == on_the_site
