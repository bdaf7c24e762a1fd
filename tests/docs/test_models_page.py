"""docs/models.md lists the families that the tests build, and all of them."""

from __future__ import annotations

from tests.docs.models import PAGE, SPECIAL, page
from tests.support.families import FAMILIES


def test_the_page_of_models_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/models.md is stale: run `make models` and commit it"
    assert {family.kind for family in FAMILIES} == set(SPECIAL)
