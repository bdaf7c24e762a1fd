"""Captions that share a pass over their prompt: the same log-probs, gradients and metrics as one pass for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.models import parts_attention
from racro.models.encoding import positions
from racro.models.folders import EMBEDDED
from racro.training import passes, planning, sharing
from racro.training.bins import Row
from racro.training.grouped import PADDING, PROMPT, pack, visible
from tests.support.scoring import rescored
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining
from tests.support.updating import optimizer_state, update

CAPTIONER = EMBEDDED / "captioner"


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_every_caption_stands_as_if_it_were_alone(lengths: list[list[int]], data: Any) -> None:
    """Its tokens, positions and what it sees are those of [prompt | caption]; padding is in nobody's sight."""
    prompts = [data.draw(st.integers(1, 5)) for _ in lengths]
    width = max(prompts)
    real = torch.tensor([[0] * (width - n) + [1] * n for n in prompts])
    ids = torch.arange(real.numel()).view(real.shape) + 100
    place = (real.cumsum(-1) - 1).clamp(min=0)
    captions = [[torch.arange(n) + 1000 * g + 10 * c for c, n in enumerate(own)] for g, own in enumerate(lengths)]
    kinds = real * (ids % 7)  # a field with a number per token of a prompt
    packed = pack({"input_ids": ids, "attention_mask": real, "kinds": kinds}, place, captions)
    mask = packed.inputs["attention_mask"][:, 0]
    assert mask.shape[1] == max(n - 1 + sum(own) for n, own in zip(prompts, lengths, strict=True))
    steps = [
        (row, caption, step) for row, own in enumerate(captions) for caption in own for step in range(len(caption))
    ]
    for place, token, (row, caption, step) in zip(packed.places, packed.tokens, steps, strict=True):
        assert place // mask.shape[1] == row
        column, n = place % mask.shape[1], prompts[row]
        seen = mask[row, column].nonzero()[:, 0]
        alone = [*ids[row, width - n :].tolist(), *caption[:step].tolist()]
        assert sorted(packed.inputs["input_ids"][row, seen].tolist()) == sorted(alone)
        assert packed.inputs["position_ids"][row, column] == n - 1 + step
        assert token == caption[step]
    for row, n in enumerate(prompts):
        found = packed.inputs["kinds"][row]
        assert found[:n].tolist() == kinds[row, width - n :].tolist() and not found[n:].any()


def test_every_position_looks_at_something_and_none_at_padding_but_itself() -> None:
    """A row of attention without any key would be no number."""
    seen = visible(torch.tensor([[PADDING, PROMPT, 1, 2, PADDING]]))[0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]]


@pytest.fixture(scope="module")
def rollouts(tiny: TinyTraining) -> list[Any]:
    made = tiny.rollouts(CAPTIONER)
    assert len({len(r.prompt_ids) for r in made}) > 1 and len({len(r.completion_ids) for r in made}) > 1
    return made


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "several steps": {"mini_batch": 2},
    "an unscored caption": {"unscored": True},
    "an adapter": {"lora": config.Lora(rank=2)},
    "another temperature": {"temperature": 0.7},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "a bin for each group": {"tokens": 150},
    "half a group in a bin": {"tokens": 95},
    "bfloat16": {"dtype": "bfloat16"},
    "attention in parts": {"parts": True},
    "in parts, with gradient checkpointing": {"parts": True, "gradient_checkpointing": True},
    "in parts, an adapter": {"parts": True, "lora": config.Lora(rank=2)},
    "in parts, bfloat16": {"parts": True, "dtype": "bfloat16"},
}
"""What an update has besides the tiny default. parts: attention as of rows that are so long that it is worth it."""


def counted(attend: Any, seen: list[int]) -> Any:
    """Notes of each call how many rows it takes in parts."""

    def call(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        seen.append(len(getattr(attention_mask, parts_attention.NAME, ())))
        return attend(module, query, key, value, attention_mask, **options)

    return call


@pytest.mark.parametrize("case", CASES)
def test_the_update_is_that_of_one_pass_for_each_caption(
    tiny: TinyTraining, rollouts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    what = CASES[case]
    rows = list(rollouts)
    if what.get("unscored"):
        rows = rescored(rows, {1: None})
    half = what.get("dtype") == "bfloat16"
    seen: list[int] = []
    if what.get("parts"):
        monkeypatch.setattr(parts_attention, "CELLS", -(10**9))
    monkeypatch.setattr(parts_attention, "attend", counted(parts_attention.attend, seen))
    work = planning.plan(rows, tiny.problems, rows[0].policy, what.get("mini_batch", 4))

    def run(name: str) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        runtime = RUNTIME.model_copy(
            update={
                "gradient_checkpointing": what.get("gradient_checkpointing", False),
                "trainer": config.TrainerPlacement(tokens=what.get("tokens", 8192)),
            }
        )
        metrics = update(
            work,
            images_base=str(tiny.table),
            policy=CAPTIONER,
            initial=CAPTIONER,
            out=tmp_path / name,
            step=0,
            captioner=config.Captioner(model="embedded", dtype=what.get("dtype", "float32"), lora=what.get("lora")),
            temperature=what.get("temperature", 1.0),
            config=SETTINGS.model_copy(update={"max_logprob_gap": 1.0}),
            runtime=runtime,
            seed=0,
        )
        return metrics, {key: entry["exp_avg"] for key, entry in optimizer_state(tmp_path / name).items()}

    shared, gradients = run("shared")
    assert shared["shared_prompts"] == 1.0
    assert bool(sum(seen)) == what.get("parts", False) and seen
    monkeypatch.setattr(sharing, "ways_agree", lambda *arguments: False)
    plain, expected = run("plain")
    assert plain["shared_prompts"] == 0.0
    close = 2e-2 if half else 1e-5
    for name in ("loss", "kl", "entropy", "grad_norm", "logprob_gap", "importance_ratio"):
        assert shared[name] == pytest.approx(plain[name], rel=10 * close, abs=close), name
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    assert scale > 0
    if what.get("mini_batch", 4) == 4:  # after a step weights differ by rounding, which Adam makes larger
        apart = max((gradients[key] - expected[key]).abs().max().item() for key in expected)
        assert apart <= (5e-2 if half else 1e-5) * scale


def test_rows_of_one_caption_say_nothing_about_sharing() -> None:
    """They share nothing, so they would agree in any model."""
    ways = sharing.Ways(1.0)
    unused: Any = None
    assert not ways.may_share([Row(0, (0,), 500)], unused, unused, unused)
    assert ways.agree and ways.compared == 0


def test_a_model_that_it_does_not_fit_is_trained_as_before_and_says_so(
    tiny: TinyTraining, rollouts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Here positions go on from another place, as a model with positions of its own would have it."""
    monkeypatch.setattr(passes, "positions", lambda model, inputs: positions(model, inputs) * 2)
    monkeypatch.setattr(tiny, "rollouts", lambda policy: rollouts)
    metrics = tiny.update(tmp_path / "policy", mini_batch=4)
    assert metrics["shared_prompts"] == 0.0 and metrics["logprob_gap"] < 1e-4
    assert "each caption gets a pass over its prompt" in caplog.text and "per token" in caplog.text
