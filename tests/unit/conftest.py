"""GPUs that only seem to be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_gpus import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)
