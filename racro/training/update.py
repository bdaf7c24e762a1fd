"""Stage update: scored rollouts + policy -> next policy, by GRPO (arXiv 2506.04559) through TRL.

Settings, optimizer state and saving; `racro.training.planning` makes the steps, `racro.training.replay` feeds them to
TRL's trainer. The state of optimizer and schedule is kept in the policy's `trainer` folder; randomness is a
function of (seed, step). Not here: sampling, rewards, where artifacts are. Called by `tasks.update`.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PrinterCallback, TrainerCallback

from racro import config as recipes
from racro.engines.protocol import prompt_seed
from racro.models import adapters, attention, parts, pixels
from racro.models.folders import READER_SUFFIXES, TRAINER, base_folder, lasting_name, load_processor, torch_device
from racro.models.vision_tokens import vision_token_ids
from racro.training import optimizer
from racro.training.divergence import Diverged, not_finite
from racro.training.planning import BadRollouts, Plan
from racro.training.prompts import PromptEncoder
from racro.training.replay import ReplayTrainer
from racro.training.trl_without_vllm import GRPOConfig, GRPOTrainer


def update(
    work: Plan,
    *,
    images_base: str,
    policy: Path,
    initial: Path,
    out: Path,
    step: int,
    captioner: recipes.Captioner,
    temperature: float,
    config: recipes.UpdateSettings,
    runtime: recipes.Runtime,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Take `work.steps` optimizer steps from the model in `policy`; write the next policy to `out`; return metrics.

    policy: model folder, with a `trainer` folder inside unless it is the initial model (`step` 0).
    initial: model folder of the KL reference. step: optimizer steps taken before. temperature: that of the rollouts.
    Trained weights are kept and saved in float32, even if `captioner.dtype` is bfloat16 (autocast): at a learning rate
    of 1e-6 a bfloat16 weight would not change. With `captioner.lora`, or if the initial policy is an adapter, only the
    adapter is trained, and the policy's folder holds nothing else. Afterwards nothing of the trainer is left in memory.
    Raises BadAdapter, LogprobMismatch if the mean |log-prob gap| exceeds config.max_logprob_gap, and Diverged if a
    number is no longer finite; nothing is written then.
    """
    if not work.steps:
        raise BadRollouts("no informative group: nothing to train on")
    try:
        return _update(
            work, images_base, policy, initial, out, step, captioner, temperature, config, runtime, seed, progress
        )
    finally:
        # Trainer, model and optimizer hold each other in cycles; a colocated engine that wakes needs their memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _update(
    work: Plan,
    images_base: str,
    policy: Path,
    initial: Path,
    out: Path,
    step: int,
    captioner: recipes.Captioner,
    temperature: float,
    config: recipes.UpdateSettings,
    runtime: recipes.Runtime,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, float]:
    processor = load_processor(initial, captioner.pixels)
    model, lora = _trainee(captioner, initial, policy)
    group_size = len(work.groups[0].rollouts)
    device = torch_device(runtime.device)
    on_cpu = device.type == "cpu"
    arguments = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=group_size,  # TRL wants a group; the replay takes bins of the plan
        gradient_accumulation_steps=1,  # a batch of the loader is an optimizer step
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
        lr_scheduler_type="constant_with_warmup",  # needs no total number of steps, which filtering makes unknowable
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=optimizer.NAMES[config.optimizer],
        bf16=captioner.dtype == "bfloat16",
        fp16=captioner.dtype == "float16",
        use_cpu=on_cpu,
        gradient_checkpointing=runtime.gradient_checkpointing,
        seed=prompt_seed(seed, "update", step) % 2**31,
        save_strategy="no",
        logging_steps=1,
        logging_strategy="steps",
        logging_nan_inf_filter=False,  # a loss that is no number ends the update, and is not smoothed away
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )
    on_one_device(arguments, device)
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention.use(core, runtime.trainer.attention, device, captioner.dtype)
    parts.freeze(core, config.freeze)
    watch = _Watch(progress, work.steps, config.learning_rate)
    trainer = ReplayTrainer(
        model=model,
        args=arguments,
        processing_class=processor,
        work=work,
        encoder=PromptEncoder(processor, core, images_base, captioner.template_kwargs),
        banned=vision_token_ids(core.config, processor.tokenizer),
        config=config,
        budget=runtime.trainer.tokens,
        peft_config=lora,
        callbacks=[_Resume(policy / TRAINER if step else None), watch],
    )
    if adapters.Adapter.read(policy):  # after TRL has made its reference from the initial adapter, or from none
        adapters.load(trainer.model, policy)
    if trainer.ref_model is not None:
        attention.use(trainer._core(trainer.ref_model), runtime.trainer.attention, device, captioner.dtype)
    optimizer.place(trainer, config, runtime.trainer)
    trainer.remove_callback(PrinterCallback)  # metrics are returned, not printed
    trainer.train()
    taken = _optimizer_steps(trainer.optimizer)
    if trainer.state.global_step != work.steps or taken != step + work.steps:
        raise RuntimeError(
            f"the update should have taken {work.steps} optimizer steps after step {step}, but the trainer counts "
            f"{trainer.state.global_step} and the optimizer {taken}"
        )
    if broken := next((name for name, value in trainer.model.named_parameters() if not value.isfinite().all()), None):
        raise watch.diverged(f"weights are not finite ({broken})", work.steps)
    if what := trainer.ruined():
        raise watch.diverged(what, work.steps)
    _save(trainer, out, initial, captioner)
    return _metrics(trainer, work)


