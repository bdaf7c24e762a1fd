"""vLLM samples from the trainer's own distribution, and after a swap holds the new checkpoint or says that it does not.

Real engines in real workers; what they answer is held against the transformers engine. vLLM is never imported here: it
changes the process that imports it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from racro.config import Captioner, EnginePlacement, Reasoner, Runtime, Vllm
from racro.embedded import world
from racro.engines.local.sampling import log_distribution
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import (
    Completion,
    Engine,
    EngineLost,
    Generation,
    Prompt,
    Refusal,
    Request,
    Sampling,
    SwapFailed,
)
from racro.engines.vllm.weights import checkpoint_sums, tensor_sums, verify
from racro.engines.worker.client import Worker
from racro.errors import BadInput
from racro.models.folders import EMBEDDED
from racro.prompts import caption_messages, describes_messages, reasoner_messages
from tests.support import forkserver
from tests.support.asking import answers, generations, refusal, requests
from tests.support.tiny_training import TinyTraining

GREEDY = Sampling(temperature=0.0, max_tokens=20)
PLACE = EnginePlacement(sequences=32, cpu_cache=0.25)
"""Fewer sequences than the tests ask for at once, so that prompts wait for their turn."""
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, reasoner_folder: str) -> Iterator[dict[str, Engine]]:
    """Both roles, started at the same time."""
    log = tmp_path_factory.mktemp("logs")
    captioner = Captioner(model="embedded", dtype="float32", engine=Vllm())
    reasoner = Reasoner(model="embedded", dtype="float32", engine=Vllm())
    runtime = Runtime(device="cpu", captioner=PLACE, reasoner=PLACE)
    with forkserver.children(engines=True), ThreadPoolExecutor(2) as pool:
        eyes = pool.submit(Worker, "captioner", captioner, str(EMBEDDED / "captioner"), runtime, log / "captioner.log")
        mind = pool.submit(Worker, "reasoner", reasoner, reasoner_folder, runtime, log / "reasoner.log")
    opened: dict[str, Engine] = {}
    try:
        opened["captioner"] = eyes.result()
        opened["reasoner"] = mind.result()
        yield opened
    finally:
        for engine in opened.values():
            engine.close()


@pytest.fixture(scope="module")
def captioner(engines: dict[str, Engine]) -> Engine:
    return engines["captioner"]


@pytest.fixture
def undecided(captioner: Engine, tmp_path: Path) -> Iterator[Engine]:
    """The captioner's engine with weights that find all tokens equally likely: completions differ and are long."""

    def flatten(weights: Weights) -> None:
        weights["model.embed_tokens.weight"] *= 0.01

    captioner.swap(checkpoint(tmp_path / "undecided", flatten))
    yield captioner
    captioner.swap(str(EMBEDDED / "captioner"))


@pytest.fixture(scope="module")
def reasoner(engines: dict[str, Engine]) -> Engine:
    return engines["reasoner"]


@pytest.fixture(scope="module")
def plain_reasoner(reasoner_folder: str) -> TransformersEngine:
    return TransformersEngine.reasoner(reasoner_folder, "float32", "cpu", batch=32)


@pytest.fixture(scope="module")
def reasoner_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded reasoner, with a tokenizer that writes a beginning-of-text token before every text by itself."""
    folder = tmp_path_factory.mktemp("models") / "reasoner"
    shutil.copytree(EMBEDDED / "reasoner", folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    [begin] = [token for token in tokenizer["added_tokens"] if token["content"] == "<|im_start|>"]
    name = begin["content"]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [begin["id"]], "tokens": [name]}},
    }
    file.write_text(json.dumps(tokenizer))
    return str(folder)


def caption_prompts(count: int = 24) -> list[Prompt]:
    """One image, two images, none; of different lengths."""
    problems = sorted(world.generate("train", 7, 100), key=lambda p: -len(p.scenes))[:: 100 // count][:count]
    assert {len(p.scenes) for p in problems} == {1, 2} or count == 1
    prompts = [Prompt(caption_messages(p.question, len(p.scenes)), tuple(p.images())) for p in problems]
    return [*prompts, Prompt(describes_messages("The red bar is 3."))]


def reasoner_prompts() -> list[Prompt]:
    captions = ("The red bar is 3.", "red three. blue five. green one.", "")
    questions = ("What is the height of the red bar?", "red two five describe?")  # the second makes it unsure
    return [Prompt(reasoner_messages(q, c)) for q in questions for c in captions]


def scores(engine: TransformersEngine, prompt: Prompt, generation: Generation, how: Sampling) -> list[torch.Tensor]:
    """The model's own log-probs of what was sampled, each from one forward of the whole text."""
    found = []
    for completion in generation.completions:
        text = engine.template.fill(prompt.messages, len(prompt.images))
        options = {"return_tensors": "pt", "add_special_tokens": False}
        added = torch.tensor([completion.token_ids])
        if engine.processor is None:
            inputs = dict(engine.tokenizer([text], **options))
        else:
            inputs = dict(engine.processor(images=list(prompt.images) or None, text=[text], **options))
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(added)], 1)
        inputs.pop("token_type_ids", None)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], added], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.inference_mode():
            logits = engine.model(**inputs).logits[0, -added.shape[1] - 1 : -1]
        found.append(log_distribution(logits, how, engine.banned).gather(1, added.T)[:, 0])
    return found


