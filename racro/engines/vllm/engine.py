"""The engine on vLLM in this process: continuous batching of all requests, prefix caching.

vLLM pins threads and sets environment variables for the whole process, so this runs in a separate process (see
`racro.engines.worker.client`), and importing it alone does not import vLLM. Prompts become vLLM's requests, and its
outputs completions, in the threads of the callers; one other thread owns vLLM (`racro.engines.vllm.owner`). Opened by
`racro.engines.building`.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from racro.config import EnginePlacement, Lora, PixelRange
from racro.config import Vllm as Settings
from racro.engines.protocol import (
    BadPrompt,
    Completion,
    Engine,
    EngineLost,
    Generation,
    Prompt,
    Refusal,
    Request,
    Sampling,
    SwapFailed,
    prompt_seed,
    too_long,
)
from racro.engines.templates import fill
from racro.engines.vllm.core import Core
from racro.engines.vllm.lora import adapter_sums, fitting, room
from racro.engines.vllm.owner import Owner, SequenceGroup, line
from racro.engines.vllm.weights import checkpoint_sums, same_model, shapes
from racro.models.adapters import Adapter
from racro.models.chat_template import ChatTemplate
from racro.models.folders import base_folder, load_processor, load_tokenizer
from racro.models.pixels import UNLIMITED, arguments
from racro.models.vision_tokens import vision_token_ids


class VllmEngine(Engine):
    """A model that vLLM holds, its tokenizer or processor, and the thread that owns it."""

    def __init__(
        self,
        folder: Path,
        dtype: str,
        processor: Any,
        config: Settings,
        place: EnginePlacement,
        adapter: Adapter | None = None,
        rank: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        pixels: PixelRange = UNLIMITED,
    ) -> None:
        """`processor` is None for a text-only model. `adapter`: the first one. `rank`: room for adapters.

        `pixels`: limits on the size of images, which the processor has already.

        Raises BadAdapter, and what vLLM raises when it does not start.
        """
        self.folder, self.dtype, self.config, self.rank = folder, dtype, config, rank
        self.processor, self.shapes = processor, shapes(folder)
        self.tokenizer = load_tokenizer(folder) if processor is None else processor.tokenizer
        self.template = ChatTemplate(str(folder), self.tokenizer, processor, template_kwargs)
        images = None if processor is None else arguments(processor, pixels)
        start = functools.partial(Core, str(folder), dtype, config, place, images, adapter, rank)
        self.owner = Owner(start, place.sequences)
        self.core = self.owner.core
        banned = vision_token_ids(self.core.model_config.hf_config, self.tokenizer)
        vocabulary = self.core.model_config.get_vocab_size()
        self.bans = {token: -math.inf for token in banned if token < vocabulary}
        self.scores = processor is not None
        """Are log-probs recorded? Training needs the captioner's; a reasoner's would cost vLLM a sort of each step."""

    @classmethod
    def captioner(
        cls,
        folder: str,
        dtype: str,
        config: Settings,
        place: EnginePlacement,
        lora: Lora | None,
        template_kwargs: Mapping[str, Any] | None = None,
        pixels: PixelRange = UNLIMITED,
    ) -> VllmEngine:
        """An engine on a vision-language model's folder, or on that of a LoRA adapter, whose model is found too.

        `lora`: adapters like this will be swapped in.
        """
        adapter, base = Adapter.read(Path(folder)), base_folder(Path(folder))
        processor = load_processor(base, pixels)
        return cls(base, dtype, processor, config, place, adapter, room(adapter, lora), template_kwargs, pixels)

    @classmethod
    def reasoner(
        cls,
        folder: str,
        dtype: str,
        config: Settings,
        place: EnginePlacement,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> VllmEngine:
        """An engine on a text-only model's folder."""
        return cls(Path(folder), dtype, None, config, place, template_kwargs=template_kwargs)

    @property
    def lost(self) -> bool:
        """See Engine."""
        return self.owner.error is not None

    @property
    def steps(self) -> int | None:
        """See Engine."""
        return self.owner.steps if self.owner.running else None

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. At most one request per call is read before there is room for it.

        vLLM takes temperatures up to 2.
        """
        source = iter(requests)
        working: set[SequenceGroup] = set()
        finished: deque[SequenceGroup] = deque()
        upcoming = next(source, None)
        try:
            while upcoming is not None or working:
                if self.owner.reserve(_sequences(upcoming) if upcoming else None, finished):
                    assert upcoming is not None
                    try:
                        working.add(self._submit(upcoming, finished))
                    except BadPrompt as error:
                        yield Refusal.of(upcoming, error)
                    upcoming = next(source, None)
                while finished:
                    group = finished.popleft()
                    working.remove(group)
                    yield self._answer(group)
        finally:
            self.owner.drop(working)

    def swap(self, folder: str) -> None:
        """See Engine. Waits until everything that was asked before is answered. Raises BadAdapter too."""
        if self.config.quantization is not None:
            raise SwapFailed("a quantised engine cannot be compared with a checkpoint")
        if self.rank:
            adapter = fitting(Path(folder), self.folder)
            load = functools.partial(self.core.load_adapter, adapter, adapter_sums(adapter, self.dtype))
        else:
            same_model(Path(folder), self.shapes)
            load = functools.partial(self.core.load, folder, checkpoint_sums(Path(folder), self.dtype))
        try:
            self.owner.between_requests(load)
        except Exception as error:
            self.owner.lose(error)  # what it holds now may be neither the old checkpoint nor the new one
            if isinstance(error, SwapFailed | EngineLost):
                raise
            raise SwapFailed(f"the weights of {folder} could not be loaded: {line(error)}") from error

    def sleep(self, discard: bool = False) -> None:
        """See Engine. vLLM wakes up at the next call; on a CPU it never sleeps.

        Weights beside which adapters are swapped, and quantised ones, are kept.
        """
        replaced = discard and not self.rank and self.config.quantization is None
        self.owner.between_requests(functools.partial(self.core.sleep, replaced))

    def close(self) -> None:
        """Shut vLLM down. Calls that still wait for completions get EngineLost."""
        self.owner.close()

    def _submit(self, request: Request, finished: deque[SequenceGroup]) -> SequenceGroup:
        """Prepare a request whose room is reserved, and hand it to the owner. Raises BadPrompt and ValueError."""
        sampling, scored = request.sampling, 0
        try:
            if request.forced is None:
                inputs = self._render(request.prompt, sampling.max_tokens)
                params = self._params(sampling, request.seed)
            else:
                inputs, scored = self._forced(request.prompt, request.forced)
                params = [self._scoring()]
        except BaseException:  # the room is free again, also when a stage's timeout is raised here; raised again
            self.owner.free(_sequences(request))
            raise
        lead = bool(request.prompt.lead)
        group = SequenceGroup(request.key, inputs, sampling.deadline, lead, request.forced, scored, params, finished)
        self.owner.submit(group)
        return group

    def _render(self, prompt: Prompt, max_tokens: int) -> Any:
        """What vLLM's engine takes. Raises BadPrompt."""
        parts: dict[str, Any] = {"prompt": fill(prompt, self.template)}
        if prompt.images:
            parts["multi_modal_data"] = {"image": list(prompt.images)}
        rendered = self.core.render(parts)
        length, longest = len(rendered["prompt_token_ids"]), self.core.model_config.max_model_len
        if length + max_tokens > longest:
            raise too_long(length, max_tokens, f"the model's {longest} positions")
        return rendered

    def _forced(self, prompt: Prompt, forced: str) -> tuple[Any, int]:
        """The prompt with the text that is to be scored at its end, and the number of its tokens. Raises BadPrompt."""
        own = self.tokenizer(forced, add_special_tokens=False)["input_ids"] or [self.tokenizer.eos_token_id]
        rendered = self._render(prompt, len(own) + 1)
        return {**rendered, "prompt_token_ids": [*rendered["prompt_token_ids"], *own]}, len(own)

    def _scoring(self) -> Any:
        """Parameters of a request whose prompt is scored; vLLM makes one token after it, which nobody needs."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=1, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )

    def _params(self, sampling: Sampling, seed: int) -> list[Any]:
        """One request of vLLM's per sample, all with the same prompt: the prefix cache makes it one prefill."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        try:
            return [
                SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=prompt_seed(seed, sample),
                    logit_bias=self.bans or None,
                    logprobs=0 if self.scores else None,  # 0: of the sampled token only
                    flat_logprobs=self.scores,
                    detokenize=False,
                    skip_clone=True,  # it is not shared
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                for sample in range(sampling.n)
            ]
        except VLLMClientError as error:  # cannot be unpickled where vLLM is not imported
            raise ValueError(str(error)) from error

    def _answer(self, group: SequenceGroup) -> Generation | Refusal:
        if group.error is not None:
            return Refusal(group.key, str(group.error))
        if group.forced is not None:
            return _scores(group)
        texts = self.tokenizer.batch_decode(
            [output.outputs[0].token_ids if output else () for output in group.outputs],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return Generation(
            group.key,
            tuple(group.inputs["prompt_token_ids"]),
            tuple(
                _completion(output, text if group.lead else self.template.turn(text), self.scores)
                for output, text in zip(group.outputs, texts, strict=True)
            ),
        )


def _completion(output: Any, text: str, scores: bool) -> Completion:
    """From vLLM's output, with log-probs if it `scores`. Raises FloatingPointError."""
    if output is None:
        return Completion((), (), "", "deadline")
    output = output.outputs[0]
    logprobs = tuple(output.logprobs.logprobs) if scores else ()
    if not all(map(math.isfinite, logprobs)):
        raise FloatingPointError("the model's probabilities are not numbers: its weights have diverged")
    if output.finish_reason not in ("stop", "length") or (scores and len(logprobs) != len(output.token_ids)):
        raise EngineLost(f"vLLM gave {output}")
    return Completion(tuple(output.token_ids), logprobs, text, output.finish_reason)


def _sequences(request: Request) -> int:
    """Sequences of vLLM's that a request becomes."""
    return request.sampling.n if request.forced is None else 1


def _scores(group: SequenceGroup) -> Generation:
    """The scored text with its log-probs, which vLLM gives for the prompt. Raises FloatingPointError."""
    [output], ids = group.outputs, tuple(group.inputs["prompt_token_ids"])
    begun, own = ids[: -group.scored], ids[-group.scored :]
    if output is None:
        return Generation(group.key, begun, (Completion((), (), "", "deadline"),))
    entries = output.prompt_logprobs[-group.scored :]
    logprobs = tuple(float(entry[token].logprob) for token, entry in zip(own, entries, strict=True))
    if not all(map(math.isfinite, logprobs)):
        raise FloatingPointError("the model's probabilities are not numbers: its weights have diverged")
    return Generation(group.key, begun, (Completion(own, logprobs, group.forced or "", "stop"),))
