"""The embedded world says what is so, and what ships is what the recipe makes."""

from __future__ import annotations

import json
import random
import unicodedata
from itertools import chain, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from racro import prompts
from racro.embedded import examples, oracle, sentences, world
from racro.embedded.rebuild import RECIPE_FILE, captioner_batches, reasoner_batches, recipe_digest
from racro.embedded.recipe import EmbeddedRecipe
from racro.embedded.sft import IGNORED, alike, collate
from racro.embedded.tokenizer import END, IMAGE, build_tokenizer
from racro.models import folders

CPU = torch.device("cpu")
CAPTIONER = folders.EMBEDDED / "captioner"
REASONER = folders.EMBEDDED / "reasoner"

splits = st.sampled_from(["train", "heldout"])
numbers = st.integers(0, 1 << 20)
problems = st.builds(world.problem, splits, numbers, numbers)
seeds = st.integers(0, 1 << 30).map(random.Random)


@pytest.fixture(scope="module")
def tokenizer():
    return folders.load_tokenizer(CAPTIONER)


def facts_of(problem: world.BarProblem) -> dict[tuple[int, str], int]:
    """The scene read back from its JSON, as someone without the world's code would read it."""
    scene = json.loads(problem.scene_json())
    return {(i, colour): height for i, bars in enumerate(scene["images"]) for colour, height in bars}


# The world


@given(splits, numbers, st.integers(0, 20), st.integers(0, 20))
def test_a_larger_count_extends_a_smaller_one(split, seed, count, more):
    few = list(world.generate(split, seed, count))
    many = list(world.generate(split, seed, count + more))
    assert many[:count] == few
    assert len({problem.uid for problem in many}) == len(many)


@given(problems)
def test_splits_share_no_scene(problem):
    split = problem.uid.split("-")[1]
    assert {world.split_of(scene) for scene in problem.scenes} == {split}


def test_seeds_and_splits_give_different_problems_with_every_category():
    streams = [list(world.generate(split, seed, 100)) for split in ("train", "heldout") for seed in (0, 1)]
    assert len({problem.uid for stream in streams for problem in stream}) == 400
    assert len({problem.scenes for stream in streams for problem in stream}) == 400
    for stream in streams:
        assert {problem.category for problem in stream} == set(world.CATEGORIES)


@given(problems)
def test_answers_follow_from_the_scene(problem):
    heights = facts_of(problem)
    asked = [heights[image, colour] for image, colour, _ in json.loads(problem.scene_json())["asked"]]
    colours = [fact.colour for fact in problem.asked]
    assert all(colour in problem.question for colour in colours)
    match problem.category:
        case "value":
            assert int(problem.answer) == asked[0]
        case "sum":
            assert int(problem.answer) == asked[0] + asked[1]
        case "two_images":
            assert int(problem.answer) == asked[0] + asked[1]
            assert problem.question.count(prompts.IMAGE_TAG) == len(problem.images()) == 2
        case "difference":
            assert int(problem.answer) == max(asked) - min(asked)
        case "word":
            assert asked[0] != asked[1]
            assert problem.answer == colours[asked.index(max(asked))]
        case "choice":
            chosen = problem.choices["ABC".index(problem.answer)]
            assert chosen == ("equal" if asked[0] == asked[1] else colours[asked.index(max(asked))])
            assert all(
                f"{letter}. {text}" in problem.question for letter, text in zip("ABC", problem.choices, strict=True)
            )


