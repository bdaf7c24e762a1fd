"""The engine on vLLM in this process: continuous batching over everything that is asked, prefix caching.

vLLM pins threads and sets environment variables for the whole process, so this runs in a process of its own (see
`racro.engines.worker`) and nothing imports it by the way. One thread owns vLLM's LLMEngine: it starts it, steps it
while there are requests, and swaps, sleeps and shuts down between them. `generate` prepares prompts in the threads of
its callers. Opened by `racro.engines.build`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from racro.config import Place
from racro.config import VllmEngine as Settings
from racro.engines import (
    Completion,
    Engine,
    EngineLost,
    Generation,
    Prompt,
    PromptTooLong,
    Sampling,
    SwapFailed,
    prompt_seed,
)
from racro.engines.adapters import Adapter, AdapterNotServed
from racro.engines.sampling import vision_token_ids
from racro.engines.templates import fill
from racro.engines.weights import EXTENSION, Sums, checkpoint_sums, same_model, shapes, verify
from racro.models import load_processor, load_tokenizer, model_folder

IMAGES = 64
"""Images of one prompt, at most."""


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks for which vLLM makes room."""


@dataclass(eq=False)
class Request:
    """A prompt that the owner works on."""

    inputs: Any
    """What vLLM takes: ids, image tokens expanded, and pixels."""
    deadline: float
    params: list[Any]
    """vLLM's sampling parameters, one per sample."""
    outputs: list[Any] = field(default_factory=list)
    """vLLM's output per sample; None while it is being made, and after the deadline."""
    left: int = 0
    """Samples that are being made."""
    until: float = math.inf
    """Deadline on the monotonic clock, from when vLLM was given the request."""
    error: Exception | None = None
    """Why vLLM did not take it."""

    def __post_init__(self) -> None:
        self.left = len(self.params)
        self.outputs = [None] * self.left


