"""What the trainer's libraries would load and nobody uses stays out; all else finds it as ever."""

from __future__ import annotations

from importlib.util import find_spec


def test_transformers_loads_without_scikit_learn_and_others_find_it() -> None:
    from transformers.data import metrics
    from transformers.generation import candidate_generator
    from transformers.utils import is_sklearn_available

    assert is_sklearn_available() == (find_spec("sklearn") is not None)
    assert not hasattr(candidate_generator, "roc_curve") and not hasattr(metrics, "matthews_corrcoef")


def test_trl_loads_without_wandb_and_others_find_it() -> None:
    from racro.training import trl_without_vllm  # first, as everywhere

    from transformers.integrations import is_wandb_available  # isort: skip
    from trl.extras import profiling
    from trl.trainer import base_trainer, callbacks, grpo_trainer

    assert trl_without_vllm.GRPOTrainer is grpo_trainer.GRPOTrainer
    assert not any(hasattr(module, "wandb") for module in (profiling, base_trainer, callbacks, grpo_trainer))
    assert is_wandb_available() == (find_spec("wandb") is not None)
