"""The measurements of `tests.bench.gpu`: a random model, made-up captions, the engine, the trainer.

Tokens are counted as a training needs them, each prompt once for its group: what a way computes twice lowers its rate.
The share of the peak is of the products with weights, without attention and without what gradient checkpointing
computes again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from racro import config
from racro.engines.opening import open_captioner
from racro.models import adapters, attention, memory, parts, sizes
from racro.processes.gpus import cpu_build
from racro.rollouts import captioner
from racro.schema import Problem, ScoredRollout
from racro.training.bins import deal
from racro.training.passes import BinInputs
from racro.training.planning import Plan, plan
from racro.training.prompts import PromptEncoder
from racro.training.trainer import Trainer, Training
from tests.bench.gpu_work import ONE_STEP, POLICY, Workload, half_right, lengths, made_up, problems, sum_of, write_model

Figures = dict[str, Any]


class Skipped(RuntimeError):
    """A measurement that this machine cannot make."""


class Bench:
    """A size of Qwen2.5-VL in a folder, and the trainer that is loaded from it."""

    def __init__(self, size: str, place: Path, workload: Workload, peak: float | None) -> None:
        """`peak`: TFLOP/s."""
        self.size, self.place, self.workload, self.peak = size, place, workload, peak
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.folder = place / "model"
        self.trainer: Trainer | None = None
        self.written: list[ScoredRollout] = []
        self.first: dict[int, torch.Tensor] | None = None
        """Log-probs that others are compared with."""

    def build(self) -> Figures:
        """Write the model."""
        return {"parameters": write_model(self.size, self.folder, self.device)}

    def caption(self, kind: str) -> Figures:
        """Captions by an engine; the first ones it writes, to start it, are not counted."""
        if kind == "vllm" and (cpu_build() or not vllm_installed() or self.device.type == "cpu"):
            raise Skipped("vLLM for GPUs is not installed")
        count, tokens = self.workload.written
        chosen = self._problems(count)
        section = config.Captioner.model_validate({"model": str(self.folder), "engine": {"type": kind}})
        place = config.EnginePlacement(gpu_memory=0.8)
        runtime = config.Runtime(caption_batch=count, captioner=place)
        start = time.monotonic()
        engine = open_captioner(section, str(self.folder), runtime, self.place / "engine.log")
        try:
            settings = config.RolloutSettings(problems=count, group_size=self.workload.captions, max_tokens=tokens)
            short = settings.model_copy(update={"max_tokens": 4})
            list(captioner.caption(chosen[:1], "", POLICY, engine, short, 0, 0, 1e9))
            opened = time.monotonic() - start
            start = time.monotonic()
            made = list(captioner.caption(chosen, "", POLICY, engine, settings, 0, 1, 1e9))
            seconds = time.monotonic() - start
        finally:
            engine.close()
        self.written = half_right(captioner.in_order(made, chosen))
        total = sum(len(row.completion_ids) for row in made)
        prompt = len(made[0].prompt_ids)
        return {"seconds": seconds, "tokens_per_s": total / seconds, "prompt": prompt, "start_s": opened}

    def load(
        self,
        lora: config.Lora | None,
        beta: float = 1e-3,
        tokens: int | None = None,
        dtype: config.DType = "bfloat16",
    ) -> Figures:
        """The trainer, in place of the one before."""
        self.close()
        self.lora, self.beta, self.steps, self.first = lora, beta, 0, None
        training = Training(
            initial=self.folder,
            captioner=config.Captioner(model=str(self.folder), lora=lora, dtype=dtype),
            temperature=1.0,
            config=config.UpdateSettings(beta=beta, max_logprob_gap=1e3, mini_batch=ONE_STEP),
            runtime=config.Runtime(
                trainer=config.TrainerPlacement(tokens=tokens or self.workload.tokens, attention="sdpa")
            ),
            seed=0,
        )
        self.trainer = Trainer(training, None)
        return {"trained": sum(v.numel() for v in self.replayer.model.parameters() if v.requires_grad)}

    def close(self) -> None:
        """Drop the trainer."""
        self.trainer = None

    @property
    def replayer(self) -> Any:
        """The loaded trainer's part of TRL."""
        assert self.trainer is not None
        return self.trainer.trainer

    @property
    def core(self) -> Any:
        """Its model without wrappers."""
        return adapters.inner(self.replayer.model)

    def update(self, way: str, grouped: bool) -> Figures:
        """One optimizer step, after another on two groups. `way`: of attention."""
        self._attend(way)
        with self._grouped(grouped):
            self._take(self.work(2))
            work = self.work(self.workload.groups)
            start, busy = self._now(), time.process_time()
            metrics = self._take(work)
            seconds, busy = self._now() - start, time.process_time() - busy
        if grouped and not metrics["shared_prompts"]:
            raise Skipped("captions cannot share their prompt here")
        return self._figures(work, seconds, trained=True) | {"cpu_s": busy, "grad_norm": metrics["grad_norm"]}

    def gap(self) -> Figures:
        """An update on what the engine wrote: how far are its log-probs from the trainer's?"""
        self._attend("sdpa")
        problems = {problem.uid: problem for problem in self._problems(self.workload.written[0])}
        work = plan(self.written, problems, POLICY, ONE_STEP)
        start = self._now()
        metrics = self._take(work)
        names = ("logprob_gap", "logprob_gap_max", "importance_ratio")
        return self._figures(work, self._now() - start, trained=True) | {name: metrics[name] for name in names}

    @torch.no_grad()
    def logprobs(self, way: str, grouped: bool) -> Figures:
        """Forward passes only, and how far they are from the first such row."""
        self._attend(way)
        work = self.work(self.workload.groups)
        inputs = BinInputs(work, self._encoder(), self.core)
        inputs.shared = grouped
        bins = deal(dict(enumerate(map(lengths, work.groups))), 1, self.replayer.budget, grouped)[0]
        prepared = [inputs.prepare(own, own.rows[0]) for own in bins]
        self.replayer._score(self.replayer.model, prepared[0].packed)
        start, busy = self._now(), time.process_time()
        passes = [self.replayer._score(self.replayer.model, own.packed).logprobs for own in prepared]
        seconds, busy = self._now() - start, time.process_time() - busy
        found: dict[int, torch.Tensor] = {}
        for own, values in zip(prepared, passes, strict=True):
            found |= zip(own.captions, values.float().split(own.lengths), strict=True)
        self.first = self.first or found
        gap = torch.cat([(found[number] - self.first[number]).abs() for number in found]).mean().item()
        return self._figures(work, seconds, trained=False) | {"cpu_s": busy, "bins": len(bins), "gap": gap}

    def largest_bin(self) -> Figures:
        """The most tokens of a bin that fit, of the sizes that are tried."""
        flex = self.device.type == "cuda" and attention.flex_works(self.device)
        self._attend("flex_attention" if flex else "sdpa")
        before, largest, peak, why = self.replayer.budget, 0, None, "all fit"
        each = sum(map(sum_of, map(lengths, self.work(2).groups))) // 2
        try:
            for tokens in self.workload.bins:
                self.replayer.budget = tokens
                try:
                    if self.device.type == "cuda":
                        torch.cuda.reset_peak_memory_stats()
                    with self._grouped(True):
                        self._take(self.work(max(2, tokens // each)))
                except torch.OutOfMemoryError:
                    why = f"{tokens} do not fit"
                    break
                largest = tokens
                if self.device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 2**30
        finally:
            self.replayer.budget = before
            self.replayer.model.zero_grad(set_to_none=True)
        return {"peak_gib": peak, "largest": largest, "why": why}

    def work(self, groups: int) -> Plan:
        """An optimizer step of so many groups."""
        words = self.core.config.get_text_config().vocab_size
        return made_up(self.workload, self._problems(groups), self._encoder(), words)

    def _problems(self, count: int) -> list[Problem]:
        return problems(count, self.place, self.workload.side)

    def _encoder(self) -> PromptEncoder:
        assert self.trainer is not None
        return PromptEncoder(self.trainer.processor, self.core, "", {})

    def _take(self, work: Plan) -> dict[str, float]:
        assert self.trainer is not None
        metrics = self.trainer.update(work, "", self.steps)
        self.steps += work.steps
        return metrics

    def _attend(self, way: str) -> None:
        for model in (self.core, self.replayer.ref_model):
            if model is not None:
                attention.use(model, way, self.device, "bfloat16")

    @contextmanager
    def _grouped(self, grouped: bool) -> Iterator[None]:
        """With a pass for each caption, if not grouped."""
        if not grouped:
            self.replayer.ways.agree = False
        try:
            yield
        finally:
            self.replayer.ways.agree = True

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    def _figures(self, work: Plan, seconds: float, trained: bool) -> Figures:
        tokens = sum(sum_of(lengths(group)) for group in work.groups)
        figures: Figures = {"seconds": seconds, "tokens_per_s": tokens / seconds}
        if self.peak:
            figures["of_peak"] = self._flops(work, tokens, trained) / seconds / (self.peak * 1e12)
        if trained:
            figures["predicted_gib"] = self._predicted()
        return figures

    def _predicted(self) -> float:
        """What `racro doctor` would say, without CUDA's context."""
        assert self.trainer is not None
        training = self.trainer.training
        found = sizes.captioner(self.folder, self.lora, ())
        need = memory.trainer(found, training.captioner, training.config, training.runtime)
        return (need.likely - need.parts["context"]) / 2**30

    def _flops(self, work: Plan, tokens: int, trained: bool) -> float:
        """Of the products with weights: 2 for each weight forward, 2 for inputs' and 2 for weights' gradients."""
        core = self.core
        base = [
            p for layer in parts.layers(core.get_decoder()) for n, p in layer.named_parameters() if "lora_" not in n
        ]
        vision = [p for layer in parts.layers(core.get_encoder(modality="image")) for p in layer.parameters()]
        captions = sum(sum(lengths(group).captions) for group in work.groups)
        images = len(work.groups) * (self.workload.side // 14) ** 2
        language = sum(p.numel() for p in base) * tokens + core.get_output_embeddings().weight.numel() * captions
        seen = sum(p.numel() for p in vision) * images
        if not trained:
            return 2.0 * (language + seen)
        reference = float(self.beta != 0)
        if self.lora is not None:
            return 2.0 * ((2 + reference) * language + (1 + reference) * seen)
        return 2.0 * (3 + reference) * (language + seen)


def matmul_peak(side: int) -> Figures:
    """TFLOP/s of a product of square matrices in bfloat16: what could be reached at best."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(12):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "tflops": 2 * side**3 / min(times) / 1e12}


def vllm_installed() -> bool:
    """Is vLLM there, in any build?"""
    import importlib.util

    return importlib.util.find_spec("vllm") is not None
