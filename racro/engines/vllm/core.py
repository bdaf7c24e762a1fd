"""vLLM's LLMEngine as this project starts it, and what can be done to it: requests, other weights, sleep.

Knows no threads: `racro.engines.vllm.owner` calls all but `render` from one. vLLM is imported when a Core is made.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from racro.config import EnginePlacement
from racro.config import Vllm as Settings
from racro.engines.protocol import BadPrompt, SwapFailed
from racro.engines.vllm.lora import adapter_sums, not_served
from racro.engines.vllm.weights import EXTENSION, Sums, checkpoint_sums, verify
from racro.errors import BadInput
from racro.models.adapters import Adapter

IMAGES = 64
"""Images of one prompt, at most."""


class Core:
    """The engine, the checkpoint that it holds, the adapter that it applies, and whether it sleeps."""

    def __init__(
        self,
        folder: str,
        dtype: str,
        config: Settings,
        place: EnginePlacement,
        images: Mapping[str, Any] | None,
        adapter: Adapter | None,
        rank: int | None,
    ) -> None:
        """`images`: arguments of the model's processor; None if it reads no images. `rank`: room for adapters.

        Raises BadAdapter, BadInput for settings that do not fit, and what else vLLM raises when it does not start.
        """
        # vLLM's scheduler in this process: a step then ends when it is done, and there is one process less to lose.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # knows whole GiB only, and would outrank the argument
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        cpu = self.on_cpu = current_platform.is_cpu()
        given = arguments(folder, dtype, config, place, images, rank, cpu)
        try:
            self.engine = LLMEngine.from_engine_args(EngineArgs(**given), UsageContext.LLM_CLASS)
        except ValidationError as error:
            why = " ".join("; ".join(one["msg"] for one in error.errors()).split())
            raise BadInput(f"engine vllm: it refuses the model or the settings: {why[:500]}") from error
        # Once started it only says, twice per image, that it keeps its number of threads.
        logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
        self.model_config = self.engine.model_config
        self.rendering = threading.Lock()
        self.tokenizing = dataclasses.replace(
            self.engine.renderer.default_cmpl_tok_params.with_kwargs(add_special_tokens=False), max_total_tokens=None
        )
        self.folder, self.dtype = folder, dtype
        self.asleep = self.discarded = False
        """Are the weights away? Are they kept nowhere but in their folder?"""
        self.adapters = 0
        self.lora: Any = None
        """vLLM's name of the adapter that is applied."""
        if adapter is not None:
            try:
                self.load_adapter(adapter, adapter_sums(adapter, dtype))
            except SwapFailed as error:
                raise not_served(adapter, error) from error

    def render(self, parts: dict[str, Any]) -> Any:
        """A prompt as `add` takes it: ids, image tokens expanded, and pixels. From any thread. Raises BadPrompt."""
        from vllm.exceptions import VLLMClientError
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        parsed = parse_model_prompt(self.model_config, parts)
        try:
            with self.rendering:
                [rendered] = self.engine.renderer.render_cmpl([parsed], self.tokenizing)
        except (ValueError, VLLMClientError) as error:  # of the model's processor, and of vLLM itself
            raise BadPrompt(f"vLLM does not take this: {error}") from error
        return rendered

    # --- requests -----------------------------------------------------------------------------------------------------

    def add(self, name: str, inputs: Any, params: Any) -> None:
        """Start a sequence. Raises BadPrompt when vLLM does not take it."""
        from vllm.exceptions import VLLMClientError

        self.wake()
        try:
            self.engine.add_request(name, inputs, params, lora_request=self.lora)
        except VLLMClientError as error:  # about the prompt: `SamplingParams` has checked the parameters
            raise BadPrompt(f"vLLM does not take this: {error}") from error

    def step(self) -> dict[str, Any]:
        """Make one more token for each sequence. Returns the outputs of those that have finished, by name."""
        return {output.request_id: output for output in self.engine.step()}

    def abort(self, names: Sequence[str]) -> None:
        """Abort these sequences."""
        self.engine.abort_request(list(names))

    def land(self) -> None:
        """Finish the steps that were in flight when their requests were aborted."""
        if not self.asleep:
            self.engine.step()
            self.engine.step()

    # --- between requests ---------------------------------------------------------------------------------------------

    def load(self, folder: str, sums: Sums) -> None:
        """Load the weights of another checkpoint. Raises SwapFailed."""
        self._rise()
        held = self.engine.collective_rpc("load_checkpoint", args=(folder,))
        self._forget()
        verify(held, sums)
        self.folder, self.discarded = folder, False

    def load_adapter(self, adapter: Adapter, sums: Sums) -> None:
        """Load another adapter. Raises SwapFailed."""
        from vllm.lora.request import LoRARequest

        self.wake()
        if self.lora is not None:
            self.engine.remove_lora(self.lora.lora_int_id)
        self.adapters += 1
        self.lora = LoRARequest(f"adapter-{self.adapters}", self.adapters, str(adapter.folder))
        self.engine.add_lora(self.lora)
        self._forget()
        verify(self.engine.collective_rpc("adapter_sums"), sums)

    def sleep(self, discard: bool) -> None:
        """Drop keys and values, and the weights or move them to main memory; on a CPU there is nothing to free."""
        if not self.on_cpu and not self.asleep:
            self.engine.sleep(2 if discard else 1)
            self.asleep, self.discarded = True, discard

    def wake(self) -> None:
        """Wake up if it is asleep, with the weights that it held. Raises SwapFailed."""
        self._rise()
        if self.discarded:
            self.load(self.folder, checkpoint_sums(Path(self.folder), self.dtype))

    def shutdown(self) -> None:
        """End vLLM."""
        self.engine.engine_core.shutdown()

    def _rise(self) -> None:
        """Take memory again. Discarded weights are still to be loaded."""
        if self.asleep:
            self.engine.wake_up()
            self.asleep = False

    def _forget(self) -> None:
        """Clear every cache of what was computed."""
        if not self.engine.reset_prefix_cache():
            raise RuntimeError("keys and values of the old weights are still in use")
        self.engine.reset_mm_cache()
        self.engine.reset_encoder_cache()


