"""TRL's trainer, imported without vLLM.

TRL imports vLLM if it is installed, to generate with it. That takes seconds and pins the threads of the process. Here
vLLM runs in other processes, and TRL replays what they wrote. Imported by `racro.training.replay` and `.trainer` only.
"""

from trl import import_utils

import_utils.is_vllm_available = lambda *_, **__: False

from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

__all__ = ["GRPOConfig", "GRPOTrainer", "add_fused_lm_head"]
