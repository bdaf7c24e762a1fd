"""TRL's GRPOTrainer on stored rollouts: nothing is generated, and TRL computes the loss of one bin at a time.

The loop over optimizer steps is ours, because TRL's begins anew with each training. A step is a sequence of bins
(`racro.training.bins`), whose inputs come from `racro.training.feed`; losses are divided by the tokens of the whole
step, so that it does not matter how the step is divided. Old log-probs are those before the first step, and clipping is
live. Advantages are ours (`racro.training.advantage`), multiplied by the truncated importance ratio between trainer and
engine. Not here: models, optimizer state, what is saved (`racro.training.trainer`, which runs it).

Shapes: N tokens of a bin's captions, B captions of a bin, T tokens of the longest (at least 2).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from racro import config as recipes
from racro.models import adapters, attention
from racro.training import gate, optimizer
from racro.training.advantage import advantages
from racro.training.banned import BannedShare
from racro.training.bins import deal, divided
from racro.training.divergence import Diverged, not_finite
from racro.training.feed import Feed
from racro.training.grouped import Packed
from racro.training.parity import FLOAT32_GAP
from racro.training.passes import BinInputs, Prepared, Scored, scored
from racro.training.planning import Plan
from racro.training.prompts import PromptEncoder
from racro.training.sharding import local, settle, sum_copies, whole
from racro.training.sharing import Ways
from racro.training.trl_without_vllm import GRPOTrainer


class ReplayTrainer(GRPOTrainer):
    """GRPOTrainer that replays the groups of a Plan. Lives for many plans."""

    def __init__(
        self, *, banned: list[int], config: recipes.UpdateSettings, budget: int, autocast: bool, **arguments: Any
    ) -> None:
        """`banned`: token ids that engines never sample. `budget`: tokens of a bin. `autocast`: by precision or not."""
        self.banned, self.config_, self.budget, self.autocast = banned, config, budget, autocast
        steps = Dataset.from_dict({"step": [0]})
        super().__init__(train_dataset=steps, reward_funcs=_never_asked, **arguments)
        self.current_gradient_accumulation_steps = 1
        self._inputs: dict[str, Any] = {}
        """Of the bin whose loss TRL is computing."""
        exact = self.accelerator.mixed_precision == "no"
        self.ways = Ways(min(config.max_logprob_gap, FLOAT32_GAP) if exact else config.max_logprob_gap)
        # TRL gathers a number per caption for its metrics, and processes have different numbers of captions.
        gather, pad_to_longest = self.accelerator.gather, self.accelerator.pad_across_processes
        self.accelerator.gather = lambda found: gather(pad_to_longest(found, pad_index=math.nan))

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        """Not here: a model that is divided among processes may not fit on one device."""

    def replay(
        self, work: Plan, encoder: PromptEncoder, before: int, progress: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Take the plan's optimizer steps; metrics, as means over the steps.

        `before`: number of steps taken earlier. Raises LogprobMismatch, Diverged, BadRollouts, BadImage.
        """
        self.work, self.encoder = work, encoder
        self.size = len(work.groups[0].rollouts)
        self.rollouts = [rollout for group in work.groups for rollout in group.rollouts]
        rewards = [[rollout.reward for rollout in group.rollouts] for group in work.groups]
        self.advantages = [0.0 if value is None else value for group in advantages(rewards) for value in group]
        self.old: dict[int, torch.Tensor] = {}
        """Log-probs (T,) before the first step, by the caption's number, counted through all groups."""
        self.gaps: list[torch.Tensor] = []
        """Of each bin, (N,): log-probs of trainer minus engine, over the tokens that engines sample."""
        self.ratios: list[torch.Tensor] = []
        """Of each bin, (N,): truncated importance ratios between trainer and engine."""
        self.feed: Feed | None = None
        self._metrics["train"] = defaultdict(list)
        self.model.train()
        try:
            self._begin()
            for step in range(work.steps):
                self._take(step, before + step)
                progress(step + 1, work.steps)
            self._check_weights()
            settle(self.model)
            return {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
        finally:
            if self.feed:
                self.feed.close()

    def forget(self) -> None:
        """Let go of the plan and all that was computed for it, but for the counts of the data path."""
        self.old, self.gaps, self.ratios, self._inputs = {}, [], [], {}
        del self.share, self.inputs, self.work, self.rollouts, self.bins, self.encoder
        if self.feed:
            self.feed.last = None

    # --- once per iteration -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Divide the steps into bins; compute old log-probs of all steps but the first, whose own pass gives them."""
        core = adapters.inner(self.model)
        self.share = BannedShare.of(core, self.banned, self.temperature)
        self.inputs = BinInputs(self.work, self.encoder, core)
        lengths = self.inputs.lengths()
        rows = chain(*(divided(number, own, self.budget) for number, own in enumerate(lengths)))
        # The auxiliary loss of experts is a mean over prompts too, one for each caption.
        shared = (
            not self.aux_loss_enabled
            and attention.takes_masks(core)
            and self.ways.may_share(rows, self.inputs, lambda row: self._score(self.model, row).logprobs, self._of_all)
        )
        self.inputs.shared = shared
        self._metrics["train"]["shared_prompts"].append(float(shared))
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        steps = [self.work.numbers(step) for step in range(self.work.steps)]
        dealt = [deal({i: lengths[i] for i in own}, count, self.budget, shared) for own in steps]
        self.bins = [processes[rank] for processes in dealt]
        smallest = min((r for bins in chain(*dealt) for bin in bins for r in bin.rows), key=lambda row: row.tokens)
        later = list(chain(*self.bins[1:]))
        self.feed = Feed(lambda bin: self.inputs.prepare(bin, smallest), [*later, *chain(*self.bins)])
        with torch.no_grad():
            for _ in later:
                prepared = self.feed.take()
                self._old(prepared, self._score(self.model, prepared.packed))

    @torch.no_grad()
    def _check_weights(self) -> None:
        """Can the trained policy still write? Raises Diverged.

        The last step's own loss is of the weights before it, so the step itself shows here for the first time.
        """
        broken = [name for name, value in self.model.named_parameters() if not local(value).isfinite().all()]
        if self._of_all(bool(broken)):
            raise self._diverged(f"weights are not finite{f' ({broken[0]})' if broken else ''}", self.work.steps)
        assert self.feed and self.feed.last
        last = self.feed.last
        logprobs = self._score(self.model, last.packed).logprobs
        if self._of_all(not logprobs.isfinite().all()):
            raise self._diverged("the policy's probabilities are not numbers after the step", self.work.steps)
        nothing = False
        if last.counts:
            before = torch.cat([self.old[number] for number in last.captions])
            nothing = bool((logprobs - before).exp().median() == 0)  # below float32's smallest number
        if self._of_all(nothing):
            what = "the policy gives no probability any more to what it wrote itself, after the step"
            raise self._diverged(what, self.work.steps)

    def _of_all(self, here: bool) -> bool:
        """Is it so in any process? Asked by all, so that they decide alike."""
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.accelerator.device)) > 0)

    def _diverged(self, what: str, step: int) -> Diverged:
        return Diverged(what, step, self.work.steps, self.config_.learning_rate)

    # --- per optimizer step -------------------------------------------------------------------------------------------

    def _take(self, step: int, before: int) -> None:
        """One optimizer step. `before`: number of steps taken in all. Raises Diverged."""
        warm = self.config_.warmup_steps
        rate = self.config_.learning_rate * (before / warm if before < warm else 1.0)
        optimizer.set_rate(self.optimizer, rate)
        loss = self.accelerator.reduce(self._backward(step), reduction="mean").item()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config_.max_grad_norm)
        logged = {"loss": loss, "grad_norm": whole(norm).item(), "learning_rate": rate}
        if what := not_finite(logged | {name: values[-1] for name, values in self._metrics["train"].items()}):
            raise self._diverged(what, step + 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, value in logged.items():
            self._metrics["train"][name].append(value)

    def _backward(self, step: int) -> torch.Tensor:
        """Forward and backward passes of a step's bins; the sum of their losses."""
        numbers = self.work.numbers(step)
        self._step_tokens = self._scored_tokens(range(numbers.start * self.size, numbers.stop * self.size))
        of_step, of_bins, weights, losses = self._metrics["train"], [], [], []
        assert self.feed
        for left in reversed(range(len(self.bins[step]))):
            prepared = self.feed.take()
            self._metrics["train"] = defaultdict(list)
            of_bins.append(self._metrics["train"])
            weights.append(self._scored_of(prepared))
            sum_copies(self.model, now=not left)
            losses.append(super().training_step(self.model, prepared, None))
        self._metrics["train"] = of_step
        shares = self.accelerator.reduce(torch.tensor(weights, device=self.accelerator.device)) / self._step_tokens
        for name in of_bins[0]:
            of_step[name].append(sum(share * own[name][0] for share, own in zip(shares.tolist(), of_bins, strict=True)))
        if step == 0:
            found = gate.compared(self.gaps, self.ratios, self.accelerator, self.config_.max_logprob_gap)
            for name, value in found.items():
                of_step[name].append(value)
        return torch.stack(losses).sum()

    def _scored_tokens(self, captions: Iterable[int]) -> int:
        """Tokens that count in the loss."""
        return sum(len(self.rollouts[i].completion_ids) for i in captions if self.rollouts[i].reward is not None)

    def _scored_of(self, prepared: Prepared) -> int:
        return self._scored_tokens(prepared.captions) if prepared.counts else 0

    # --- per bin ------------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, prepared: Prepared) -> dict[str, Any]:
        """What TRL's loss takes, padded to the bin. Old log-probs and advantages follow from the forward."""
        rollouts = [self.rollouts[number] for number in prepared.captions]
        device = self.accelerator.device
        ids = self._padded(prepared, prepared.packed.tokens.to(device))
        lengths = torch.tensor(prepared.lengths, device=device)[:, None]
        # 0 excludes a token from the loss: an unscored caption must have no effect, not even through the KL
        counts = torch.tensor([prepared.counts and r.reward is not None for r in rollouts], device=device)[:, None]
        inputs = {
            "prepared": prepared,
            "prompt_ids": ids[:, :0],  # TRL hands these on to log-probs, which are ours
            "prompt_mask": ids[:, :0],
            "completion_ids": ids,
            "completion_mask": (torch.arange(ids.shape[1], device=device) < lengths).long(),
            "tool_mask": counts.long(),
            "num_items_in_batch": torch.tensor(float(self._step_tokens), device=device),
        }
        if self.beta != 0.0:
            inputs["ref_per_token_logps"] = self._padded(prepared, self._reference(prepared.packed))
        return inputs

    @torch.no_grad()
    def _reference(self, packed: Packed) -> torch.Tensor:
        """Log-probs (N,) of the KL reference: a model of its own, or the trained one with another adapter or none."""
        if self.ref_model is not None:
            return self._score(self.ref_model, packed).logprobs
        model = self.accelerator.unwrap_model(self.model)
        with adapters.instead(model, "ref" if "ref" in model.peft_config else None):
            return self._score(self.model, packed).logprobs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._inputs = inputs
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model: Any, *ignored: Any, compute_aux_loss: bool = False, **also_ignored: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probs (B, T), entropies and the auxiliary loss of experts of the bin whose loss TRL is computing.

        Its old log-probs and advantages are set here: in the first step they follow from this very forward.
        """
        prepared: Prepared = self._inputs["prepared"]
        found = self._score(model, prepared.packed, experts=compute_aux_loss)
        old = self._old(prepared, found)
        ratio = self._ratio(prepared, old)
        advantage = torch.tensor([self.advantages[number] for number in prepared.captions], device=old.device)
        self._inputs["old_per_token_logps"] = self._padded(prepared, old)
        self._inputs["advantages"] = advantage[:, None] * self._padded(prepared, ratio)
        entropies = None if found.entropy is None else self._padded(prepared, found.entropy)
        experts = found.experts
        if experts is not None:  # TRL adds those of all bins, and takes the mean over processes
            experts = experts * self._scored_of(prepared) / self._step_tokens * self.accelerator.num_processes
        return self._padded(prepared, found.logprobs), entropies, experts

    def _old(self, prepared: Prepared, found: Scored) -> torch.Tensor:
        """Log-probs (N,) of a bin before the first step: those of the forward `found`, unless known already."""
        if prepared.captions[0] in self.old:
            return torch.cat([self.old[number] for number in prepared.captions])
        old = found.logprobs.detach()
        if prepared.counts:
            self.old.update(zip(prepared.captions, old.split(prepared.lengths), strict=True))
            self.gaps.append(old - self._sampling(prepared) - found.log_allowed(self.share))
            self.ratios.append(self._ratio(prepared, old))
        return old

    def _sampling(self, prepared: Prepared) -> torch.Tensor:
        """Log-probs (N,) that the engine recorded."""
        recorded = [value for number in prepared.captions for value in self.rollouts[number].logprobs]
        return torch.tensor(recorded, device=self.accelerator.device)

    def _ratio(self, prepared: Prepared, old: torch.Tensor) -> torch.Tensor:
        """Truncated importance ratios (N,) between trainer and engine."""
        return (old - self._sampling(prepared)).exp().clamp(max=self.config_.importance_cap)

    def _padded(self, prepared: Prepared, values: torch.Tensor) -> torch.Tensor:
        """(N,) as (B, T), padded right with 0. T is at least 2: TRL takes one column for a number per caption."""
        padded = pad_sequence(values.split(prepared.lengths), batch_first=True)
        return pad(padded, (0, max(0, 2 - padded.shape[1])))

    def _score(self, model: Any, packed: Packed, experts: bool = False) -> Scored:
        with self.accelerator.autocast(AutocastKwargs(enabled=self.autocast)):
            return scored(model, adapters.inner(model), packed, self.accelerator.device, experts)


def _never_asked(prompts: list[Any], **_: Any) -> list[float | None]:
    """TRL demands a reward function; rewards are stored."""
    raise AssertionError("the replay has rewards")
