"""Settings of a loss that mean nothing together are refused where the recipe is read, with the reason."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from racro import config
from racro.config import loading, losses
from racro.config.loading import BadRecipe
from racro.identity import digest
from tests.conftest import EMBEDDED_RECIPE
from tests.support.losses import EACH

REFUSED = {
    "{loss: cispo, clip_low: 0.3}": "clip_low has no effect with loss cispo: cispo bounds the ratio above only",
    "{loss: cispo, clip_delta: 3}": "clip_delta has no effect with loss cispo: cispo bounds every ratio",
    "{loss: sapo, clip_high: 0.3}": "clip_high has no effect with loss sapo: sapo clips nothing",
    "{loss: vespo, clip_low: 0.3}": "clip_low has no effect with loss vespo: vespo clips nothing",
    "{sapo_temperature_neg: 2}": "sapo_temperature_neg has no effect with loss dapo: only sapo has temperatures",
    "{loss: grpo, loss_length: 9}": "loss_length has no effect with loss grpo: only dr_grpo divides by a constant",
    "{loss: dr_grpo}": "loss dr_grpo divides by a constant number of tokens: give loss_length",
    "{clip_high: 0.5, clip_delta: 1.5}": "clip_delta (1.5) bounds the ratios of negative advantages",
    "{loss: gspo}": "importance token_truncate does not fit loss gspo, whose ratio is that of whole captions",
    "{loss: luspo, importance: token_mask}": "importance token_mask does not fit loss luspo",
    "{loss: vespo, importance: sequence_mask}": "importance sequence_mask does not fit loss vespo",
    "{beta: 0, kl: k1}": "kl and kl_correction have no effect with beta 0",
    "{beta: 0, kl_correction: false}": "kl and kl_correction have no effect with beta 0",
    "{kl: k1, kl_correction: false}": "kl k1 without kl_correction pulls nowhere",
}


@pytest.mark.parametrize("settings", REFUSED)
def test_what_means_nothing_is_refused_with_the_reason(settings: str) -> None:
    with pytest.raises(BadRecipe) as refused:
        loading.load(str(EMBEDDED_RECIPE), [f"update={settings}"])
    assert str(refused.value).startswith(f"{EMBEDDED_RECIPE}: update: {REFUSED[settings]}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("loss", EACH)
def test_each_loss_is_read_with_the_defaults_of_the_others(loss: Any) -> None:
    """Also written out in full, as a form or a stored recipe gives them."""
    read = config.UpdateSettings(loss=loss, **EACH[loss])
    assert config.UpdateSettings(**read.model_dump()) == read
    assert digest(read) == digest(config.UpdateSettings(**read.model_dump())) != digest(config.UpdateSettings(beta=1))


CHANGES: dict[str, Any] = {
    "clip_low": 0.3,
    "clip_high": 0.3,
    "clip_delta": 3.0,
    "sapo_temperature_pos": 2.0,
    "sapo_temperature_neg": 2.0,
    "loss_length": 100,
}


@given(loss=st.sampled_from(get_args(losses.Loss)), key=st.sampled_from(sorted(CHANGES)))
def test_a_setting_is_read_exactly_where_the_loss_uses_it(loss: str, key: str) -> None:
    settings = {"loss": loss, **EACH[loss], key: CHANGES[key]}
    if key in losses.USES[loss]:
        config.UpdateSettings(**settings)
    else:
        with pytest.raises(ValidationError, match=f"{key} has no effect with loss {loss}"):
            config.UpdateSettings(**settings)