def arguments(
    folder: str,
    dtype: str,
    config: Settings,
    place: EnginePlacement,
    images: Mapping[str, Any] | None,
    rank: int | None,
    cpu: bool,
) -> dict[str, Any]:
    """vLLM's EngineArgs, see `Core`. `cpu`: this is vLLM's build for CPUs."""
    return {
        "model": folder,
        "dtype": dtype,
        "quantization": config.quantization,
        "max_model_len": config.max_model_len,
        "kv_cache_dtype": config.kv_cache_dtype,
        "max_num_seqs": place.sequences,
        "max_num_batched_tokens": place.max_num_batched_tokens,
        "tensor_parallel_size": place.tensor_parallel,
        "gpu_memory_utilization": place.gpu_memory,
        "kv_cache_memory_bytes": int(place.cpu_cache * 2**30) if cpu else None,
        "block_size": 32 if cpu else None,  # the default on CPUs is longer than a short prompt
        "enforce_eager": cpu if place.eager is None else place.eager,
        "enable_sleep_mode": not cpu,
        # On a CPU a prompt that is read in parts, and has a seed, kills vLLM's engine: its generators cannot step back.
        "enable_chunked_prefill": not cpu,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": EXTENSION,
        "limit_mm_per_prompt": {} if images is None else {"image": IMAGES, "video": 0},
        "mm_processor_kwargs": dict(images) if images else None,
        "mm_processor_cache_gb": 0,  # images hardly come back before thousands of others have passed
        "disable_log_stats": True,
        **({"enable_lora": True, "max_loras": 1, "max_lora_rank": rank} if rank else {}),
    }
