"""Which settings of `update` a loss uses, and why others are refused beside it."""

from __future__ import annotations

from typing import Any, Literal

Loss = Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "gspo", "luspo", "vespo"]
Importance = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]

CLIPPED = {"clip_low", "clip_high", "clip_delta"}
USES: dict[str, set[str]] = {
    "dapo": CLIPPED,
    "bnpo": CLIPPED,
    "grpo": CLIPPED,
    "gspo": CLIPPED,
    "luspo": CLIPPED,
    "dr_grpo": CLIPPED | {"loss_length"},
    "cispo": {"clip_high"},
    "sapo": {"sapo_temperature_pos", "sapo_temperature_neg"},
    "vespo": set(),
}
"""By loss: those of the settings below that it reads."""
REASONS = {
    "clip_low": {
        "cispo": "cispo bounds the ratio above only, at 1 + clip_high",
        "sapo": "sapo clips nothing: its temperatures say how fast ratios lose their weight",
        "vespo": "vespo clips nothing: it weighs whole captions",
    },
    "sapo_temperature_pos": {"": "only sapo has temperatures"},
    "loss_length": {"": "only dr_grpo divides by a constant"},
}
REASONS["clip_high"] = REASONS["clip_low"]
REASONS["clip_delta"] = REASONS["clip_low"] | {"cispo": "cispo bounds every ratio at 1 + clip_high already"}
REASONS["sapo_temperature_neg"] = REASONS["sapo_temperature_pos"]


def refusal(given: Any, defaults: dict[str, Any]) -> str | None:
    """Why these update settings make no sense together; None if they do.

    given: UpdateSettings. defaults: of the settings that only some losses read; a setting at its default is not given.
    """
    loss, unused = given.loss, next((key for key in sorted(defaults) if _unused(given, key, defaults[key])), None)
    if unused:
        reasons = REASONS[unused]
        why = reasons.get(loss) or reasons[""]
        return f"{unused} has no effect with loss {loss}: {why}; leave it out (its default is {defaults[unused]})"
    if loss == "dr_grpo" and given.loss_length is None:
        return (
            "loss dr_grpo divides by a constant number of tokens: give loss_length, usually that of rollout.max_tokens"
        )
    if given.clip_delta is not None and given.clip_delta <= 1 + given.clip_high:
        return (
            f"clip_delta ({given.clip_delta}) bounds the ratios of negative advantages beyond the clip range: it must "
            f"be larger than 1 + clip_high ({1 + given.clip_high:g})"
        )
    if loss in ("gspo", "luspo") and given.importance.startswith("token"):
        return (
            f"importance {given.importance} does not fit loss {loss}, whose ratio is that of whole captions: tokens of "
            "one caption would differ again; give sequence_truncate or sequence_mask"
        )
    if loss == "vespo" and given.importance.startswith("sequence"):
        return (
            f"importance {given.importance} does not fit loss vespo, which makes the caption's ratio from the tokens' "
            "itself; give token_truncate or token_mask"
        )
    if given.beta == 0 and (given.kl != "k3" or not given.kl_correction):
        return "kl and kl_correction have no effect with beta 0, which is no KL penalty; leave them out, or give beta"
    if given.kl == "k1" and not given.kl_correction:
        return (
            "kl k1 without kl_correction pulls nowhere: the mean of its gradient is 0, whatever the reference; leave "
            "kl_correction out, or give k2 or k3"
        )
    return None


def _unused(given: Any, key: str, default: Any) -> bool:
    return key not in USES[given.loss] and getattr(given, key) != default
