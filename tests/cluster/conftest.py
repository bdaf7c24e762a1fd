"""One cluster for all tests of this folder: a head and two nodes, with as many logical CPUs as the tests ask for."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from racro.cluster import session
from racro.processes.child import free_port
from tests.conftest import REPOSITORY

STORE = 100 * 2**20
"""Bytes of a node's object store."""
PATIENCE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
}
"""A busy machine starts processes slowly."""


def patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray gives a node 30 s to start, which is too little on a machine that does much else."""

    def wait(*arguments: Any) -> Any:
        end = time.monotonic() + 45
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return wait


def ports() -> dict[str, int]:
    """Of a node's agents. Left to Ray, it waits for them for 15 s only."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {name: free_port() for name in names}


def again(start: Callable[[], Any]) -> Any:
    """Start a node, a few times: on a busy machine one of its processes may be too slow for the others."""
    for left in reversed(range(4)):
        try:
            return start()
        except Exception:  # Ray's own has no class
            if not left:
                raise
    return None


class Nodes:
    """The cluster, and which nodes may be killed."""

    def __init__(self, folder: Path) -> None:
        import ray
        from ray._common.utils import get_default_ray_temp_dir
        from ray.cluster_utils import Cluster

        Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)  # Ray writes the address there, whatever temp_dir says
        first = {"num_cpus": 8, "object_store_memory": STORE, "include_dashboard": False, "temp_dir": str(folder)}
        self.cluster = again(lambda: Cluster(initialize_head=True, head_node_args=first | ports()))
        # Of several nodes on one machine, Ray connects to any; this process must be on the one that lives.
        ray.init(self.cluster.address, namespace="racro", log_to_driver=False, logging_level="ERROR")
        self.others: dict[str, Any] = {}
        for _ in range(2):
            self.add()

    @property
    def address(self) -> str:
        found: str = self.cluster.address
        return found

    def add(self) -> None:
        more = {"num_cpus": 8, "object_store_memory": STORE, "resources": {"spare": 1}}
        node = again(lambda: self.cluster.add_node(**more, **ports()))
        self.others[node.node_id] = node

    def spare(self, count: int) -> None:
        """At least so many nodes beside the head; tests before may have killed some."""
        while len(self.others) < count:
            self.add()

    def kill(self, name: str) -> bool:
        """Kill a node with all its processes, as a power cut does; False for the head, which the test needs."""
        if name not in self.others:
            return False
        self.cluster.remove_node(self.others.pop(name), allow_graceful=False)
        return True

    def settings(self, **more: Any) -> dict[str, Any]:
        """`runtime.cluster`."""
        return {"type": "ray", "address": self.address, "strategy": "spread", **more}


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing of a test stays on the cluster."""
    yield
    session.close()


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    import ray

    before = {name: os.environ.get(name) for name in (*PATIENCE, "PYTHONPATH")}
    os.environ.update(PATIENCE)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), before["PYTHONPATH"])))
    services, utils = ray._private.services, ray._private.utils
    get_node, missing = services.get_node, utils.get_dashboard_dependency_error
    services.get_node = patient(get_node)
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")  # as in a plain `pip install ray`: lighter
    try:
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            made = Nodes(Path(folder))  # not in pytest's folder: the paths of its sockets would be too long
            yield made
            ray.shutdown()
            made.cluster.shutdown()
    finally:
        services.get_node, utils.get_dashboard_dependency_error = get_node, missing
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
