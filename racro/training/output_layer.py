"""Does the trainer compute a captioner's log-probs from hidden states as the captioner's own forward does?

TRL never makes all logits: it takes what the model's inside returns to the output layer itself. A family may do
something else there than its configuration says, as scale, or may not return hidden states. Known without weights:
the inside is replaced by random hidden states, and the output layer by a small one. Called before a training prepares
anything; `racro.training.parity` compares the same on the model itself.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from racro.errors import BadInput
from racro.models import making
from racro.models.folders import base_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LOG = logging.getLogger(__name__)
MAX_GAP = 1e-4
"""In nats, in float32."""
POSITIONS, VOCABULARY = 8, 16


class OtherLogProbs(BadInput):
    """A captioner of a family that the trainer does not compute as its own forward does."""


def refusal(name: str, family: str) -> str:
    """One line. name: the captioner's. family: its `model_type`."""
    return (
        f"captioner.model: the trainer computes log-probs from hidden states, and those of {name} ({family}) are then "
        "others than by the model's own forward; use a model of another family (docs/models.md)"
    )


def require(name: str, folder: Path) -> None:
    """Refuse a captioner whose log-probs would be others. name: as the recipe has it. Raises OtherLogProbs."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base_folder(folder))
    if not gap(config) <= MAX_GAP:
        raise OtherLogProbs(refusal(name, config.model_type))


class _Inside(torch.nn.Module):
    """Answers whatever it is asked with the same hidden states."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.last_hidden_state = states

    def forward(self, *_: Any, **__: Any) -> _Inside:
        return self

    def __getitem__(self, place: int) -> torch.Tensor:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> Any:
        """What else families return from their inside: nothing of it."""


@torch.inference_mode()
def gap(config: PretrainedConfig) -> float:
    """Mean |difference| of log-probs by the model's own forward and by TRL's, of random hidden states.

    Infinite where the model's inside gives no hidden states; 0 where its forward does more with them than to call the
    output layer, so that only parity can tell.
    """
    from transformers import AutoModelForImageTextToText

    from racro.training.trl_without_vllm import add_fused_lm_head

    model = making.without_weights(AutoModelForImageTextToText, config)
    if model.base_model is model:
        return math.inf
    draws = torch.Generator().manual_seed(0)
    hidden = model.get_output_embeddings().weight.shape[1]
    states = torch.randn(1, POSITIONS, hidden, generator=draws)
    layer = torch.nn.Linear(hidden, VOCABULARY, bias=False)
    layer.weight.copy_(torch.randn(VOCABULARY, hidden, generator=draws) / math.sqrt(hidden))
    model.set_output_embeddings(layer)
    model.get_output_embeddings = lambda: layer  # some look for the embeddings inside as well
    setattr(model, model.base_model_prefix, _Inside(states))
    ids = torch.randint(VOCABULARY, (1, POSITIONS), generator=draws)
    try:
        plain = model(input_ids=ids).logits[0].float().log_softmax(-1).gather(1, ids[0, :, None])[:, 0]
    except Exception as error:  # each family's forward asks its inside for something else
        LOG.info("%s: only parity can tell whether log-probs are its own (%s)", config.model_type, error)
        return 0.0
    add_fused_lm_head(model)
    fused = model(input_ids=ids, shift_labels=ids, fused_lm_head=True).log_probs[0].float()
    return float((plain - fused).abs().mean())
