"""What README and docs/start.md tell a newcomer to type runs, in one folder and in this order, and the demo learns."""

from __future__ import annotations

import pytest

from racro.summary import Summary
from tests.support.clone import Clone
from tests.support.pages import FIRST_HOUR, Page, having

PAGES = [page for page in having("bash", "python") if page.name in FIRST_HOUR]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_the_commands_of_a_page_run_in_order(page: Page, clone: Clone, prefect_server: str) -> None:
    """On the first page each command starts its server, as it does for a new user; then one runs already."""
    clone.type(page, **({} if page.name == "README.md" else {"PREFECT_API_URL": prefect_server}))


@pytest.mark.timeout(1800)
def test_the_demo_learns_what_the_first_screen_claims(clone: Clone) -> None:
    """With room for another machine's rounding."""
    clone.demo()
    (demo,) = (clone.folder / "runs").glob("embedded-*/summary.json")
    summary = Summary.model_validate_json(demo.read_text())
    assert 0.35 <= summary.base.accuracy <= 0.50
    assert summary.final.accuracy >= 0.90
    assert summary.final.n >= 2048
