"""Opens the engine that a recipe names, where its runtime places it: here, in other processes, or behind a URL.

The protocol is `racro.engines.protocol`; `racro.engines.building` makes the engines of this process. Engines are
imported only when they are opened, so that nothing loads torch or vLLM by accident.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from racro.config import JUDGES, REASONERS, Captioner, EnginePlacement, Judge, ModelSection, Reasoner, Runtime
from racro.engines import openings
from racro.engines.building import build
from racro.engines.prefetcher import Prefetcher
from racro.engines.protocol import Engine, EngineLost, Role
from racro.errors import BadInput
from racro.home import home
from racro.models.pixels import UNLIMITED

CONCURRENT_CALLS = {"vllm": 16, "server": 16}
"""Calls that an engine works on at the same time, by its type; all other types work on one."""
ASLEEP = 0.1
"""Largest share of a GPU that a sleeping vLLM may still hold."""


def open_captioner(config: Captioner, folder: str, runtime: Runtime, log: Path | None = None) -> Engine:
    """An engine on a captioner's local model folder (a policy, or the initial model), where `runtime` places it.

    `log`: the file to which engines in other processes append their output; engines.log in `racro.home` if None.
    Raises EngineLost when one does not start.
    """
    return _open("captioner", config, folder, runtime, log)


def open_reasoner(
    config: Reasoner, folder: str, runtime: Runtime, log: Path | None = None, *, background: bool = False
) -> Engine:
    """The same for a reasoner's local model folder. One that `prefetches` does so when `Engine.prefetch` is called.

    `background`: such an engine is opened at the first request, without making the caller wait.
    """
    role = runtime.role_of(config)
    if not prefetches(config, runtime):
        return _open(role, config, folder, runtime, log)
    engine = Prefetcher(
        functools.partial(_open, role, config, folder, runtime, log),
        CONCURRENT_CALLS.get(config.engine.type, 1),
    )
    if not background:
        engine.open()
    return engine


def open_judge(name: str, config: Judge, folder: str, runtime: Runtime, log: Path | None = None) -> Engine:
    """The same for the local model folder of a judge, which sees text, or images too."""
    return _open(f"{JUDGES}{name}", config, folder, runtime, log)


def prefetches(config: Reasoner, runtime: Runtime) -> bool:
    """Can the reasoner answer in the background while this process does something else, and does the runtime say so?"""
    return runtime.streaming and runs_outside(config, runtime, runtime.role_of(config))


def runs_outside(config: ModelSection, runtime: Runtime, role: Role) -> bool:
    """Does the engine of a role run outside this process?"""
    place = runtime.place(role)
    if runtime.clustered(role) or config.engine.type == "server" or place.data_parallel > 1:
        return True
    return config.engine.type == "vllm" if place.worker is None else place.worker


def _open(role: Role, config: ModelSection, folder: str, runtime: Runtime, log: Path | None) -> Engine:
    with openings.counted("reasoner" if role.startswith(REASONERS) else role):
        return _started(role, config, folder, runtime, log)


def _started(role: Role, config: ModelSection, folder: str, runtime: Runtime, log: Path | None) -> Engine:
    log = log or home() / "engines.log"
    place = runtime.place(role)
    if runtime.clustered(role) and not place.urls:
        from racro.engines.clustered import on_cluster

        return on_cluster(role, config, folder, runtime, log)
    if not runs_outside(config, runtime, role):
        return build(role, config, folder, place, runtime)
    if config.engine.type == "server" and place.urls:
        if isinstance(config, Captioner) and config.pixels != UNLIMITED:
            raise BadInput(
                f"captioner.max_pixels, min_pixels: {place.endpoints[0].url} scales images as it was told to when it "
                "was started (vLLM's --mm-processor-kwargs); leave them out here"
            )
        from racro.engines.remote.client import Endpoint

        return Endpoint(
            place.endpoints,
            config.model,
            place,
            role,
            folder,
            config.dtype,
            template_kwargs=config.template_kwargs,
            sees=config.reads_images,
        )
    if config.engine.type == "server":
        from racro.engines.vllm.server import Server as Start
    else:
        from racro.engines.worker.client import Worker as Start  # type: ignore[assignment]

    from racro.engines.balanced import Balanced
    from racro.processes.gpus import NoGpuMemory, wait_for_memory

    places = copies(place)
    try:
        wait_for_memory(place.gpus, place.gpu_memory, place.start_deadline)
    except NoGpuMemory as error:
        raise EngineLost(f"{error}, or lower runtime.{role}.gpu_memory") from error
    with ThreadPoolExecutor(len(places)) as pool:  # a large model takes a minute to load
        starts = [pool.submit(Start, role, config, folder, runtime.placed(role, part), log) for part in places]
    try:
        opened = [start.result() for start in starts]
    except BaseException:  # if one does not start, the others must not keep running; raised again
        for start in starts:
            if start.exception() is None:
                start.result().close()
        raise
    return opened[0] if len(opened) == 1 else Balanced(opened, place.sequences)


def wait_for_wake(role: Role, config: ModelSection, runtime: Runtime) -> None:
    """Before a sleeping engine of vLLM's is asked again: return when its GPUs have room for it. Raises EngineLost."""
    from racro.processes.gpus import NoGpuMemory, cpu_build, wait_for_memory

    place = runtime.place(role)
    if config.engine.type not in ("vllm", "server") or place.urls or runtime.clustered(role) or cpu_build():
        return
    try:
        wait_for_memory(place.gpus, place.gpu_memory - ASLEEP, place.start_deadline)
    except NoGpuMemory as error:
        raise EngineLost(f"{error}, or lower runtime.{role}.gpu_memory") from error


def copies(place: EnginePlacement) -> list[EnginePlacement]:
    """One placement for each copy of the model, each with its share of the GPUs."""
    size = place.tensor_parallel
    return [
        place.model_copy(update={"data_parallel": 1, "gpus": place.gpus[i * size : (i + 1) * size]})
        for i in range(place.data_parallel)
    ]
