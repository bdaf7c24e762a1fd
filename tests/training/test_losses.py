"""Updates with every loss: those of a plain loop over its formula, whatever bins divide them.

Two optimizer steps, so that the second one has probability ratios; engine and trainer differ by noise.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from racro import config
from racro.config.losses import USES
from racro.models.folders import EMBEDDED, load_processor
from racro.rewards.advantage import advantages
from racro.schema import ScoredRollout
from racro.training.grouped import Packed, separate
from racro.training.planning import Group, Plan, plan
from racro.training.prompts import PromptEncoder
from racro.training.trainer import Trainer, Training
from tests.support.losses import SEQUENCE, Caption, formula
from tests.support.scoring import rescored
from tests.support.tiny_training import RUNTIME, G, TinyTraining

CAPTIONER = EMBEDDED / "captioner"
NARROW = {"clip_low": 0.02, "clip_high": 0.03}
CASES: dict[str, dict[str, Any]] = {
    "dapo": {**NARROW, "clip_delta": 1.06, "kl": "k1"},
    "bnpo": {"entropy_bonus": 0.1},
    "grpo": {**NARROW, "importance": "token_mask", "importance_floor": 0.9, "importance_cap": 1.1},
    "dr_grpo": {"loss_length": 12, "kl": "k2"},
    "cispo": {"clip_high": 0.03},
    "sapo": {"sapo_temperature_neg": 3.0, "beta": 0.0},
    "gspo": {**SEQUENCE, "clip_low": 0.002, "clip_high": 0.003, "kl_correction": False},
    "luspo": {**NARROW, "importance": "sequence_mask", "importance_cap": 1.2, "entropy_bonus": 0.1},
    "vespo": {"importance": "token_truncate", "importance_floor": 0.5},
}


def settings(loss: str) -> config.UpdateSettings:
    """No gradient is clipped, so that their lengths count too."""
    common = {"learning_rate": 1e-3, "beta": 0.5, "weight_decay": 0.0, "max_grad_norm": 1e6, "max_logprob_gap": 1.0}
    return config.UpdateSettings(**{"loss": loss, **common, **CASES[loss]})


@pytest.fixture(scope="module")
def rows(tiny: TinyTraining) -> list[ScoredRollout]:
    """Captions of unequal lengths, one of them unscored, a reference, and an engine that is off by 0.1 nats or so."""
    rows, draw = tiny.rollouts(CAPTIONER), random.Random(0)
    known = {"sample": G, "logprobs": (), "completion_ids": rows[-1].completion_ids[::-1], "reference": True}
    rows = rescored([*rows[:G], rows[0].model_copy(update=known), *rows[G:]], {1: None, G: 2.0})
    cut = [row.model_copy(update=_cut(row, 3 + 2 * i % 7)) for i, row in enumerate(rows)]
    assert len({len(row.completion_ids) for row in cut}) > 3
    off = [tuple(value + draw.gauss(0, 0.1) for value in row.logprobs) for row in cut]
    return [row.model_copy(update={"logprobs": logprobs}) for row, logprobs in zip(cut, off, strict=True)]


def _cut(row: ScoredRollout, length: int) -> dict[str, Any]:
    return {"completion_ids": row.completion_ids[:length], "logprobs": row.logprobs[:length]}


@pytest.fixture(scope="module")
def work(tiny: TinyTraining, rows: list[ScoredRollout]) -> Plan:
    made = plan(rows, tiny.problems, rows[0].policy, 2)
    assert made.steps == 2
    return made


@dataclass
class Made:
    """What an update made."""

    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    """Means of gradients."""
    metrics: dict[str, float]


def updated(loss: str, work: Plan, tiny: TinyTraining, tokens: int) -> Made:
    """By the trainer. `tokens`: of a bin."""
    runtime = RUNTIME.model_copy(update={"trainer": config.TrainerPlacement(tokens=tokens)})
    captioner = config.Captioner(model="embedded", dtype="float32")
    trainer = Trainer(Training(CAPTIONER, captioner, 1.0, settings(loss), runtime, 0), None)
    metrics = trainer.update(work, str(tiny.table), 0)
    return Made(*_state(trainer.trainer.model, trainer._optimizer), metrics)


def _state(model: Any, optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    weights = {name: value.detach() for name, value in model.named_parameters()}
    return weights, {name: optimizer.state[value]["exp_avg"] for name, value in model.named_parameters()}


class Plain:
    """The same update by a loop over captions with the model's own logits, torch's AdamW and the formula."""

    def __init__(self, tiny: TinyTraining, work: Plan) -> None:
        self.work = work
        self.initial = AutoModelForImageTextToText.from_pretrained(CAPTIONER, dtype=torch.float32)
        encoder = PromptEncoder(load_processor(CAPTIONER, (None, None)), self.initial, str(tiny.table), {})
        self.groups = [self._packed(encoder, group) for group in work.groups]
        with torch.no_grad():
            self.old = [self.scored(self.initial, group)[0] for group in range(len(work.groups))]

    def _packed(self, encoder: PromptEncoder, group: Group) -> Packed:
        prompts = encoder.encode([group.problem] * len(group.rollouts))
        return separate(prompts, [torch.tensor(rollout.completion_ids) for rollout in group.rollouts])

    def scored(self, model: Any, group: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Log-probs and entropies of each caption."""
        packed, lengths = self.groups[group], [len(row.completion_ids) for row in self.work.groups[group].rollouts]
        found = model(**packed.inputs).logits.flatten(0, 1)[packed.places].log_softmax(-1)
        logprobs = found.gather(-1, packed.tokens[:, None])[:, 0]
        return logprobs.split(lengths), (-found.exp() * found).sum(-1).split(lengths)

    def updated(self, loss: str) -> Made:
        config, model = settings(loss), copy.deepcopy(self.initial)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
        for step in range(self.work.steps):
            captions = [one for group in self.work.numbers(step) for one in self.captions(model, group)]
            formula(config, captions).backward()
            optimizer.step()
            optimizer.zero_grad()
        return Made(*_state(model, optimizer), {})

    def captions(self, model: Any, group: int) -> list[Caption]:
        rollouts, old = self.work.groups[group].rollouts, self.old[group]
        logprobs, entropy = self.scored(model, group)
        (worth,) = advantages([[rollout.reward for rollout in rollouts]])
        engine = [
            own if rollout.reference else torch.tensor(rollout.logprobs)
            for rollout, own in zip(rollouts, old, strict=True)
        ]
        return [
            Caption(logprobs[i], entropy[i], old[i], engine[i], old[i], worth[i] or 0.0, worth[i] is not None)
            for i in range(len(rollouts))
        ]


