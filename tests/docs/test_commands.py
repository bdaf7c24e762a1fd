"""What the other pages tell people to type runs, also for those who begin there: commands and Python.

The pages share one folder, in the order in which a reader meets them: what one command computed, later ones take from
the cache.
"""

from __future__ import annotations

import pytest

from tests.support.clone import Clone
from tests.support.pages import FIRST_HOUR, Page, having

PAGES = [page for page in having("bash", "python") if page.name not in FIRST_HOUR]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_the_commands_of_a_page_run_in_order(page: Page, clone: Clone, prefect_server: str) -> None:
    """With a server that runs already, except where a page starts servers itself."""
    clone.type(page, PREFECT_API_URL=prefect_server)
