"""Engines sample from the model's own distribution and say so; a completion depends on its prompt and seed alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro.config import ScriptedReply
from racro.embedded import world
from racro.engines.local.sampling import draw, log_distribution
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Completion, Partial, Prompt, Request, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import caption_messages, describes_messages, reasoner_messages
from tests.support.asking import generations, refusal

NO_END = torch.tensor([-1])
HOT = Sampling(n=4, max_tokens=12, temperature=4.0)
"""So hot that completions differ and end at different steps, however sure of itself the model is."""


@pytest.fixture(scope="module")
def captioner() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=16)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reasoner() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=16)
    yield engine
    engine.close()


@pytest.fixture
def early_ends(captioner: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token in eight ends a completion, so that completions leave the batch at many different steps."""
    monkeypatch.setattr(captioner, "eos", torch.arange(2, len(captioner.tokenizer), 8))


def mixed_prompts() -> list[Prompt]:
    """One image, two images, none; of different lengths."""
    problems = {p.category: p for p in world.generate("train", 7, 40)}
    prompts = [
        Prompt(caption_messages(p.question, len(p.scenes)), tuple(p.images()))
        for p in (problems["value"], problems["two_images"], problems["choice"])
    ]
    return [*prompts, Prompt(describes_messages("The red bar is 3."))]


@torch.inference_mode()
def plain_forward(engine: TransformersEngine, prompt: Prompt, completion: Completion, how: Sampling) -> torch.Tensor:
    """The completion's log-probs from one forward of the whole text, without padding, cache or explicit positions."""
    text = engine.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    inputs = engine.processor(images=list(prompt.images) or None, text=[text], return_tensors="pt")
    added = torch.tensor([completion.token_ids])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], added], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(added)], 1)
    logits = engine.model(**inputs).logits[0, -len(completion.token_ids) - 1 : -1].double()
    logits[:, engine.banned] = -torch.inf
    probs = (logits / (how.temperature or 1)).softmax(-1)
    if how.top_p < 1 and how.temperature:
        for row in probs:
            nucleus, total = set(), 0.0
            for token in row.argsort(descending=True).tolist():
                nucleus.add(token)
                total += row[token].item()
                if total >= how.top_p:
                    break
            row[[i for i in range(len(row)) if i not in nucleus]] = 0
            row /= row.sum()
    return probs.gather(1, added.T)[:, 0].log()


@pytest.mark.parametrize(
    "how",
    [
        Sampling(n=4, max_tokens=12),
        Sampling(n=4, max_tokens=12, temperature=0.7),
        HOT,
        Sampling(n=4, max_tokens=12, temperature=4.0, top_p=0.8),
        Sampling(n=2, max_tokens=12, temperature=0.0),
        Sampling(n=1, max_tokens=12),
    ],
    ids=["plain", "cool", "hot", "nucleus", "greedy", "single"],
)
@pytest.mark.usefixtures("early_ends")
def test_recorded_logprobs_are_those_of_a_plain_forward(captioner: TransformersEngine, how: Sampling) -> None:
    prompts = mixed_prompts()
    lengths: set[int] = set()
    for prompt, generation in zip(prompts, generations(captioner, prompts, how, range(4)), strict=True):
        assert len(generation.completions) == how.n
        for completion in generation.completions:
            lengths.add(len(completion.token_ids))
            expected = plain_forward(captioner, prompt, completion, how).float()
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=2e-5, rtol=1e-5)
    assert len(lengths) > 3 or how is not HOT, "hardly anything left the batch early: the claim was not tested"


def test_prompt_ids_are_the_processors(captioner: TransformersEngine) -> None:
    for prompt, generation in zip(
        mixed_prompts(), generations(captioner, mixed_prompts(), Sampling(max_tokens=1), [0] * 4), strict=True
    ):
        text = captioner.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        inputs = captioner.processor(images=list(prompt.images) or None, text=[text])
        assert list(generation.prompt_ids) == inputs["input_ids"][0]


@pytest.mark.parametrize("role", ["captioner", "reasoner"])
def test_greedy_is_generate(role: str, request: pytest.FixtureRequest) -> None:
    engine: TransformersEngine = request.getfixturevalue(role)
    prompts = mixed_prompts()
    if role == "reasoner":
        captions = ("The red bar is 3.", "The red bar is 3. The blue bar is 5. The green bar is 1.", "")
        prompts = [Prompt(reasoner_messages("What is the height of the red bar?", c)) for c in captions]
    how = Sampling(temperature=0.0, max_tokens=20)
    for prompt, generation in zip(prompts, generations(engine, prompts, how, [0] * len(prompts)), strict=True):
        inputs = {"input_ids": torch.tensor([generation.prompt_ids])}
        if engine.processor is not None:
            text = engine.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
            inputs = engine.processor(images=list(prompt.images) or None, text=[text], return_tensors="pt")
        output = engine.model.generate(
            **inputs, max_new_tokens=20, do_sample=False, suppress_tokens=engine.banned.tolist() or None
        )
        assert generation.completions[0].token_ids == tuple(output[0, len(generation.prompt_ids) :].tolist())


