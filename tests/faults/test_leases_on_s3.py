"""Leases on a real S3 API: among many writers one makes the artifact, and a holder that froze commits nothing."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from racro.schema import DroppedRow
from racro.storage import artifacts, attempts, leases
from racro.storage.files import create_file
from tests.support import s3
from tests.support.examples import examples
from tests.unit.storage.test_attempts import read, record, rows
from tests.unit.storage.test_leases import SOON, STEPS, Machine, one_record_counts, started

__all__ = ["started"]  # a fixture


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Store]:
    with s3.served() as store, s3.used(store):
        yield store


@pytest.fixture
def folder(store: s3.Store) -> str:
    return f"s3://{s3.BUCKET}/artifacts/{uuid4().hex}"


def left(store: s3.Store, folder: str) -> set[str]:
    """Names in the folder of an artifact."""
    prefix = folder.removeprefix(f"s3://{s3.BUCKET}/") + "/"
    return {key.removeprefix(prefix).partition("/")[0] for key in store.objects(prefix)}


def test_a_file_is_created_by_one_of_many(folder: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create_file(f"{folder}/claim", str(number).encode()), range(8)))
    assert Counter(made) == {True: 1, False: 7}
    assert artifacts.read_file(f"{folder}/claim") == str(made.index(True)).encode()


def test_writers_that_meet_make_it_once(store: s3.Store, folder: str) -> None:
    """Once the record is there, its maker removes the terms, so that those who waited may hold it together."""

    def write(number: int) -> bool:
        with leases.held(folder, f"machine {number}", pause=0.05, looks=10**6):
            made = artifacts.read_record(folder) is None
            if made:
                place = attempts.new(folder)
                shards = artifacts.write_table(place, rows(number), DroppedRow)
                artifacts.write_record(place, record(shards=shards))
        return made

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(write, range(3)))
    assert Counter(made) == {True: 1, False: 2}
    assert read(folder) == rows(made.index(True))
    kept = artifacts.read_record(folder)
    assert kept is not None and left(store, folder) - {leases.LEASE} == {"record.json", kept.place}


@pytest.mark.parametrize("wakes", ["before the other has committed", "afterwards"])
def test_a_frozen_holder_is_overtaken_and_what_it_writes_then_counts_for_nothing(
    wakes: str, store: s3.Store, folder: str, started: list[Machine]
) -> None:
    frozen = Machine(folder, "a", 0)
    started.append(frozen)
    assert frozen.says() == "holds 1"
    os.kill(frozen.process.pid, signal.SIGSTOP)
    with leases.held(folder, "b", pause=0.05, looks=10) as lease:
        assert lease.term == 2, "a holder without a beat is taken for dead"
        place = attempts.new(folder)
        shards = artifacts.write_table(place, rows(1), DroppedRow)
        if wakes == "afterwards":
            artifacts.write_record(place, record(shards=shards))
        os.kill(frozen.process.pid, signal.SIGCONT)
        frozen.go_on()
        assert frozen.says() == ("counts False" if wakes == "afterwards" else "fenced")
        if wakes != "afterwards":
            artifacts.write_record(place, record(shards=shards))
    frozen.go_on()
    assert frozen.process.wait(SOON) == 0
    assert read(folder) == rows(1)
    kept = artifacts.read_record(folder)
    assert kept is not None and left(store, folder) == {"record.json", kept.place}


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_one_record_counts(steps: list[tuple[str, str]], store: s3.Store) -> None:
    one_record_counts(steps, f"s3://{s3.BUCKET}/artifacts/{uuid4().hex}")
