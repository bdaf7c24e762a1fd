"""The tokenizer of the embedded models: a byte-level BPE in exactly the form of Qwen2's.

AutoTokenizer loads every tokenizer of these model types as Qwen2Tokenizer, with Qwen2's normalizer and pre-tokenizer
whatever the folder says. So the BPE is trained with these two: the tokenizer that was trained is the one that is
loaded. Called by `racro.embedded.rebuild`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from racro.embedded import examples
from racro.embedded.recipe import EmbeddedRecipe

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (END_OF_TEXT, START, END, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT_WEIGHT = 30
"""How often RAPID's whole prompts occur in the corpus: enough for their words to become tokens, after the world's."""


def build_tokenizer(recipe: EmbeddedRecipe) -> Qwen2Tokenizer:
    """Train the BPE on the world's own texts and every prompt of the project."""
    blank = Qwen2Tokenizer().backend_tokenizer
    trained = Tokenizer(models.BPE())
    trained.normalizer, trained.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(corpus(recipe), trainer)
    bpe = json.loads(trained.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        eos_token=END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=list(SPECIAL[1:]),
        model_max_length=recipe.positions,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )


def corpus(recipe: EmbeddedRecipe) -> Iterator[str]:
    """Texts of the world in the proportions in which the models meet them, and some long prompts."""
    rng = random.Random(recipe.problems_seed)
    for _ in range(recipe.corpus_problems):
        asked = examples.training_problem(rng, recipe.problems_seed)
        for example in (
            examples.caption_example(rng, asked, recipe.captions, dense=0.0),
            examples.attempt_example(asked),
            examples.reading_example(rng, asked, recipe.reading),
        ):
            yield from texts(example)
    for _ in range(PROMPT_WEIGHT):
        asked = examples.training_problem(rng, recipe.problems_seed)
        yield from texts(examples.joint_example(rng, asked, recipe.reading))
        yield from texts(examples.describes_example(rng, asked, recipe.captions))


def texts(example: examples.Example) -> Iterator[str]:
    """The plain texts of an example, without special tokens."""
    for message in example.messages:
        yield f"{message['role']}\n"
        for part in message["content"]:
            if part["type"] == "text":
                yield part["text"]
    yield "assistant\n"
    yield example.target