def token_ids(generations: list[Generation]) -> list[list[tuple[int, ...]]]:
    return [[c.token_ids for c in g.completions] for g in generations]


def agree(engine: Engine, plain: TransformersEngine, prompts: list[Prompt], scored: bool = True) -> None:
    """The same greedy completions of the same ids, with the same log-probs; with none if they are not `scored`."""
    seeds = [0] * len(prompts)
    ours = generations(engine, prompts, GREEDY, seeds)
    theirs = generations(plain, prompts, GREEDY, seeds)
    assert [g.prompt_ids for g in ours] == [g.prompt_ids for g in theirs]
    assert [(c.token_ids, c.text, c.finish_reason) for g in ours for c in g.completions] == [
        (c.token_ids, c.text, c.finish_reason) for g in theirs for c in g.completions
    ]
    if not scored:
        assert not any(completion.logprobs for made in ours for completion in made.completions)
        return
    gaps = [
        abs(a - b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one.completions[0].logprobs, other.completions[0].logprobs, strict=True)
    ]
    assert sum(gaps) / len(gaps) <= 1e-4


def test_greedy_is_the_transformers_engines(captioner: Engine, plain_captioner: TransformersEngine) -> None:
    assert "vllm" not in sys.modules
    agree(captioner, plain_captioner, caption_prompts())


def test_reasoner_too_and_no_second_beginning_of_text(reasoner: Engine, plain_reasoner: TransformersEngine) -> None:
    begin = plain_reasoner.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert plain_reasoner.tokenizer("text")["input_ids"][0] == begin, "the tokenizer adds one: the claim is not empty"
    agree(reasoner, plain_reasoner, reasoner_prompts(), scored=False)
    [generation] = generations(reasoner, reasoner_prompts()[:1], GREEDY, [0])
    assert generation.prompt_ids[0] == begin
    assert generation.prompt_ids[1] != begin


@pytest.mark.parametrize(
    "how",
    [
        Sampling(n=4, max_tokens=24),
        Sampling(n=4, max_tokens=24, temperature=0.7),
        Sampling(n=4, max_tokens=24, top_p=0.9),
        Sampling(n=4, max_tokens=24, temperature=2.0, top_p=0.98),
    ],
    ids=["plain", "cool", "nucleus", "hot nucleus"],
)
def test_logprobs_are_those_of_the_sampling_distribution(
    captioner: Engine, plain_captioner: TransformersEngine, how: Sampling
) -> None:
    engine, plain, prompts = captioner, plain_captioner, caption_prompts(8)
    gaps, least = [], 0.0
    for prompt, generation in zip(prompts, generations(engine, prompts, how, range(len(prompts))), strict=True):
        expected = scores(plain, prompt, generation, how)
        for completion, values in zip(generation.completions, expected, strict=True):
            gaps += (torch.tensor(completion.logprobs) - values).abs().tolist()
            least = min(least, *completion.logprobs)
    assert len(gaps) > 50
    assert least < -0.5, "nothing but certainties: the claim was not tested"
    assert sum(gaps) / len(gaps) <= 1e-4


