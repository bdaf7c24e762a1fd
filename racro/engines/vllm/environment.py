"""The environment of a process in which vLLM runs: which GPUs, how much memory, and nothing left in the user's home.

Not vLLM and does not import it: vLLM reads these when it is imported. Used by `racro.engines.worker.client` and
`racro.engines.vllm.server` for the processes that they start.
"""

from __future__ import annotations

import math
import os

from racro.config import EnginePlacement
from racro.home import home
from racro.processes.gpus import cpu_build


def of_engine(place: EnginePlacement, vllm: bool) -> dict[str, str]:
    """Variables to add for an engine at `place`, on the machine that this is called on."""
    return environment(place, cpu_build()) if vllm else visible(place)


def environment(place: EnginePlacement, cpu: bool) -> dict[str, str]:
    """Variables to add for an engine at `place`. `cpu`: vLLM computes there; see `racro.processes.gpus.cpu_build`."""
    caches = home().resolve() / "cache"
    folders = {
        "VLLM_CACHE_ROOT": "vllm",
        "VLLM_CONFIG_ROOT": "vllm-config",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "CUDA_CACHE_PATH": "cuda",
    }
    variables = {name: os.environ.get(name, str(caches / folder)) for name, folder in folders.items()} | {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Of an engine in this process; several GPUs need a process each.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if place.tensor_parallel > 1 else "0",
    }
    if cpu:
        # Threads bound to cores would make all engines of a machine share the first ones.
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": str(math.ceil(place.cpu_cache)),  # whole GiB, and it outranks every argument
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }
        if place.eager is not False:
            # One small function of the sampler is compiled nevertheless, with a C++ compiler, for seconds.
            variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables | visible(place)


def visible(place: EnginePlacement) -> dict[str, str]:
    """The choice of GPUs, for an engine of any kind; numbers as `nvidia-smi` counts."""
    if not place.gpus:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, place.gpus))}
