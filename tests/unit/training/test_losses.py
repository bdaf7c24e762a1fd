"""Every loss with its options is its formula, by value and gradient, however the step is divided; no bad pair is read.

The trainer computes on random numbers in place of a model's, in float64.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from racro import config
from racro.config import losses as rules
from racro.models.folders import EMBEDDED
from racro.schema import ScoredRollout, Verdict
from racro.training import losses
from racro.training.gate import Gate
from racro.training.grouped import Packed
from racro.training.passes import Prepared, Scored
from racro.training.replay import ReplayTrainer
from racro.training.trainer import Trainer, Training
from tests.support.examples import examples
from tests.support.losses import EACH, Caption, formula
from tests.support.tiny_training import RUNTIME

CASES: list[dict[str, Any]] = [
    *({"loss": loss, "beta": 0.0, **needs} for loss, needs in EACH.items()),
    *({"loss": loss, "beta": 0.3, "entropy_bonus": 0.2, **needs} for loss, needs in EACH.items()),
    *({"beta": 0.3, "kl": kl, "loss": "grpo"} for kl in ("k1", "k2", "k3")),
    *({"beta": 0.3, "kl": kl, "kl_correction": False} for kl in ("k2", "k3")),
    *(
        {"importance": mode, "importance_floor": 0.6, "importance_cap": 1.3}
        for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
    ),
    {"loss": "vespo", "importance": "token_mask", "importance_floor": 0.2},
    {"loss": "gspo", "importance": "sequence_mask", "clip_low": 0.01, "clip_high": 0.02, "clip_delta": 1.05},
    {"loss": "cispo", "clip_high": 0.05},
    {"loss": "sapo", "sapo_temperature_pos": 0.5, "sapo_temperature_neg": 3.0},
    {"clip_low": 0.1, "clip_high": 0.28, "clip_delta": 1.4},
    {"loss": "dr_grpo", "loss_length": 3, "clip_delta": 1.4},
]


@functools.cache
def trainer(case: int) -> ReplayTrainer:
    """A real one; what it asks of its model comes from the test."""
    captioner = config.Captioner(model="embedded", dtype="float32")
    update = config.UpdateSettings(**CASES[case])
    made = Trainer(Training(EMBEDDED / "captioner", captioner, 1.0, update, RUNTIME, 0), None)
    made.trainer.model.train()
    return made.trainer


@dataclass
class Step:
    """Random captions: each value beside those of the other captions, and where each caption's are."""

    captions: list[Caption]
    logprobs: torch.Tensor
    entropy: torch.Tensor

    @classmethod
    def drawn(cls, seed: int, lengths: list[int], scored: list[bool]) -> Step:
        draw = torch.Generator().manual_seed(seed)
        total = sum(lengths)

        def near(values: torch.Tensor, spread: float) -> torch.Tensor:
            found = values + spread * torch.randn(total, generator=draw, dtype=torch.float64)
            return (found * 1024).round() / 1024  # numbers of float32 too, as advantages and stored log-probs are

        old = near(torch.full((total,), -2.0, dtype=torch.float64), 0.5)
        logprobs = near(old, 0.3).requires_grad_()
        entropy = torch.rand(total, generator=draw, dtype=torch.float64).requires_grad_()
        columns = (logprobs, entropy, old, near(old, 0.4), near(old, 0.3))
        advantages = (torch.randn(len(lengths), generator=draw) * 8).round() / 8
        rows = zip(*(column.split(lengths) for column in columns), advantages.tolist(), scored, strict=True)
        return cls([Caption(*row) for row in rows], logprobs, entropy)

    def gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Of both, one after the other."""
        found = torch.autograd.grad(loss, (self.logprobs, self.entropy), allow_unused=True)
        return torch.cat([torch.zeros_like(self.logprobs) if one is None else one for one in found])

    def rollout(self, number: int) -> ScoredRollout:
        caption = self.captions[number]
        return ScoredRollout(
            uid="problem",
            sample=number,
            policy="policy",
            prompt_ids=(1,),
            completion_ids=tuple(range(len(caption.old))),
            logprobs=tuple(caption.engine.tolist()),
            finish_reason="stop",
            caption="",
            response="",
            verdict=Verdict.CORRECT if caption.scored else Verdict.FAILED,
            values=(1.0 if caption.scored else None,),
            reward=1.0 if caption.scored else None,
            advantage=caption.advantage if caption.scored else None,
        )

    def of(self, replay: ReplayTrainer, bins: list[tuple[list[int], bool]], processes: int) -> torch.Tensor:
        """The trainer's loss of the step, the mean over processes. bins: captions, and whether they count."""
        lengths = [len(caption.old) for caption in self.captions]
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        replay.rollouts = [self.rollout(number) for number in range(len(lengths))]
        replay.gate = Gate(replay.accelerator, replay.config_, replay.rollouts)
        replay.advantages = [caption.advantage if caption.scored else 0.0 for caption in self.captions]
        replay.old = {number: caption.old for number, caption in enumerate(self.captions)}
        replay.loss = losses.StepLoss(replay.config_, losses.Size.of(replay.rollouts), processes)
        reference = torch.cat([caption.reference for caption in self.captions])

        def score(model: Any, packed: Packed, experts: bool = False) -> Scored:
            none = torch.zeros(0)
            return Scored(self.logprobs[packed.places], self.entropy[packed.places], none, none, None)

        total = torch.zeros((), dtype=torch.float64)
        with (
            mock.patch.object(replay, "_score", score),
            mock.patch.object(replay, "_reference", lambda packed: reference[packed.places]),
            mock.patch.object(type(replay.accelerator), "num_processes", processes),
        ):
            for numbers, counts in bins:
                places = torch.cat([torch.arange(starts[i], starts[i] + lengths[i]) for i in numbers])
                own = [lengths[i] for i in numbers]
                prepared = Prepared(Packed({}, places, torch.ones_like(places)), tuple(numbers), own, 0, counts)
                total = total + replay.compute_loss(replay.model, replay._prepare_inputs(prepared))
        return total / processes


