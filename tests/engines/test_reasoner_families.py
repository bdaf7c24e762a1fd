"""Every kind of reasoner of docs/models.md, as a tiny random model: what is recorded is what a plain forward says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Generation, Prompt, Request, Sampling
from racro.models import compatibility
from racro.prompts import reasoner_messages
from tests.support.reasoners import REASONERS, Reasoner, build_reasoner

PAIRS = (("How tall is it?", "The red bar is 3."), ("Which is taller?", "The red bar is 3. " * 3), ("Why?", ""))


@pytest.mark.parametrize("kind", REASONERS, ids=lambda kind: kind.name)
@torch.inference_mode()
def test_recorded_logprobs_are_those_of_a_plain_forward(kind: Reasoner, tmp_path: Path) -> None:
    folder = build_reasoner(kind, tmp_path)
    note = compatibility.check("reasoner", kind.name, folder, {})
    assert (note is not None) == ("folded" in kind.special)
    engine = TransformersEngine.reasoner(str(folder), "float32", "cpu", batch=3)
    engine.eos = torch.arange(2, len(engine.tokenizer), 8)  # completions leave the batch at different steps
    how = Sampling(n=3, max_tokens=12)
    requests = [Request(i, Prompt(reasoner_messages(*pair)), how, i) for i, pair in enumerate(PAIRS)]
    lengths = set()
    for generation in engine.generate(requests):
        assert isinstance(generation, Generation)
        prompt = generation.prompt_ids
        if kind.bos:  # the template writes it, and then the turn's own start, which is the same token here
            assert prompt[:3].count(engine.tokenizer.bos_token_id) == 2
        for completion in generation.completions:
            lengths.add(len(completion.token_ids))
            ids = torch.tensor([[*prompt, *completion.token_ids]])
            logits = engine.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            logits[:, engine.banned] = -torch.inf
            expected = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=3e-5, rtol=1e-4)
    assert len(lengths) > 2, "hardly anything left the batch early: the claim was not tested"
