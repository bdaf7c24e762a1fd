"""The connection of this process to a Ray cluster, and its lease on the actors of the run.

Ray is imported here first, and only where a recipe names a cluster. Used by `racro.cluster.node`; closed by
`tasks.running.engines` at the end of a flow.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import queue
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from racro.cluster.files import Pieces, pieces_of
from racro.config import RayCluster
from racro.errors import BadInput
from racro.identity import digest
from racro.processes.launcher import MachineLost

RENEWALS = 6
"""How often the lease is renewed within its length."""
PROBE = 10.0
"""Seconds within which the head must take a connection."""
CONNECT = 60.0
"""Seconds within which what took it must have answered as a head does; Ray itself would wait for minutes."""
FOLDERS = 3
"""Folders that stay in the object store: the captioner's, the reasoner's, the trainer's."""

logger = logging.getLogger(__name__)


class NoCluster(BadInput):
    """A cluster that cannot be used."""


_scope = ""
"""Names the run whose actors are used, for whoever goes on with it."""
_session: Session | None = None
_lock = threading.Lock()


def belongs(root: str, run: str) -> None:
    """What this process starts belongs to a run: another process of the same run finds it."""
    global _scope
    _scope = digest([root, run])[:12]


def session(cluster: RayCluster) -> Session:
    """The session with this cluster, begun now if there is none. Raises NoCluster, MachineLost."""
    global _session
    with _lock:
        if _session is not None and (_session.cluster != cluster or _session.lost):
            _session.close()
            _session = None
        if _session is None:
            _session = Session(cluster, _scope or uuid.uuid4().hex[:12])
        return _session


def close() -> None:
    """End everything that the run has on a cluster, if it has any."""
    global _session, _scope
    with _lock:
        if _session is not None:
            _session.close()
        _session, _scope = None, ""


class Session:
    """A connection, and the keeper of the run's actors."""

    def __init__(self, cluster: RayCluster, scope: str) -> None:
        self.cluster, self.id, self.lost = cluster, uuid.uuid4().hex, False
        self._pieces: dict[str, Pieces] = {}
        self._lock = threading.Lock()
        try:
            _in_ray_thread(lambda: _connect(cluster), None if cluster.address == "local" else CONNECT)
        except TimeoutError:
            raise _no_cluster(
                cluster.address, TimeoutError(f"what listens there does not answer as Ray does within {CONNECT:g} s")
            ) from None
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from racro.cluster.keeper import Keeper

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.keeper = (
            ray.remote(Keeper)
            .options(
                name=f"run-{scope}",
                namespace=cluster.namespace,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_concurrency=8,
                scheduling_strategy=here,
            )
            .remote(cluster.lease)
        )
        self.ask(self.keeper.take, self.id)
        self._over = threading.Event()
        threading.Thread(target=self._renew, name="cluster-lease", daemon=True).start()

    @property
    def has_gpus(self) -> bool:
        """Does any node have a GPU?"""
        import ray

        return bool(ray.cluster_resources().get("GPU"))

    def ask(self, method: Any, *arguments: Any, seconds: float = float("inf")) -> Any:
        """The answer of an actor's method. Raises MachineLost, also after so many seconds, and what the method raises.

        Waits in a way that a stage's timeout can interrupt.
        """
        import ray

        reference, until = method.remote(*arguments), time.monotonic() + seconds
        while True:
            try:
                return ray.get(reference, timeout=1.0)
            except ray.exceptions.GetTimeoutError:
                if time.monotonic() > until:
                    raise MachineLost(f"a node of the cluster gave no answer within {seconds:g} s") from None
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ray.exceptions.RayError):  # what the method needed of another node
                    raise MachineLost(f"a node of the cluster is lost: {first_line(error.cause)}") from error
                raise error.cause from error
            except (ray.exceptions.RayError, ConnectionError) as error:
                raise MachineLost(f"a node of the cluster is lost: {first_line(error)}") from error

    def pieces(self, folder: Path, digest: str) -> Pieces:
        """A folder in the object store; of the same content once, for all nodes that want it."""
        with self._lock:
            if digest not in self._pieces:
                while len(self._pieces) >= FOLDERS:
                    self._pieces.pop(next(iter(self._pieces)))
                self._pieces[digest] = pieces_of(folder)
            return self._pieces[digest]

    def close(self) -> None:
        """End all actors of the run."""
        import ray

        self._over.set()
        try:
            if not self.lost:
                self.ask(self.keeper.close, self.id, seconds=30.0)
                ray.kill(self.keeper)
        except Exception as error:  # without renewals they end by themselves
            logger.warning("actors on the cluster are left to their lease: %s", first_line(error))

    def _renew(self) -> None:
        """In a thread. What fails here is noticed by those who use the actors."""
        while not self._over.wait(self.cluster.lease / RENEWALS):
            try:
                self.lost = not self.ask(self.keeper.renew, self.id, seconds=self.cluster.lease)
            except MachineLost:
                self.lost = True
            if self.lost:
                return


def first_line(error: BaseException) -> str:
    """Of Ray's messages, which have many."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _connect(cluster: RayCluster) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" not in sys.modules and _has_token():  # Ray reads it when it is imported, and nodes when they start
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise NoCluster("runtime.cluster: ray is not installed: pip install 'racro[ray]'") from error
    if ray.is_initialized():
        return
    _probe(cluster.address)
    logging.getLogger("ray").setLevel("ERROR")  # it wants to handle SIGTERM, and warns if it cannot
    address = None if cluster.address == "local" else cluster.address
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(
            address or "local",
            namespace=cluster.namespace,
            log_to_driver=False,
            logging_level="ERROR",
            **options,
        )
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
        raise _no_cluster(cluster.address, error) from error


def _has_token() -> bool:
    """Is there a token for clusters? Nodes that are started where one is ask for it, and Ray sends it to no address."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return given or (Path.home() / ".ray" / "auth_token").is_file()


def _probe(address: str) -> None:
    """Raises NoCluster if nothing listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), PROBE).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> NoCluster:
    return NoCluster(
        f"runtime.cluster.address: no Ray cluster answers at {address} ({first_line(error)}); start one (ray start "
        "--head); if it asks for a token, put the one of its head in ~/.ray/auth_token here; see docs/scaling.md"
    )


_jobs: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
_thread: threading.Thread | None = None


def _in_ray_thread(job: Callable[[], None], seconds: float | None) -> None:
    """Run it in a thread that stays: what Ray starts here ends with the thread that started it, and Prefect's end.

    Raises what it raises, and TimeoutError after so many seconds.
    """
    global _thread

    def work() -> None:
        while True:
            job, done = _jobs.get()
            try:
                job()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    if _thread is None:
        _thread = threading.Thread(target=work, name="ray", daemon=True)
        _thread.start()
    done: Future[None] = Future()
    _jobs.put((job, done))
    done.result(seconds)


def version() -> str:
    """Of racro, which must be the same on all nodes."""
    return importlib.metadata.version("racro")
