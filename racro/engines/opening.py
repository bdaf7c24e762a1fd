"""Opens the engine that a recipe names, where its runtime places it: in this process, in others, or behind a URL.

The protocol is `racro.engines.protocol`. Engines are imported only when they are opened, so that nobody loads torch or
vLLM by accident.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from racro.config import Captioner, EnginePlacement, Reasoner, Runtime
from racro.engines.protocol import Engine, EngineLost, Role

LOG = Path(os.environ.get("RACRO_HOME", ".racro")) / "engines.log"
"""Where engines in processes of their own write, unless told otherwise."""


def open_captioner(config: Captioner, folder: str, runtime: Runtime, log: Path = LOG) -> Engine:
    """An engine on a captioner's local model folder (a policy, or the initial model), where `runtime` places it.

    `log`: where engines in processes of their own write what they print. Raises EngineLost when one does not start.
    """
    return _open("captioner", config, folder, runtime, log)


def open_reasoner(config: Reasoner, folder: str, runtime: Runtime, log: Path = LOG) -> Engine:
    """The same on a reasoner's local model folder."""
    return _open("reasoner", config, folder, runtime, log)


def outside(config: Captioner | Reasoner, place: EnginePlacement) -> bool:
    """Does the engine run in processes of its own, so that it works while this one does something else?"""
    if config.engine.type == "server" or place.data_parallel > 1:
        return True
    return config.engine.type == "vllm" if place.worker is None else place.worker


def build(role: Role, config: Captioner | Reasoner, folder: str, place: EnginePlacement, runtime: Runtime) -> Engine:
    """An engine in this very process."""
    engine = config.engine
    if engine.type == "scripted":
        from racro.engines.local.scripted import ScriptedEngine

        return ScriptedEngine(engine.rules)
    if engine.type == "vllm":
        from racro.engines.vllm.engine import VllmEngine

        if isinstance(config, Captioner):
            return VllmEngine.captioner(folder, config.dtype, engine, place, config.lora, config.template_kwargs)
        return VllmEngine.reasoner(folder, config.dtype, engine, place, config.template_kwargs)
    if engine.type == "transformers":
        from racro.engines.local.transformers import TransformersEngine

        given = (folder, config.dtype, runtime.device)
        if role == "captioner":
            return TransformersEngine.captioner(*given, runtime.caption_batch, config.template_kwargs)
        return TransformersEngine.reasoner(*given, runtime.reason_batch, config.template_kwargs)
    raise ValueError(f"an engine of type {engine.type} runs in a process of its own")


def _open(role: Role, config: Captioner | Reasoner, folder: str, runtime: Runtime, log: Path) -> Engine:
    place: EnginePlacement = getattr(runtime, role)
    if not outside(config, place):
        return build(role, config, folder, place, runtime)
    if config.engine.type == "server" and place.urls:
        from racro.engines.remote.client import Endpoint

        return Endpoint(place.urls, config.model, place, role, folder, config.dtype)
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
        starts = [
            pool.submit(Start, role, config, folder, runtime.model_copy(update={role: part}), log) for part in places
        ]
    try:
        opened = [start.result() for start in starts]
    except BaseException:  # one that did not start must not leave the others running; raised again
        for start in starts:
            if start.exception() is None:
                start.result().close()
        raise
    return opened[0] if len(opened) == 1 else Balanced(opened, place.sequences)


def copies(place: EnginePlacement) -> list[EnginePlacement]:
    """One place for each copy of the model, each with its share of the GPUs."""
    size = place.tensor_parallel
    return [
        place.model_copy(update={"data_parallel": 1, "gpus": place.gpus[i * size : (i + 1) * size]})
        for i in range(place.data_parallel)
    ]
