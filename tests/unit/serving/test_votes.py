"""Votes are lines of a file, whole ones; where none can be written, the voter is told so in one line."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from racro.serving.limits import Limits
from tests.support.gated import Served, served


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Files of this process cannot become larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def vote(made: Served, answer: str) -> httpx.Response:
    return httpx.post(f"{made.url}/v1/votes", json={"id": answer, "vote": "up"}, timeout=60)


def test_a_vote_on_a_full_disk_is_refused_and_spoils_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(Limits()) as made:
        made.votes.file = tmp_path / "below" / "votes.jsonl"
        made.write()
        answer = made.ask().id
        assert vote(made, answer).json() == {"status": "saved"}
        size = made.votes.file.stat().st_size
        caplog.clear()
        with full_after(size + 10):
            refused = [vote(made, answer)]
        made.votes.file, kept = Path("/dev/full"), made.votes.file
        refused.append(vote(made, answer))
        for said in refused:
            error = said.json()["error"]
            assert (said.status_code, error["code"]) == (503, "vote_not_saved")
            assert error["message"] == "the vote could not be saved; the server's log says why"
        assert [record.exc_info for record in caplog.records] == [None] * 2
        assert "No space left on device" in caplog.text and "Traceback" not in caplog.text
        made.votes.file = kept
        assert vote(made, answer).json() == {"status": "saved"}
        assert [json.loads(line)["vote"] for line in kept.read_text().splitlines()] == ["up", "up"]
