"""S3 that fails for a while, and full disks: a run goes on or resumes, and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.training import train
from racro.config import Recipe, loading
from racro.storage import artifacts, files
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import faulty_s3, forkserver, s3
from tests.support.faulty_s3 import Kind, Proxy


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Store]:
    with s3.served() as store:
        yield store


@pytest.fixture(scope="module")
def proxy(store: s3.Store) -> Iterator[Proxy]:
    with faulty_s3.before(store.url) as proxy:
        yield proxy


@pytest.fixture
def client(store: s3.Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process uses S3 through the proxy; the client itself tries once, so that the patience is ours."""
    monkeypatch.setattr(files, "PAUSES", (0.2, 0.5, 1.0, 1.0, 1.0, 1.0))
    monkeypatch.setitem(files.OPTIONS["s3"], "config_kwargs", {"connect_timeout": 5, "read_timeout": 8})
    with s3.used(store, proxy.url, AWS_MAX_ATTEMPTS="1"):
        yield


OVERRIDES = (*TINY, "iterations=1", "evaluation.problems=8", "seed=7701")
"""One iteration with the real models: its update takes steps. The seed is only here: no cache knows this policy."""


def real() -> Recipe:
    return loading.load(EMBEDDED_RECIPE, OVERRIDES)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Summary:
    return train(real(), run="undisturbed", root=str(tmp_path_factory.mktemp("undisturbed")))


def executed(summary: Summary) -> int:
    return sum(total.executed for total in summary.stages.values())


# --- single requests --------------------------------------------------------------------------------------------------

