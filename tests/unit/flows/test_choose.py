"""Which policy a name means, as far as files decide it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from racro.storage import runs
from tasks.choose import NoPolicy, policy


@pytest.mark.parametrize("kind", get_args(runs.Kind))
def test_a_run_that_has_not_ended_has_no_policy(kind: runs.Kind, tmp_path: Path) -> None:
    runs.take(str(tmp_path), "half", runs.Owner(kind=kind, recipe="0" * 64))
    with pytest.raises(NoPolicy, match="--policy half: this run has no policy yet: ") as refused:
        policy("half", None, str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_name_that_no_run_has(tmp_path: Path) -> None:
    with pytest.raises(NoPolicy, match="--policy half: no policy is there"):
        policy("half", None, str(tmp_path))
