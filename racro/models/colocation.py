"""Who is on which GPU during a training, who sleeps meanwhile, and does it fit?

Turns: captions and answers, with both engines awake; the update, when engines on the trainer's GPUs sleep and the
trainer is there; and before the first iteration the parity check, a model in the run's process while the captioner's
engine sleeps. Before an engine on one of its GPUs is asked, the trainer rests (`tasks.running.trainer`). What cannot
work is refused; what is only likely not to fit is a warning. `racro doctor RECIPE` prints the table.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from racro.config import Captioner, Recipe, UpdateSettings
from racro.models import devices, memory, sizes
from racro.models.devices import NoDevice
from racro.models.memory import BYTES, CONTEXT
from racro.processes.gpus import GIB, Memory, cpu_build, memories, visible

Turn = Literal["captions, answers", "update", "parity check"]
QUANTIZED = 0.5
"""Fewest bytes for each parameter of a quantised model."""

logger = logging.getLogger(__name__)


class NoRoom(NoDevice):
    """A placement that cannot fit into the memory of the GPUs."""


@dataclass(frozen=True)
class Held:
    """What one of them holds on one GPU during a turn."""

    gpu: int
    who: str
    turn: Turn
    certain: int
    """Bytes that it cannot do without."""
    likely: int
    """Bytes in all; of vLLM, what it does without its share of the GPU."""
    share: float | None = None
    """Of the GPU's memory, which vLLM takes."""

    def bytes(self, total: int | None) -> int:
        """Bytes in all, on a GPU of that size; None: not known."""
        return self.likely if total is None or self.share is None else max(self.certain, round(self.share * total))


@dataclass(frozen=True)
class Placed:
    """A recipe on GPUs."""

    held: tuple[Held, ...]
    trainer: memory.Need | None
    """None if it is on CPUs, or unknown."""
    unknown: tuple[str, ...]
    """Roles whose model's config.json is not on this machine."""

    @property
    def gpus(self) -> list[int]:
        """Numbers of the GPUs, in order."""
        return sorted({held.gpu for held in self.held})

    def turns(self, gpu: int) -> dict[Turn, list[Held]]:
        """Who is awake on a GPU."""
        found: dict[Turn, list[Held]] = {}
        for held in self.held:
            if held.gpu == gpu:
                found.setdefault(held.turn, []).append(held)
        return found

    def peak(self, gpu: int, total: int | None) -> int:
        """Bytes of the fullest turn."""
        return max(
            sum(held.bytes(total) for held in awake) + self._asleep(gpu, turn)
            for turn, awake in self.turns(gpu).items()
        )

    def _asleep(self, gpu: int, turn: Turn) -> int:
        """What the others keep meanwhile."""
        others = {held.who for held in self.held if held.gpu == gpu and held.who != "parity check"}
        return CONTEXT * len(others - {held.who for held in self.turns(gpu)[turn]})


def placed(recipe: Recipe, there: Sequence[int], vllm: bool, download: bool = False) -> Placed:
    """Who is where, if these GPUs are there.

    vllm: does vLLM use GPUs? download: get a config.json that is not on this machine.
    """
    unknown: list[str] = []
    held: list[Held] = []
    need = None
    for role, config in recipe.roles.items():
        elsewhere = config.engine.type == "scripted" or bool(recipe.runtime.place(role).urls)
        if elsewhere and role != "captioner":
            continue
        folder = _counted(recipe, role, download)
        if folder is None:
            unknown.append(role)
            continue
        if not elsewhere:
            held += _engine(recipe, role, folder, there, vllm)
        if isinstance(config, Captioner):
            update = _heaviest(recipe, folder)
            need = memory.trainer(sizes.captioner(folder, config.lora, update.freeze), config, update, recipe.runtime)
            on = devices.trainer_gpus(recipe.runtime, there)
            held += [Held(gpu, "trainer", "update", need.certain, need.likely) for gpu in on]
            held += [] if elsewhere else _parity(recipe, folder, there)
    return Placed(tuple(held), need if any(one.who == "trainer" for one in held) else None, tuple(unknown))


def require(recipe: Recipe) -> None:
    """Before a training: can the trainer's placement work, and do all fit into the GPUs' memory?

    Raises NoDevice, NoRoom, also for a precision that does not train. Warns of what will probably not fit.
    """
    devices.require_trainer(recipe.runtime)
    if recipe.captioner.dtype == "float16":
        raise NoDevice("captioner.dtype: float16 overflows in training, and is for engines only; set it to bfloat16")
    if recipe.runtime.cluster.type != "local":  # each has GPUs of its own there
        return
    there = memories()
    if not there or not devices.has_cuda():
        return
    found = placed(recipe, visible(list(there)), vllm=not cpu_build(), download=True)
    refuse(recipe, found, there)
    for warning in warnings(recipe, found, there):
        logger.warning("%s", warning)


def refuse(recipe: Recipe, found: Placed, there: dict[int, Memory]) -> None:
    """Raises NoRoom for what cannot fit, with numbers that would do."""
    for held in found.held:
        if held.gpu not in there:
            continue
        total = there[held.gpu].total
        if held.share is None and held.certain > total:
            what = f"the {held.who} needs at least {_gib(held.certain)} on GPU {held.gpu}, which has {_gib(total)}"
            raise NoRoom(f"{what}; {_remedy(recipe, held, total)}")
        if held.share is not None and held.certain > held.share * total:
            role = f"runtime.{held.who}"
            raise NoRoom(
                f"{role}.gpu_memory: the weights of the {held.who} are {_gib(held.certain)}, and "
                f"{held.share:.0%} of GPU {held.gpu} are {_gib(held.share * total)}; {_spread(recipe, held, total)}"
            )
    for gpu in found.gpus:
        awake = [held for held in found.turns(gpu).get("captions, answers", []) if held.share is not None]
        if (taken := sum(held.share or 0 for held in awake)) > 1:
            names = " and ".join(f"runtime.{held.who}.gpu_memory={held.share:g}" for held in awake)
            raise NoRoom(
                f"{names}: both engines are awake on GPU {gpu} at the same time, and {taken:g} of its memory is more "
                f"than there is; give each {0.9 / len(awake):.2g}, or set runtime.reasoner.gpus to another GPU"
            )


