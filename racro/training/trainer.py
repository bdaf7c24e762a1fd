"""The trainer of a captioner: loaded once, it takes update after update, and writes policies and its own state.

It builds the models (trained weights in float32, the frozen reference of the KL), divides them among processes if there
are several, and runs `racro.training.replay`. Each process of a training has one (`racro.training.service` keeps it);
all of them get the same calls. Not here: rewards, artifacts, which policy comes next (`tasks.update`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoModelForImageTextToText, PrinterCallback, set_seed

from racro import config as recipes
from racro.engines.protocol import prompt_seed
from racro.models import adapters, attention, making, parts, pixels
from racro.models.folders import (
    READER_SUFFIXES,
    base_folder,
    lasting_name,
    let_others_read,
    load_processor,
    torch_device,
)
from racro.models.vision_tokens import vision_token_ids
from racro.training import losses, optimizer, sharding, state
from racro.training.earlier import Earlier
from racro.training.planning import BadRollouts, Plan
from racro.training.prompts import PromptEncoder
from racro.training.replay import ReplayTrainer
from racro.training.trl_without_vllm import GRPOConfig, add_fused_lm_head

METRICS = {
    "loss": "loss",
    "kl": "kl",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "clip_ratio/region_mean": "clip_ratio",
    "logprob_gap/mean": "logprob_gap",
    "logprob_gap/max": "logprob_gap_max",
    "cispo_clip_ratio": "clip_ratio",
    "importance_ratio/mean": "importance_ratio",
    "importance_ratio/masked": "importance_masked",
    "importance_ratio/clipped": "importance_clipped",
    "staleness_nats": "staleness_nats",
    "shared_prompts": "shared_prompts",
}
"""TRL's names and ours."""


@dataclass(frozen=True)
class Training:
    """What all updates of a training have in common."""

    initial: Path
    """Model folder of the initial policy, which is also the KL reference."""
    captioner: recipes.Captioner
    temperature: float
    """Of the rollouts."""
    config: recipes.UpdateSettings
    runtime: recipes.Runtime
    seed: int


class Trainer:
    """A model in training, or this process's part of it.

    Trained weights are kept in float32, even if `captioner.dtype` is bfloat16: at a learning rate of 1e-6 a bfloat16
    weight would not change. With `captioner.lora`, or if the initial policy is an adapter, only the adapter is trained.
    """

    def __init__(self, training: Training, start: Path | None) -> None:
        """`start`: the folder of the state to go on from; None: the initial policy. Raises BadAdapter, BadState."""
        self.training = training
        captioner, placement = training.captioner, training.runtime.trainer
        self.processor = load_processor(training.initial, captioner.pixels)
        set_seed(prompt_seed(training.seed, "trainer") % 2**31)  # of a new adapter's first matrices
        model, lora = _trainee(captioner, training.initial)
        device = torch_device(training.runtime.device)
        adapted = lora is not None or hasattr(model, "peft_config")
        arguments = _arguments(training, device, adapted)
        on_one_device(arguments, device)
        sharded = placement.world > 1
        core = adapters.inner(model)
        attention.use(core, placement.attention, device, captioner.dtype)
        parts.freeze(core, training.config.freeze)
        self.trainer = ReplayTrainer(
            model=model,
            args=arguments,
            processing_class=self.processor,
            banned=vision_token_ids(core.config, self.processor.tokenizer),
            config=training.config,
            budget=placement.tokens,
            autocast=not sharded,
            peft_config=lora,
        )
        self.trainer.remove_callback(PrinterCallback)  # metrics are returned, not printed
        if training.config.beta != 0.0 and not adapted:
            self.trainer.ref_model = self._reference()
            attention.use(self.trainer.ref_model, placement.attention, device, captioner.dtype)
        self._place(sharded)
        if training.runtime.gradient_checkpointing:
            self.trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        optimizer.place(self.trainer, training.config, placement)
        self.trainer.create_optimizer()
        self.trainer.optimizer = self.trainer.accelerator.prepare_optimizer(self.trainer.optimizer)
        if start is not None:
            state.load(start, self.trainer.model, self._optimizer)

    def update(
        self,
        work: Plan,
        images_base: str,
        step: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
        writer: Earlier | None = None,
    ) -> dict[str, float]:
        """Take `work.steps` optimizer steps; return metrics.

        step: optimizer steps taken before; randomness is a function of (seed, step). writer: see
        `racro.training.replay`. Raises LogprobMismatch if the mean
        |log-prob gap| exceeds config.max_logprob_gap, Diverged if a number is no longer finite, BadRollouts; this
        trainer is then of no use any more.
        """
        if not work.steps:
            raise BadRollouts("no informative group: nothing to train on")
        self._expect(step, "before")
        set_seed(prompt_seed(self.training.seed, "update", step) % 2**31)
        captioner, trainer = self.training.captioner, self.trainer
        core, template_kwargs = adapters.inner(trainer.model), captioner.template_kwargs
        encoder = PromptEncoder(self.processor, core, images_base, template_kwargs, work.objective)
        found = trainer.replay(work, encoder, step, progress, writer)
        self._expect(step + work.steps, "after")
        if work.writer is None:
            del found["staleness_nats"]  # rounding, and the tokens that engines never sample
        metrics = {ours: found[theirs] for theirs, ours in METRICS.items() if theirs in found}
        images = sum(len(group.problem.images) for group in work.groups)
        if trainer.feed and images:
            decoded = torch.tensor(float(encoder.decoded), device=trainer.accelerator.device)
            metrics["decodes_per_image"] = trainer.accelerator.reduce(decoded).item() / images
            metrics["pixel_bytes_peak"] = trainer.feed.pixel_bytes_peak
        trainer.forget()
        return metrics | {
            "steps": work.steps,
            "groups": work.total_groups,
            "groups_trained": len(work.groups),
            "groups_zero_variance": work.zero_variance,
            "groups_left_over": work.left_over,
        }

    def earlier(self, policy: str) -> Earlier:
        """A copy of the weights as they are now, which are those of `policy`."""
        return Earlier(policy, self.trainer.model)

    def export(self, out: Path) -> None:
        """Write the policy as a model folder, its weights in the engine's precision; an adapter as such, in float32.

        To be called in all processes; the first writes.
        """
        captioner, initial, model = self.training.captioner, self.training.initial, self.trainer.model
        adapter = hasattr(model, "peft_config")
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapter)
        weights: dict[str, Any] = get_model_state_dict(model, options=options)
        if not self.trainer.accelerator.is_main_process:
            return
        if first := adapters.Adapter.read(initial):
            adapters.save(model, out, first.base, first.revision, weights)
        elif captioner.lora is not None:
            adapters.save(model, out, lasting_name(captioner.model), captioner.revision, weights)
        else:
            dtype = getattr(torch, captioner.dtype)
            kept = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
            # Of weights that are tied, one: gathered from several processes, they are no longer seen to be the same.
            weights = {name: value.to(dtype) for name, value in weights.items() if name in kept}
            model.save_pretrained(out, state_dict=weights)
            for file in initial.iterdir():
                # Weights are those just saved, and so is the index of their shards, if there are several.
                reader = file.suffix in READER_SUFFIXES and not file.name.endswith(".index.json")
                if reader and not (out / file.name).exists():
                    shutil.copy(file, out / file.name)
            pixels.write(out, self.processor, captioner.pixels)
        let_others_read(out)

    def save(self, folder: Path) -> None:
        """Write the state, to go on from later. To be called in all processes, each writes its part."""
        state.save(folder, self.trainer.model, self._optimizer)

    def spread(self) -> dict[str, sharding.Spread]:
        """How the trained model and the reference of the KL, if it is a model of its own, lie in this process."""
        models = {"policy": self.trainer.model, "reference": self.trainer.ref_model}
        return {name: sharding.spread_of(model) for name, model in models.items() if model is not None}

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizer.optimizer

    def _expect(self, steps: int, when: str) -> None:
        taken = state.steps_taken(self._optimizer)
        if taken != steps:
            raise RuntimeError(f"the optimizer should have taken {steps} steps {when} this update, but counts {taken}")

    def _reference(self) -> nn.Module:
        """The frozen model that the KL is measured to, in the engine's precision."""
        training = self.training
        model = making.from_folder(AutoModelForImageTextToText, training.initial, training.captioner.dtype)
        add_fused_lm_head(model, temperature=training.temperature)
        return model.requires_grad_(False).eval()

    def _place(self, sharded: bool) -> None:
        """Move the models to the device; divide them among the processes."""
        models = [model for model in (self.trainer.model, self.trainer.ref_model) if model is not None]
        accelerator, placement = self.trainer.accelerator, self.training.runtime.trainer
        if not sharded:
            for model in models:
                model.to(accelerator.device)
            return
        mesh = sharding.grid(accelerator.device, placement.world, placement.shards)
        mixed = accelerator.mixed_precision
        dtype = None if mixed == "no" else torch.bfloat16
        for model in models:
            sharding.spread(model, mesh, dtype, keep=placement.shards == 1)


