"""A lease holds across machines: one makes an artifact, and who was taken for dead can no longer commit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from racro.storage import artifacts, attempts, files, leases
from racro.storage.leases import Fenced, Lease
from tests.support.examples import examples
from tests.unit.storage.test_attempts import read, record, rows

SOON = 120.0
STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "commit", "release"])), max_size=14)
HOLDER = """
import sys
from racro.schema import DroppedRow
from racro.storage import artifacts, attempts, leases
from tests.unit.storage.test_attempts import record, rows

folder, machine, writer, pause, looks = sys.argv[1:]
with leases.held(folder, machine, pause=float(pause), looks=int(looks)) as lease:
    place = attempts.new(folder)
    shards = artifacts.write_table(place, rows(int(writer)), DroppedRow)
    print("holds", lease.term, flush=True)
    sys.stdin.readline()
    try:
        artifacts.write_record(place, record(shards=shards))
        print("counts", artifacts.read_record(place) is not None, flush=True)
    except leases.Fenced:
        print("fenced", flush=True)
    sys.stdin.readline()
"""


class Machine:
    """A process that makes the artifact, as if on a machine of its own; it goes on when it is told to."""

    def __init__(self, folder: Path | str, machine: str, writer: int, pause: float = 0.1, looks: int = 4) -> None:
        command = [sys.executable, "-c", HOLDER, str(folder), machine, str(writer), str(pause), str(looks)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, cwd=os.getcwd())

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")


@pytest.fixture
def started() -> Iterator[list[Machine]]:
    machines: list[Machine] = []
    yield machines
    for machine in machines:
        machine.process.kill()
        machine.process.communicate()


def left(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.mark.parametrize("wakes", ["before the other has committed", "afterwards"])
def test_a_frozen_holder_is_overtaken_and_what_it_writes_then_counts_for_nothing(
    wakes: str, tmp_path: Path, started: list[Machine]
) -> None:
    folder = tmp_path / "artifact"
    frozen = Machine(folder, "a", 0)
    started.append(frozen)
    assert frozen.says() == "holds 1"
    other = Machine(folder, "b", 1)
    started.append(other)
    time.sleep(1.0)  # more than its patience: the first one lives, and is waited for
    assert not (folder / "lease" / "term-00000002.claim").exists()
    os.kill(frozen.process.pid, signal.SIGSTOP)
    assert other.says() == "holds 2"
    if wakes == "afterwards":
        other.go_on()
        assert other.says() == "counts True"
    os.kill(frozen.process.pid, signal.SIGCONT)
    frozen.go_on()
    assert frozen.says() == ("counts False" if wakes == "afterwards" else "fenced")
    frozen.go_on()
    if wakes != "afterwards":
        other.go_on()
        assert other.says() == "counts True"
    other.go_on()
    assert frozen.process.wait(SOON) == other.process.wait(SOON) == 0
    assert read(str(folder)) == rows(1)
    kept = artifacts.read_record(str(folder))
    assert kept is not None and left(folder) == {"record.json", kept.place}


def test_a_killed_holder_is_not_waited_for_on_its_own_machine(tmp_path: Path, started: list[Machine]) -> None:
    folder = tmp_path / "artifact"
    killed = Machine(folder, "a", 0)
    started.append(killed)
    assert killed.says() == "holds 1"
    killed.process.kill()
    killed.process.wait(SOON)
    with leases.held(str(folder), "a", pause=3600.0) as lease:
        assert lease.term == 2


def test_who_waited_for_the_maker_gets_the_lease_when_it_is_done(tmp_path: Path, started: list[Machine]) -> None:
    folder = tmp_path / "artifact"
    maker = Machine(folder, "a", 0)
    started.append(maker)
    assert maker.says() == "holds 1"
    waiting = Machine(folder, "b", 1, looks=10**6)
    started.append(waiting)
    maker.go_on()
    assert maker.says() == "counts True"
    maker.go_on()
    assert waiting.says().startswith("holds")
    assert read(str(folder)) == rows(0)


def lease(folder: str, holder: str, pause: float = 3600.0) -> Lease:
    return leases._acquire(folder, f"{folder}/lease", holder, pause, 0)  # 0 looks: every holder is taken for dead


@pytest.mark.parametrize("kind", ["file", "memory"])
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_one_record_counts_and_it_is_that_of_the_last_term(
    steps: list[tuple[str, str]], kind: str, tmp_path: Path
) -> None:
    one_record_counts(steps, f"{tmp_path}/{uuid4().hex}" if kind == "file" else f"memory://leases/{uuid4().hex}")


def one_record_counts(steps: list[tuple[str, str]], folder: str) -> None:
    """Machines take, commit and give back as `steps` say."""
    held: dict[str, Lease] = {}
    newest, committed = 0, None
    for who, what in steps:
        if committed is not None:
            break
        if what == "take" and who not in held:
            held[who] = lease(folder, who)
            assert held[who].term > newest, "terms grow"
            newest = held[who].term
        elif what == "commit" and who in held:
            mine = held.pop(who)
            done = mine.commit(f"record of {who}")
            assert done == (mine.term == newest and mine is not None)
            if done:
                committed = who
            else:
                with pytest.raises(Fenced):
                    mine.require()
        elif what == "release" and who in held:
            held.pop(who).release()
    for mine in held.values():
        mine.release()
    if committed is not None:
        assert not any(other.commit("late") for other in held.values())
        lease(folder, "next").release()
        assert artifacts.read_file(f"{folder}/record.json") == f"record of {committed}".encode(), "also if it had died"


def test_a_lease_that_was_given_back_is_taken_at_once_and_its_number_grows(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for term in (1, 2, 3):
        with leases.held(folder, f"machine {term}", pause=3600.0) as held:
            assert held.term == term and leases.holding(folder) is held
    assert leases.holding(folder) is None


def test_a_commit_with_the_lease_lost_says_so_if_the_other_is_not_done(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with leases.held(folder, "a", pause=3600.0):
        place = attempts.new(folder)
        other = lease(folder, "b")
        with pytest.raises(Fenced, match="took this one for dead"):
            artifacts.write_record(place, record())
        assert artifacts.read_record(folder) is None and other.commit("{}")


def test_a_lease_of_another_name_takes_none_away(tmp_path: Path) -> None:
    """Where an artifact's weights are kept beside its record, another thread may be making it again."""
    place = str(tmp_path / "artifact")
    with leases.held(place, "here") as lease:
        with leases.held(place, "here", "lease-keep"):
            pass
        assert leases.holding(place) is lease
    assert leases.holding(place) is None


def test_without_hard_links_one_of_several_creates_a_file_and_other_failures_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def link(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", link)

    refuse(errno.EPERM)
    begin = threading.Barrier(4)

    def create(path: str, data: bytes) -> bool:
        begin.wait()
        return files.create_file(path, data)

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            place, contents = f"{tmp_path}/{number}", [b"%d" % writer for writer in range(4)]
            created = list(pool.map(create, [place] * 4, contents))
            assert created.count(True) == 1
            assert Path(place).read_bytes() == contents[created.index(True)]
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.create_file(f"{tmp_path}/broken", b"")
    assert not (tmp_path / "broken").exists()
