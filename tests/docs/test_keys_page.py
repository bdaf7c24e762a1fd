"""docs/keys.md is what the config classes say."""

from __future__ import annotations

from tests.docs.keys import PAGE, page


def test_the_page_of_keys_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/keys.md is stale: run `make keys` and commit it"
