"""Does an engine hold the weights of a checkpoint? Sums over bits that vLLM's rearranging of tensors leaves alone.

vLLM fuses, shards, pads and repacks tensors, so nothing can be compared tensor by tensor. The sums here are over the
bit patterns of all elements of a group of tensors, as integers modulo 2^64: exact, whatever the order, and blind to
zeros, which is what padding is made of. One changed element changes them.

Not a digest of a file (see `racro.models.folders`). `CheckpointLoading` is mixed into vLLM's workers; `checkpoint_sums`
and `verify` are called by whoever swaps a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from racro.engines.protocol import SwapFailed

EXTENSION = "racro.engines.vllm.weights.CheckpointLoading"
"""vLLM's `worker_extension_cls`: gives its workers `load_checkpoint`."""

Sums = dict[str, list[int]]
"""By name: [elements that are not zero, sum of their bits, sum of the squares], the sums modulo 2^64."""

CHUNK = 1 << 22
"""Elements that are summed at once; their bits take eight bytes each."""


INPUT_WIDTH = ("input_size_per_partition", "input_size", "embedding_dim")
"""Where vLLM's layers say how many numbers they take."""


class CheckpointLoading:
    """Methods of a vLLM worker, called through `collective_rpc`; each rank answers for the tensors that it holds.

    The caller sees to it that nothing is being generated, clears vLLM's caches, and compares the sums (`verify`).
    """

    model_runner: Any
    reload_weights: Callable[..., None]

    def load_checkpoint(self, folder: str) -> Sums:
        """Go on with the weights of this folder. Returns `weight_sums`."""
        self.reload_weights(weights_path=folder)
        for layer in self.model_runner.get_model().modules():
            # On CPUs vLLM packs a copy of the output layer. Tied to the embeddings, the layer itself is not loaded
            # again, and its copy would go on answering with the old weights.
            if hasattr(layer, "cpu_linear") and layer.weight.numel():
                layer.quant_method.process_weights_after_loading(layer)
        return self.weight_sums()

    def weight_sums(self) -> Sums:
        """Sums by tensor of this rank. JSON-able."""
        model, dtype = self.model_runner.get_model(), self.model_runner.model_config.dtype
        with torch.no_grad():
            sums = {name: tensor_sums([tensor], dtype) for name, tensor in model.named_parameters() if tensor.numel()}
            for name, layer in model.named_modules():
                if hasattr(layer, "cpu_linear"):
                    packed = tensor_sums(_packed(layer, dtype), dtype)
                    # The only copy, or one that must not differ from the weight beside it.
                    if not layer.weight.numel() or packed != tensor_sums([layer.weight], dtype):
                        sums[f"{name}.packed"] = packed
        return sums

    def adapter_sums(self) -> Sums:
        """The same of the LoRA adapter that is loaded, the first of two matrices apart from the second."""
        dtype = self.model_runner.model_config.dtype
        return {
            f"{name}.{matrix}": tensor_sums(getattr(layer, matrix), dtype)
            for name, layer in self.model_runner.get_model().named_modules()
            for matrix in ("lora_a_stacked", "lora_b_stacked")
            if hasattr(layer, matrix)
        }


def checkpoint_sums(folder: Path, dtype: str) -> Sums:
    """Sums by group of what an engine in `dtype` holds of a checkpoint's safetensors. Raises SwapFailed."""
    from transformers import AutoConfig

    sums: Sums = {}
    tied = AutoConfig.from_pretrained(folder).get_text_config().tie_word_embeddings
    for shard in sorted(folder.glob("*.safetensors")):
        with opened(shard) as file:
            for name in file.keys():  # noqa: SIM118, not a mapping
                if name.endswith("rotary_emb.inv_freq") or (tied and name.endswith("lm_head.weight")):
                    continue
                found = tensor_sums([file.get_tensor(name)], getattr(torch, dtype))
                sums[group(name)] = add_sums(sums.get(group(name)), found)
    return sums


def verify(engine: list[Sums], checkpoint: Sums) -> None:
    """Compare the sums of an engine's ranks with those of a checkpoint. Raises SwapFailed, which says what differs.

    What tensor parallelism shards is added up over the ranks; what it copies has the same sums on all of them and is
    counted once. More ranks than key-value heads copy heads inside sharded tensors, and cannot be compared.
    """
    held: Sums = {}
    for name in engine[0]:
        ranks = [sums[name] for sums in engine]
        copied = all(sums == ranks[0] for sums in ranks)
        for sums in ranks[:1] if copied else ranks:
            held[group(name)] = add_sums(held.get(group(name)), sums)
    wrong = [name for name in sorted(held.keys() | checkpoint.keys()) if held.get(name) != checkpoint.get(name)]
    if wrong:
        raise SwapFailed(f"the engine does not hold the checkpoint's weights: sums differ for {', '.join(wrong)}")


def shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of a checkpoint's tensors, from the headers of its safetensors. Raises SwapFailed."""
    found: dict[str, list[int]] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        with opened(shard) as file:
            found |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return found


def same_model(folder: Path, before: dict[str, list[int]]) -> None:
    """A checkpoint has these tensors, all of them and no others. Raises SwapFailed."""
    after = shapes(folder)
    wrong = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if wrong:
        raise SwapFailed(
            f"{folder} is no checkpoint of the engine's model: {wrong[0]} is {after.get(wrong[0], 'missing')} and not "
            f"{before.get(wrong[0], 'missing')} ({len(wrong)} of {len(before)} tensors differ)"
        )


def group(name: str) -> str:
    """Tensors are summed by the first number in their names, the layer's: checkpoints and vLLM agree on no more."""
    number = re.search(r"\.(\d+)\.", name)
    return f"layer {number[1]}" if number else "tensors outside the layers"


def tensor_sums(tensors: Iterable[torch.Tensor], dtype: torch.dtype) -> list[int]:
    """Sums over all elements of some tensors, cast to `dtype`."""
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    total = torch.zeros(3, dtype=torch.int64)
    for tensor in tensors:
        for chunk in tensor.detach().reshape(-1).split(CHUNK):
            values = chunk.to(dtype)
            # Signed zeros, and numbers that some kernels take for zero, are zeros.
            values = values.masked_fill(values.abs() < torch.finfo(torch.float32).tiny, 0)
            integers = values.view(bits).to(torch.int64)
            total = total.to(chunk.device)
            total += torch.stack([(integers != 0).sum(), integers.sum(), (integers * integers).sum()])
    return total.tolist()


def _packed(layer: Any, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """The weight of a packed layer, which only its answers to unit vectors can tell, some dimensions at a time."""
    width = next(getattr(layer, name) for name in INPUT_WIDTH if hasattr(layer, name))
    for part in torch.eye(width, dtype=dtype).split(256):
        yield layer.cpu_linear(part, layer.weight, None)


def add_sums(one: list[int] | None, other: list[int]) -> list[int]:
    """Of two sets of tensors together."""
    if one is None:
        return other
    return [(a + b + 2**63) % 2**64 - 2**63 for a, b in zip(one, other, strict=True)]


def opened(shard: Path) -> Any:
    """A safetensors file. Raises SwapFailed."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(shard, framework="pt")
    except (OSError, SafetensorError) as error:
        raise SwapFailed(f"{shard} cannot be read: {error}") from error
