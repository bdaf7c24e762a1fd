"""Scratch holds what is in use and the newest of each kind, and nothing of processes that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.running.scratch import Scratch
from tests.support.examples import examples


def fill(place: Path) -> None:
    (place / "weights").write_bytes(b"1")


def names(scratch: Scratch) -> set[str]:
    return {entry.name for entry in scratch.folder.iterdir() if entry.is_dir()}


STEPS = st.lists(st.tuples(st.sampled_from(["make", "use", "leave"]), st.sampled_from("abcd"), st.sampled_from("xy")))


@settings(max_examples=examples(50), deadline=None)
@given(STEPS)
def test_what_is_in_use_and_the_newest_of_each_kind_stay(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    scratch = Scratch(tmp_path_factory.mktemp("scratch"))
    held: dict[str, list[object]] = {}
    newest: dict[str, str] = {}
    for what, name, kind in steps:
        name += kind
        if what == "make":
            assert (scratch.make(name, fill, kind) / "weights").read_bytes() == b"1"
            newest[kind] = name
        elif what == "use" and scratch.find(name):
            context = scratch.use(name)
            context.__enter__()
            held.setdefault(name, []).append(context)
        elif what == "leave" and held.get(name):
            held[name].pop().__exit__(None, None, None)  # type: ignore[attr-defined]
        assert names(scratch) == set(newest.values()) | {name for name, contexts in held.items() if contexts}
    scratch.close()
    assert not scratch.folder.exists()


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def fails(place: Path) -> None:
        fill(place)
        raise ValueError("no more weights")

    scratch = Scratch(tmp_path)
    with pytest.raises(ValueError, match="no more weights"):
        scratch.make("a", fails)
    assert scratch.find("a") is None and names(scratch) == set()
    scratch.close()


def test_what_is_being_filled_stays_while_another_thread_is_done_with_something(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.make("old", fill)

    def slowly(place: Path) -> None:
        with scratch.use("old"):  # as a thread does that has an engine read it
            fill(place)

    assert (scratch.make("new", slowly) / "weights").is_file() and names(scratch) == {"new"}
    scratch.close()


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from tasks.running.scratch import Scratch; "
        "s = Scratch(pathlib.Path(sys.argv[1])); s.make('a', lambda p: (p / 'w').write_bytes(b'1')); "
        "print(s.folder, flush=True); time.sleep(600)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = []
    for child in children:
        assert child.stdout
        folders.append(Path(child.stdout.readline().strip()))
    try:
        os.kill(children[0].pid, signal.SIGKILL)
        children[0].wait()
        Scratch(tmp_path).close()
        assert not folders[0].exists()
        assert (folders[1] / "a" / "w").is_file()
    finally:
        for child in children:
            child.kill()
            child.communicate()
