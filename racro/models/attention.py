"""How a captioner's attention is computed in training: `runtime.trainer.attention`, and what is refused at once.

Grouped log-probs (`racro.training.grouped`) need a mask of their own. sdpa takes it as a tensor, flex attention as a
block mask; flash attention knows none. Not an engine's attention, which the engine chooses. Called by
`racro.models.devices` before anything runs, and by the update.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from racro.errors import BadInput
from racro.models import parts_attention

if TYPE_CHECKING:
    import torch

    from racro.config import Recipe

FLEX = "racro_flex"
"""Our name for flex attention among transformers' implementations, see `_register`."""

TOLERANCE = 0.02
"""Largest relative difference between gradients of flex attention and sdpa; 16-bit rounding costs about 0.005."""

logger = logging.getLogger(__name__)


class NoAttention(BadInput):
    """A way to compute attention that this machine, this precision or this model does not have."""


def require(recipe: Recipe) -> None:
    """Raises NoAttention if this machine cannot train so. Loads torch only if something special is asked for."""
    setting = recipe.runtime.trainer.attention
    if setting in ("auto", "sdpa"):
        return
    from racro.models.folders import torch_device

    remedy = "set runtime.trainer.attention=auto"
    if torch_device(recipe.runtime.device).type == "cpu":
        raise NoAttention(f"runtime.trainer.attention: {setting} does not train on a CPU; {remedy}")
    if setting.startswith("flash") and recipe.captioner.dtype == "float32":
        raise NoAttention(
            f"runtime.trainer.attention: {setting} computes in 16 bits, and captioner.dtype is float32; {remedy}"
        )
    if setting.startswith("flash") and setting not in installed():
        raise NoAttention(f"runtime.trainer.attention: {setting} is not installed here (flash-attn); {remedy}")


def installed() -> list[str]:
    """Flash attention's versions that can be used here, the newest first."""
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    found = {"flash_attention_3": is_flash_attn_3_available, "flash_attention_2": is_flash_attn_2_available}
    return [name for name, available in found.items() if available()]


def use(model: Any, setting: str, device: torch.device, dtype: str) -> None:
    """Have a captioner compute attention so.

    model: without wrappers of PEFT or accelerate. dtype: of the computations. The vision tower has flash attention
    where it can, which takes its windows in one call. Raises NoAttention.
    """
    try:
        if setting.startswith("flash"):
            model.set_attn_implementation(setting)
            return
        if setting == "sdpa" or (setting == "auto" and (device.type != "cuda" or not flex_works(device))):
            _in_parts(model, required=setting == "sdpa")
            return
        _register()
        model.get_decoder().set_attn_implementation(FLEX)
    except (ValueError, ImportError, KeyError) as error:
        why = " ".join(str(error).split())[:300]
        raise NoAttention(f"runtime.trainer.attention: {setting} cannot be used: {why}; set it to sdpa") from error
    if dtype != "float32" and device.type == "cuda" and (flash := installed()):
        try:
            model.get_encoder(modality="image").set_attn_implementation(flash[0])
        except (ValueError, ImportError) as error:
            logger.warning("the vision tower has no flash attention: %s", " ".join(str(error).split())[:300])


def _in_parts(model: Any, required: bool) -> None:
    """Where the language model has sdpa: the same, part by part where captions share a prompt.

    required: sdpa is meant, also for a model that came with something else.
    """
    if required:
        model.set_attn_implementation("sdpa")
    decoder = model.get_decoder()
    if decoder.config._attn_implementation == "sdpa":
        parts_attention.register()
        decoder.set_attn_implementation(parts_attention.NAME)


def takes_masks(model: Any) -> bool:
    """Can the language model's attention be told what each token may see? Flash attention cannot."""
    return not str(model.get_decoder().config._attn_implementation).startswith("flash")


def is_flex(model: Any) -> bool:
    """Does the language model want block masks?"""
    return bool(model.get_decoder().config._attn_implementation == FLEX)


@functools.cache
def flex_works(device: torch.device) -> bool:
    """Does flex attention train on this device, with the same numbers as sdpa? If not, the log says why."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    from torch.nn.functional import scaled_dot_product_attention

    def causal(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return key <= query

    def gradient(attention: Any, **mask: Any) -> torch.Tensor:
        inputs = start.clone().requires_grad_()
        attention(*inputs, **mask).square().sum().backward()
        assert inputs.grad is not None
        return inputs.grad

    start = torch.randn(3, 1, 2, 160, 64, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        mask = create_block_mask(causal, 1, None, 160, 160, device=str(device))
        found = gradient(torch.compile(flex_attention, dynamic=True), block_mask=mask)
        expected = gradient(scaled_dot_product_attention, is_causal=True)
        gap = ((found - expected).abs().max() / expected.abs().max()).item()
        why = f"gradients differ by {gap:.2g} of the largest"
    except Exception as error:  # anything that a compiler says
        gap, why = float("inf"), f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if gap <= TOLERANCE:
        return True
    logger.warning("attention is sdpa's, because flex attention does not train on %s: %s", device, why)
    return False


def _register() -> None:
    """Transformers' flex attention under a name that every model takes.

    Qwen-VL models do not declare it, although they call attention as the others do. And under autocast rotary
    embeddings leave queries and keys in float32, which flex attention, unlike sdpa, does not cast by itself.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.flex_attention import flex_attention_forward
    from transformers.masking_utils import flex_attention_mask

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        query, key = query.to(value.dtype), key.to(value.dtype)
        return flex_attention_forward(module, query, key, value, attention_mask, **options)

    AttentionInterface.register(FLEX, attend)
    AttentionMaskInterface.register(FLEX, flex_attention_mask)
