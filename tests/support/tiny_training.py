"""A training in miniature on any captioner folder: rollouts by the engine, a made-up reward, parity and updates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch

from racro import config
from racro.data import problems
from racro.data.images import open_image
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Completion, Generation, Prompt, Request, Sampling
from racro.models.adapters import Adapter
from racro.models.folders import load_captioner, model_digest
from racro.prompts import caption_messages
from racro.rollouts import captioner
from racro.schema import ScoredRollout
from racro.training import parity, planning
from tests.support.scoring import scored
from tests.support.updating import update

G = 4
SETTINGS = config.UpdateSettings(learning_rate=1e-3, beta=0.01, weight_decay=0.0, max_logprob_gap=1e-4)
ROLLOUT = config.RolloutSettings(problems=4, group_size=G, max_tokens=10)
RUNTIME = config.Runtime(device="cpu", caption_batch=2, gradient_checkpointing=False)


class TinyTraining:
    """Four problems, two of them with two images, and what a captioner makes of them."""

    def __init__(self, folder: Path, table: Path, pixels: config.PixelRange = (None, None)) -> None:
        """`folder`: the initial captioner. `table`: an empty folder for the problems' images. `pixels`: of images."""
        self.folder, self.table, self.pixels = folder, table, pixels
        pool = problems.load(config.EmbeddedProblems(count=24), str(table), seed=0).problems
        two = [p for p in pool if len(p.images) == 2][:2]
        one = [p for p in pool if len(p.images) == 1][:2]
        self.problems = {p.uid: p for p in (two[0], one[0], two[1], one[1])}

    def parity(self) -> parity.Parity:
        """Engine against trainer, as before a training."""
        engine = self._engine(self.folder)
        section = self._section()
        plain = ROLLOUT.model_copy(update={"max_tokens": 24})
        return parity.check(
            list(self.problems.values()),
            str(self.table),
            "policy",
            self.folder,
            engine,
            section,
            plain,
            1e-3,
            0,
            "cpu",
            600.0,
        )

    def rollouts(self, policy: Path) -> list[ScoredRollout]:
        """Captions of which half of each group is right: any signal will do here."""
        made = captioner.in_order(
            list(
                captioner.caption(
                    list(self.problems.values()),
                    str(self.table),
                    model_digest(policy),
                    self._engine(policy),
                    ROLLOUT,
                    0,
                    0,
                    deadline=600,
                )
            ),
            list(self.problems.values()),
        )
        return scored(made, [float(number % 2) for number in range(len(made))])

    def captions(self, shares: bool | None) -> list[Completion]:
        """All completions of the initial captioner. `shares`: see `racro.engines.local.prefix.Prefix`."""
        engine = self._engine(self.folder)
        engine.prefix.shares = shares
        requests = [
            Request(
                number,
                Prompt(
                    caption_messages(problem.question, len(problem.images)),
                    tuple(open_image(image, str(self.table)) for image in problem.images),
                ),
                Sampling(n=3, temperature=1.0, max_tokens=8),
                number,
            )
            for number, problem in enumerate(self.problems.values())
        ]
        made = [answer for answer in engine.generate(requests) if isinstance(answer, Generation)]
        assert len(made) == len(requests)
        return [completion for answer in made for completion in answer.completions]

    def update(
        self,
        out: Path,
        mini_batch: int,
        policy: Path | None = None,
        step: int = 0,
        lora: bool = False,
        tokens: int = 8192,
        optimizer: Literal["adamw", "offload"] = "adamw",
        moments: Literal["adamw", "adamw_8bit"] = "adamw",
        **changes: Any,
    ) -> dict[str, float]:
        """One update of `policy`, by default of the initial captioner. `tokens`: of a bin. `changes`: of settings."""
        policy = policy or self.folder
        rollouts = self.rollouts(policy)
        work = planning.plan(rollouts, self.problems, rollouts[0].policy, mini_batch)
        return update(
            work,
            images_base=str(self.table),
            policy=policy,
            initial=self.folder,
            out=out,
            step=step,
            captioner=self._section(config.Lora(rank=2) if lora else None),
            temperature=1.0,
            config=SETTINGS.model_copy(update={"optimizer": moments, **changes}),
            runtime=RUNTIME.model_copy(update={"trainer": config.TrainerPlacement(tokens=tokens, optimizer=optimizer)}),
            seed=0,
        )

    def _section(self, lora: config.Lora | None = None) -> config.Captioner:
        least, most = self.pixels
        return config.Captioner(model=str(self.folder), dtype="float32", lora=lora, min_pixels=least, max_pixels=most)

    def moved(self, policy: Path) -> float:
        """The largest change of a weight."""
        before, after = (safetensors.torch.load_file(f / "model.safetensors") for f in (self.folder, policy))
        assert before.keys() == after.keys()
        return max((before[name] - after[name]).abs().max().item() for name in before)

    def adapted_layers(self, adapter: Path) -> set[str]:
        """Names, in the language model, of the layers that an adapter changes."""
        assert Adapter.read(adapter)
        prefix = self._prefix()
        names = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
        assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
        return {name.partition(f"{prefix}.")[2].partition(".lora_")[0] for name in names}

    def linear_layers(self) -> set[str]:
        """Names of all linear layers of the language model but small gates: linear attention's, and Gemma 4's input."""
        decoder = self._model().get_decoder()
        layers = {name for name, module in decoder.named_modules() if isinstance(module, torch.nn.Linear)}
        gates = ("in_proj_a", "in_proj_b", "per_layer_")
        return {name for name in layers if not name.rpartition(".")[2].startswith(gates)}

    def _prefix(self) -> str:
        model = self._model()
        return next(name for name, module in model.named_modules() if module is model.get_decoder())

    def _model(self) -> Any:
        return load_captioner(self.folder, "float32", torch.device("cpu"))

    def _engine(self, folder: Path) -> TransformersEngine:
        return TransformersEngine.captioner(str(folder), "float32", "cpu", 2, pixels=self.pixels)