def test_a_begun_turn_goes_on_and_a_given_text_is_scored(reasoner: Engine, plain_reasoner: TransformersEngine) -> None:
    """As the transformers engine does both; given texts and sampled ones may mix."""
    prompt = Prompt(reasoner_messages("What is the height of the red bar?", "red three. blue four."), lead="bars")
    forced = [None, "\\boxed{3}", " red three", "x", None, ""]
    asked = [Request(i, prompt, GREEDY, 0, forced=text) for i, text in enumerate(forced)]
    ours, theirs = ({m.key: m for m in engine.generate(asked)} for engine in (reasoner, plain_reasoner))
    for key, text in enumerate(forced):
        one, other = ours[key], theirs[key]
        assert isinstance(one, Generation) and isinstance(other, Generation)
        assert one.prompt_ids == other.prompt_ids
        [mine], [yours] = one.completions, other.completions
        assert (mine.text, mine.token_ids, mine.finish_reason) == (yours.text, yours.token_ids, yours.finish_reason)
        if text is not None:
            assert mine.logprobs == pytest.approx(yours.logprobs, abs=2e-3)


def test_a_completion_does_not_depend_on_its_batch(undecided: Engine) -> None:
    prompts, how = caption_prompts(8), Sampling(n=8, max_tokens=12)
    seeds = list(range(len(prompts)))
    together = token_ids(generations(undecided, prompts, how, seeds))
    backwards = token_ids(generations(undecided, prompts[::-1], how, seeds[::-1]))
    alone = [token_ids(generations(undecided, [p], how, [s]))[0] for p, s in zip(prompts, seeds, strict=True)]
    other = token_ids(generations(undecided, prompts, how, [2**63 - 1 - s for s in seeds]))
    assert together == backwards[::-1] == alone
    assert all(len(set(one + another)) == 16 for one, another in zip(together, other, strict=True))


def test_calls_at_the_same_time_do_not_meet(undecided: Engine) -> None:
    how = Sampling(n=4, max_tokens=12)
    calls = [caption_prompts(8), caption_prompts(24)[::-1], caption_prompts(12)]
    alone = [generations(undecided, prompts, how, range(len(prompts))) for prompts in calls]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda p: generations(undecided, p, how, range(len(p))), calls))
    assert together == alone


