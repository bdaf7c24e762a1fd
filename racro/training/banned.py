"""The probability that the trainer's model gives to tokens which engines never sample.

Engines ban the tokens that stand for images and record log-probs of what is left, renormalised; the trainer's log-probs
are of all tokens. For the comparison of the two, the share of the banned ones has to be known. It follows from the
hidden states, the few rows of the output layer that are banned, and the log-prob of the token that was sampled, without
computing the logits of a whole vocabulary again.
"""

from __future__ import annotations

from typing import Any

import torch

from racro.training.sharding import whole


class BannedShare:
    """Measures one model."""

    def __init__(
        self, config: Any, weight: torch.Tensor, bias: torch.Tensor | None, banned: list[int], temperature: float
    ) -> None:
        """`config`: the model's. weight: (V, H), bias: (V,), of its output layer. `banned`: token ids.

        `temperature`: of the log-probs.
        """
        self.config, self.weight, self.bias, self.temperature = config, weight, bias, temperature
        self.banned = [token for token in banned if token < len(weight)]

    @classmethod
    def of(cls, model: Any, banned: list[int], temperature: float) -> BannedShare:
        """Of a model as it is now, without wrappers of PEFT. To be called in all processes that divide it."""
        head = model.get_output_embeddings()
        bias = None if head.bias is None else whole(head.bias.detach())
        return cls(model.config, whole(head.weight.detach()), bias, banned, temperature)

    @torch.no_grad()
    def log_allowed(self, hidden: torch.Tensor, tokens: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
        """Log (N,) of the share that the allowed tokens have where hidden states (N, H) predict `tokens` (N,).

        `logprobs`: (N,), those of `tokens`.
        """
        scored = torch.einsum("nh,nh->n", hidden.float(), self.weight[tokens].float())
        banned = hidden.float() @ self.weight[self.banned].float().T
        if self.bias is not None:
            scored, banned = scored + self.bias[tokens], banned + self.bias[self.banned]
        scored, banned = self._logits(scored), self._logits(banned)
        normaliser = scored - logprobs.float()  # logsumexp over the vocabulary
        share = (banned - normaliser[:, None]).exp().sum(-1)
        return torch.log1p(-share)

    def _logits(self, projected: torch.Tensor) -> torch.Tensor:
        """From what the output layer gives to logits at the temperature, as the families do it."""
        text = self.config.get_text_config()
        scales = (getattr(text, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"))
        scale = next((value for value in scales if value is not None), None)
        if scale is None:
            scale = 1 / (getattr(text, "logits_scaling", None) or 1)
        logits = projected * scale
        if cap := getattr(text, "final_logit_softcapping", None):
            logits = cap * torch.tanh(logits / cap)
        return logits / self.temperature