def warnings(recipe: Recipe, found: Placed, there: dict[int, Memory]) -> list[str]:
    """What will probably not fit, one line each."""
    alike: dict[tuple[Turn, str, str], list[str]] = {}
    for gpu in found.gpus:
        if gpu not in there or (peak := found.peak(gpu, there[gpu].total)) <= there[gpu].total:
            continue
        total = there[gpu].total
        turn = max(found.turns(gpu).items(), key=lambda item: sum(held.bytes(total) for held in item[1]))[0]
        alike.setdefault((turn, _gib(peak), _gib(total)), []).append(str(gpu))
    return [
        f"GPU {', '.join(numbers)} will probably run out of memory ({turn}: {peak} of {of}); {_relief(turn)}"
        for (turn, peak, of), numbers in alike.items()
    ]


def _relief(turn: Turn) -> str:
    if turn == "update":
        return "lower runtime.trainer.tokens, or divide the model among more GPUs (runtime.trainer.gpus, shard: fsdp)"
    if turn == "parity check":
        return "set runtime.device to a larger GPU"
    return "lower gpu_memory of the engines, or place them on different GPUs"


def _remedy(recipe: Recipe, held: Held, total: int) -> str:
    """Numbers that would do."""
    if held.who == "parity check":
        return f"{_relief(held.turn)}, or choose a smaller model"
    if held.who != "trainer":
        return f"choose a smaller model, or the engine vllm with runtime.{held.who}.tensor_parallel"
    folder = _counted(recipe, "captioner", download=False)
    assert folder is not None
    found = []
    update = _heaviest(recipe, folder)
    counted = sizes.captioner(folder, recipe.captioner.lora, update.freeze)
    for count in (2, 4, 8, 16, 32, 64):
        need = memory.trainer(counted, recipe.captioner, update, memory.with_gpus(recipe.runtime, count))
        if count > recipe.runtime.trainer.shards and need.likely <= total:
            found.append(
                f"divide it among {count} of them (runtime.trainer.gpus, shard: fsdp; {_gib(need.likely)} each)"
            )
            break
    if not counted.adapted and not update.freeze:
        adapter = memory.with_adapter(recipe.captioner)
        need = memory.trainer(sizes.captioner(folder, adapter.lora, ()), adapter, update, recipe.runtime)
        if need.likely <= total:
            found.append(f"train an adapter (captioner.lora={{}}; {_gib(need.likely)})")
    return ", or ".join(found) or "choose a smaller model or larger GPUs"


def _heaviest(recipe: Recipe, folder: Path) -> UpdateSettings:
    """Settings of the update, in the stage of the training in which it needs most."""

    def need(update: UpdateSettings) -> int:
        counted = sizes.captioner(folder, recipe.captioner.lora, update.freeze)
        return memory.trainer(counted, recipe.captioner, update, recipe.runtime).likely

    return max((phase.update for phase in recipe.phases), key=need)


def _spread(recipe: Recipe, held: Held, total: int) -> str:
    place = recipe.runtime.place(held.who)
    if held.certain * 1.1 < 0.95 * total:
        return f"give it {min(0.95, held.certain * 1.3 / total):.2g}"
    parts = next(n for n in (2, 4, 8, 16, 32, 64, 128) if held.certain * place.tensor_parallel / n < 0.7 * total)
    return f"set runtime.{held.who}.tensor_parallel={parts}"


def _engine(recipe: Recipe, role: str, folder: Path, there: Sequence[int], vllm: bool) -> list[Held]:
    """A role's engine on each of its GPUs."""
    config, place = recipe.roles[role], recipe.runtime.place(role)
    count = sizes.parameters(folder)
    if config.engine.type == "transformers":
        weights = count * BYTES[config.dtype]
        on = devices.process_gpus(recipe.runtime, place, there)
        return [Held(gpu, role, "captions, answers", weights, weights + CONTEXT) for gpu in on]
    if not vllm or config.engine.type == "scripted":
        return []
    few = config.engine.quantization is not None or sizes.quantized(folder)
    weights = int(count * (QUANTIZED if few else BYTES[config.dtype])) // place.tensor_parallel
    return [
        Held(gpu, role, "captions, answers", weights, weights + CONTEXT, place.gpu_memory)
        for gpu in (place.gpus or there)[: place.needed]
    ]


def _parity(recipe: Recipe, folder: Path, there: Sequence[int]) -> list[Held]:
    """The check's model."""
    weights = sizes.parameters(folder) * BYTES[recipe.captioner.dtype]
    on = devices.process_gpus(recipe.runtime, None, there)
    return [Held(gpu, "parity check", "parity check", weights, weights + CONTEXT) for gpu in on]


def _counted(recipe: Recipe, role: str, download: bool) -> Path | None:
    """The folder of a model whose parameters can be counted."""
    config = recipe.roles[role]
    folder = sizes.config_folder(config, download)
    try:
        if folder is not None:
            sizes.parameters(folder)
            if isinstance(config, Captioner):
                for phase in recipe.phases:
                    sizes.captioner(folder, config.lora, phase.update.freeze)
        return folder
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        # What is wrong with the model is said by the stage that adopts it.
        logger.info("%s.model: its parameters cannot be counted: %s", role, " ".join(str(error).split())[:200])
        return None


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