@given(problems)
def test_pixels_show_the_heights(problem):
    for scene, image in zip(problem.scenes, problem.images(), strict=True):
        assert image.size == (112, 28)
        for i, bar in enumerate(scene):
            column = [image.getpixel((i * world.CELL + world.CELL // 2, y)) for y in range(world.CELL)]
            assert column.count(world.COLOURS[bar.colour]) == world.UNIT * bar.height + 1


# The oracle


@given(problems, seeds)
def test_the_oracle_counts_what_is_stated_and_what_is_true(problem, rng):
    facts = [rng.choice(problem.facts) for _ in range(rng.randint(0, 5))]
    wrong = [fact for fact in facts if rng.random() < 0.3]
    said = [f._replace(height=f.height % world.MAX_HEIGHT + 1) if f in wrong else f for f in facts]
    caption = examples.write(said, problem)
    found = oracle.inspect(caption, problem.scene_json())
    assert (found.stated, found.true) == (len(facts), len([f for f in facts if f not in wrong]))
    assert found.states_asked == all(f in facts and f not in wrong for f in problem.asked)
    assert not found.leaks
    assert oracle.inspect(f"{caption} {sentences.announce(problem.answer)}", problem.scene_json()).leaks


def test_a_contradicted_fact_is_not_stated():
    problem = next(p for p in world.generate("train", 0, 50) if p.category == "value")
    (fact,) = problem.asked
    caption = examples.write([fact, fact._replace(height=fact.height % world.MAX_HEIGHT + 1)], problem)
    assert oracle.inspect(caption, problem.scene_json()) == oracle.Facts(2, 1, states_asked=False, leaks=False)


def test_among_two_images_a_statement_must_name_its_image():
    problem = next(p for p in world.generate("train", 0, 50) if p.category == "two_images")
    unplaced = " ".join(sentences.state(fact, images=1) for fact in problem.asked)
    assert oracle.inspect(unplaced, problem.scene_json()) == oracle.Facts(2, 0, states_asked=False, leaks=False)


# The examples


@given(problem=problems, rng=seeds)
def test_base_captions_are_truthful_and_short(tokenizer, problem, rng):
    recipe = EmbeddedRecipe()
    example = examples.caption_example(rng, problem, recipe.captions, dense=0.0)
    found = oracle.inspect(example.target, problem.scene_json())
    assert found.stated == found.true <= 3
    assert found.stated or found.leaks
    leaked = len(tokenizer.encode(f" {sentences.announce(problem.answer)}")) if found.leaks else 0
    assert len(tokenizer.encode(example.target + END)) <= 10 + leaked


@given(problems, seeds)
def test_the_reasoner_is_taught_the_answer_where_the_caption_has_it_and_unknown_elsewhere(problem, rng):
    mix = EmbeddedRecipe().reading
    caption = examples.read_caption(rng, problem, mix)
    known = oracle.inspect(caption, problem.scene_json()).states_asked
    target = examples.reasoning(problem.category, problem.asked, examples.known_facts(problem, caption))
    assert target.endswith(examples.box(problem.answer) if known else examples.UNKNOWN)


# The models that ship


def test_what_ships_was_made_by_the_recipe_that_stands_in_the_code():
    record = json.loads((folders.EMBEDDED / RECIPE_FILE).read_text())
    assert EmbeddedRecipe.model_validate(record["recipe"]) == EmbeddedRecipe()
    assert record["digest"] == recipe_digest(), "world, prompts, examples or recipe changed: racro embedded rebuild"


def test_the_two_models_are_smaller_than_8_megabytes():
    assert sum(file.stat().st_size for file in folders.EMBEDDED.rglob("*") if file.is_file()) < 8_000_000


def test_the_tokenizer_that_loads_is_the_one_that_was_trained():
    trained = build_tokenizer(EmbeddedRecipe())
    for loaded in (folders.load_tokenizer(CAPTIONER), folders.load_tokenizer(REASONER)):
        assert loaded.get_vocab() == trained.get_vocab()
        for text in [*prompt_texts(loaded), "Größe 12: ½ ×\t日本\n\n  x", "e\u0301 is normalised to é"]:
            assert loaded.encode(text) == trained.encode(text)


def prompt_texts(tokenizer) -> list[str]:
    """Rendered prompts of every kind, answers included."""
    recipe = EmbeddedRecipe()
    batches = chain(islice(captioner_batches(recipe), 24), islice(reasoner_batches(recipe), 24))
    return [
        tokenizer.apply_chat_template(e.messages, tokenize=False) + e.target for batch in batches for e in batch[:2]
    ]


@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_captioner_reads_one_image_token_per_bar():
    processor = folders.load_processor(CAPTIONER)
    model = folders.load_captioner(CAPTIONER, "float32", CPU)
    image_token = processor.tokenizer.convert_tokens_to_ids(IMAGE)
    for problem in world.generate("heldout", 3, 12):
        messages = prompts.caption_messages(problem.question, len(problem.scenes))
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=problem.images(), return_tensors="pt")
        assert int((inputs["input_ids"] == image_token).sum()) == world.BARS * len(problem.scenes)
        with torch.no_grad():
            assert model(**inputs).logits.isfinite().all()


def test_large_images_are_shrunk_to_the_world_s_size():
    processor = folders.load_processor(CAPTIONER)
    inputs = processor(text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[Image.new("RGB", (1000, 700))])
    assert len(inputs["input_ids"][0]) - 2 <= 16


def test_the_loss_falls_on_the_target_alone():
    processor = folders.load_processor(CAPTIONER)
    batch = max(alike(next(captioner_batches(EmbeddedRecipe()))), key=len)
    inputs = collate(batch, processor)
    assert batch[0].images
    for labels, example in zip(inputs["labels"], batch, strict=True):
        assert processor.tokenizer.decode(labels[labels != IGNORED]) == example.target + END


def test_the_shipped_reasoner_answers_from_captions_and_says_unknown_without():
    mix = EmbeddedRecipe().reading
    rng = random.Random(11)
    batch = [examples.reading_example(rng, p, mix) for p in world.generate("heldout", 5, 128)]
    tokenizer = folders.load_tokenizer(REASONER)
    model = folders.load_reasoner(REASONER, "float32", CPU)
    texts = [tokenizer.apply_chat_template(e.messages, add_generation_prompt=True, tokenize=False) for e in batch]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    generated = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert sum(e.target == text for e, text in zip(batch, generated, strict=True)) >= 0.95 * len(batch)
