"""TRL's trainer, imported without vLLM and wandb, and without a second look at all packages.

TRL imports vLLM if it is installed, to generate with it. That takes seconds and pins the threads of the process. Here
vLLM runs in other processes, and TRL replays what they wrote. wandb is for its own reports, which are not asked for
(`racro.mirrors` has ours). Which packages are installed takes half a second to read; transformers has just done it.
Imported by `racro.training.replay` and `.trainer` only.
"""

import contextlib
import importlib.metadata
from unittest.mock import patch

import accelerate.utils
import transformers
from transformers import integrations
from transformers.utils.import_utils import PACKAGE_DISTRIBUTION_MAPPING

with patch.object(importlib.metadata, "packages_distributions", lambda: PACKAGE_DISTRIBUTION_MAPPING):
    from trl import import_utils

import_utils.is_vllm_available = lambda *_, **__: False

with contextlib.ExitStack() as asked:
    for module in (transformers, integrations, accelerate.utils):
        asked.enter_context(patch.object(module, "is_wandb_available", lambda: False))
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

__all__ = ["GRPOConfig", "GRPOTrainer", "add_fused_lm_head"]
