"""Which policy a name means, as far as files decide it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from racro.models.folders import EMBEDDED
from racro.storage import runs
from tasks.choose import NoPolicy, policy


@pytest.mark.parametrize("kind", get_args(runs.Kind))
def test_a_run_that_has_not_ended_has_no_policy(kind: runs.Kind, tmp_path: Path) -> None:
    runs.take(str(tmp_path), "half", runs.Owner(kind=kind, recipe="0" * 64))
    with pytest.raises(NoPolicy, match="policy half: this run has no policy yet: ") as refused:
        policy("half", None, str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_runs_folder_means_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    summary = {
        "iterations": [],
        "recipe_digest": "0" * 64,
        "policy": {"uri": str(EMBEDDED / "captioner"), "digest": ""},
    }
    (tmp_path / "runs" / "mine" / "summary.json").write_text(json.dumps(summary))
    monkeypatch.chdir(tmp_path)
    by_name = policy("mine", None, "runs")
    for folder in ("runs/mine", "runs/mine/", "./runs/../runs/mine", str(tmp_path / "runs" / "mine")):
        assert policy(folder, None, "elsewhere") == by_name


def test_a_run_whose_policy_was_deleted_says_so(tmp_path: Path) -> None:
    uri = f"{tmp_path}/artifacts/update/0123/attempt-1"
    (tmp_path / "mine").mkdir()
    summary = {"iterations": [], "recipe_digest": "0" * 64, "policy": {"uri": uri, "digest": ""}}
    (tmp_path / "mine" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(NoPolicy, match=r"policy mine: its files are not there any more .* makes them again"):
        policy("mine", None, str(tmp_path))


@pytest.mark.parametrize("content", ["[]", "null", "{}", "no json"])
def test_a_folder_whose_summary_is_another_programs_is_no_run(content: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "summary.json").write_text(content)
    for name in ("data", f"{tmp_path}/data"):
        with pytest.raises(NoPolicy, match=r"policy .*data: "):
            policy(name, None, str(tmp_path))


def test_a_name_that_no_run_has(tmp_path: Path) -> None:
    with pytest.raises(NoPolicy, match="policy half: no policy is there"):
        policy("half", None, str(tmp_path))
