"""The cache of downloads: what comes out is whole, whatever happened to it; it is bounded; what is in use stays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from racro.config import Runtime
from racro.models.folders import EMBEDDED, model_digest
from racro.schema import Policy
from racro.storage.artifacts import BadArtifact
from racro.storage.downloads import Cache, Corrupt
from tasks.running.downloads import on_disk
from tests.support.examples import examples

LIMIT = 10_000
SIZES = st.integers(0, 4000)


def content(key: str, size: int) -> bytes:
    return random.Random(key).randbytes(size)


def entry(cache: Cache, key: str, size: int) -> contextlib.AbstractContextManager[Path]:
    """A folder of two files, made of its key and size."""
    name, data = f"{key}-{size}", content(key, size)

    def fetch(place: Path) -> None:
        (place / "below").mkdir()
        (place / "weights").write_bytes(data[: size // 2])
        (place / "below" / "rest").write_bytes(data[size // 2 :])

    return cache.folder(name, size, fetch, lambda place: whole(place, data))


def whole(place: Path, data: bytes) -> bool:
    try:
        return (place / "weights").read_bytes() + (place / "below" / "rest").read_bytes() == data
    except FileNotFoundError:
        return False


def taken(root: Path) -> int:
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())


class Uses(RuleBasedStateMachine):
    """Any order of uses, long and short, of corruption and of failing downloads."""

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory(prefix="racro-test-cache-")
        self.root = Path(self.place.name) / "cache"
        self.caches = [Cache(self.root, LIMIT), Cache(self.root, LIMIT)]  # as two processes would have it
        self.downloads = 0
        self.held: list[tuple[contextlib.ExitStack, Path, bytes]] = []

    def teardown(self) -> None:
        for stack, _, _ in self.held:
            stack.close()
        self.place.cleanup()

    @rule(which=st.integers(0, 1), key=st.sampled_from("abcdef"), size=SIZES)
    def use_a_folder(self, which: int, key: str, size: int) -> None:
        with entry(self.caches[which], key, size) as folder:
            assert whole(folder, content(key, size))

    @rule(which=st.integers(0, 1), key=st.sampled_from("abcdef"), size=SIZES)
    def hold_a_folder(self, which: int, key: str, size: int) -> None:
        stack = contextlib.ExitStack()
        folder = stack.enter_context(entry(self.caches[which], key, size))
        self.held.append((stack, folder, content(key, size)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))[0].close()

    @rule(which=st.integers(0, 1), key=st.sampled_from("uvwxyz"), size=SIZES)
    def use_a_file(self, which: int, key: str, size: int) -> None:
        data = content(key, size)
        assert self.caches[which].file(hashlib.sha256(data).hexdigest(), lambda: data) == data

    @rule(pick=st.integers(0, 99), flip=st.booleans())
    def corrupt(self, pick: int, flip: bool) -> None:
        """A byte flips, or a file is lost, in something that nobody holds. What is there depends on the clock."""
        inside = {folder for _, folder, _ in self.held}
        files = [f for f in self.root.rglob("*") if f.is_file() and not inside & set(f.parents)]
        if not files:
            return
        victim = sorted(files)[pick % len(files)]
        old = victim.read_bytes()
        if flip and old:
            victim.write_bytes(bytes([old[0] ^ 1]) + old[1:])
        else:
            victim.unlink()

    @rule(key=st.sampled_from("abcdef"))
    def a_download_fails(self, key: str) -> None:
        def lost(place: Path) -> None:
            (place / "weights").write_bytes(b"half of it")
            raise ConnectionResetError

        with (
            pytest.raises(ConnectionResetError),
            self.caches[0].folder(f"never-{key}", 3000, lost, lambda place: False),
        ):
            pass

    @rule(which=st.integers(0, 1), size=SIZES)
    def a_download_keeps_the_bound(self, which: int, size: int) -> None:
        """What is held counts, and cannot go; each of the two may add a fiftieth of the limit before it looks again."""
        self.downloads += 1
        with entry(self.caches[which], f"new{self.downloads}", size):
            held = sum({folder: len(data) for _, folder, data in self.held}.values())
            assert taken(self.root) <= max(LIMIT, held + size) + 2 * LIMIT // 50

    @invariant()
    def what_is_held_is_whole(self) -> None:
        assert all(whole(folder, data) for _, folder, data in self.held)


TestUses = Uses.TestCase
TestUses.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, LIMIT)
    for at, key in enumerate("abc"):
        with entry(cache, key, 3000) as folder:
            pass
        os.utime(folder, (at, at))
    with entry(cache, "a", 3000):
        pass
    with entry(cache, "d", 3000):
        pass
    assert {folder.name[0] for folder in tmp_path.iterdir()} == {"a", "c", "d"}


def test_what_is_corrupt_at_its_source_is_fetched_thrice_and_refused(tmp_path: Path) -> None:
    fetched = []
    with pytest.raises(Corrupt, match="key"), Cache(tmp_path, LIMIT).folder("key", 1, fetched.append, lambda _: False):
        pass
    assert len(fetched) == 3


def test_many_processes_some_of_them_killed(tmp_path: Path) -> None:
    """Each uses what it gets while others evict and are killed in the midst of downloads."""
    dice = random.Random(0)
    workers = [os.fork() or _work(tmp_path, seed, 1.5) for seed in range(4)]
    deadline = time.monotonic() + 1.5
    victims = []
    while time.monotonic() < deadline:
        time.sleep(dice.uniform(0.05, 0.1))
        victim = os.fork() or _work(tmp_path, dice.random(), 60)
        time.sleep(dice.uniform(0.01, 0.05))
        os.kill(victim, signal.SIGKILL)
        victims.append(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]))
    assert [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers] == [0] * 4
    assert set(victims) == {-signal.SIGKILL}, "one found what it should not"
    with entry(Cache(tmp_path, LIMIT), "last", 100):
        assert taken(tmp_path) <= LIMIT


def _work(root: Path, seed: float, seconds: float) -> int:
    """In a forked child: use one entry after the other; exits with 1 when one is not whole to the end of its use."""
    dice = random.Random(seed)
    cache = Cache(root, LIMIT)
    deadline = time.monotonic() + seconds
    code = 1
    try:
        while time.monotonic() < deadline:
            key, size = dice.choice("abcdef"), dice.choice([1000, 3000])
            with entry(cache, key, size) as folder:
                assert whole(folder, content(key, size))
                time.sleep(dice.uniform(0, 0.005))
                assert whole(folder, content(key, size))
            data = content(dice.choice("uvwxyz"), 500)
            assert cache.file(hashlib.sha256(data).hexdigest(), lambda data=data: data) == data
        code = 0
    except BaseException:  # a forked child must not run on into pytest; its exit code says that it failed
        traceback.print_exc()
    finally:
        os._exit(code)


def test_a_model_on_a_remote_root_is_verified_at_every_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACRO_HOME", str(tmp_path))
    fs, uri = fsspec.filesystem("memory"), f"memory://downloads/{tmp_path.name}"
    fs.put(f"{EMBEDDED / 'captioner'}/", f"/downloads/{tmp_path.name}/", recursive=True)
    policy = Policy(uri=uri, rows=0, digest=model_digest(EMBEDDED / "captioner"))
    for _ in range(2):
        with on_disk(policy, Runtime()) as folder:
            assert model_digest(folder) == policy.digest and folder.is_relative_to(tmp_path)
            (folder / "config.json").write_text("{}")
    fs.pipe_file(f"/downloads/{tmp_path.name}/config.json", b"{}")
    with (
        pytest.raises(BadArtifact, match=f"{uri} is corrupt .*; delete the folder and run again"),
        on_disk(policy, Runtime()),
    ):
        pass
