"""Making models with transformers: whole ones, and one at a time.

While transformers makes a model it changes torch's default dtype and its own classes for all threads of the process.
Two that overlapped would leave these changes behind, and each later model without its tied weights.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro.errors import BadInput

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_ONE_AT_A_TIME = threading.RLock()


class NotWhole(BadInput):
    """A checkpoint without some of its model's weights."""


def from_folder(auto: Any, folder: Path, dtype: torch.dtype | str) -> PreTrainedModel:
    """The model with its weights. auto: one of transformers' `AutoModelFor...`.

    Raises NotWhole where transformers would go on with random values in place of what is missing.
    """
    with _ONE_AT_A_TIME:
        model, found = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    missing = sorted(found["missing_keys"])
    # The names of quantized weights are those of the method, which checks them itself.
    if missing and getattr(model.config, "quantization_config", None) is None:
        raise NotWhole(
            f"{folder}: the checkpoint lacks {len(missing)} of the weights of {type(model).__name__}, the first is "
            f"{missing[0]}; get the model again, or save all of it"
        )
    return model


def without_weights(auto: Any, config: PretrainedConfig) -> PreTrainedModel:
    """The model on torch's device `meta`: names and shapes, no values."""
    import torch

    with _ONE_AT_A_TIME, torch.device("meta"):
        return auto.from_config(config)
