"""What a training takes of each GPU's memory: a formula over the numbers of parameters, no measurement.

Mixed precision as the trainer does it: trained weights, gradients and both moments in float32 are 16 bytes for each
trained parameter (ZeRO, arXiv 1910.02054, section 3.1, which counts a 16-bit copy besides), divided among the processes
of a copy (FSDP, arXiv 2304.11277). Activations follow arXiv 2205.05198: with gradient checkpointing what goes from
layer to layer, and one layer in full. Weights, gradients, moments and the reference are certain; the rest is an
estimate (docs/gpus.md).

Called by `racro.models.colocation`, which knows who is on a GPU at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from racro.config import Captioner, Lora, Runtime, TrainerPlacement, UpdateSettings
from racro.models.sizes import Sizes, Tower

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MOMENTS = {"adamw": 8.0, "adamw_8bit": 2.0}
"""Bytes for each trained parameter: two moments. torchao's also keeps a scale for each 256 of them."""
STORED = {"float32": 4.8, "bfloat16": 3.0, "float16": 3.0}
"""Bytes that a layer keeps for the backward pass for each input and output of its linear parts: their inputs, the steps
of its norms (in float32), attention's queries, keys and values. Counted on Qwen2.5-VL's layers (a test does)."""
IMAGES = 0.5
"""Share of a pass's tokens that are taken to be images'."""
TILE = (4096, 32768)
"""TRL's fused output layer computes so many tokens times so many words at once."""
CONTEXT = 2**30
"""Bytes that a process keeps on a GPU besides its tensors: CUDA's context, libraries, what a sleeping vLLM holds."""

Part = Literal[
    "weights", "gradients", "moments", "reference", "copies", "activations", "output layer", "optimizer step", "context"
]


@dataclass(frozen=True)
class Need:
    """Bytes on each GPU of the trainer."""

    parts: dict[Part, int]

    @property
    def certain(self) -> int:
        """What no setting of the passes can lower."""
        return sum(self.parts[name] for name in ("weights", "gradients", "moments", "reference"))

    @property
    def likely(self) -> int:
        """All together."""
        return sum(self.parts.values())


def trainer(sizes: Sizes, captioner: Captioner, config: UpdateSettings, runtime: Runtime) -> Need:
    """The update's memory on each of its GPUs."""
    place = runtime.trainer
    dtype, shards, divided = BYTES[captioner.dtype], place.shards, place.world > 1
    offloaded = place.optimizer == "offload"
    reference = 0 if sizes.adapted or config.beta == 0 else sizes.base * dtype
    parts: dict[Part, int] = {
        "weights": (sizes.trained * 4 + sizes.frozen * (dtype if sizes.adapted else 4)) // shards,
        "gradients": sizes.trained * 4 // shards,
        "moments": 0 if offloaded else round(sizes.trained * MOMENTS[config.optimizer]) // shards,
        "reference": reference // shards,
        "context": CONTEXT,
    }
    parts["activations"] = sum(
        _activations(tower, place.tokens, captioner, dtype if divided else 4, runtime.gradient_checkpointing)
        for tower in sizes.towers
    ) + _mask(place.tokens, dtype)
    parts["output layer"] = sizes.head * 4 + min(TILE[0], place.tokens) * min(TILE[1], sizes.vocabulary) * dtype
    parts["copies"] = _copies(sizes, dtype, divided, shards, bool(reference))
    # The step has room for one more float32 number for each parameter (torch's AdamW, `foreach`), when nothing of a
    # pass is left.
    passing = parts["activations"] + parts["output layer"] + parts["copies"]
    step = sizes.trained * 4 // shards if config.optimizer == "adamw" and not offloaded else 0
    parts["optimizer step"] = max(0, step - passing)
    return Need(parts)


def with_gpus(runtime: Runtime, count: int) -> Runtime:
    """The same with the trainer's model divided among so many GPUs."""
    place = runtime.trainer
    kept = {"tokens": place.tokens, "attention": place.attention, "gpus": tuple(range(count))}
    divided = TrainerPlacement.model_validate(kept | {"shard": "fsdp" if count > 1 else "none"})
    return runtime.model_copy(update={"trainer": divided})


def with_adapter(captioner: Captioner) -> Captioner:
    """The same with an adapter in place of all weights."""
    return captioner.model_copy(update={"lora": Lora()})


def _activations(tower: Tower, tokens: int, captioner: Captioner, stream: int, checkpointed: bool) -> int:
    """`stream`: bytes of a number that goes from layer to layer; autocast leaves these in float32."""
    if not tower.trained:
        return 0
    positions = tokens if tower.positions == 1 else round(tokens * IMAGES * tower.positions)
    layer = round(tower.width * STORED[captioner.dtype])
    kept = tower.layers * tower.hidden * stream + layer if checkpointed else tower.layers * layer
    return positions * kept


def _mask(tokens: int, dtype: int) -> int:
    """Which position sees which, once as booleans and once as what sdpa adds, if a pass is a single row."""
    return tokens**2 * (1 + dtype)


def _copies(sizes: Sizes, dtype: int, divided: bool, shards: int, reference: bool) -> int:
    """Copies of weights for a pass.

    One process: autocast's, of what is trained and not in the precision of the computation. Several: the layer that
    computes and the next one, what is in no layer, and their gradients before they are divided; all layers if each
    process has all weights.
    """
    models = 1 + reference
    if not divided:
        return 0 if dtype == 4 else sizes.trained * dtype
    if shards == 1:
        return sizes.base * dtype * models
    gradients = 0 if sizes.adapted else (sizes.rest + sizes.layer) * 4
    return (sizes.rest + 2 * sizes.layer) * dtype * models + gradients