def _arguments(training: Training, device: torch.device, adapted: bool) -> GRPOConfig:
    config, captioner = training.config, training.captioner
    on_cpu = device.type == "cpu"
    return GRPOConfig(
        output_dir=tempfile.gettempdir(),  # nothing is written there, but it must be a folder
        per_device_train_batch_size=2,  # TRL wants a group; the replay takes bins of the plan
        num_generations=2,
        gradient_accumulation_steps=1,
        num_iterations=1,
        max_steps=1,
        temperature=training.temperature,
        **losses.trl_arguments(config),
        scale_rewards="group",
        # For adapters, so that TRL keeps the initial one; otherwise it would load the trained model's name again.
        beta=config.beta if adapted else 0.0,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=optimizer.NAMES[config.optimizer],
        bf16=captioner.dtype == "bfloat16",
        fp16=captioner.dtype == "float16",
        use_cpu=on_cpu,
        gradient_checkpointing=training.runtime.gradient_checkpointing,
        disable_dropout=True,  # an adapter from elsewhere may have some
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )


def _trainee(captioner: recipes.Captioner, initial: Path) -> tuple[Any, Any]:
    """The model to train, and the configuration of a new adapter, if TRL is to make one.

    A later stage of a training begins with the adapter of the one before.

    The model has the initial policy's adapter, or none: TRL uses what it finds as its KL reference.
    """
    found = adapters.Adapter.read(initial)
    if found is None and captioner.lora is None:
        return making.from_folder(AutoModelForImageTextToText, initial, torch.float32), None
    # Weights that are not trained need no more precision than the engine has.
    model = making.from_folder(AutoModelForImageTextToText, base_folder(initial), captioner.dtype)
    if found is None and captioner.lora is not None:
        return model, adapters.fresh(captioner.lora, model)
    return adapters.attach(model, initial, trainable=True), None


def on_one_device(arguments: GRPOConfig, device: torch.device) -> None:
    """Have the trainer use this device and no other.

    Of several visible GPUs transformers takes the first and wants to copy the model to all of them, which TRL refuses.
    """
    if device.type != "cuda" or arguments.world_size > 1:
        return
    device = torch.device("cuda", device.index or 0)
    torch.cuda.set_device(device)
    arguments.__dict__["_setup_devices"] = device  # transformers keeps here what `arguments.device` says
    arguments._n_gpu = 1
    arguments.distributed_state.device = device  # where accelerate puts the model
