"""The recipe of the embedded models: every number that determines their weights.

Not the code that follows it (`racro.embedded.rebuild`). The defaults are those of the models in `models/`. Read by all
modules that take part in the rebuild.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A section of this recipe; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Decoder(Part):
    """Sizes of the Qwen2 decoder of both models; the captioner's starts from the weights of the trained reasoner."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    """Gives a head size of 32, the smallest that vLLM's CPU attention supports."""
    kv_heads: int = 4
    mlp: int = 384


class Vision(Part):
    """Sizes of the Qwen2.5-VL vision tower."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    mlp: int = 192


class Schedule(Part):
    """One supervised training: Muon, linear warm-up, cosine decay to a twentieth.

    Muon for the matrices inside the layers, AdamW for embeddings and gains. With AdamW alone, the model guesses among
    the heights in its prompt for thousands of steps; with Muon it learns to look them up within about a hundred.
    """

    steps: int
    batch: int = 32
    lr: float = 3e-3
    """Learning rate of Muon, scaled to the update size of AdamW."""
    adamw_lr: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int


class CaptionMix(Part):
    """What the base captioner learns to write: true statements about what stands out, rarely about what is asked."""

    asked: float = 0.15
    """Share of captions of one image that state the facts asked for: what reinforcement can find and strengthen."""
    asked_two_images: float = 0.3
    """The same for two images, where the salient bars are almost never the asked ones."""
    random: float = 0.25
    """Share of captions that state random bars. The rest state the bars that stand out, the tallest first."""
    tall: int = 2
    """Bars at least this high stand out; at least one and at most three are stated."""
    leak: float = 0.035
    """Share of captions that announce the answer, half of them without any description."""
    dense: float = 0.7
    """Share of captions that state bar after bar, during the first share `dense_until` of the steps: a model learns to
    see fastest when every bar is asked for."""
    dense_until: float = 0.5
    tentative: float = 0.12
    """Share of examples with an answer to the question instead of a description."""
    describes: float = 0.02
    """Share of examples that ask whether a text describes an image. Small, because RAPID's two-shot prompt is eight
    times as long as the prompt of a caption."""


class ReadingMix(Part):
    """Which captions the reasoner learns to answer from."""

    joint: float = 0.12
    """Share of examples with the inference prompt, which adds the attempt."""
    informed: float = 0.6
    """Share of captions that certainly state what is asked; the others state random bars, or none."""
    announced: float = 0.06
    """Share of captions that announce a random answer, which the reasoner learns to ignore."""
    cut: float = 0.03
    """Share of captions that end in the middle of a sentence, as if cut by a token limit."""
    unplaced: float = 0.02
    """Share of two-image captions whose sentences do not say which image they mean."""
    drill: float = 0.3
    """Share of the steps, at the beginning, in which the reasoner only practises looking up bars."""


class EmbeddedRecipe(Part):
    """Everything that determines the weights of the two models."""

    version: int = 2
    """Raised in a commit that changes how the training loop works."""
    vocabulary: int = 1000
    corpus_problems: int = 1500
    """Number of problems whose texts the tokenizer is trained on."""
    positions: int = 2048
    initializer_range: float = 0.08
    """Standard deviation of initial weights. Decisive: with the usual 0.02, models this small hardly learn."""
    vision: Vision = Vision()
    decoder: Decoder = Decoder()
    captions: CaptionMix = CaptionMix()
    reading: ReadingMix = ReadingMix()
    captioner_training: Schedule = Schedule(steps=1400, seed=1)
    reasoner_training: Schedule = Schedule(steps=1600, seed=2)
    problems_seed: int = Field(default=1000, description="Seed of the training problems, apart from any run's.")

    def scaled(self, factor: float) -> EmbeddedRecipe:
        """This recipe with `factor` times the steps; its digest differs unless the factor is 1."""
        return self.model_copy(
            update={
                name: schedule.model_copy(update={"steps": max(1, round(schedule.steps * factor))})
                for name, schedule in (
                    ("captioner_training", self.captioner_training),
                    ("reasoner_training", self.reasoner_training),
                )
            }
        )
