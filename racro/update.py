"""Stage update: scored rollouts + policy -> next policy, by GRPO (arXiv 2506.04559). The only importer of trl.

TRL's GRPOTrainer replays the stored rollouts: `rollout_func` returns them by cursor instead of generating, one
generation batch is one iteration, so old log-probs are computed once, before the first step, and clipping is live.
Advantages are ours (`racro.advantage`), multiplied by the truncated importance ratio between trainer and engine.
Optimizer and schedule state travel in the policy's `trainer` folder; randomness is a function of (seed, step).
Not here: sampling, rewards, where artifacts are. Called by `tasks.update`, in whatever process that runs.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, PrinterCallback, TrainerCallback

from racro import config as recipes
from racro.advantage import advantages, informative
from racro.engines import prompt_seed
from racro.errors import BadInput
from racro.images import open_image
from racro.models import IDENTITY_SUFFIXES, load_processor, torch_device
from racro.parity import first_difference, trainer_inputs
from racro.prompts import Message, caption_messages
from racro.schema import Problem, ScoredRollout
from racro.trl_without_vllm import GRPOConfig, GRPOTrainer

TRAINER = "trainer"
"""Folder beside the weights with what the next update needs to go on."""
TRAINER_SUFFIXES = (".pt",)
"""Its files."""


class BadRollouts(BadInput):
    """Rollouts that must not be trained on: ragged groups, duplicates, another policy's, unknown problems."""


class LogprobMismatch(RuntimeError):
    """Engine and trainer do not agree on the probability of the same tokens: training would be on garbage."""


@dataclass(frozen=True)
class Group:
    """The G captions of one problem."""

    problem: Problem
    rollouts: tuple[ScoredRollout, ...]


@dataclass(frozen=True)
class Plan:
    """How an iteration is cut into optimizer steps."""

    groups: tuple[Group, ...]
    """The informative groups that are trained on, steps x groups_per_step of them."""
    steps: int
    total_groups: int
    zero_variance: int
    """Groups dropped because all their scored captions earned the same."""
    left_over: int
    """Informative groups dropped to make the steps equal; fewer than `steps`."""


def plan(rollouts: Sequence[ScoredRollout], problems: dict[str, Problem], policy: str, mini_batch: int) -> Plan:
    """Check the rollouts, drop groups without signal, and cut the rest into equal optimizer steps.

    `mini_batch`: problems per step, the aim; steps are as equal as can be. Raises BadRollouts.
    """
    groups: dict[str, list[ScoredRollout]] = {}
    for rollout in rollouts:
        if rollout.policy != policy:
            raise BadRollouts(f"rollouts of policy {rollout.policy[:12]}, but the policy to update is {policy[:12]}")
        if rollout.uid not in problems:
            raise BadRollouts(f"rollout of an unknown problem {rollout.uid!r}")
        groups.setdefault(rollout.uid, []).append(rollout)
    sizes = {len(group) for group in groups.values()}
    if len(sizes) > 1:
        small = min(groups, key=lambda uid: len(groups[uid]))
        raise BadRollouts(f"ragged groups of {sorted(sizes)} captions; e.g. {small!r} has {len(groups[small])}")
    for uid, group in groups.items():
        if sorted(r.sample for r in group) != list(range(len(group))):
            found = [r.sample for r in group]
            raise BadRollouts(f"problem {uid!r}: samples {found}; each of 0..G-1 must be there once")
    everything = [Group(problems[uid], tuple(group)) for uid, group in groups.items()]
    signal = [group for group in everything if informative([r.reward for r in group.rollouts])]
    steps = max(1, round(len(signal) / mini_batch)) if signal else 0
    kept = len(signal) - len(signal) % steps if steps else 0
    return Plan(
        groups=tuple(signal[:kept]),
        steps=steps,
        total_groups=len(groups),
        zero_variance=len(groups) - len(signal),
        left_over=len(signal) - kept,
    )


