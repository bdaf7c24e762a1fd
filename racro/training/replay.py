"""TRL's GRPOTrainer on stored rollouts: one generation batch is one iteration, and nothing is generated.

`rollout_func` returns the rollouts of a Plan in order. Old log-probs are computed once, before the first step, so PPO's
clipping works as usual. Advantages come from `racro.training.advantage`, multiplied by the truncated importance ratio
between trainer and engine. Not here: settings, optimizer state, saving (`racro.training.update`, which calls this).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from datasets import Dataset

from racro import config as recipes
from racro.data.images import open_image
from racro.prompts import Message, caption_messages
from racro.training.advantage import advantages
from racro.training.parity import first_difference, trainer_inputs
from racro.training.planning import BadRollouts, Group, Plan
from racro.training.trl_without_vllm import GRPOTrainer


class LogprobMismatch(RuntimeError):
    """Engine and trainer disagree on the probability of the same tokens, so training would be wrong."""


class ReplayTrainer(GRPOTrainer):
    """GRPOTrainer that replays the groups of a Plan."""

    def __init__(self, *, work: Plan, images_base: str, config: recipes.UpdateSettings, **arguments: Any) -> None:
        self.work = work
        self.config_ = config
        self.replayed = 0
        rows = Dataset.from_dict({"group": list(range(len(work.groups)))})

        def load(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            chosen = [work.groups[i].problem for i in batch["group"]]
            return {
                "prompt": [caption_messages(p.question, len(p.images)) for p in chosen],
                "images": [[open_image(ref, images_base) for ref in p.images] for p in chosen],
            }

        rows.set_transform(load)  # images are decoded when a batch needs them
        _check_prompt(arguments["processing_class"], work.groups[0], images_base)
        super().__init__(
            train_dataset=rows,
            reward_funcs=_stored_reward,
            rollout_func=lambda prompts, _: self._replay(prompts),
            **arguments,
        )

    def _replay(self, prompts: list[list[Message]]) -> dict[str, list[Any]]:
        """The stored rollouts for the next prompts. TRL repeats each prompt G times, group after group."""
        start = self.accelerator.process_index * len(prompts) + self.replayed
        self.replayed += len(prompts)
        chosen = []
        for i, prompt in enumerate(prompts, start):
            group = self.work.groups[i // self.num_generations]
            expected = _texts(caption_messages(group.problem.question, len(group.problem.images)))
            if _texts(prompt) != expected:
                raise BadRollouts(f"replay out of order at rollout {i}: TRL wants a prompt other than the stored one")
            chosen.append(group.rollouts[i % self.num_generations])
        rewards = [[r.reward for r in group.rollouts] for group in self.work.groups]
        flat = [a for group in advantages(rewards) for a in group][start : start + len(prompts)]
        self._advantages = torch.tensor([math.nan if a is None else a for a in flat])
        return {
            "prompt_ids": [list(r.prompt_ids) for r in chosen],
            "completion_ids": [list(r.completion_ids) for r in chosen],
            "logprobs": [list(r.logprobs) for r in chosen],
            "stored_reward": [r.reward for r in chosen],
            # 0 excludes a token from the loss: an unscored caption must have no effect, not even through the KL
            "env_mask": [[int(r.reward is not None)] * len(r.completion_ids) for r in chosen],
        }

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self._check_tokens(output)
        old = output.get("old_per_token_logps")
        if old is None:  # TRL skips them when an iteration is a single step, but the check below needs them
            old = output["old_per_token_logps"] = self._old_logprobs(output)
        mask = output["completion_mask"].bool()
        gap = (old - output["sampling_per_token_logps"]).masked_fill(~mask, 0.0)
        mean_gap = (gap.abs().sum() / mask.sum()).item()
        if not mean_gap <= self.config_.max_logprob_gap:
            raise LogprobMismatch(
                f"log-probs of engine and trainer differ by {mean_gap:.3g} per token (mean |difference|; "
                f"update.max_logprob_gap is {self.config_.max_logprob_gap:.3g}): the rollouts are of another policy, "
                "or engine and trainer disagree on prompt, positions or precision"
            )
        ratio = gap.exp().clamp(max=self.config_.importance_cap)
        scored = self._advantages.to(ratio.device).nan_to_num(0.0)
        output["advantages"] = scored[:, None] * ratio
        metrics = self._metrics["train"]
        metrics["logprob_gap/mean"].append(mean_gap)
        metrics["logprob_gap/max"].append(gap.abs().max().item())
        metrics["importance_ratio/mean"].append((ratio[mask].mean()).item())
        return output

    def _check_tokens(self, output: dict[str, Any]) -> None:
        """TRL tokenises the prompts again to place images; the result must equal the stored prompts."""
        types, prompt = output.get("mm_token_type_ids"), output["prompt_ids"]
        if types is None:
            return
        image = prompt == self.model.config.image_token_id
        if types.shape[1] < prompt.shape[1] or not torch.equal(types[:, : prompt.shape[1]].bool(), image):
            raise BadRollouts(
                "the trainer's processor tokenises the prompts differently from the engine (image tokens are at "
                "other positions than in the stored prompts): check padding side and tokenizer"
            )

    @torch.no_grad()
    def _old_logprobs(self, output: dict[str, Any]) -> torch.Tensor:
        names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
        inputs = {name: output[name] for name in names if name in output}
        logprobs, _, _ = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
            torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
            output["completion_ids"].shape[1],
            batch_size=self.args.per_device_train_batch_size,
            **inputs,
        )
        return logprobs


def _check_prompt(processor: Any, group: Group, images_base: str) -> None:
    """The trainer's processor must encode a prompt into exactly the ids that the engine saw.

    A tokenizer loaded through another class may differ. Raises BadRollouts, which names the first difference.
    """
    ours = trainer_inputs(processor, group.problem, images_base)["input_ids"][0].tolist()
    if difference := first_difference(ours, group.rollouts[0].prompt_ids):
        raise BadRollouts(
            f"the trainer tokenises the prompt of {group.problem.uid!r} differently from the engine: {difference}; "
            "check tokenizer, processor and image size"
        )


def _stored_reward(prompts: list[Any], stored_reward: list[float | None], **_: Any) -> list[float | None]:
    """The reward function of the replay: the stored reward; None: unscored."""
    return stored_reward


def _texts(messages: list[Message]) -> list[str | None]:
    """The text parts of a prompt; None for an image."""
    parts = [part for message in messages for part in message["content"]]
    return [part["text"] if part["type"] == "text" else None for part in parts]
