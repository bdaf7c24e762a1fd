"""The engine on Hugging Face transformers, in process: one prefill per prompt, shared by its samples.

Not a scheduler: a batch is decoded to its end before another takes its lane. For large models on GPUs a serving engine
is faster; this one runs everywhere, and its log-probs come from the same code that the trainer runs. Opened by
`racro.engines.building`.

Shapes: B prompts of a batch, L tokens of the longest, n samples each, V tokens of the vocabulary.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from racro.config import PixelRange
from racro.engines.local.batching import Members, batches
from racro.engines.local.decoding import Batch, Forced, Record
from racro.engines.local.lanes import Lanes
from racro.engines.local.prefix import Prefix
from racro.engines.local.sampling import Uniforms, draw, log_distribution
from racro.engines.protocol import (
    BadPrompt,
    Completion,
    Engine,
    Generation,
    Partial,
    Prompt,
    Refusal,
    Request,
    Sampling,
    too_long,
)
from racro.engines.templates import fill
from racro.models.chat_template import ChatTemplate
from racro.models.encoding import Inputs, Takes, encode, positions
from racro.models.folders import load_captioner, load_processor, load_reasoner, load_tokenizer, torch_device
from racro.models.pixels import UNLIMITED
from racro.models.vision_tokens import vision_token_ids
from racro.schema import FinishReason

TELLING = 0.15
"""Seconds between two partial texts of a completion, at least."""


class TransformersEngine(Engine):
    """A model, its tokenizer or processor, and the number of requests in a batch."""

    def __init__(
        self,
        load: Callable[[str], Any],
        folder: str,
        tokenizer: Any,
        processor: Any,
        batch: int,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """`load` makes a model of a folder; `processor` is None for a text-only model. Raises BadTemplate."""
        self.load, self.tokenizer, self.processor, self.batch = load, tokenizer, processor, batch
        self.template = ChatTemplate(folder, tokenizer, processor, template_kwargs)
        self.model = model = load(folder)
        self.takes = Takes.of(model)
        self.device = model.device
        self.lanes = Lanes(model)
        self.writing = threading.Lock()  # tokenizers may not be used by several threads at once
        eos = model.generation_config.eos_token_id
        eos = tokenizer.eos_token_id if eos is None else eos
        self.eos = torch.tensor(eos if isinstance(eos, list) else [eos], device=self.device)
        self.banned = torch.tensor(vision_token_ids(model.config, tokenizer), dtype=torch.long, device=self.device)
        self.prefix = Prefix(self.banned)
        self.longest = model.config.get_text_config().max_position_embeddings

    @classmethod
    def captioner(
        cls,
        folder: str,
        dtype: str,
        device: str,
        batch: int,
        template_kwargs: Mapping[str, Any] | None = None,
        pixels: PixelRange = UNLIMITED,
    ) -> TransformersEngine:
        """An engine on a vision-language model's folder. `pixels`: limits on the size of images."""
        processor = load_processor(Path(folder), pixels)
        at = torch_device(device)

        def load(path: str) -> Any:
            return load_captioner(Path(path), dtype, at)

        return cls(load, folder, processor.tokenizer, processor, batch, template_kwargs)

    @classmethod
    def reasoner(
        cls, folder: str, dtype: str, device: str, batch: int, template_kwargs: Mapping[str, Any] | None = None
    ) -> TransformersEngine:
        """An engine on the folder of a text-only model, or of a vision-language model that is shown no images."""
        at = torch_device(device)

        def load(path: str) -> Any:
            return load_reasoner(Path(path), dtype, at)

        return cls(load, folder, load_tokenizer(Path(folder)), None, batch, template_kwargs)

    @property
    def positions(self) -> int:
        """See Engine."""
        return self.longest

    def swap(self, folder: str) -> None:
        """See Engine. No cache lives longer than a batch."""
        with self.lanes.none_busy():
            self._drop()
            self.model = self.load(folder)
            self.lanes.hold(self.model)

    def sleep(self, discard: bool = False) -> None:
        """See Engine: the weights are kept in main memory in any case."""
        if self.device.type == "cuda" and self.model is not None:
            with self.lanes.none_busy():
                self.model.to("cpu")
                torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop the model and free its memory."""
        self._drop()

    def _drop(self) -> None:
        self.model = None
        self.lanes.drop()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. Requests are read a window at a time."""
        for answers in self.lanes.in_order(self._answers, self._batches(requests)):
            yield from answers

    def _batches(self, requests: Iterable[Request]) -> Iterator[tuple[Members | Refusal, Sampling]]:
        return batches(requests, self._fill, self.batch, self.lanes.count)

    def _fill(self, prompt: Prompt) -> str:
        with self.writing:
            return fill(prompt, self.template)

    def _answers(self, alike: tuple[Members | Refusal, Sampling]) -> list[Generation | Refusal]:
        """To requests that `_batches` gives."""
        batch, sampling = alike
        if isinstance(batch, Refusal):
            return [batch]
        with self.lanes.one() as model:
            return [answer for answer in self._batch(model, batch, sampling) if not isinstance(answer, Partial)]

    def stream(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        """See Engine."""
        for batch, sampling in self._batches(requests):
            if isinstance(batch, Refusal):
                yield batch
                continue
            with self.lanes.one() as model:
                yield from self._batch(model, batch, sampling, TELLING)

    # --- from messages to tensors -------------------------------------------------------------------------------------

    def _admit(self, members: Members, max_tokens: int) -> tuple[list[Request], Inputs, list[Refusal]]:
        """The requests that can be asked, their model inputs (see `_encode`), and refusals of the others."""
        try:
            return [request for request, _ in members], self._encode(members, max_tokens), []
        except BadPrompt:  # one is enough; which ones it were shows when each is encoded alone
            pass
        kept, refusals = [], []
        for member in members:
            try:
                self._encode([member], max_tokens)
                kept.append(member)
            except BadPrompt as error:
                refusals.append(Refusal.of(member[0], error))
        return [request for request, _ in kept], self._encode(kept, max_tokens) if kept else {}, refusals

    def _encode(self, members: Members, max_tokens: int) -> Inputs:
        """Model inputs of B prompts, padded left, with position ids. Raises BadPrompt if one cannot be asked."""
        texts, images = [text for _, text in members], [request.prompt.images for request, _ in members]
        try:
            inputs = encode(self.processor, self.tokenizer, texts, images, self.takes)
        except ValueError as error:
            raise BadPrompt(f"the model's processor does not take this: {error}") from error
        longest = int(inputs["attention_mask"].sum(-1).max())
        if longest + max_tokens > self.positions:
            raise too_long(longest, max_tokens, f"the model's {self.positions} positions")
        # Explicit: in decoding the model would continue from positions that it remembers of the last prefill.
        inputs["position_ids"] = positions(self.model, inputs)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def _ends(self, asked: list[Request], members: Members, max_tokens: int) -> Inputs:
        """Model inputs of the first and the last of `asked`, of whom there are at least two."""
        keys = asked[0].key, asked[-1].key
        with self.writing:
            return self._encode([member for member in members if member[0].key in keys], max_tokens)

    def _forced(self, members: Members) -> Forced | None:
        """What is scored; None if the model writes. A text without tokens gets the end-of-text token."""
        if members[0][0].forced is None:
            return None
        texts = [request.forced for request, _ in members]
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] or [int(self.eos[0])] for text in texts]
        lengths = [len(own) for own in ids]
        padded = [own + [own[-1]] * (max(lengths) - len(own)) for own in ids]
        return Forced(torch.tensor(padded, device=self.device), torch.tensor(lengths, device=self.device), max(lengths))

    # --- decoding -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _batch(
        self, model: Any, members: Members, sampling: Sampling, telling: float = math.inf
    ) -> Iterator[Generation | Refusal | Partial]:
        """Prefill and decode B prompts, given with their filled templates. `telling`: seconds between partial texts."""
        until = time.monotonic() + sampling.deadline
        model.to(self.device)  # it may be asleep in main memory
        with self.writing:
            forced = self._forced(members)
            if forced is not None:
                sampling = dataclasses.replace(sampling, n=1, temperature=1.0, top_p=1.0, max_tokens=forced.longest)
            requests, inputs, refusals = self._admit(members, sampling.max_tokens)
        yield from refusals
        if not requests:
            return
        if forced is not None:
            with self.writing:
                forced = self._forced([(request, "") for request in requests])
        mask = inputs["attention_mask"].bool()
        prompt_ids = [row[seen].tolist() for row, seen in zip(inputs["input_ids"].cpu(), mask.cpu(), strict=True)]
        read = self.prefix.read(model, inputs, lambda: self._ends(requests, members, sampling.max_tokens))
        logits = read.logits.repeat_interleave(sampling.n, 0)
        batch = Batch(read.cache, read.mask, read.position_ids, sampling.n)
        uniforms = Uniforms([request.seed for request in requests], sampling.n, self.device)
        record = Record(len(logits))
        finished = torch.zeros(len(logits), dtype=torch.bool, device=self.device)
        lengths = torch.zeros(len(logits), dtype=torch.long, device=self.device)  # 0: not finished
        reason: FinishReason = "length"
        told = time.monotonic()
        for step in range(1, sampling.max_tokens + 1):
            logprobs = log_distribution(logits, sampling, self.banned)
            if forced is not None:
                tokens = forced.ids[batch.completions, step - 1]
                ended = (forced.lengths[batch.completions] == step) & ~finished
            else:
                drawn = sampling.temperature
                tokens = draw(logprobs, uniforms.next()[batch.completions]) if drawn else logprobs.argmax(-1)
                ended = torch.isin(tokens, self.eos) & ~finished
            record.add(tokens, logprobs.gather(1, tokens[:, None])[:, 0])
            lengths[batch.completions[ended]] = step
            finished |= ended
            left = len(finished) - int(finished.sum())
            if left == 0 or step == sampling.max_tokens:
                break
            if time.monotonic() > until:
                reason = "deadline"
                break
            if time.monotonic() - told > telling and sampling.n == 1:
                yield from self._partials(requests, record.so_far(batch.completions, lengths.tolist()))
                told = time.monotonic()
            if batch.crowded(left):
                record.close(batch.completions)
                batch.keep(~finished)
                tokens, finished = tokens[~finished], finished[~finished]
            logits = model(**batch.feed(tokens), use_cache=True).logits.flatten(0, 1)
        record.close(batch.completions)
        ids, values = record.cut(lengths.tolist())
        texts = self._texts(ids)
        if forced is not None:
            texts = [request.forced or "" for request in requests]
        begun = [bool(request.prompt.lead) or forced is not None for request in requests for _ in range(sampling.n)]
        turns = [text if led else self.template.turn(text) for text, led in zip(texts, begun, strict=True)]
        completions = [
            Completion(tuple(i), tuple(v), text, "stop" if length else reason)
            for i, v, text, length in zip(ids, values, turns, lengths.tolist(), strict=True)
        ]
        n = sampling.n
        for k, (request, ids) in enumerate(zip(requests, prompt_ids, strict=True)):
            yield Generation(request.key, tuple(ids), tuple(completions[k * n : (k + 1) * n]))

    def _texts(self, ids: list[list[int]]) -> list[str]:
        with self.writing:
            found: list[str] = self.tokenizer.batch_decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return found

    def _partials(self, requests: list[Request], ids: list[list[int]]) -> Iterator[Partial]:
        """What each completion says so far; the bytes of a character that is not complete are left out."""
        for request, text in zip(requests, self._texts(ids), strict=True):
            yield Partial(request.key, (text if request.prompt.lead else self.template.turn(text)).rstrip("\ufffd"))
