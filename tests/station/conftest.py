"""The servers and workers of `racro up` that tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hostile import fill
from tests.support.webhook import Webhook, webhook
from tests.support.workplace import Workplace, opened


@pytest.fixture(scope="package")
def told() -> Iterator[Webhook]:
    """Where the messages go that `racro up` was asked to send."""
    with webhook() as server:
        yield server


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory, told: Webhook) -> Iterator[Workplace]:
    """A folder in which `racro up` runs, with two workers on a GPU each; one for all tests that do it no harm.

    It ends with them. It has packages with the names of ours in it, as a user's folder may: servers, workers and runs
    must not take them.
    """
    options = ("--workers", "2", "--gpus", "3,4", "--silence", "60", "--notify", told.url)
    folder = tmp_path_factory.mktemp("station")
    fill(folder)
    yield from opened(folder, *options)
