"""README and docs hold together: their YAML is a recipe's, their links lead somewhere, nothing escapes the tests."""

from __future__ import annotations

import pytest
import yaml

from racro.config import loading
from racro.summary import Summary
from tests.conftest import REPOSITORY
from tests.support.pages import PAGES, Page, having, typed


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in having("yaml")])
def test_the_yaml_of_a_page_is_a_part_of_a_recipe(page: Page) -> None:
    for block in typed(page, "yaml"):
        loading.parse(yaml.safe_load(block.text), str(block))


def test_no_block_escapes_by_its_language() -> None:
    """Commands, YAML and Python under another name would not be run."""
    known = {"bash", "yaml", "python", "json", "text", "mermaid", ""}
    assert [str(block) for page in PAGES for block in page.blocks if block.language not in known] == []
    assert having("bash") and having("yaml") and having("python")


def test_ci_runs_what_the_readme_says() -> None:
    assert "exec make test" in (REPOSITORY / ".ci" / "run").read_text()


def test_every_page_can_be_reached_from_the_readme() -> None:
    files = (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
    there = {file.relative_to(REPOSITORY).as_posix() for file in files}
    assert there - {page.name for page in PAGES} == set()


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_links_lead_somewhere(page: Page) -> None:
    pages = {(REPOSITORY / other.name).resolve(): other for other in PAGES}
    for target, anchor in page.links:
        assert target.exists(), f"{page.name}: {target} is not there"
        if anchor:
            assert anchor in pages[target.resolve()].anchors, f"{page.name}: {target} has no heading #{anchor}"


def test_a_page_names_every_key_of_the_summary() -> None:
    assert any(all(f"`{key}`" in page.prose for key in Summary.model_fields) for page in PAGES)