class VllmEngine(Engine):
    """A model that vLLM holds, its tokenizer or processor, and the thread that owns it."""

    def __init__(
        self, folder: str, dtype: str, processor: Any, config: Settings, place: Place, adapter: Adapter | None = None
    ) -> None:
        """`processor` is None for a text-only model. Raises what vLLM raises when it does not start."""
        self.folder, self.dtype, self.config, self.place = folder, dtype, config, place
        self.adapter = adapter
        self.processor, self.shapes = processor, shapes(Path(folder))
        self.tokenizer = load_tokenizer(Path(folder)) if processor is None else processor.tokenizer
        self.rendering = threading.Lock()
        self.changed = threading.Condition()
        """Guards and announces all that follows."""
        self.arrived: deque[Request] = deque()
        self.dropped: list[Request] = []
        self.jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self.flying = 0
        """Sequences that are, or are about to be, with the owner."""
        self.error: BaseException | None = None
        self.closed = False

        self.running: dict[str, tuple[Request, int]] = {}
        """Of the owner alone: which sample a request of vLLM's is."""
        self.given = 0
        self.lora: Any = None
        """vLLM's name of the adapter that is loaded."""
        self.adapters = 0
        self.asleep = False
        started: Future[None] = Future()
        self.owner = threading.Thread(target=self._own, args=(started,), name="vllm", daemon=True)
        self.owner.start()
        started.result()

    @classmethod
    def captioner(cls, folder: str, dtype: str, config: Settings, place: Place) -> VllmEngine:
        """An engine on a vision-language model's folder, or on that of a LoRA adapter, whose model is found too."""
        adapter = Adapter.read(Path(folder))
        if adapter is not None:
            folder = str(model_folder(adapter.base, "captioner"))
        return cls(folder, dtype, load_processor(Path(folder)), config, place, adapter)

    @classmethod
    def reasoner(cls, folder: str, dtype: str, config: Settings, place: Place) -> VllmEngine:
        """An engine on a text-only model's folder."""
        return cls(folder, dtype, None, config, place)

    # --- in the callers' threads --------------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """See Engine."""
        return self.error is not None

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        """See Engine. Prompts are read once, when there is room for them. Raises PromptTooLong and ValueError.

        vLLM takes temperatures up to 2.
        """
        waiting: deque[Request] = deque()
        at = 0
        try:
            while at < len(prompts) or waiting:
                if self._room(sampling.n if at < len(prompts) else None, waiting):
                    waiting.append(self._ask(prompts, at, sampling, seeds))
                    at += 1
                while waiting and not waiting[0].left:
                    yield self._generation(waiting.popleft())
        finally:
            with self.changed:
                self.dropped += [request for request in waiting if request.left]
                self.changed.notify_all()

    def swap(self, folder: str) -> None:
        """See Engine. Takes its turn when what was asked before is answered."""
        if self.config.quantization is not None:
            raise SwapFailed("a quantised engine cannot be compared with a checkpoint")
        if self.adapter is not None:
            load = self._adapt(Path(folder), self.adapter)
        else:
            same_model(Path(folder), self.shapes)
            sums = checkpoint_sums(Path(folder), self.dtype)
            load = functools.partial(self._load, folder, sums)
        try:
            self._between_requests(load)
        except Exception as error:
            self._lose(error)  # what it holds now may be neither the old checkpoint nor the new one
            if isinstance(error, SwapFailed | EngineLost):
                raise
            raise SwapFailed(f"the weights of {folder} could not be loaded: {_line(error)}") from error

    def rest(self) -> None:
        """See Engine. vLLM wakes at the next call; on a CPU it never sleeps."""
        self._between_requests(self._sleep)

    def close(self) -> None:
        """Shut vLLM down. Whoever still waits for completions gets EngineLost."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.owner.join()

    def _adapt(self, folder: Path, before: Adapter) -> Callable[[], None]:
        """What the owner has to do to go on with another adapter. Raises SwapFailed."""
        after = Adapter.read(folder)
        if after is None or after.base != before.base or after.rank > before.rank:
            raise SwapFailed(f"{folder} is no adapter of {before.base} with a rank of at most {before.rank}")
        sums = after.sums(self.dtype)
        return lambda: self._load_adapter(after, sums)

    def _room(self, n: int | None, waiting: deque[Request]) -> bool:
        """Wait until there is room for n more sequences, then True and it is taken; or until the first has finished.

        Whoever comes while the owner is wanted for something else waits until that is done.
        """

        def room() -> bool:
            fits = n is not None and (self.flying == 0 or self.flying + n <= self.place.sequences)
            return fits and not self.jobs

        with self.changed:
            self.changed.wait_for(
                lambda: self.error or self.closed or room() or (waiting and not waiting[0].left),
            )
            self._check()
            if n is None or not room():
                return False
            self.flying += n
            return True

    def _ask(self, prompts: Sequence[Prompt], at: int, sampling: Sampling, seeds: Sequence[int]) -> Request:
        """Read and prepare a prompt, for which there is room, and hand it to the owner."""
        try:
            inputs = self._render(prompts[at], sampling.max_tokens)
            request = Request(inputs, sampling.deadline, self._params(sampling, seeds[at]))
        except BaseException:  # what was reserved is free again, a stage's timeout included; raised again
            with self.changed:
                self.flying -= sampling.n
                self.changed.notify_all()
            raise
        with self.changed:
            self.arrived.append(request)
            self.changed.notify_all()
        return request

    def _render(self, prompt: Prompt, max_tokens: int) -> Any:
        """What vLLM's engine takes: ids, image tokens expanded, and pixels. Raises PromptTooLong and ValueError."""
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        parts: dict[str, Any] = {"prompt": fill(prompt, self.tokenizer, self.processor)}
        if prompt.images:
            parts["multi_modal_data"] = {"image": list(prompt.images)}
        parsed = parse_model_prompt(self.engine.model_config, parts)
        with self.rendering, _plain_errors():
            [rendered] = self.engine.renderer.render_cmpl([parsed], self.tokenizing)
        length, longest = len(rendered["prompt_token_ids"]), self.engine.model_config.max_model_len
        if length + max_tokens > longest:
            raise PromptTooLong(
                f"a prompt of {length} tokens and max_tokens {max_tokens} exceed the model's {longest} positions; "
                "lower max_tokens, or leave this problem out"
            )
        return rendered

    def _params(self, sampling: Sampling, seed: int) -> list[Any]:
        """One request of vLLM's per sample, all with the same prompt: the prefix cache makes it one prefill."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        with _plain_errors():
            return [
                SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=prompt_seed(seed, sample),
                    logit_bias=self.bans or None,
                    logprobs=0,  # of the sampled token, and of no others
                    flat_logprobs=True,
                    detokenize=False,
                    skip_clone=True,  # nobody else has it
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                for sample in range(sampling.n)
            ]

    def _generation(self, request: Request) -> Generation:
        if request.error is not None:
            raise request.error
        texts = self.tokenizer.batch_decode(
            [output.token_ids if output else () for output in request.outputs],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return Generation(
            tuple(request.inputs["prompt_token_ids"]),
            tuple(_completion(output, text) for output, text in zip(request.outputs, texts, strict=True)),
        )

    def _check(self) -> None:
        if self.error is not None:
            raise EngineLost(f"vLLM has failed: {_line(self.error)}") from self.error
        if self.closed:
            raise EngineLost("the engine is closed")

    def _between_requests(self, job: Callable[[], None]) -> None:
        """Have the owner do something while no sequence is with it. Returns when it is done; raises what it raises."""
        done: Future[None] = Future()
        with self.changed:
            self._check()
            self.jobs.append((job, done))
            self.changed.notify_all()
        done.result()

    def _lose(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    # --- in the owner's thread ----------------------------------------------------------------------------------------

    def _own(self, started: Future[None]) -> None:
        try:
            self._start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            while self._turn():
                pass
        except BaseException as error:
            self._lose(error)
        with self.changed:
            for _, done in self.jobs:
                done.set_exception(EngineLost("the engine is closed"))
            self.jobs.clear()
        self.engine.engine_core.shutdown()

    def _start(self) -> None:
        # vLLM's scheduler in this process: a step then ends when it is done, and there is one process less to lose.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # knows whole GiB only, and would outrank the argument
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        cpu = self.on_cpu = current_platform.is_cpu()
        place, config = self.place, self.config
        eager = cpu if place.eager is None else place.eager
        lora: dict[str, Any] = {}
        if self.adapter is not None:
            rank = next(rank for rank in RANKS if rank >= self.adapter.rank)
            lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        arguments = EngineArgs(
            model=self.folder,
            dtype=self.dtype,
            quantization=config.quantization,
            max_model_len=config.max_model_len,
            max_num_seqs=place.sequences,
            tensor_parallel_size=place.tensor_parallel,
            gpu_memory_utilization=place.gpu_memory,
            kv_cache_memory_bytes=int(place.cpu_cache * 2**30) if cpu else None,
            block_size=32 if cpu else None,  # the default on CPUs is longer than a short prompt
            enforce_eager=eager,
            enable_sleep_mode=not cpu,
            # On a CPU a prompt that is read in parts, and has a seed, kills vLLM's engine: its generators cannot step
            # back.
            enable_chunked_prefill=not cpu,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            worker_extension_cls=EXTENSION,
            limit_mm_per_prompt={} if self.processor is None else {"image": IMAGES, "video": 0},
            mm_processor_cache_gb=0,  # images hardly come back before thousands of others have passed
            disable_log_stats=True,
            **lora,
        )
        self.engine = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)
        # Once started it only says, twice per image, that it keeps its number of threads.
        logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
        self.tokenizing = dataclasses.replace(
            self.engine.renderer.default_cmpl_tok_params.with_kwargs(add_special_tokens=False), max_total_tokens=None
        )
        if self.adapter is not None:
            try:
                self._load_adapter(self.adapter, self.adapter.sums(self.dtype))
            except SwapFailed as error:
                raise AdapterNotServed(
                    f"{self.adapter.folder}: vLLM does not serve all of this adapter ({error}); it may adapt the "
                    "linear layers of the language model"
                ) from error
        vocabulary = self.engine.model_config.get_vocab_size()
        banned = vision_token_ids(self.engine.model_config.hf_config, self.tokenizer)
        self.bans = {token: -math.inf for token in banned if token < vocabulary}

    def _turn(self) -> bool:
        """Take what has arrived, make one step, hand out what has finished. False when the engine is to close."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.closed or self.arrived or self.running or self.dropped or (self.jobs and not self.flying)
            )
            if self.closed:
                return False
            arrived, dropped = list(self.arrived), self.dropped
            self.arrived.clear()
            self.dropped = []
            job = self.jobs.popleft() if self.jobs and not self.flying else None
        if job is not None:
            self._do(*job)
        for request in arrived:
            self._submit(request)
        if self.running:
            self._finish({output.request_id: output.outputs[0] for output in self.engine.step()})
        now = time.monotonic()
        late = [name for name, (request, _) in self.running.items() if request in dropped or now > request.until]
        if late:
            self.engine.abort_request(late)
            self._finish(dict.fromkeys(late))
        return True

    def _submit(self, request: Request) -> None:
        self._wake()
        request.until = time.monotonic() + request.deadline
        for sample, params in enumerate(request.params):
            self.given += 1
            name = str(self.given)
            self.running[name] = request, sample
            try:
                with _plain_errors():
                    self.engine.add_request(name, request.inputs, params, lora_request=self.lora)
            except ValueError as error:  # the first sample tells: vLLM takes a prompt or it does not
                request.error = error
                del self.running[name]
                self._leave(request, len(request.params))
                return

    def _finish(self, outputs: dict[str, Any]) -> None:
        """Sort outputs to their requests; None for what was given up."""
        for name, output in outputs.items():
            request, sample = self.running.pop(name)
            request.outputs[sample] = output
            self._leave(request, 1)

    def _leave(self, request: Request, samples: int) -> None:
        with self.changed:
            request.left -= samples
            self.flying -= samples
            self.changed.notify_all()

    def _do(self, job: Callable[[], None], done: Future[None]) -> None:
        try:
            if not self.asleep:
                # What was in the air when its request was given up lands.
                self.engine.step()
                self.engine.step()
            job()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _load(self, folder: str, sums: Sums) -> None:
        self._wake()
        held = self.engine.collective_rpc("load_checkpoint", args=(folder,))
        self._forget()
        verify(held, sums)

    def _load_adapter(self, adapter: Adapter, sums: Sums) -> None:
        from vllm.lora.request import LoRARequest

        self._wake()
        if self.lora is not None:
            self.engine.remove_lora(self.lora.lora_int_id)
        self.adapter = adapter
        self.adapters += 1
        self.lora = LoRARequest(f"adapter-{self.adapters}", self.adapters, str(adapter.folder))
        self.engine.add_lora(self.lora)
        self._forget()
        verify(self.engine.collective_rpc("adapter_sums"), sums)

    def _forget(self) -> None:
        """Clear every cache of what was computed."""
        if not self.engine.reset_prefix_cache():
            raise RuntimeError("keys and values of the old weights are still in use")
        self.engine.reset_mm_cache()
        self.engine.reset_encoder_cache()

    def _sleep(self) -> None:
        if not self.on_cpu and not self.asleep:
            self.engine.sleep(1)  # weights to main memory, keys and values away
            self.asleep = True

    def _wake(self) -> None:
        if self.asleep:
            self.engine.wake_up()
            self.asleep = False


def _completion(output: Any, text: str) -> Completion:
    """From vLLM's output. Raises FloatingPointError."""
    if output is None:
        return Completion((), (), "", "deadline")
    logprobs = tuple(output.logprobs.logprobs)
    if not all(map(math.isfinite, logprobs)):
        raise FloatingPointError("the model's probabilities are not numbers: its weights have diverged")
    if output.finish_reason not in ("stop", "length") or len(logprobs) != len(output.token_ids):
        raise EngineLost(f"vLLM gave {output}")
    return Completion(tuple(output.token_ids), logprobs, text, output.finish_reason)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """What vLLM does not accept is a ValueError that can be read where vLLM is not imported."""
    from vllm.exceptions import VLLMClientError

    try:
        yield
    except (ValueError, VLLMClientError) as error:
        raise ValueError(str(error)) from error


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