steps = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=2, max_size=6).filter(
    lambda found: any(scored for _, scored in found)
)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: " ".join(map(str, CASES[case].values())))
@settings(max_examples=examples(4), deadline=None)
@given(seed=st.integers(0, 2**31), captions=steps)
def test_a_loss_is_its_formula_however_the_step_is_divided(
    case: int, seed: int, captions: list[tuple[int, bool]]
) -> None:
    """In one bin; in one for each caption, with one that only keeps step; as two processes do it."""
    replay = trainer(case)
    step = Step.drawn(seed, *map(list, zip(*captions, strict=True)))
    expected = formula(replay.config_, step.captions)
    gradients = step.gradients(expected)
    numbers = list(range(len(captions)))
    single = [([number], True) for number in numbers]
    for bins, processes in (
        ([(numbers, True)], 1),
        ([*single, ([0], False)], 1),
        ([(numbers[1:], True), single[0]], 2),
    ):
        found = step.of(replay, bins, processes)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-8)
        torch.testing.assert_close(step.gradients(found), gradients, rtol=1e-6, atol=1e-8)


def test_every_loss_is_held_against_its_formula() -> None:
    assert {case.get("loss", "dapo") for case in CASES} == set(losses.FORMS) == set(rules.USES)


bins = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 50), st.floats(0, 9)), min_size=1, max_size=5)


@given(loss=st.sampled_from(sorted(EACH)), bins=bins, processes=st.integers(1, 4))
def test_the_auxiliary_loss_of_experts_is_a_mean_over_tokens_for_every_loss(
    loss: Any, bins: list[tuple[int, int, float]], processes: int
) -> None:
    """Bins: captions, tokens, auxiliary loss. TRL adds it to its own loss, whose scale it then gets too."""
    size = losses.Size(sum(captions for captions, _, _ in bins), sum(tokens for _, tokens, _ in bins))
    step = losses.StepLoss(config.UpdateSettings(loss=loss, **EACH[loss]), size, processes)
    added = (
        step.experts(torch.tensor(found), losses.Size(captions, tokens), captions) * step.scale(captions)
        for captions, tokens, found in bins
    )
    mean = sum(tokens * found for _, tokens, found in bins) / size.tokens
    assert float(sum(added)) / processes == pytest.approx(mean, rel=1e-5, abs=1e-6)
