"""Builds an engine in this process.

Where an engine should run is decided in `racro.engines.opening`; the other caller is the program in a worker's process,
`racro.engines.worker.main`. Engines are imported only when they are built, so that nothing loads torch or vLLM by
accident.
"""

from __future__ import annotations

from racro import imports
from racro.config import Captioner, EnginePlacement, ModelSection, Runtime
from racro.engines.protocol import Engine, Role
from racro.models.pixels import UNLIMITED


def build(role: Role, config: ModelSection, folder: str, place: EnginePlacement, runtime: Runtime) -> Engine:
    """An engine in this process on the local model folder. Raises what the engine raises when it does not start."""
    with imports.quick():
        return _build(role, config, folder, place, runtime)


def _build(role: Role, config: ModelSection, folder: str, place: EnginePlacement, runtime: Runtime) -> Engine:
    engine = config.engine
    lora, pixels = (config.lora, config.pixels) if isinstance(config, Captioner) else (None, UNLIMITED)
    if engine.type == "scripted":
        from racro.engines.local.scripted import ScriptedEngine

        return ScriptedEngine(engine.rules)
    if engine.type == "vllm":
        from racro.engines.vllm.engine import VllmEngine

        if config.reads_images:
            return VllmEngine.captioner(folder, config.dtype, engine, place, lora, config.template_kwargs, pixels)
        return VllmEngine.reasoner(folder, config.dtype, engine, place, config.template_kwargs)
    if engine.type == "transformers":
        from racro.engines.local.transformers import TransformersEngine

        given = (folder, config.dtype, runtime.device)
        if config.reads_images:
            return TransformersEngine.captioner(*given, runtime.caption_batch, config.template_kwargs, pixels)
        return TransformersEngine.reasoner(*given, runtime.reason_batch, config.template_kwargs)
    raise ValueError(f"an engine of type {engine.type} runs in a separate process")
