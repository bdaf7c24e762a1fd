"""Opens the copies of an engine on the nodes of a cluster, each in a worker's process there.

Lost copies are opened again where there is room (`racro.engines.balanced`). Opened by `racro.engines.opening`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from racro.cluster.node import RETRY, Group
from racro.config import ModelSection, Runtime
from racro.engines.balanced import Balanced
from racro.engines.protocol import Engine, EngineLost, Role
from racro.engines.worker.client import Worker
from racro.errors import BadInput
from racro.processes.launcher import MachineLost


def on_cluster(role: Role, config: ModelSection, folder: str, runtime: Runtime, log: Path) -> Engine:
    """The copies that `runtime` asks for. Those that run already for the same settings are used as they are.

    Raises EngineLost when one does not start, NoCluster, and BadInput for an engine that runs on no cluster.
    """
    if config.engine.type == "server":
        raise BadInput(
            f"runtime.{role}: on a cluster no servers are started; set {role}.engine.type=vllm, or name those that run "
            f"in runtime.{role}.urls"
        )
    place = runtime.place(role)
    single = place.model_copy(update={"data_parallel": 1})
    try:
        group = Group(runtime, role, place.data_parallel, place.tensor_parallel, config)
    except MachineLost as error:
        raise EngineLost(str(error)) from error
    placed = runtime.placed(role, single).model_copy(update={"device": "cuda" if group.gpus else "cpu"})

    def start(copy: int, weights: str, fresh: bool) -> Engine:
        try:
            node = group.node(copy, place.start_deadline, fresh)
        except MachineLost as error:
            raise EngineLost(str(error)) from error
        return Worker(role, config, weights, placed, log, node)

    def again(copy: int, weights: str) -> Engine:
        until = time.monotonic() + place.start_deadline
        while True:
            try:
                return start(copy, weights, True)
            except EngineLost:  # Ray may place it on the node that is lost, until it has seen that this one is
                if group.over or time.monotonic() > until:
                    raise
            time.sleep(RETRY)

    with ThreadPoolExecutor(place.data_parallel) as pool:  # a large model takes a minute to load
        starts = [pool.submit(start, copy, folder, False) for copy in range(place.data_parallel)]
    try:
        opened = [begun.result() for begun in starts]
    except BaseException:  # if one does not start, the others must not keep running; raised again
        for begun in starts:
            if begun.exception() is None:
                begun.result().close()
        group.drop()
        raise
    return Balanced(opened, place.sequences, again, folder, left=group.drop)
