"""TRL's GRPOTrainer on stored rollouts: one generation batch is one iteration, and nothing is generated.

TRL sees token ids, masks and row numbers, never an image: it knows the image inputs of some model families by name, and
of others not. Each micro-batch is encoded from its row numbers (`racro.training.passes`). Old log-probs are computed
once, before the first step, and clipping is live. Advantages are ours (`racro.training.advantage`), multiplied by the
truncated importance ratio between trainer and engine. Not here: settings, optimizer state, what is saved
(`racro.training.update`, which runs it).

Shapes: R rollouts of an iteration, B rows of a micro-batch, W columns of prompt and completion, T of the completion.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import pad

from racro import config as recipes
from racro.prompts import caption_messages
from racro.training.advantage import advantages
from racro.training.banned import BannedShare
from racro.training.parity import FLOAT32_GAP
from racro.training.passes import Batch, CaptionPass, Scored
from racro.training.planning import Group, Plan
from racro.training.prompts import PromptEncoder
from racro.training.trl_without_vllm import GRPOTrainer, split_tensor_dict

logger = logging.getLogger(__name__)


class LogprobMismatch(RuntimeError):
    """Engine and trainer disagree on the probability of the same tokens, so training would be wrong."""


class ReplayTrainer(GRPOTrainer):
    """GRPOTrainer that replays the groups of a Plan."""

    def __init__(
        self,
        *,
        work: Plan,
        encoder: PromptEncoder,
        banned: list[int],
        config: recipes.UpdateSettings,
        **arguments: Any,
    ) -> None:
        """`banned`: token ids that engines never sample. Raises BadRollouts when prompts differ from the engine's."""
        self.work, self.banned, self.config_ = work, banned, config
        self.passes = CaptionPass(work, encoder)
        self.grouped = True
        """Do the captions of a group share one pass over their prompt? Not after a comparison that failed."""
        self.allowed: list[torch.Tensor] = []
        """Of each pass without gradients, in order: log (R, T) of the share that engines sample from."""
        rows = Dataset.from_dict({"group": list(range(len(work.groups)))})

        def load(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            chosen = [work.groups[i].problem for i in batch["group"]]
            prompts = [caption_messages(problem.question, len(problem.images)) for problem in chosen]
            return {"group": batch["group"], "prompt": prompts}

        rows.set_transform(load)
        super().__init__(
            train_dataset=rows,
            reward_funcs=_stored_reward,
            rollout_func=_replay,
            **arguments,
        )

    def stored(self) -> dict[str, list[Any]]:
        """The stored rollouts of the rows that TRL asks for, in the form that it wants of generated ones."""
        every = [rollout for group in self.work.groups for rollout in group.rollouts]
        chosen = [every[row] for row in self._rows.tolist()]
        return {
            "prompt_ids": [list(r.prompt_ids) for r in chosen],
            "completion_ids": [list(r.completion_ids) for r in chosen],
            "logprobs": [list(r.logprobs) for r in chosen],
            "stored_reward": [r.reward for r in chosen],
            # 0 excludes a token from the loss: an unscored caption must have no effect, not even through the KL
            "env_mask": [[int(r.reward is not None)] * len(r.completion_ids) for r in chosen],
        }

    # --- once per iteration -------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._compare_ways()
        # TRL repeats each prompt G times, group after group, and deals the whole out among the processes.
        first = self.accelerator.process_index * len(inputs)
        groups = [entry["group"] for entry in inputs]
        size = self.num_generations
        self._rows = rows = torch.tensor([group * size + (first + i) % size for i, group in enumerate(groups)])
        self.allowed.clear()
        output = super()._generate_and_score_completions(inputs)
        output["rows"] = rows
        old = output.get("old_per_token_logps")
        if old is None:  # TRL skips them when an iteration is a single step; the gate needs them all the same
            self.allowed.clear()
            old = output["old_per_token_logps"] = self._old_logprobs(output)
        mask = output["completion_mask"].bool()
        raw = (old - output["sampling_per_token_logps"]).masked_fill(~mask, 0.0)
        mean_gap = self._gate(raw - self.allowed[0].masked_fill(~mask, 0.0), mask)
        ratio = raw.exp().clamp(max=self.config_.importance_cap)
        rewards = [[r.reward for r in group.rollouts] for group in self.work.groups]
        flat = [0.0 if a is None else a for group in advantages(rewards) for a in group]
        scored = torch.tensor(flat, device=ratio.device)[rows.to(ratio.device)]
        output["advantages"] = scored[:, None] * ratio
        metrics = self._metrics["train"]
        metrics["logprob_gap/mean"].append(mean_gap)
        metrics["importance_ratio/mean"].append((ratio[mask].mean()).item())
        self.allowed.clear()
        return output

    def _gate(self, gap: torch.Tensor, mask: torch.Tensor) -> float:
        """Mean |gap| (R, T) per token, both sides over the tokens that engines sample. Raises LogprobMismatch."""
        mean = (gap.abs().sum() / mask.sum()).item()
        if not mean <= self.config_.max_logprob_gap:
            raise LogprobMismatch(
                f"log-probs of engine and trainer differ by {mean:.3g} per token (mean |difference|; "
                f"update.max_logprob_gap is {self.config_.max_logprob_gap:.3g}): the rollouts are of another policy, "
                "or engine and trainer disagree on prompt, positions or precision"
            )
        self._metrics["train"]["logprob_gap/max"].append(gap.abs().max().item())
        return mean

    @torch.no_grad()
    def _old_logprobs(self, output: dict[str, Any]) -> torch.Tensor:
        logprobs, _, _ = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
            torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
            output["completion_ids"].shape[1],
            batch_size=self.args.per_device_train_batch_size,
        )
        return logprobs

    @torch.no_grad()
    def ruined(self) -> str | None:
        """What is wrong with the trained policy if it cannot write any more, in words; from its last micro-batch.

        The last step's own loss is of the weights before it, so the step itself shows here for the first time.
        """
        last = self._buffered_inputs[-1]
        self._rows = last["rows"]
        logprobs, _, _ = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat([last["prompt_ids"], last["completion_ids"]], dim=1),
            torch.cat([last["prompt_mask"], last["completion_mask"]], dim=1),
            last["completion_ids"].shape[1],
        )
        self.allowed.clear()
        mask = last["completion_mask"].bool()
        if not logprobs[mask].isfinite().all():
            return "the policy's probabilities are not numbers after the step"
        if (logprobs - last["old_per_token_logps"])[mask].exp().median() == 0:  # below float32's smallest number
            return "the policy gives no probability any more to what it wrote itself, after the step"
        return None

    # --- per micro-batch ----------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._rows = inputs["rows"]
        return super()._compute_loss(model, inputs)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """TRL's without its shuffle: the plan says which groups make a step, and a group's captions stay together."""
        place = self._step % self.args.steps_per_generation
        if place == 0:
            whole = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs: list[dict[str, Any]] = split_tensor_dict(whole, self.args.steps_per_generation)
        return self._buffered_inputs[place]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **ignored: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """TRL's, for the rows in `_rows`: log-probs (R, T), entropies and the auxiliary loss of experts, where asked.

        What TRL knows of image inputs is ignored; there is none.
        """
        size = batch_size or len(input_ids)
        parts: list[Scored] = []
        core = self._core(model)
        together = self.grouped and not compute_aux_loss
        with BannedShare(core, self.banned, self.temperature) as share:
            for start in range(0, len(input_ids), size):
                part = slice(start, start + size)
                batch = Batch(self._rows[part].tolist(), input_ids[part], attention_mask[part], logits_to_keep)
                with self.accelerator.autocast():
                    if together:
                        parts.append(self.passes.by_group(model, share, batch))
                    else:
                        parts.append(self.passes.by_row(model, share, batch, experts=compute_aux_loss))
        if not torch.is_grad_enabled():
            self.allowed.append(torch.cat([part.allowed for part in parts if part.allowed is not None]))
        logprobs = torch.cat([part.logprobs for part in parts])
        entropies = torch.cat([part.entropy for part in parts if part.entropy is not None]) if compute_entropy else None
        experts = (
            torch.stack([part.experts for part in parts if part.experts is not None]) if compute_aux_loss else None
        )
        return logprobs, entropies, None if experts is None else experts.mean()

    def _core(self, model: Any) -> Any:
        core = self.accelerator.unwrap_model(model)
        return core.get_base_model() if hasattr(core, "get_base_model") else core

    @torch.no_grad()
    def _compare_ways(self) -> None:
        """Are the log-probs of the longest group the same with a shared prompt? If not, each caption gets its own."""
        size = self.num_generations
        longest = max(range(len(self.work.groups)), key=lambda i: _tokens(self.work.groups[i]))
        self._rows = torch.arange(longest * size, (longest + 1) * size)
        captions = [torch.tensor(r.completion_ids) for r in self.work.groups[longest].rollouts]
        prompt = torch.tensor(self.work.groups[longest].rollouts[0].prompt_ids)
        kept = max(map(len, captions))
        device = self.accelerator.device
        ids = torch.stack([torch.cat([prompt, pad(c, (0, kept - len(c)))]) for c in captions]).to(device)
        ends = torch.tensor([len(prompt) + len(c) for c in captions])
        mask = (torch.arange(ids.shape[1]) < ends[:, None]).long().to(device)

        def scored(grouped: bool) -> torch.Tensor:
            self.grouped = grouped
            batch = self.args.per_device_train_batch_size
            found, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, kept, batch_size=batch)
            return found[mask[:, -kept:].bool()]

        plain = scored(grouped=False)
        try:
            gap = (scored(grouped=True) - plain).abs().mean().item()
            what = f"log-probs of {self.work.groups[longest].problem.uid!r} differ by {gap:.3g} per token"
        except Exception as error:  # whatever a model of another build says to a mask or to positions of ours
            gap, what = torch.inf, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        allowed = self.config_.max_logprob_gap
        if self.accelerator.mixed_precision == "no":
            allowed = min(allowed, FLOAT32_GAP)
        self.grouped = gap <= allowed
        if not self.grouped:
            logger.warning("each caption gets a pass over its prompt, which takes longer: shared by a group, %s", what)
        self._metrics["train"]["shared_prompts"].append(float(self.grouped))


def _tokens(group: Group) -> int:
    """Of the prompt and of all captions."""
    return len(group.rollouts[0].prompt_ids) + sum(len(rollout.completion_ids) for rollout in group.rollouts)


def _replay(prompts: list[Any], trainer: ReplayTrainer) -> dict[str, list[Any]]:
    """TRL's `rollout_func`. A function, not a method: the trainer must not hold itself."""
    return trainer.stored()


def _stored_reward(prompts: list[Any], stored_reward: list[float | None], **_: Any) -> list[float | None]:
    """The reward function of the replay: the stored reward; None: unscored."""
    return stored_reward
