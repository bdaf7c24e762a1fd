"""A Postgres server of one's own, from Debian's package. Used by the tests of orchestration."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.debian import required
from tests.support.ports import reserve

PASSWORD = "planted-4711"


class Postgres:
    """An empty server. It refuses to run as root, so it then runs as its package's user."""

    def __init__(self) -> None:
        self.programs = _programs()
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="racro-postgres-")), reserve()
        self.url = f"postgresql://racro:{PASSWORD}@127.0.0.1:{self.port}/racro"
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self.user:
            for path in (self.folder, secret):
                os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)
        initdb = [str(self.programs / "initdb"), "-D", str(self.folder / "data"), "-U", "racro"]
        initdb += ["-A", "scram-sha-256", f"--pwfile={secret}"]
        subprocess.run(initdb, check=True, capture_output=True, user=self.user, cwd="/")
        self.start()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder), "-c", "fsync=off"]
        self.server = subprocess.Popen(
            [str(self.programs / "postgres"), "-D", str(self.folder / "data"), *options],
            user=self.user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + 60
        while subprocess.run(ready).returncode != 0:
            assert self.server.poll() is None and time.monotonic() < end
            time.sleep(0.1)

    def stop(self) -> None:
        """Cut every connection and end at once, as in a crash; `start` recovers."""
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait(30)

    def remove(self) -> None:
        """Leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)


def _programs() -> Path:
    """Folder of `initdb` and `postgres`."""
    return required(_found, "postgresql", _no_cluster)


def _found() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    command = shutil.which("initdb")
    return debian[-1].parent if debian else Path(command).parent if command else None


def _no_cluster() -> None:
    """Without the server that the package would start of its own."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    settings.parent.mkdir(parents=True, exist_ok=True)
    if not settings.exists():
        settings.write_text("create_main_cluster = false\n")
