"""A name of a run belongs to the run that took it; every other one is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.storage import layout, runs
from racro.storage.runs import NameTaken, Owner
from tests.support.examples import examples

TRAINING = Owner(kind="training", recipe="a" * 64)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Owner(kind="evaluation", recipe="a" * 64), "--run mine: holds a training; choose another name, or delete"),
        (Owner(kind="training", recipe="b" * 64), "holds a training of another recipe (aaaaaaaa, not bbbbbbbb)"),
        (Owner(kind="sweep", recipe="a" * 64), "holds a training; "),
    ],
)
def test_another_run_is_refused(other: Owner, says: str, tmp_path: Path) -> None:
    runs.take(str(tmp_path), "mine", TRAINING)
    with pytest.raises(NameTaken) as refused:
        runs.take(str(tmp_path), "mine", other)
    assert says in str(refused.value) and "\n" not in str(refused.value)
    runs.take(str(tmp_path), "mine", TRAINING)


def test_an_evaluation_of_something_else_is_refused(tmp_path: Path) -> None:
    first = Owner(kind="evaluation", recipe="a", asked="champion")
    runs.take(str(tmp_path), "mine", first)
    with pytest.raises(NameTaken, match="holds an evaluation of something else"):
        runs.take(str(tmp_path), "mine", first.model_copy(update={"asked": "initial"}))


@pytest.mark.parametrize("key", ["iterations", "entries", "ranking"])
def test_a_run_without_a_note_of_its_owner_is_known_by_its_summary(key: str, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.json").write_text(json.dumps({key: 1, "recipe_digest": "a" * 64}))
    if key == "iterations":
        runs.take(str(tmp_path), "old", TRAINING)
    else:
        with pytest.raises(NameTaken, match=r"holds an? (evaluation|sweep)"):
            runs.take(str(tmp_path), "old", TRAINING)


def test_a_folder_that_is_no_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "summary.json").write_text("[]")
    with pytest.raises(NameTaken, match="is no summary of a run"):
        runs.take(str(tmp_path), "data", TRAINING)


@settings(max_examples=examples(50))
@given(st.text(min_size=1, max_size=400))
def test_a_name_that_is_taken_fits_every_file_system(name: str) -> None:
    try:
        layout.run("root", name)
    except layout.BadName as error:
        assert len(str(error)) < 300 and str(error).startswith("--run ")
    else:
        assert len(f"{name}.json.12345678.tmp".encode()) < 255 and "/" not in name


@pytest.mark.parametrize("name", ["a" * 256, "a" * 5000, "ä" * 100])
def test_a_long_name_is_one_short_line(name: str) -> None:
    with pytest.raises(layout.BadName, match="bytes long; give at most 160"):
        layout.run("root", name)


@pytest.mark.parametrize("name", ["champion", "initial"])
def test_no_run_gets_a_name_that_means_another_policy(name: str) -> None:
    with pytest.raises(layout.BadName, match=f"--run {name}: `--policy {name}` means another captioner"):
        layout.named("root", name)
    assert layout.run("root", name), "one that an older version made can be shown, renamed and removed"


@pytest.mark.parametrize("name", ["a\nb", "", " ", "a\x1b[31m", "\udc80x", "..", "-x", "a/b", "artifacts"])
def test_a_name_that_cannot_be_a_folder_is_one_readable_line(name: str) -> None:
    with pytest.raises(layout.BadName) as refused:
        layout.run("root", name)
    line = str(refused.value)
    assert line.isprintable()
    assert line.startswith("--run ") and not line.startswith("--run :")
