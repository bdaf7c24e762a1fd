"""The engine on Hugging Face transformers, in process: one prefill per prompt, shared by its samples.

Not a scheduler: a batch is decoded to its end before the next one starts. For large models on GPUs a serving engine is
faster; this one runs everywhere, and its log-probs are those of the very code that the trainer runs. Opened by
`racro.engines.opening.open_captioner` and `open_reasoner`.

Shapes: B prompts of a batch, L tokens of the longest, n samples each, V tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from racro.engines.local.decoding import Batch, Record
from racro.engines.local.sampling import Uniforms, draw, log_distribution, vision_token_ids
from racro.engines.protocol import Completion, Engine, Generation, Prompt, PromptTooLong, Sampling
from racro.models.chat_template import ChatTemplate
from racro.models.encoding import accepted, encode, positions
from racro.models.folders import load_captioner, load_processor, load_reasoner, load_tokenizer, torch_device
from racro.schema import FinishReason

WINDOW = 4
"""Batches among which prompts are sorted by length: padding shrinks, and results still come while others are made.
Sorting everything would hold every image and every result of a stage in memory until its last batch."""


class TransformersEngine(Engine):
    """A model, its tokenizer or processor, and the number of prompts in a batch."""

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
        self.known = accepted(model)
        self.device = model.device
        self.turn = threading.Lock()
        eos = model.generation_config.eos_token_id
        eos = tokenizer.eos_token_id if eos is None else eos
        self.eos = torch.tensor(eos if isinstance(eos, list) else [eos], device=self.device)
        self.banned = torch.tensor(vision_token_ids(model.config, tokenizer), dtype=torch.long, device=self.device)
        self.longest = model.config.get_text_config().max_position_embeddings

    @classmethod
    def captioner(
        cls, folder: str, dtype: str, device: str, batch: int, template_kwargs: Mapping[str, Any] | None = None
    ) -> TransformersEngine:
        """An engine on a vision-language model's folder."""
        processor = load_processor(Path(folder))
        load = functools.partial(_load, load_captioner, dtype, torch_device(device))
        return cls(load, folder, processor.tokenizer, processor, batch, template_kwargs)

    @classmethod
    def reasoner(
        cls, folder: str, dtype: str, device: str, batch: int, template_kwargs: Mapping[str, Any] | None = None
    ) -> TransformersEngine:
        """An engine on the folder of a text-only model, or of a vision-language model that is shown no images."""
        load = functools.partial(_load, load_reasoner, dtype, torch_device(device))
        return cls(load, folder, load_tokenizer(Path(folder)), None, batch, template_kwargs)

    @property
    def positions(self) -> int:
        """See Engine."""
        return self.longest

    def swap(self, folder: str) -> None:
        """See Engine. There is no cache that outlives a batch."""
        with self.turn:
            self._drop()
            self.model = self.load(folder)

    def rest(self) -> None:
        """See Engine: the weights wait in main memory."""
        if self.device.type == "cuda" and self.model is not None:
            with self.turn:
                self.model.to("cpu")
                torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._drop()

    def _drop(self) -> None:
        self.model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        """See Engine. Prompts are read once and late, a window at a time. Raises PromptTooLong and ValueError."""
        for start in range(0, len(prompts), WINDOW * self.batch):
            window = [prompts[i] for i in range(start, min(start + WINDOW * self.batch, len(prompts)))]
            texts = [self.template.fill(prompt.messages, len(prompt.images)) for prompt in window]
            # Longest first, so that what does not fit into memory fails at the start. An estimate suffices: an image
            # token covers 28 x 28 pixels in Qwen2.5-VL, a text token about four characters.
            pixels = [sum(image.width * image.height for image in prompt.images) for prompt in window]
            weights = [len(text) / 4 + area / 784 for text, area in zip(texts, pixels, strict=True)]
            order = sorted(range(len(window)), key=weights.__getitem__, reverse=True)
            ready: dict[int, Generation] = {}
            head = 0
            for at in range(0, len(order), self.batch):
                members = order[at : at + self.batch]
                with self.turn:  # one batch at a time fills the machine, and its memory
                    made = self._batch([(texts[i], window[i], seeds[start + i]) for i in members], sampling)
                ready |= zip(members, made, strict=True)
                while head in ready:
                    yield ready.pop(head)
                    head += 1

    # --- from messages to tensors -------------------------------------------------------------------------------------

    def _encode(self, texts: list[str], prompts: list[Prompt], max_tokens: int) -> dict[str, torch.Tensor]:
        """Model inputs of B prompts, padded left, with position ids."""
        images = [prompt.images for prompt in prompts]
        inputs = encode(self.processor, self.tokenizer, texts, images, self.known)
        longest = int(inputs["attention_mask"].sum(-1).max())
        if longest + max_tokens > self.positions:
            raise PromptTooLong(
                f"a prompt of {longest} tokens and max_tokens {max_tokens} exceed the model's {self.positions} "
                "positions; lower max_tokens, or leave this problem out"
            )
        # Explicit: in decoding the model would go on from positions that it remembers of the last prefill.
        inputs["position_ids"] = positions(self.model, inputs)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    # --- decoding -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _batch(self, requests: list[tuple[str, Prompt, int]], sampling: Sampling) -> list[Generation]:
        """Prefill and decode B prompts."""
        until = time.monotonic() + sampling.deadline
        self.model.to(self.device)  # back from a rest; nothing to do otherwise
        inputs = self._encode([text for text, _, _ in requests], [p for _, p, _ in requests], sampling.max_tokens)
        mask = inputs["attention_mask"].bool()
        prompt_ids = [row[seen].tolist() for row, seen in zip(inputs["input_ids"].cpu(), mask.cpu(), strict=True)]
        output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        logits = output.logits[:, -1].repeat_interleave(sampling.n, 0)
        batch = Batch(output.past_key_values, mask, inputs["position_ids"], sampling.n)
        uniforms = Uniforms([seed for _, _, seed in requests], sampling.n, self.device)
        record = Record(len(logits))
        finished = torch.zeros(len(logits), dtype=torch.bool, device=self.device)
        lengths = torch.zeros(len(logits), dtype=torch.long, device=self.device)  # 0: not finished
        reason: FinishReason = "length"
        for step in range(1, sampling.max_tokens + 1):
            logprobs = log_distribution(logits, sampling, self.banned)
            tokens = draw(logprobs, uniforms.next()[batch.completions]) if sampling.temperature else logprobs.argmax(-1)
            record.add(tokens, logprobs.gather(1, tokens[:, None])[:, 0])
            ended = torch.isin(tokens, self.eos) & ~finished
            lengths[batch.completions[ended]] = step
            finished |= ended
            left = len(finished) - int(finished.sum())
            if left == 0 or step == sampling.max_tokens:
                break
            if time.monotonic() > until:
                reason = "deadline"
                break
            if batch.crowded(left):
                record.close(batch.completions)
                batch.keep(~finished)
                tokens, finished = tokens[~finished], finished[~finished]
            logits = self.model(**batch.feed(tokens), use_cache=True).logits.flatten(0, 1)
        record.close(batch.completions)
        ids, values = record.cut(lengths.tolist())
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        completions = [
            Completion(tuple(i), tuple(v), self.template.turn(text), "stop" if length else reason)
            for i, v, text, length in zip(ids, values, texts, lengths.tolist(), strict=True)
        ]
        n = sampling.n
        return [Generation(tuple(ids), tuple(completions[k * n : (k + 1) * n])) for k, ids in enumerate(prompt_ids)]


def _load(load: Callable[[Path, str, torch.device], Any], dtype: str, device: torch.device, folder: str) -> Any:
    return load(Path(folder), dtype, device)
