"""Flex attention sees what sdpa sees; flash attention, which takes no masks, gives each caption a pass of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.models import attention
from racro.models.attention import NoAttention
from racro.models.folders import EMBEDDED, load_captioner, load_processor
from racro.training import planning, sharing
from racro.training.bins import Row
from racro.training.grouped import PADDING, Packed, block_mask, visible
from racro.training.passes import BinInputs
from racro.training.prompts import PromptEncoder
from tests.support.examples import examples
from tests.support.tiny_training import G, TinyTraining

CAPTIONER = EMBEDDED / "captioner"
CPU = torch.device("cpu")


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=3))
def test_a_block_mask_says_the_same_as_a_tensor(lengths: list[list[int]]) -> None:
    """Of segments of any lengths, with padding."""
    width = max(map(sum, lengths)) + 1
    segment = torch.full((len(lengths), width), PADDING)
    for row, own in enumerate(lengths):
        numbers = torch.arange(len(own)).repeat_interleave(torch.tensor(own))
        segment[row, : len(numbers)] = numbers
    mask = block_mask(segment)
    row, query, key = torch.meshgrid(*map(torch.arange, (len(lengths), width, width)), indexing="ij")
    assert mask.shape == (len(lengths), 1, width, width)
    assert torch.equal(mask.mask_mod(row, torch.tensor(0), query, key), visible(segment))


@pytest.fixture(scope="module")
def grouped(tiny: TinyTraining) -> tuple[Any, Packed]:
    """The embedded captioner, and rows of one group with an image and of one with two."""
    model = load_captioner(CAPTIONER, "float32", CPU)
    rows = tiny.rollouts(CAPTIONER)
    work = planning.plan(rows, tiny.problems, rows[0].policy, 4)
    encoder = PromptEncoder(load_processor(CAPTIONER), model, str(tiny.table), {})
    inputs = BinInputs(work, encoder, model)
    chosen = tuple(Row(number, tuple(range(G)), 0) for number in (0, 1))
    return model, inputs.packed(inputs.prompts([0, 1]), chosen, shared=True)


def logprobs(model: Any, packed: Packed, **changes: Any) -> torch.Tensor:
    states = model(**(packed.inputs | changes), use_cache=False).logits.flatten(0, 1)[packed.places].float()
    return states.log_softmax(-1).gather(1, packed.tokens[:, None])[:, 0]


def test_flex_attention_gives_the_log_probs_of_sdpa(grouped: tuple[Any, Packed]) -> None:
    """With images, M-RoPE, several groups of different lengths; also in rows of one caption, and under autocast.

    Not compiled, which takes minutes on a CPU.
    """
    model, packed = grouped
    assert packed.segments is not None and attention.takes_masks(model) and not attention.is_flex(model)
    plain = {"input_ids": packed.inputs["input_ids"] * 0 + 20, "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    plain = {name: value[:, :9] for name, value in plain.items()}
    plain["attention_mask"][0, 6:] = 0
    real = plain["attention_mask"].bool()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected, alone = logprobs(model, packed), model(**plain, use_cache=False).logits[real]
        try:
            attention.use(model, "flex_attention", CPU, "float32")
            assert attention.is_flex(model) and attention.takes_masks(model)
            mask = block_mask(packed.segments)
            found, found_alone = logprobs(model, packed, attention_mask=mask), model(**plain, use_cache=False).logits
            with torch.autocast("cpu", torch.bfloat16):  # queries are in float32 then, values are not
                assert (logprobs(model, packed, attention_mask=mask) - expected).abs().mean() < 0.1
        finally:
            attention.use(model, "sdpa", CPU, "float32")
            model.get_decoder().set_attn_implementation("sdpa")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_alone[real], alone, atol=1e-4, rtol=1e-4)


def test_flex_attention_is_not_taken_where_it_does_not_train(caplog: pytest.LogCaptureFixture) -> None:
    assert not attention.flex_works(CPU)
    assert "attention is sdpa's, because flex attention does not train on cpu" in caplog.text


def test_without_masks_each_caption_has_a_pass_of_its_own(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_captioner(CAPTIONER, "float32", CPU)
    model.get_decoder().config._attn_implementation_internal = "flash_attention_2"
    assert not attention.takes_masks(model)
    monkeypatch.setattr(attention, "takes_masks", lambda model: False)
    monkeypatch.setattr(sharing, "ways_agree", lambda *arguments: pytest.fail("not even tried"))
    assert tiny.update(tmp_path / "policy", mini_batch=4)["shared_prompts"] == 0.0


def test_a_model_that_cannot_have_it_says_so_in_one_line() -> None:
    model = load_captioner(CAPTIONER, "float32", CPU)
    with pytest.raises(NoAttention, match=r"^runtime\.trainer\.attention: flash_attention_2 cannot be used: .*sdpa$"):
        attention.use(model, "flash_attention_2", CPU, "bfloat16")
