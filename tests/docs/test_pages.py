"""What README and docs say is so: their commands and Python run, their YAML is a recipe's, their links lead somewhere.

The pages are read in the order in which a reader meets them, and share one folder: what one command computed, later
ones take from the cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import yaml
from _pytest.mark import ParameterSet

from racro.config import loading
from racro.summary import Summary
from tests.conftest import REPOSITORY
from tests.support import s3
from tests.support.clone import SERVERS, Clone
from tests.support.pages import Block, Page, reachable

PAGES = reachable()
BLOCKS = [block for page in PAGES for block in page.blocks]
TYPED = [page for page in PAGES if page.name == "README.md" or page.name.startswith("docs/")]
"""Pages for users. What the others (for contributors) show changes the clone itself."""


def blocks(page: Page, *languages: str) -> list[Block]:
    """The blocks of a page in these languages that are run."""
    return [block for block in page.blocks if block.language in languages and not block.not_run]


def having(*languages: str) -> list[ParameterSet]:
    """The pages on which a block in one of these languages is run."""
    return [pytest.param(page, id=page.name) for page in TYPED if blocks(page, *languages)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Of a user who has the keys of a store, where a page uses one, and has set nothing else."""
    with contextlib.ExitStack() as stack:
        keys = {}
        if any("s3://" in block.text for block in BLOCKS if not block.not_run):
            keys = stack.enter_context(s3.served()).environment()
        place = Clone(tmp_path_factory.mktemp("clone"), **keys)
        yield place
        place.down()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", having("bash", "python"))
def test_the_commands_of_a_page_run_in_order(page: Page, clone: Clone, prefect_server: str) -> None:
    """On the first page each command starts its server, as it does for a new user; later ones use one that runs."""
    for block in blocks(page, "bash", "python"):
        alone = page.name == "README.md" or SERVERS.search(block.text)
        printed = clone.run(block) if alone else clone.run(block, PREFECT_API_URL=prefect_server)
        assert printed or block.language == "bash", f"{block}: an example prints what it found"


@pytest.mark.timeout(1800)
def test_the_demo_learns_what_the_first_screen_claims(clone: Clone) -> None:
    """With room for another machine's rounding."""
    clone.demo()
    (demo,) = (clone.folder / "runs").glob("embedded-*/summary.json")
    summary = Summary.model_validate_json(demo.read_text())
    assert 0.35 <= summary.base.accuracy <= 0.50
    assert summary.final.accuracy >= 0.90
    assert summary.final.n >= 2048


@pytest.mark.parametrize("page", having("yaml"))
def test_the_yaml_of_a_page_is_a_part_of_a_recipe(page: Page) -> None:
    for block in blocks(page, "yaml"):
        loading.parse(yaml.safe_load(block.text), str(block))


def test_no_block_escapes_by_its_language() -> None:
    """Commands, YAML and Python under another name would not be run."""
    known = {"bash", "yaml", "python", "json", "text", "mermaid", ""}
    assert [str(block) for block in BLOCKS if block.language not in known] == []
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
