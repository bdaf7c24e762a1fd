"""Is there room on the trainer's GPUs, where engines of other processes may not have freed theirs yet?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racro.processes.gpus import NoGpuMemory, memories, visible, wait_for_bytes
from racro.training.failures import TrainerMemory

if TYPE_CHECKING:
    from racro.training.trainer import Training


def wait_for_memory(training: Training) -> None:
    """Return when the trainer's GPUs have room for what it cannot do without. Raises TrainerMemory."""
    from racro.models import devices, memory, sizes

    if training.runtime.cluster.type != "local":  # its processes are on other GPUs
        return
    there = memories()
    if not there or not devices.has_cuda():
        return
    counted = sizes.captioner(training.initial, training.captioner.lora, training.config.freeze)
    need = memory.trainer(counted, training.captioner, training.config, training.runtime)
    try:
        wait_for_bytes(dict.fromkeys(devices.trainer_gpus(training.runtime, visible(list(there))), need.certain))
    except NoGpuMemory as error:
        raise TrainerMemory(f"the trainer cannot start: {error}, or see racro doctor RECIPE") from error