def _trainee(captioner: recipes.Captioner, initial: Path, policy: Path) -> tuple[Any, Any]:
    """The model to train, and the configuration of a new adapter, if TRL is to make one.

    The model has the initial policy's adapter, or none: TRL uses what it finds as its KL reference.
    """
    if adapters.Adapter.read(initial) is None and captioner.lora is None:
        model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
        # TRL loads the KL reference from this name. Unchanged, it would be the current policy, and the KL always 0.
        model.config._name_or_path = str(initial)
        return model, None
    # Weights that are not trained need no more precision than the engine has.
    model = AutoModelForImageTextToText.from_pretrained(base_folder(initial), dtype=captioner.dtype)
    if captioner.lora is not None:
        return model, adapters.fresh(captioner.lora, model)
    return adapters.attach(model, initial, trainable=True), None


class _Resume(TrainerCallback):
    """Loads the state of optimizer and schedule that the previous iteration saved.

    Not `resume_from_checkpoint`, which also loads weights, non-strictly, misses every key that transformers renames for
    vision-language models, and silently skips a missing optimizer.
    """

    def __init__(self, state: Path | None) -> None:
        self.state = state

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state is None:
            return
        for name in ("optimizer.pt", "scheduler.pt"):
            if not (self.state / name).is_file():
                raise FileNotFoundError(f"{self.state / name} is missing, so this policy cannot be trained further")
        kwargs["optimizer"].load_state_dict(_load(self.state / "optimizer.pt"))
        kwargs["lr_scheduler"].load_state_dict(_load(self.state / "scheduler.pt"))


class _Watch(TrainerCallback):
    """Reports optimizer steps, and ends a training whose numbers are no longer finite."""

    def __init__(self, report: Callable[[int, int], None], total: int, learning_rate: float) -> None:
        self.report, self.total, self.learning_rate = report, total, learning_rate

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.report(state.global_step, self.total)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if what := not_finite(logs or {}):
            raise self.diverged(what, state.global_step)

    def diverged(self, what: str, step: int) -> Diverged:
        return Diverged(what, step, self.total, self.learning_rate)


def on_one_device(arguments: GRPOConfig, device: torch.device) -> None:
    """Have the trainer use this device and no other.

    Of several visible GPUs transformers takes the first and wants to copy the model to all of them, which TRL refuses.
    """
    if device.type != "cuda":
        return
    device = torch.device("cuda", device.index or 0)
    torch.cuda.set_device(device)
    arguments.__dict__["_setup_devices"] = device  # transformers keeps here what `arguments.device` says
    arguments._n_gpu = 1
    arguments.distributed_state.device = device  # where accelerate puts the model


def _load(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", weights_only=True)


def _optimizer_steps(optimizer: Any) -> int:
    """Number of steps that the optimizer has taken, from its own state."""
    steps = {int(state["step"]) for state in optimizer.state.values() if "step" in state}
    return max(steps, default=0)


def _save(trainer: GRPOTrainer, out: Path, initial: Path, captioner: recipes.Captioner) -> None:
    """Save weights, configuration, the initial model's tokenizer and processor files, and the trainer's state.

    For an adapter, save only the adapter and the trainer's state; the rest is in the model that it names.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if first := adapters.Adapter.read(initial):
        adapters.save(model, out, first.base, first.revision)
    elif captioner.lora is not None:
        adapters.save(model, out, lasting_name(captioner.model), captioner.revision)
    else:
        model.save_pretrained(out)
        for file in initial.iterdir():
            # Weights are those just saved, and so is the index of their shards, if there are several.
            reader = file.suffix in READER_SUFFIXES and not file.name.endswith(".index.json")
            if reader and not (out / file.name).exists():
                shutil.copy(file, out / file.name)
        pixels.write(out, trainer.processing_class, captioner.pixels)
    (out / TRAINER).mkdir(exist_ok=True)
    trainer._save_optimizer_and_scheduler(str(out / TRAINER))


def _metrics(trainer: ReplayTrainer, work: Plan) -> dict[str, float]:
    """Means over the steps of the iteration, and the counts of the plan."""
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
        "shared_prompts": "shared_prompts",
    }
    metrics: dict[str, float] = {}
    for theirs, ours in names.items():
        values = [float(entry[theirs]) for entry in trainer.state.log_history if entry.get(theirs) is not None]
        if values:
            metrics[ours] = sum(values) / len(values)
    images = sum(len(group.problem.images) for group in work.groups)
    if trainer.feed and images:
        metrics["decodes_per_image"] = trainer.encoder.decoded / images
        metrics["pixel_bytes_peak"] = trainer.feed.pixel_bytes_peak
    return metrics | {
        "steps": work.steps,
        "groups": work.total_groups,
        "groups_trained": len(work.groups),
        "groups_zero_variance": work.zero_variance,
        "groups_left_over": work.left_over,
    }
