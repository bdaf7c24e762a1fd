"""A tiny training that the files of this folder share."""

from __future__ import annotations

import pytest

from racro.models.folders import EMBEDDED
from tests.support.tiny_training import TinyTraining


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    """Of the embedded captioner; problems with one image and with two, so that prompts have several lengths."""
    return TinyTraining(EMBEDDED / "captioner", tmp_path_factory.mktemp("problems"))