def update(
    work: Plan,
    *,
    images_base: str,
    policy: Path,
    initial: Path,
    out: Path,
    step: int,
    dtype: str,
    temperature: float,
    config: recipes.Update,
    runtime: recipes.Runtime,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Take `work.steps` optimizer steps from the model in `policy`; write the next policy to `out`; return metrics.

    policy: model folder, with a `trainer` folder inside unless it is the initial model (`step` 0).
    initial: model folder of the KL reference. step: optimizer steps taken before. temperature: of the rollouts.
    Weights are kept and saved in float32, also when `dtype` is bfloat16 (autocast): at lr 1e-6 a bfloat16 weight would
    not move. Raises LogprobMismatch when the mean |log-prob gap| exceeds config.max_logprob_gap.
    """
    if not work.steps:
        raise BadRollouts("no informative group: nothing to train on")
    processor = load_processor(initial)
    model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
    # TRL loads the KL reference from here; left alone it would be the current policy and the KL always 0.
    model.config._name_or_path = str(initial)
    group_size = len(work.groups[0].rollouts)
    per_step = len(work.groups) // work.steps * group_size
    micro_batch = next(n for n in range(min(runtime.micro_batch, per_step), 0, -1) if per_step % n == 0)
    accumulation = per_step // micro_batch
    on_cpu = torch_device(runtime.device).type == "cpu"
    arguments = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=work.steps * accumulation,  # one generation batch = one iteration
        num_iterations=1,
        max_steps=work.steps,
        num_generations=group_size,
        temperature=temperature,
        loss_type="dapo",  # token mean over the optimizer step, as in the paper
        scale_rewards="group",
        beta=config.beta,
        epsilon=config.clip_low,
        epsilon_high=config.clip_high,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",  # needs no total, which filtering makes unknowable
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=on_cpu,
        gradient_checkpointing=runtime.gradient_checkpointing,
        shuffle_dataset=False,  # the cursor of the replay relies on the order
        seed=prompt_seed(seed, "update", step) % 2**31,
        save_strategy="no",
        logging_steps=1,
        logging_strategy="steps",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )
    trainer = ReplayTrainer(
        model=model,
        args=arguments,
        processing_class=processor,
        work=work,
        images_base=images_base,
        config=config,
        callbacks=[_Resume(policy / TRAINER if step else None), _Progress(progress, work.steps)],
    )
    trainer.remove_callback(PrinterCallback)  # metrics are returned, not printed
    trainer.train()
    taken = _optimizer_steps(trainer.optimizer)
    if trainer.state.global_step != work.steps or taken != step + work.steps:
        raise RuntimeError(
            f"the update was to take {work.steps} optimizer steps after {step}, but the trainer counts "
            f"{trainer.state.global_step} and the optimizer {taken}"
        )
    _save(trainer, out, initial)
    return _metrics(trainer, work)


class ReplayTrainer(GRPOTrainer):
    """GRPOTrainer that replays the groups of a Plan."""

    def __init__(self, *, work: Plan, images_base: str, config: recipes.Update, **arguments: Any) -> None:
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
        """The stored rollouts of the next prompts. TRL repeats each prompt G times, group after group."""
        start = self.accelerator.process_index * len(prompts) + self.replayed
        self.replayed += len(prompts)
        chosen = []
        for i, prompt in enumerate(prompts, start):
            group = self.work.groups[i // self.num_generations]
            expected = _texts(caption_messages(group.problem.question, len(group.problem.images)))
            if _texts(prompt) != expected:
                raise BadRollouts(f"replay out of order at rollout {i}: TRL asks for another prompt than was stored")
            chosen.append(group.rollouts[i % self.num_generations])
        rewards = [[r.reward for r in group.rollouts] for group in self.work.groups]
        flat = [a for group in advantages(rewards) for a in group][start : start + len(prompts)]
        self._advantages = torch.tensor([math.nan if a is None else a for a in flat])
        return {
            "prompt_ids": [list(r.prompt_ids) for r in chosen],
            "completion_ids": [list(r.completion_ids) for r in chosen],
            "logprobs": [list(r.logprobs) for r in chosen],
            "stored_reward": [r.reward for r in chosen],
            # 0 leaves a token out of the loss: an unscored caption teaches nothing, not even through the KL
            "env_mask": [[int(r.reward is not None)] * len(r.completion_ids) for r in chosen],
        }

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self._check_tokens(output)
        old = output.get("old_per_token_logps")
        if old is None:  # TRL skips them when an iteration is a single step; the gate needs them all the same
            old = output["old_per_token_logps"] = self._old_logprobs(output)
        mask = output["completion_mask"].bool()
        gap = (old - output["sampling_per_token_logps"]).masked_fill(~mask, 0.0)
        mean_gap = (gap.abs().sum() / mask.sum()).item()
        if not mean_gap <= self.config_.max_logprob_gap:
            raise LogprobMismatch(
                f"engine and trainer differ by {mean_gap:.3g} per token in log-probability (mean of |difference|; "
                f"update.max_logprob_gap is {self.config_.max_logprob_gap:.3g}): the rollouts are not this policy's, "
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
        """TRL tokenises the prompts again for the positions of images; they must be those of the stored prompts."""
        types, prompt = output.get("mm_token_type_ids"), output["prompt_ids"]
        if types is None:
            return
        image = prompt == self.model.config.image_token_id
        if types.shape[1] < prompt.shape[1] or not torch.equal(types[:, : prompt.shape[1]].bool(), image):
            raise BadRollouts(
                "the trainer's processor tokenises the prompts otherwise than the engine did (image tokens are not "
                "where the stored prompts have them): check padding side and tokenizer"
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
    """The trainer's processor must make of a prompt the very ids that the engine saw.

    A tokenizer loaded through another class may not. Raises BadRollouts that names the first difference.
    """
    ours = trainer_inputs(processor, group.problem, images_base)["input_ids"][0].tolist()
    if difference := first_difference(ours, group.rollouts[0].prompt_ids):
        raise BadRollouts(
            f"the trainer tokenises the prompt of {group.problem.uid!r} otherwise than the engine did: {difference}; "
            "check tokenizer, processor and image size"
        )


def _stored_reward(prompts: list[Any], stored_reward: list[float | None], **_: Any) -> list[float | None]:
    """The reward function of the replay: what the reasoner earned; None = unscored."""
    return stored_reward


def _texts(messages: list[Message]) -> list[str | None]:
    """The text parts of a prompt, None for an image."""
    parts = [part for message in messages for part in message["content"]]
    return [part["text"] if part["type"] == "text" else None for part in parts]


class _Resume(TrainerCallback):
    """Loads optimizer and schedule where the previous iteration left them.

    Not `resume_from_checkpoint`: it would load the weights too, non-strictly, and miss every key that transformers
    renames for vision-language models; and it would skip a missing optimizer without a word.
    """

    def __init__(self, state: Path | None) -> None:
        self.state = state

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state is None:
            return
        for name in ("optimizer.pt", "scheduler.pt"):
            if not (self.state / name).is_file():
                raise FileNotFoundError(f"{self.state / name} is missing: the policy cannot be trained further")
        kwargs["optimizer"].load_state_dict(_load(self.state / "optimizer.pt"))
        kwargs["lr_scheduler"].load_state_dict(_load(self.state / "scheduler.pt"))


class _Progress(TrainerCallback):
    """Reports optimizer steps."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self.report, self.total = report, total

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.report(state.global_step, self.total)


def _load(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", weights_only=True)


def _optimizer_steps(optimizer: Any) -> int:
    """Steps that the optimizer has really taken, from its own state."""
    steps = {int(state["step"]) for state in optimizer.state.values() if "step" in state}
    return max(steps, default=0)


def _save(trainer: GRPOTrainer, out: Path, initial: Path) -> None:
    """Weights and configuration, the initial model's tokenizer and processor files, and the trainer's state."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(out)
    for file in initial.iterdir():
        if file.suffix in IDENTITY_SUFFIXES and file.suffix != ".safetensors" and not (out / file.name).exists():
            shutil.copy(file, out / file.name)
    (out / TRAINER).mkdir(exist_ok=True)
    trainer._save_optimizer_and_scheduler(str(out / TRAINER))


def _metrics(trainer: GRPOTrainer, work: Plan) -> dict[str, float]:
    """Means over the iteration's steps, and the counts of the plan."""
    names = {
        "loss": "loss",
        "kl": "kl",
        "entropy": "entropy",
        "grad_norm": "grad_norm",
        "learning_rate": "learning_rate",
        "clip_ratio/region_mean": "clip_ratio",
        "logprob_gap/mean": "logprob_gap",
        "logprob_gap/max": "logprob_gap_max",
        "importance_ratio/mean": "importance_ratio",
    }
    metrics: dict[str, float] = {}
    for theirs, ours in names.items():
        values = [float(entry[theirs]) for entry in trainer.state.log_history if entry.get(theirs) is not None]
        if values:
            metrics[ours] = sum(values) / len(values)
    return metrics | {
        "steps": work.steps,
        "groups": work.total_groups,
        "groups_trained": len(work.groups),
        "groups_zero_variance": work.zero_variance,
        "groups_left_over": work.left_over,
    }
