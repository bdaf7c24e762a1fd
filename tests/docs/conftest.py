"""The clone in which the commands of pages are typed, one for each file of tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support import s3
from tests.support.clone import Clone
from tests.support.pages import PAGES


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Of a user who has the keys of a store, where a page uses one, and has set nothing else."""
    with contextlib.ExitStack() as stack:
        keys = {}
        if any("s3://" in block.text for page in PAGES for block in page.blocks if not block.not_run):
            keys = stack.enter_context(s3.served()).environment()
        place = Clone(tmp_path_factory.mktemp("clone"), **keys)
        yield place
        place.down()