@pytest.mark.usefixtures("early_ends")
def test_a_completion_does_not_depend_on_its_batch(
    captioner: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, how = mixed_prompts() * 3, HOT
    seeds = list(range(len(prompts)))
    together = [[c.token_ids for c in g.completions] for g in generations(captioner, prompts, how, seeds)]
    again = [[c.token_ids for c in g.completions] for g in generations(captioner, prompts, how, seeds)]
    backwards = [[c.token_ids for c in g.completions] for g in generations(captioner, prompts[::-1], how, seeds[::-1])]
    monkeypatch.setattr(captioner, "batch", 1)
    alone = [[c.token_ids for c in g.completions] for g in generations(captioner, prompts, how, seeds)]
    assert together == again == alone == backwards[::-1]
    assert together[0] != together[4], "the same prompt with another seed"
    assert len(set(together[0])) > 1, "the samples of one prompt differ"


def test_vision_tokens_are_never_sampled(captioner: TransformersEngine) -> None:
    vocabulary = captioner.tokenizer.get_vocab()
    vision = {vocabulary[f"<|{name}|>"] for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    almost_uniform = Sampling(n=16, max_tokens=64, temperature=1000.0)
    sampled = [
        token
        for generation in generations(captioner, mixed_prompts(), almost_uniform, range(4))
        for completion in generation.completions
        for token in completion.token_ids
    ]
    assert len(sampled) > 2 * len(vocabulary)
    assert not vision & set(sampled)


def test_limits_have_their_own_finish_reasons(captioner: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner, "eos", NO_END)
    prompts = mixed_prompts()[:2]
    for generation in generations(captioner, prompts, Sampling(n=2, max_tokens=3), [0, 1]):
        assert [(c.finish_reason, len(c.token_ids)) for c in generation.completions] == [("length", 3)] * 2
    started = time.monotonic()
    for generation in generations(captioner, prompts, Sampling(n=2, max_tokens=1500, deadline=0.2), [0, 1]):
        assert {c.finish_reason for c in generation.completions} == {"deadline"}
        assert all(0 < len(c.token_ids) < 1500 for c in generation.completions)
    assert time.monotonic() - started < 100


def test_a_finished_completion_ends_with_its_end_token(captioner: TransformersEngine) -> None:
    end = captioner.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for generation in generations(captioner, mixed_prompts(), Sampling(n=4, max_tokens=200), range(4)):
        for completion in generation.completions:
            assert (completion.finish_reason == "stop") == (completion.token_ids[-1] == end)
            assert end not in completion.token_ids[:-1]
            assert len(completion.logprobs) == len(completion.token_ids)
            assert "<|im_end|>" not in completion.text


def test_prompts_are_never_cut(captioner: TransformersEngine) -> None:
    [generation] = generations(captioner, mixed_prompts()[:1], Sampling(max_tokens=1), [0])
    reason = refusal(captioner, mixed_prompts()[0], Sampling(max_tokens=100_000))
    assert f"prompt of {len(generation.prompt_ids)} tokens" in reason


def test_images_and_their_places_must_match(captioner: TransformersEngine, reasoner: TransformersEngine) -> None:
    prompt = mixed_prompts()[0]
    assert "1 places for images in a prompt with 0" in refusal(captioner, Prompt(prompt.messages), Sampling())
    smuggled = Prompt(caption_messages("What is <|image_pad|>?", 1), prompt.images)
    assert "special token in the text: <|image_pad|>" in refusal(captioner, smuggled, Sampling())
    assert "reads text only" in refusal(reasoner, prompt, Sampling())


def test_texts_while_they_are_written(
    captioner: TransformersEngine, early_ends: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They grow to what `generate` gives; a stream that is closed in the middle leaves the engine free."""
    monkeypatch.setattr("racro.engines.local.transformers.TELLING", 0.0)
    requests = [
        Request(key, prompt, Sampling(max_tokens=12, temperature=4.0), key)
        for key, prompt in enumerate(mixed_prompts())
    ]
    whole = {made.key: made for made in captioner.generate(requests)}
    seen: dict[int, list[str]] = {key: [] for key in whole}
    for made in captioner.stream(requests):
        if isinstance(made, Partial):
            seen[made.key].append(made.text)
        else:
            assert made == whole[made.key]
    for key, texts in seen.items():
        final = whole[key].completions[0].text  # type: ignore[union-attr]
        assert len(texts) > 1 and all(final.startswith(text) for text in texts)
    stream = captioner.stream(requests)
    assert isinstance(next(stream), Partial)
    stream.close()  # type: ignore[attr-defined]
    assert list(captioner.generate(requests[:1]))


def test_a_diverged_model_is_an_error(captioner: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in captioner.lanes.models:
        broken = torch.nn.Parameter(torch.full_like(model.lm_head.weight, torch.nan))
        monkeypatch.setattr(model.lm_head, "weight", broken)
    with pytest.raises(FloatingPointError, match="diverged"):
        generations(captioner, mixed_prompts()[:1], Sampling(max_tokens=2), [0])


def test_half_precision_records_float32_logprobs() -> None:
    engine = TransformersEngine.captioner(str(EMBEDDED / "captioner"), "bfloat16", "cpu", batch=2)
    how = Sampling(n=2, max_tokens=8)
    gaps = [
        (torch.tensor(c.logprobs) - plain_forward(engine, prompt, c, how)).abs().mean()
        for prompt, g in zip(mixed_prompts(), generations(engine, mixed_prompts(), how, range(4)), strict=True)
        for c in g.completions
    ]
    assert max(gaps) < 0.2


# --- draws ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.just(-torch.inf), st.floats(-30, 30)), min_size=1, max_size=40),
    st.one_of(st.floats(0, 1, exclude_max=True), st.just(1 - 2**-53)),
)
def test_a_draw_is_the_first_token_beyond_the_uniform_number(logits: list[float], uniform: float) -> None:
    logits[len(logits) // 2] = 0.0  # at least one is possible
    logprobs = torch.tensor([logits]).log_softmax(-1)
    token = int(draw(logprobs, torch.tensor([uniform], dtype=torch.float64)))
    probs = logprobs[0].exp().double()
    assert probs[token] > 0
    assert probs[:token].sum() <= uniform * probs.sum() + 1e-12
    assert probs[: token + 1].sum() >= uniform * probs.sum() - 1e-12


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12), st.floats(0.1, 2), st.floats(0.05, 1))
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(logits: list[float], temperature: float, p: float) -> None:
    how, banned = Sampling(temperature=temperature, top_p=p), torch.tensor([1])
    kept = log_distribution(torch.tensor([logits]), how, banned)[0].exp()
    whole = log_distribution(torch.tensor([logits]), Sampling(temperature=temperature), banned)[0].exp()
    assert kept[1] == 0
    assert kept.sum() == pytest.approx(1, abs=1e-5)
    inside = whole[kept > 0]
    assert inside.sum() >= p - 1e-5
    assert inside.sum() - inside.min() < p + 1e-5


# --- scripted ---------------------------------------------------------------------------------------------------------


def scripted(*rules: ScriptedReply) -> ScriptedEngine:
    return ScriptedEngine(rules)


def ask(engine: ScriptedEngine, text: str, how: Sampling | None = None) -> list[Completion]:
    question = {"role": "user", "content": [{"type": "text", "text": text}]}
    prompt = Prompt([{"role": "system", "content": "not this"}, question])
    [generation] = generations(engine, [prompt], how or Sampling(), [0])
    assert bytes(generation.prompt_ids).decode() == text
    return list(generation.completions)


def test_rules_reply_in_turn_with_the_groups_of_the_match() -> None:
    engine = scripted(
        ScriptedReply(when=r"the (\w+) bar", replies=(r"\boxed{\1}", "second")),
        ScriptedReply(replies=("otherwise",)),
    )
    assert [c.text for c in ask(engine, "see the red bar", Sampling(n=3))] == [r"\boxed{red}", "second", r"\boxed{red}"]
    [completion] = ask(engine, "é")
    assert completion == Completion((*b"otherwise", 0), (0.0,) * 10, "otherwise", "stop")


def test_a_reply_beyond_max_tokens_is_cut() -> None:
    [completion] = ask(scripted(ScriptedReply(replies=("äöü",))), "x", Sampling(max_tokens=3))
    assert (completion.text, completion.finish_reason) == ("ä", "length"), "not inside a character"
    [completion] = ask(scripted(ScriptedReply(replies=("12345678",), tokens=400)), "x", Sampling(max_tokens=100))
    assert (completion.text, completion.finish_reason) == ("12", "length")


def test_a_reply_that_never_comes_waits_for_the_deadline_and_no_longer() -> None:
    started = time.monotonic()
    slow = scripted(ScriptedReply(replies=("late",), delay=3600))
    completions = ask(slow, "x", Sampling(n=3, deadline=0.2))
    assert 0.2 <= time.monotonic() - started < 60
    assert completions == [Completion((), (), "", "deadline")] * 3


def test_a_prompt_that_no_rule_matches_is_refused() -> None:
    engine = scripted(ScriptedReply(when="bar", replies=("3",)))
    reason = refusal(engine, Prompt([{"role": "user", "content": "what is it" + "?" * 200}]), Sampling())
    assert re.match("no rule .*'what is it", reason) and len(reason) < 150
