"""`racro up --postgres`: the same on Postgres, from Debian's package; the test starts a server of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workplace import Workplace, opened, tiny

from racro.engines.processes import free_port

PASSWORD = "planted-4711"


def postgres_programs() -> Path | None:
    """Folder of `initdb` and `postgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    command = shutil.which("initdb")
    return found[-1].parent if found else Path(command).parent if command else None


def install_postgres() -> None:
    """From Debian's package, without the server that the package would start of its own."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    settings.parent.mkdir(parents=True, exist_ok=True)
    if not settings.exists():
        settings.write_text("create_main_cluster = false\n")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        done = subprocess.run(
            ["apt-get", "-o", "Dpkg::Options::=--force-confold", *command],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of an empty Postgres server. It refuses to run as root, so it then runs as its package's user."""
    if postgres_programs() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install_postgres()
    programs = postgres_programs()
    if programs is None:
        why = "no Postgres here: `apt-get install postgresql` enables this test"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    user = "postgres" if os.geteuid() == 0 else None
    folder, port = Path(tempfile.mkdtemp(prefix="racro-postgres-")), free_port()
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if user:
        for path in (folder, secret):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "racro", "-A", "scram-sha-256", f"--pwfile={secret}"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd="/")
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    server = subprocess.Popen(
        [str(programs / "postgres"), *options],
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (folder / f".s.PGSQL.{port}").exists():
            assert server.poll() is None
            time.sleep(0.1)
        yield f"postgresql://racro:{PASSWORD}@127.0.0.1:{port}/racro"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def place(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("postgres"), "--postgres", url)


def test_a_run_on_postgres_and_the_same_again_from_the_cache(place: Workplace) -> None:
    for name in ("first", "again"):
        run = place.wait(place.start("train", recipe=tiny(), run=name))
        assert run["state"]["type"] == "COMPLETED", place.log(run["id"])
    assert not list(place.folder.rglob("*.db"))
    assert place.up().returncode == 0


def test_the_password_is_in_no_command_line_and_no_file(place: Workplace) -> None:
    assert not [process for process in place.processes() if PASSWORD in " ".join(process.cmdline())]
    files = [file for file in place.folder.rglob("*") if file.is_file()]
    assert files and not [file for file in files if PASSWORD.encode() in file.read_bytes()]
    workers = [process for process in place.processes() if "worker" in process.cmdline()]
    assert workers and not [worker for worker in workers if PASSWORD in str(worker.environ())]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://somewhere/x", "--postgres: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("postgresql://racro@127.0.0.1:1/racro", "--postgres: no connection ("),
    ],
)
def test_a_server_that_cannot_be_used_is_one_line(given: str, said: str, tmp_path: Path) -> None:
    other = Workplace(tmp_path / "other", "--postgres", given)
    done = other.up()
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"racro: {said}")
    assert not other.processes()
