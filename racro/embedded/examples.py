"""Supervised examples of the bar world: what the two models learn before reinforcement learning.

Not a training loop (`racro.embedded.sft`). Each function draws one example from a random generator;
`racro.embedded.rebuild` decides the mix over time. Prompts are exactly those of `racro.prompts`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from racro import prompts
from racro.embedded.recipe import CaptionMix, ReadingMix
from racro.embedded.sentences import ORDINALS, announce, state, statements, word
from racro.embedded.world import BARS, COLOURS, MAX_HEIGHT, BarProblem, Category, Fact, problem, solve

INDICES = 1 << 40
"""Number of training problems to draw from, so large that practically none is drawn twice."""
UNKNOWN = "\\boxed{unknown}"


@dataclass(frozen=True)
class Example:
    """A prompt and the text that the model is taught to write."""

    messages: list[prompts.Message]
    images: list[Image.Image]
    target: str

    @property
    def length(self) -> int:
        """Characters of prompt and target."""
        return len(str(self.messages)) + len(self.target)


def training_problem(rng: random.Random, seed: int) -> BarProblem:
    """A random problem of the training split."""
    return problem("train", seed, rng.randrange(INDICES))


def caption_example(rng: random.Random, asked: BarProblem, mix: CaptionMix, dense: float) -> Example:
    """The captioner describes; with probability `dense`, bar after bar of one image."""
    caption = dense_caption(rng, asked) if rng.random() < dense else base_caption(rng, asked, mix)
    return Example(prompts.caption_messages(asked.question, len(asked.scenes)), asked.images(), caption)


def attempt_example(asked: BarProblem) -> Example:
    """The captioner answers the question."""
    messages = prompts.attempt_messages(asked.question, len(asked.scenes))
    return Example(messages, asked.images(), reasoning(asked.category, asked.asked))


def describes_example(rng: random.Random, asked: BarProblem, mix: CaptionMix) -> Example:
    """The captioner judges whether a text describes an image."""
    if rng.random() < 0.5:
        text = rng.choice([announce(asked.answer), reasoning(asked.category, asked.asked)])
    else:
        text = base_caption(rng, asked, mix)
    return Example(prompts.describes_messages(text), [], "Yes." if statements(text) else "No.")


def drill_example(rng: random.Random) -> Example:
    """Practice in looking things up: all colours are stated in random order and read in a fixed one.

    Learning to look things up takes a small model longest; here nothing else is to be learnt. Half of the examples have
    two images, where a height depends on ordinal and colour together.
    """
    images = rng.randint(1, 2)
    facts = [
        Fact(image, colour, rng.randint(1, MAX_HEIGHT))
        for image in range(images)
        for colour in (COLOURS if images == 1 else sorted(rng.sample(list(COLOURS), BARS)))
    ]
    stated = " ".join(state(fact, images) for fact in rng.sample(facts, len(facts)))
    places = [f"{ORDINALS[fact.image]} " if images > 1 else "" for fact in facts]
    target = ", ".join(place + read(fact.colour, fact.height) for place, fact in zip(places, facts, strict=True))
    return Example([{"role": "user", "content": [{"type": "text", "text": stated}]}], [], f"bars {target}")


def reading_example(rng: random.Random, asked: BarProblem, mix: ReadingMix) -> Example:
    """The reasoner answers from a caption only."""
    caption = read_caption(rng, asked, mix)
    target = reasoning(asked.category, asked.asked, known_facts(asked, caption))
    return Example(prompts.reasoner_messages(asked.question, caption), [], target)


def joint_example(rng: random.Random, asked: BarProblem, mix: ReadingMix) -> Example:
    """The reasoner answers from caption and attempt; where they differ, the caption is right."""
    caption = read_caption(rng, asked, mix)
    believed = asked.asked
    if rng.random() < 0.5:
        believed = tuple(fact._replace(height=rng.randint(1, MAX_HEIGHT)) for fact in believed)
    tentative = reasoning(asked.category, believed)
    known = known_facts(asked, caption)
    target = reasoning(asked.category, asked.asked, known)
    if target.endswith(UNKNOWN):
        target = target.removesuffix(UNKNOWN) + f"tentative {box(solve(asked.category, believed))}"
    return Example(prompts.joint_messages(asked.question, caption, tentative), [], target)


def base_caption(rng: random.Random, asked: BarProblem, mix: CaptionMix) -> str:
    """A true caption that is only weakly related to the question; sometimes it announces the answer."""
    facts = base_facts(rng, asked, mix)
    if rng.random() >= mix.leak:
        return write(facts, asked)
    described = write(facts[: rng.choice([0, 2])], asked)
    return f"{described} {announce(asked.answer)}".strip()


def base_facts(rng: random.Random, asked: BarProblem, mix: CaptionMix) -> list[Fact]:
    """The facts that a base caption states: those asked for, random ones, or those that stand out."""
    two_images = len(asked.scenes) > 1
    share = mix.asked_two_images if two_images else mix.asked
    draw = rng.random()
    if draw < share:
        return rng.sample(asked.asked, len(asked.asked))
    if draw < share + mix.random:
        return rng.sample(asked.facts, rng.randint(1, 2 if two_images else 3))
    tallest = sorted(asked.facts, key=lambda fact: -fact.height)
    if two_images:
        return [next(fact for fact in tallest if fact.image == i) for i in range(2)]
    outstanding = [fact for fact in tallest if fact.height >= mix.tall]
    return outstanding[:3] or tallest[:1]


def dense_caption(rng: random.Random, asked: BarProblem) -> str:
    """Every bar from left to right; for two images only half of one, so that the text stays short."""
    facts = asked.facts
    start = BARS // 2 * rng.randrange(4) if len(asked.scenes) > 1 else 0
    return write(facts[start : start + BARS // len(asked.scenes)], asked)


def read_caption(rng: random.Random, asked: BarProblem, mix: ReadingMix) -> str:
    """A caption as a policy might write it: any facts in any order, sometimes cut off, announcing or unclear."""
    facts = rng.sample(asked.facts, rng.randint(0, 4))
    if rng.random() < mix.informed:
        facts = list(dict.fromkeys((*asked.asked, *facts)))[: max(len(facts), len(asked.asked))]
        rng.shuffle(facts)
    unplaced = len(asked.scenes) > 1 and rng.random() < mix.unplaced
    sentences = [state(fact, 1 if unplaced else len(asked.scenes)) for fact in facts]
    if rng.random() < mix.announced:
        answer = solve(asked.category, tuple(f._replace(height=rng.randint(1, MAX_HEIGHT)) for f in asked.asked))
        sentences.insert(rng.randint(0, len(sentences)), announce(answer))
    words = " ".join(sentences).split(" ")
    if rng.random() < mix.cut:
        words = words[: rng.randint(0, len(words))]
    return " ".join(words)


def known_facts(asked: BarProblem, caption: str) -> list[int | None]:
    """The height that the caption gives for each asked fact; None where it gives none."""
    said = {
        (0 if s.image is None and len(asked.scenes) == 1 else s.image, s.colour): s.height for s in statements(caption)
    }
    return [said.get((fact.image, fact.colour)) for fact in asked.asked]


def write(facts: Sequence[Fact], asked: BarProblem) -> str:
    return " ".join(state(fact, len(asked.scenes)) for fact in facts)


def reasoning(category: Category, asked: tuple[Fact, ...], known: Sequence[int | None] | None = None) -> str:
    """A short chain of thought that ends with the boxed answer, or with `unknown` if a height asked for is not known.

    `known` are the heights to reason from; None: those of the facts.
    """
    heights = [fact.height for fact in asked] if known is None else list(known)
    places = [f"{ORDINALS[fact.image]} " if category == "two_images" else "" for fact in asked]
    seen = ", ".join(p + read(f.colour, height) for p, f, height in zip(places, asked, heights, strict=True))
    facts = [fact._replace(height=height) for fact, height in zip(asked, heights, strict=True) if height is not None]
    if len(facts) < len(asked):
        return f"bars {seen}: {UNKNOWN}"
    return f"bars {seen}: {_working(category, facts[0].height, facts[-1].height)}{box(solve(category, tuple(facts)))}"


def read(colour: str, height: int | None) -> str:
    return f"{colour} {word(height) if height else 'none'}"


def _working(category: Category, first: int, second: int) -> str:
    match category:
        case "value":
            return ""
        case "sum" | "two_images":
            return f"{word(first)} + {word(second)} = "
        case "difference":
            return f"{word(max(first, second))} - {word(min(first, second))} = "
        case "choice" | "word":
            sign = ">" if first > second else "<" if first < second else "="
            return f"{word(first)} {sign} {word(second)}, "


def box(answer: str) -> str:
    return f"\\boxed{{{answer}}}"