KINDS: tuple[Kind, ...] = ("500", "503", "slow", "silent", "cut", "lost", "refused")


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_and_read_while_s3_is_ill_is_whole(kind: Kind, proxy: Proxy, store: s3.Store) -> None:
    data = os.urandom(300_000)
    with proxy.fault(kind, "PUT"):
        artifacts.write_file(f"s3://{s3.BUCKET}/single/{kind}", data)
    assert store.objects(f"single/{kind}") == {f"single/{kind}": data}
    with proxy.fault(kind, "GET"):
        assert artifacts.read_file(f"s3://{s3.BUCKET}/single/{kind}") == data
    with proxy.fault(kind, "DELETE"):
        artifacts.delete_file(f"s3://{s3.BUCKET}/single/{kind}")
    assert store.objects(f"single/{kind}") == {}


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("kind", "at"), [("500", "partNumber=2"), ("cut", "partNumber=2"), ("lost", r"POST .*uploadId")]
)
def test_a_large_file_is_whole_after_a_fault_in_one_of_its_parts(
    kind: Kind, at: str, proxy: Proxy, store: s3.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lost`: the upload was completed, and the answer that says so did not come."""
    # 50 MiB take their time on a busy machine
    monkeypatch.setitem(files.OPTIONS["s3"], "config_kwargs", {"connect_timeout": 5, "read_timeout": 60})
    data = os.urandom(1 << 20) * 101  # from 100 MiB on in parts
    with proxy.fault(kind, at, seconds=0.5):
        artifacts.write_file(f"s3://{s3.BUCKET}/large/{kind}", data)
    assert store.objects(f"large/{kind}")[f"large/{kind}"] == data
    etag = store.client().head_object(Bucket=s3.BUCKET, Key=f"large/{kind}")["ETag"]
    assert etag.strip('"').endswith("-3"), "an ETag ends with the number of parts"
    assert artifacts.read_file(f"s3://{s3.BUCKET}/large/{kind}") == data
    assert not store.client().list_multipart_uploads(Bucket=s3.BUCKET).get("Uploads")
    store.client().delete_object(Bucket=s3.BUCKET, Key=f"large/{kind}")


@pytest.mark.usefixtures("client")
def test_what_is_not_there_and_what_is_forbidden_is_said_at_once(
    store: s3.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not tried again: a pause before another try would take longer than all of this may."""
    monkeypatch.setattr(files, "PAUSES", (600.0,))
    start = time.monotonic()
    with pytest.raises(FileNotFoundError):
        artifacts.read_file(f"s3://{s3.BUCKET}/nothing")
    with pytest.raises(FileNotFoundError, match="bucket"):
        artifacts.write_file("s3://no-such-bucket/x", b"")
    assert time.monotonic() - start < 300


@pytest.mark.usefixtures("client")
def test_a_store_that_is_silent_at_the_start_is_one_line_after_a_deadline(proxy: Proxy) -> None:
    with proxy.fault("silent", seconds=60), pytest.raises(files.Unwritable) as caught:
        files.require_writable(f"s3://{s3.BUCKET}/runs", "--root", seconds=8)
    remedy = "check bucket, keys and endpoint (AWS_*), or choose another place"
    assert str(caught.value) == f"--root: cannot be written to (no answer within 8 s); {remedy}"


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("client")
def test_a_run_goes_on_through_all_of_it_and_makes_nothing_twice(proxy: Proxy, undisturbed: Summary) -> None:
    faults: tuple[tuple[Kind, str], ...] = (
        ("cut", r"PUT .*/prepare/.*/images/"),
        ("500", r"PUT .*/prepare/.*/part-"),
        ("cut", r"GET .*/prepare/.*/images/"),
        ("refused", r"PUT .*/describe/.*/record"),
        ("503", r"PUT .*/caption/.*/part-"),
        ("lost", r"PUT .*/caption/.*/record"),
        ("silent", r"GET .*/caption/.*/part-"),
        ("slow", r"(PUT|GET|HEAD) .*/reward-answer/"),
        ("500", r"PUT .*/update/.*/model"),
        ("cut", r"PUT .*/update/.*distcp"),
        ("cut", r"GET .*/update/.*/model"),
        ("503", r"(GET|HEAD|PUT) .*/through/"),
    )
    with s3.contexts(proxy.fault(kind, at) for kind, at in faults):
        summary = train(real(), run="through", root=f"s3://{s3.BUCKET}/ill")
    assert summary.policy.digest == undisturbed.policy.digest
    assert (summary.base, summary.final) == (undisturbed.base, undisturbed.final)
    assert executed(summary) == executed(undisturbed)
    assert executed(train(real(), run="again", root=f"s3://{s3.BUCKET}/ill")) == 0


@pytest.mark.usefixtures("client")
def test_a_run_that_s3_outlasts_fails_and_the_same_again_resumes(
    proxy: Proxy, undisturbed: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"s3://{s3.BUCKET}/outlasted"
    with monkeypatch.context() as patch:
        patch.setattr(files, "PAUSES", ())
        with proxy.fault("500", r"/reward-answer/", seconds=600), pytest.raises(OSError, match=r"ill|Server Error"):
            train(real(), run="outlasted", root=root)
    summary = train(real(), run="outlasted", root=root)
    assert summary.policy.digest == undisturbed.policy.digest
    assert {name for name, total in summary.stages.items() if total.cached} == {
        "prepare",
        "parity",
        "describe",
        "answer",
        "grade",
        "aggregate",
        "caption",
    }
    assert summary.stages["caption"].executed == 0


# --- full disks -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None] | None]:
    """Room for a policy's weights in `folder` and not for its optimizer: a disk in memory; yields what makes room.

    None where nothing may be mounted.
    """
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "none", folder], capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda: subprocess.check_call(["mount", "-o", "remount,size=64M", folder])
    finally:
        subprocess.check_call(["umount", folder])


def test_a_full_disk_is_one_line_and_with_room_the_same_training_goes_on(
    undisturbed: Summary, prefect_server: str, tmp_path: Path
) -> None:
    root = tmp_path / "disk"
    command = [sys.executable, "-m", "flows.cli.main", "train", EMBEDDED_RECIPE, "--root", str(root), "--run", "full"]
    command += [word for override in OVERRIDES for word in ("--set", override)]
    environment = os.environ | {"PREFECT_API_URL": prefect_server}
    with small_disk(root) as make_room:
        # Where nothing may be mounted, a limit on the size of files stands for the full disk.
        prefix = [] if make_room else ["prlimit", f"--fsize={6 << 20}"]
        if make_room:
            command = [str(forkserver.shared().racro), *command[3:]]
        done = subprocess.run([*prefix, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("racro: failed: ")
        if make_room:
            assert "No space left on device" in last and last.endswith("the same command goes on where it stopped")
            make_room()
        assert not list(root.glob("artifacts/update/*/record.json"))
        summary = train(real(), run="full", root=str(root))
    assert summary.policy.digest == undisturbed.policy.digest
    assert summary.stages["caption"].executed == 0 and summary.stages["update"].executed == 1