def test_vision_tokens_are_never_sampled(undecided: Engine, plain_captioner: TransformersEngine) -> None:
    vocabulary = plain_captioner.tokenizer.get_vocab()
    vision = {vocabulary[f"<|{name}|>"] for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    sampled = [
        token
        for generation in generations(undecided, caption_prompts(4), Sampling(n=32, max_tokens=64), range(5))
        for completion in generation.completions
        for token in completion.token_ids
    ]
    assert len(sampled) > 6 * len(vocabulary)
    assert not vision & set(sampled)
    assert len(set(sampled)) > 0.98 * len(vocabulary), "all others are"


def test_limits_have_their_own_finish_reasons(undecided: Engine, plain_captioner: TransformersEngine) -> None:
    end = plain_captioner.tokenizer.convert_tokens_to_ids("<|im_end|>")
    reasons = set()
    for generation in generations(undecided, caption_prompts(4), Sampling(n=16, max_tokens=150), range(5)):
        for completion in generation.completions:
            reasons.add(completion.finish_reason)
            ended = completion.token_ids[-1] == end
            assert completion.finish_reason == ("stop" if ended else "length")
            assert ended or len(completion.token_ids) == 150
            assert end not in completion.token_ids[:-1]
            assert "<|im_end|>" not in completion.text
            assert len(completion.logprobs) == len(completion.token_ids)
    assert reasons == {"stop", "length"}


def test_after_a_deadline_the_engine_works_on(undecided: Engine) -> None:
    long = Sampling(n=8, max_tokens=1000, deadline=0.2)
    started = time.monotonic()
    made = generations(undecided, caption_prompts(4), long, range(5))
    assert time.monotonic() - started < 100
    late = [c for g in made for c in g.completions if c.finish_reason == "deadline"]
    assert set(late) == {Completion((), (), "", "deadline")}
    assert all(g.prompt_ids for g in made)
    [generation] = generations(undecided, caption_prompts(4)[:1], Sampling(max_tokens=5), [0])
    assert len(generation.completions[0].token_ids) == 5


def test_results_that_nobody_waits_for_make_room(undecided: Engine) -> None:
    prompt, how = caption_prompts(1)[0], Sampling(max_tokens=1000)
    tried = undecided.generate(requests([prompt] * 64, Sampling(max_tokens=50), range(64)))
    short = next(g.key for g in tried if g.completions[0].finish_reason == "stop")
    for _ in range(3):  # the others take all the room that there is, and go on when the first has come
        results = undecided.generate(requests([prompt] * 64, how, [short, *range(100, 163)]))
        assert len(next(results).completions[0].token_ids) <= 50
        results.close()  # type: ignore[attr-defined]
    assert len(generations(undecided, [prompt] * 5, GREEDY, [0] * 5)) == 5


def test_prompts_are_never_cut(captioner: Engine) -> None:
    [generation] = generations(captioner, caption_prompts()[:1], Sampling(max_tokens=1), [0])
    length = len(generation.prompt_ids)
    reason = refusal(captioner, caption_prompts()[0], Sampling(max_tokens=2049 - length))
    assert f"prompt of {length} tokens and max_tokens {2049 - length}" in reason
    [generation] = generations(captioner, caption_prompts()[:1], Sampling(max_tokens=2048 - length), [0])
    assert generation.completions[0].finish_reason == "stop"
    reason = refusal(captioner, Prompt(describes_messages("red three. " * 2000)), GREEDY)
    assert re.search(r"prompt of \d{4,} tokens", reason)


def test_images_and_their_places_must_match(captioner: Engine, reasoner: Engine) -> None:
    prompt = caption_prompts()[0]
    assert "2 places for images in a prompt with 0" in refusal(captioner, Prompt(prompt.messages), GREEDY)
    assert "reads text only" in refusal(reasoner, prompt, GREEDY)


def test_a_refused_prompt_costs_no_other_one(captioner: Engine) -> None:
    prompts = caption_prompts(8)
    expected = generations(captioner, prompts, GREEDY, range(len(prompts)))
    bad = Prompt(describes_messages("red three. " * 2000)), Prompt(prompts[0].messages)
    mixed = [bad[0], *prompts[:4], *bad, *prompts[4:], bad[1]]
    made = answers(captioner, mixed, GREEDY, range(len(mixed)))
    assert [isinstance(answer, Refusal) for answer in made] == [prompt in bad for prompt in mixed]
    kept = [answer for answer in made if not isinstance(answer, Refusal)]
    assert token_ids(kept) == token_ids(expected)


def test_settings_that_vllm_does_not_know_are_an_error_and_no_refusal(captioner: Engine) -> None:
    prompt = caption_prompts()[0]
    with pytest.raises(ValueError, match="temperature"):
        generations(captioner, [prompt], Sampling(temperature=-1.0), [0])


# --- other weights ----------------------------------------------------------------------------------------------------


def checkpoint(folder: Path, change: Callable[[Weights], None]) -> str:
    """The embedded captioner with other weights."""
    shutil.copytree(EMBEDDED / "captioner", folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def noise(share: float, part: str = "") -> Callable[[Weights], None]:
    """Every weight, of the tensors whose name holds `part`, moves by this share of itself."""

    def change(weights: Weights) -> None:
        generator = torch.Generator().manual_seed(1)
        for name in weights:
            if part in name:
                weights[name] *= 1 + share * torch.randn(weights[name].shape, generator=generator)

    return change


def test_a_swap_leaves_nothing_of_the_old_weights(
    captioner: Engine, plain_captioner: TransformersEngine, tmp_path: Path
) -> None:
    """The sums of a real engine equal those of its checkpoint, or the swaps would fail; so do its answers.

    Every prompt was asked before the swap: keys, values and images of the old weights were there to be used again.
    """
    prompts = caption_prompts(8)
    agree(captioner, plain_captioner, prompts)
    for number, part in enumerate(("", "embed_tokens", "visual", "layers.2")):
        folder = checkpoint(tmp_path / str(number), noise(0.2, part))
        captioner.swap(folder)
        agree(captioner, TransformersEngine.captioner(folder, "float32", "cpu", batch=32), prompts)
    captioner.swap(str(EMBEDDED / "captioner"))
    agree(captioner, plain_captioner, prompts)


@pytest.mark.usefixtures("forked_engines")
def test_a_policy_of_a_sharded_captioner_is_swapped_in(tmp_path: Path) -> None:
    """What an update saves beside its weights must not be the index of the shards that it began with."""
    from transformers import AutoModelForImageTextToText

    initial = tmp_path / "initial"
    AutoModelForImageTextToText.from_pretrained(EMBEDDED / "captioner").save_pretrained(initial, max_shard_size="500KB")
    for file in (EMBEDDED / "captioner").iterdir():
        if file.suffix != ".safetensors" and not (initial / file.name).exists():
            shutil.copy(file, initial / file.name)
    assert len(list(initial.glob("*.safetensors"))) > 1
    training = TinyTraining(initial, tmp_path)
    training.update(tmp_path / "policy", mini_batch=2)
    section = Captioner(model=str(initial), dtype="float32", engine=Vllm())
    runtime = Runtime(device="cpu", captioner=PLACE)
    engine = Worker("captioner", section, str(initial), runtime, tmp_path / "captioner.log")
    try:
        for folder in (initial, tmp_path / "policy", initial):
            engine.swap(str(folder))
            agree(engine, TransformersEngine.captioner(str(folder), "float32", "cpu", batch=32), caption_prompts(4))
    finally:
        engine.close()


def test_a_folder_that_is_no_checkpoint_of_the_model_is_refused_and_another_is_taken(
    captioner: Engine, plain_captioner: TransformersEngine, tmp_path: Path
) -> None:
    cut = Path(checkpoint(tmp_path / "cut", noise(0.1))) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    shorter = checkpoint(tmp_path / "shorter", lambda weights: weights.pop("model.norm.weight"))
    for folder, complaint in {
        str(EMBEDDED / "reasoner"): "is no checkpoint of the engine's model",
        str(tmp_path / "nowhere"): "is no checkpoint of the engine's model",
        str(cut.parent): "cannot be read",
        shorter: r"model.norm.weight is missing and not \[128\] \(1 of \d+ tensors differ\)",
    }.items():
        with pytest.raises(SwapFailed, match=complaint):
            captioner.swap(folder)
    captioner.swap(str(EMBEDDED / "captioner"))
    agree(captioner, plain_captioner, caption_prompts(4))


def test_a_swap_waits_for_what_is_being_generated(undecided: Engine) -> None:
    prompts, how = caption_prompts(2), Sampling(n=8, max_tokens=200)
    alone = generations(undecided, prompts, how, range(3))
    results = undecided.generate(requests(prompts, how, range(3)))
    first = next(results)
    undecided.swap(str(EMBEDDED / "captioner"))
    assert sorted([first, *results], key=lambda answer: answer.key) == alone


def adapter(folder: Path, seed: int, part: str = "model.layers") -> tuple[str, str]:
    """A LoRA adapter of the embedded captioner's linear layers, as PEFT writes it, and the merged model's folder."""
    folder.mkdir()
    rank, scale, generator = 4, 2.0, torch.Generator().manual_seed(seed)
    matrices: Weights = {}

    def merge(weights: Weights) -> None:
        for name, weight in weights.items():
            if name.startswith(part) and weight.dim() == 2:
                first = torch.randn(rank, weight.shape[1], generator=generator) / 5
                second = torch.randn(weight.shape[0], rank, generator=generator) / 5
                path = name.replace("model.layers", "model.language_model.layers").removesuffix(".weight")
                matrices[f"base_model.model.model.{path.removeprefix('model.')}.lora_A.weight"] = first
                matrices[f"base_model.model.model.{path.removeprefix('model.')}.lora_B.weight"] = second
                weight += scale * second @ first

    merged = checkpoint(folder.with_suffix(".merged"), merge)
    save_file(matrices, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = sorted({name.split(".")[-3] for name in matrices})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank * scale, "bias": "none", "target_modules": targets}
    base = str(EMBEDDED / "captioner")
    shutil.copy(EMBEDDED / "captioner" / "config.json", folder)
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    return str(folder), merged


@pytest.mark.usefixtures("forked_engines")
def test_an_adapter_is_served_as_the_merged_model_and_swapped(tmp_path: Path) -> None:
    config = Captioner(model="embedded", dtype="float32", engine=Vllm())
    (first, merged), (second, merged_second) = adapter(tmp_path / "1", 1), adapter(tmp_path / "2", 2)
    blind, _ = adapter(tmp_path / "3", 3, "visual.blocks")
    prompts = caption_prompts(8)
    engine = Worker("captioner", config, first, Runtime(device="cpu", captioner=PLACE), tmp_path / "log")
    try:
        agree(engine, TransformersEngine.captioner(merged, "float32", "cpu", batch=32), prompts)
        engine.swap(second)
        agree(engine, TransformersEngine.captioner(merged_second, "float32", "cpu", batch=32), prompts)
        with pytest.raises(SwapFailed, match="is no adapter of"):
            engine.swap(merged)
        with pytest.raises(SwapFailed):  # vLLM leaves the vision tower as it is
            engine.swap(blind)
        with pytest.raises(EngineLost):
            generations(engine, prompts[:1], GREEDY, [0])
    finally:
        engine.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_element_of_one_layer_is_noticed(dtype: str, tmp_path: Path) -> None:
    def nudge(weights: Weights) -> None:
        values = weights["model.layers.1.mlp.up_proj.weight"]
        values[3, 4] += values[3, 4] / 64

    before = checkpoint_sums(EMBEDDED / "captioner", dtype)
    after = checkpoint_sums(Path(checkpoint(tmp_path / "nudged", nudge)), dtype)
    verify([{f"model.{name.replace(' ', '.')}.weight": sums for name, sums in before.items()}], before)
    with pytest.raises(SwapFailed, match=r"weights: sums differ for layer 1$"):
        verify([{f"model.{name.replace(' ', '.')}.weight": sums for name, sums in before.items()}], after)


def test_a_step_of_training_is_noticed(tmp_path: Path) -> None:
    before = checkpoint_sums(EMBEDDED / "captioner", "float32")
    after = checkpoint_sums(Path(checkpoint(tmp_path / "next", noise(1e-6, "layers.0.input_layernorm"))), "float32")
    assert [name for name in before if before[name] != after[name]] == ["layer 0"]


@given(st.lists(st.floats(-4, 4, width=16), min_size=2, max_size=30), st.integers(0, 10**6))
def test_sums_are_blind_to_order_grouping_and_padding_and_to_nothing_else(values: list[float], seed: int) -> None:
    plain = torch.tensor(values)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    padded = torch.cat([plain[order], torch.zeros(5), torch.tensor([-0.0])])
    for dtype in (torch.float32, torch.bfloat16):
        sums = tensor_sums([plain], dtype)
        assert sums == tensor_sums([padded[:1], padded[1:].reshape(-1, 1)], dtype)
        assert sums != tensor_sums([torch.cat([plain, torch.tensor([0.25])])], dtype)
        changed = plain.clone()
        changed[seed % len(values)] += 8.0
        assert sums != tensor_sums([changed], dtype)


def test_shards_add_up_and_copies_count_once() -> None:
    whole, norm = torch.randn(8, 4), torch.randn(4)
    checkpoint = {"layer 0": tensor_sums([whole, norm], torch.float32)}
    ranks = [
        {
            "model.layers.0.mlp.weight": tensor_sums([half], torch.float32),
            "model.layers.0.norm.weight": tensor_sums([norm], torch.float32),
        }
        for half in whole.chunk(2)
    ]
    verify(ranks, checkpoint)
    with pytest.raises(SwapFailed, match="layer 0"):
        verify(
            [ranks[0], {**ranks[1], "model.layers.0.mlp.weight": ranks[0]["model.layers.0.norm.weight"]}], checkpoint
        )


@pytest.mark.usefixtures("forked_engines")
def test_image_sizes_step_sizes_and_cache_precision_reach_vllm(tmp_path: Path) -> None:
    """It sees images as the trainer does, half as large as the checkpoint says; keys in 8 bits change log-probs."""
    pixels = (None, 2 * world.CELL * world.CELL)
    place = PLACE.model_copy(update={"max_num_batched_tokens": 4096})
    plain = TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", 32, pixels=pixels)
    for cache in ("auto", "fp8"):
        section = Captioner(model="embedded", dtype="float32", engine=Vllm(kv_cache_dtype=cache), max_pixels=pixels[1])
        runtime = Runtime(device="cpu", captioner=place)
        engine = Worker("captioner", section, str(EMBEDDED / "captioner"), runtime, tmp_path / "log")
        try:
            if cache == "auto":
                agree(engine, plain, caption_prompts(8))
            else:
                made = generations(engine, caption_prompts(8), GREEDY, [0] * 9)
                expected = generations(plain, caption_prompts(8), GREEDY, [0] * 9)
                assert [g.prompt_ids for g in made] == [g.prompt_ids for g in expected]
                assert [g.completions[0].logprobs[0] for g in made] != [
                    pytest.approx(g.completions[0].logprobs[0], abs=1e-6) for g in expected
                ]
        finally:
            engine.close()
    small = Runtime(device="cpu", captioner=place.model_copy(update={"max_num_batched_tokens": 100}))
    with pytest.raises(BadInput, match=r"engine vllm: it refuses .*max_num_batched_tokens \(100\) is smaller than"):
        Worker("captioner", section, str(EMBEDDED / "captioner"), small, tmp_path / "log")


def test_a_program_that_does_not_know_racro_can_load_a_processor() -> None:
    """Beside a CPU build of torch, torchvision alone cannot be imported, and with it no processor."""
    program = (
        "from transformers import AutoProcessor\n"
        f"print(type(AutoProcessor.from_pretrained({str(EMBEDDED / 'captioner')!r})).__name__)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "Qwen2_5_VLProcessor", done.stderr[-2000:]
