"""TRL's trainer, imported without vLLM. Imported by `racro.training.update` alone.

TRL imports vLLM where it is installed, to generate with it. That takes seconds and pins the threads of the process;
here vLLM lives in processes of its own, and TRL replays what they wrote.
"""

from trl import import_utils

import_utils.is_vllm_available = lambda *_, **__: False

from trl import GRPOConfig, GRPOTrainer  # noqa: E402

__all__ = ["GRPOConfig", "GRPOTrainer"]