@pytest.fixture(scope="module")
def plain(tiny: TinyTraining, work: Plan) -> Plain:
    return Plain(tiny, work)


def apart(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """The distance of all numbers."""
    assert some.keys() == others.keys() and len(some) > 20
    return math.sqrt(sum((some[name] - others[name]).square().sum().item() for name in some))


def off(moments: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """How far gradients are from what they should be, as a share of these."""
    return apart(moments, expected) / apart(expected, {name: value * 0 for name, value in expected.items()})


ROUNDING = 1e-4
"""Of float32, in `off`. It is 1e-5 here; Adam's first step makes more of it, where gradients are nothing else."""


@pytest.mark.parametrize("loss", CASES)
def test_an_update_is_that_of_its_formula_and_bins_change_nothing(
    loss: str, tiny: TinyTraining, work: Plan, plain: Plain
) -> None:
    expected, initial = plain.updated(loss), dict(plain.initial.named_parameters())
    one, many = (updated(loss, work, tiny, tokens) for tokens in (10**6, 95))
    for made, other in ((one, expected), (many, one)):
        assert off(made.moments, other.moments) < ROUNDING
        assert apart(made.weights, other.weights) < 1e-2 * apart(initial, other.weights)
    named = {"loss", "kl", "entropy", "grad_norm", "clip_ratio", "importance_ratio", "importance_masked"}
    of_one, of_many = ({name: made.metrics[name] for name in named & made.metrics.keys()} for made in (one, many))
    assert of_many == pytest.approx(of_one, rel=1e-4, abs=1e-6)
    assert (one.metrics["importance_masked"] > 0) == ("mask" in settings(loss).importance)
    assert ("clip_ratio" in one.metrics) == bool(USES[loss] & {"clip_high"})


def test_losses_differ(plain: Plain) -> None:
    """By more than rounding, so that the tests above tell them apart."""
    made = [plain.updated(loss).moments for loss in CASES]
    assert min(off(one, other) for one, other in itertools.combinations(made, 2)) > 100 * ROUNDING
