"""TRL's GRPOTrainer on stored rollouts: nothing is generated, and TRL computes the loss of one bin at a time.

The loop over optimizer steps is ours, because TRL's begins anew with each training. A step is a sequence of bins
(`racro.training.bins`), whose inputs come from `racro.training.feed`; losses are divided by what the whole step holds
(`racro.training.losses`), so its division does not matter. Old log-probs are those before the first step, and clipping
is live. Advantages come with the rollouts, and are multiplied by the importance ratio of the policy before the first
step to the engine's (`racro.training.gate`). Not here: models, their state, what is saved (`racro.training.trainer`).

Shapes: N tokens of a bin's captions, B captions of a bin, T tokens of the longest (at least 2).
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import chain
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset

from racro import config as recipes
from racro.models import adapters, attention
from racro.rollouts.captioner import Progress
from racro.training import losses, optimizer
from racro.training.banned import BannedShare
from racro.training.bins import Bin, deal, divided
from racro.training.divergence import Diverged, not_finite
from racro.training.earlier import Earlier
from racro.training.feed import Feed
from racro.training.gate import Gate
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
        self.beta = 0.0  # TRL adds no KL: ours is in `_compute_loss`
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
        self, work: Plan, encoder: PromptEncoder, before: int, progress: Progress, writer: Earlier | None = None
    ) -> dict[str, float]:
        """Take the plan's optimizer steps; metrics, as means over the steps.

        `before`: number of steps taken earlier. `writer`: the weights that wrote captions of an earlier policy; without
        them these are not compared. Raises LogprobMismatch, Diverged, BadRollouts, BadImage.
        """
        self.work, self.encoder = work, encoder
        self.rollouts = [rollout for group in work.groups for rollout in group.rollouts]
        self.advantages = [rollout.advantage or 0.0 for rollout in self.rollouts]
        self.old: dict[int, torch.Tensor] = {}
        """Log-probs (T,) before the first step, by the caption's number, counted through all groups."""
        self.gate = Gate(self.accelerator, self.config_, self.rollouts)
        self.feed: Feed | None = None
        self._metrics["train"] = defaultdict(list)
        self.model.train()
        try:
            self._begin(writer)
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
        self.old, self._inputs = {}, {}
        del self.gate, self.share, self.inputs, self.work, self.rollouts, self.bins, self.encoder
        if self.feed:
            self.feed.last = None

    # --- once per iteration -------------------------------------------------------------------------------------------

    def _begin(self, writer: Earlier | None) -> None:
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
        compared = [next(filter(self._of_engine, self.bins[0]), self.bins[0][0])] if writer is not None else []
        order = [*compared, *later, *chain(*self.bins)]
        self.feed = Feed(lambda b: self.inputs.prepare(b, smallest), order, ahead=self.accelerator.device.type != "cpu")
        with torch.no_grad():
            if writer is not None:
                self._compare(self.feed.take(), writer)
            for _ in later:
                prepared = self.feed.take()
                self._old(prepared, self._score(self.model, prepared.packed))

    def _of_engine(self, what: Bin) -> bool:
        """Has a bin captions that an engine wrote?"""
        starts = self.work.starts
        return any(not self.rollouts[starts[row.group] + i].reference for row in what.rows for i in row.captions)

    def _compare(self, prepared: Prepared, writer: Earlier) -> None:
        """A bin's log-probs under the weights that wrote it, against the engine's. One bin in each process will do."""
        with writer.instead(self.model):
            share = BannedShare.of(adapters.inner(self.model), self.banned, self.temperature)
            found = self._score(self.model, prepared.packed)
            if prepared.counts:
                self.gate.compare(prepared, found.logprobs, found.log_allowed(share))

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
        if what := not_finite({name: values[-1] for name, values in self._metrics["train"].items()} | logged):
            raise self._diverged(what, step + 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, value in logged.items():
            self._metrics["train"][name].append(value)

    def _backward(self, step: int) -> torch.Tensor:
        """Forward and backward passes of a step's bins; the sum of their losses."""
        numbers = self.work.numbers(step)
        size = losses.Size.of(self.rollouts[self.work.starts[numbers.start] : self.work.starts[numbers.stop]])
        self.loss = losses.StepLoss(self.config_, size, self.accelerator.num_processes)
        of_step, of_bins, weights, shares_of_loss = self._metrics["train"], [], [], []
        assert self.feed
        for left in reversed(range(len(self.bins[step]))):
            prepared = self.feed.take()
            self._metrics["train"] = defaultdict(list)
            of_bins.append(self._metrics["train"])
            weights.append(self._counted(prepared).tokens)
            sum_copies(self.model, now=not left)
            shares_of_loss.append(super().training_step(self.model, prepared, None))
        self._metrics["train"] = of_step
        shares = self.accelerator.reduce(torch.tensor(weights, device=self.accelerator.device)) / self.loss.size.tokens
        for name in of_bins[0]:
            of_step[name].append(sum(share * own[name][0] for share, own in zip(shares.tolist(), of_bins, strict=True)))
        if step == 0:
            for name, value in self.gate.metrics(self._of_all).items():
                of_step[name].append(value)
        return torch.stack(shares_of_loss).sum()

    def _counted(self, prepared: Prepared) -> losses.Size:
        """How much of a bin counts in the loss."""
        return losses.Size.of(self.rollouts[i] for i in (prepared.captions if prepared.counts else ()))

    # --- per bin ------------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, prepared: Prepared) -> dict[str, Any]:
        """What TRL's loss takes, padded to the bin. Old log-probs and advantages follow from the forward."""
        rollouts = [self.rollouts[number] for number in prepared.captions]
        device = self.accelerator.device
        ids = losses.padded(prepared.packed.tokens.to(device), prepared.lengths)
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
            "num_items_in_batch": torch.tensor(float(self.loss.size.tokens), device=device),
        }
        if self.config_.beta != 0.0:
            inputs["ref_per_token_logps"] = losses.padded(self._reference(prepared.packed), prepared.lengths)
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
        """The bin's share of the step's loss: the policy's part by TRL, then KL and entropy."""
        self._inputs = inputs
        policy = super()._compute_loss(model, inputs) * self.loss.scale(len(inputs["completion_ids"]))
        mask, kl = (inputs["completion_mask"] * inputs["tool_mask"]).float(), None
        if self.config_.beta != 0.0:
            given = (inputs[name] for name in ("logprobs", "ref_per_token_logps", "old_per_token_logps"))
            kl = losses.kl(self.config_, *given)
            sums = self.accelerator.reduce(torch.stack([(kl.detach() * mask).sum(), mask.sum()]))
            self._metrics["train"]["kl"].append((sums[0] / sums[1].clamp(min=1)).item())
        return policy + self.loss.beside(kl, inputs["entropies"], mask)

    def _get_per_token_logps_and_entropies(
        self, model: Any, *ignored: Any, compute_aux_loss: bool = False, **also_ignored: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probs (B, T), entropies and the auxiliary loss of experts of the bin whose loss TRL is computing.

        Its old log-probs and advantages are set here: in the first step they follow from this very forward.
        """
        prepared: Prepared = self._inputs["prepared"]
        found = self._score(model, prepared.packed, experts=compute_aux_loss)
        old = self._old(prepared, found)
        ratio = self.gate.ratio(prepared, old)
        advantage = torch.tensor([self.advantages[number] for number in prepared.captions], device=old.device)
        self._inputs["old_per_token_logps"] = losses.padded(old, prepared.lengths)
        self._inputs |= losses.advantages(self.config_, advantage, losses.padded(ratio, prepared.lengths, 1.0))
        assert found.entropy is not None  # the trained model's head gives it
        logprobs, entropies = (losses.padded(own, prepared.lengths) for own in (found.logprobs, found.entropy))
        self._inputs |= {"logprobs": logprobs, "entropies": entropies}
        if found.experts is None:
            return logprobs, entropies, None
        return logprobs, entropies, self.loss.experts(found.experts, self._counted(prepared), len(logprobs))

    def _old(self, prepared: Prepared, found: Scored) -> torch.Tensor:
        """Log-probs (N,) of a bin before the first step: those of the forward `found`, unless known already."""
        if prepared.captions[0] in self.old:
            return torch.cat([self.old[number] for number in prepared.captions])
        old = found.logprobs.detach()
        if prepared.counts:
            self.old.update(zip(prepared.captions, old.split(prepared.lengths), strict=True))
            self.gate.add(prepared, old)
            if self.work.writer is None:
                self.gate.compare(prepared, old, found.log_allowed(self.share))
        return old

    def _score(self, model: Any, packed: Packed, experts: bool = False) -> Scored:
        with self.accelerator.autocast(AutocastKwargs(enabled=self.autocast)):
            return scored(model, adapters.inner(model), packed, self.accelerator.device, experts)


def _never_asked(prompts: list[Any], **_: Any) -> list[float | None]:
    """TRL demands a reward function; rewards are stored."""
    raise AssertionError("the replay has rewards")
