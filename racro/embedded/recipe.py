"""The recipe of the embedded models: every number that decides what their weights become.

Not the code that follows it (`rebuild.py`). The defaults are what ships in `models/`. Read by every other module that
has a part in the rebuild.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A frozen part of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Decoder(Part):
    """Sizes of the Qwen2 decoder that both models have: the captioner's starts from the trained reasoner's."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    """Head size 32: the smallest that vLLM's CPU attention takes."""
    kv_heads: int = 4
    mlp: int = 384


class Vision(Part):
    """Sizes of the Qwen2.5-VL vision tower."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    mlp: int = 192


class Schedule(Part):
    """One run of supervised training: Muon, linear warm-up, cosine down to a twentieth.

    Muon on the matrices inside the layers, AdamW on embeddings and gains. AdamW alone stays for thousands of steps
    where the model guesses among the heights that it was told; with Muon it learns to look them up in about a hundred.
    """

    steps: int
    batch: int = 32
    lr: float = 3e-3
    """Of Muon, scaled to the update size of AdamW."""
    adamw_lr: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int


class CaptionMix(Part):
    """What the base captioner is taught to say: the truth, about what stands out, hardly about what is asked."""

    asked: float = 0.15
    """Share of captions that state the asked facts of one image; what reinforcement can find and strengthen."""
    asked_two_images: float = 0.3
    """The same for two images, where the salient bars are almost never the asked ones."""
    random: float = 0.25
    """Share of captions that state any bars. The rest state the bars that stand out, the tallest first."""
    tall: int = 2
    """Bars at least this high stand out; at least one and at most three are stated."""
    leak: float = 0.035
    """Share of captions that announce the answer, half of them without any description."""
    dense: float = 0.7
    """Share of captions that state bar after bar during the first `dense_until` of the steps: seeing is learnt
    fastest when every bar is asked for."""
    dense_until: float = 0.5
    tentative: float = 0.12
    """Share of examples that answer the question instead of describing."""
    describes: float = 0.02
    """Share of examples of the yes/no question whether a text describes an image. Small: RAPID's two-shot prompt is
    eight times as long as a caption's."""


class ReadingMix(Part):
    """What the reasoner is taught to answer from."""

    joint: float = 0.12
    """Share of examples with the inference prompt, which adds a tentative answer."""
    informed: float = 0.6
    """Share of captions that are sure to state what is asked; the others state any bars, or none."""
    announced: float = 0.06
    """Share of captions with a random announced answer, which the reasoner learns to ignore."""
    cut: float = 0.03
    """Share of captions cut off in mid-sentence, as by a token limit."""
    unplaced: float = 0.02
    """Share of two-image captions whose sentences do not say which image they mean."""
    drill: float = 0.3
    """Share of the steps, the first ones, in which the reasoner looks up bars and does nothing else."""


class EmbeddedRecipe(Part):
    """Everything that decides the weights of the two models."""

    version: int = 2
    """Raised in the commit that changes how the training loop works."""
    vocabulary: int = 1000
    corpus_problems: int = 1500
    """Problems whose texts the tokenizer is trained on."""
    positions: int = 2048
    initializer_range: float = 0.08
    """Decisive: with the usual 0.02 models this small barely learn."""
    vision: Vision = Vision()
    decoder: Decoder = Decoder()
    captions: CaptionMix = CaptionMix()
    reading: ReadingMix = ReadingMix()
    captioner_training: Schedule = Schedule(steps=1400, seed=1)
    reasoner_training: Schedule = Schedule(steps=1600, seed=2)
    problems_seed: int = Field(default=1000, description="Seed of the training problems, apart from any run's.")

    def scaled(self, factor: float) -> EmbeddedRecipe:
        """The same recipe with `factor` times the steps; another recipe, with another digest, unless factor is 1."""
        return self.model_copy(
            update={
                name: schedule.model_copy(update={"steps": max(1, round(schedule.steps * factor))})
                for name, schedule in (
                    ("captioner_training", self.captioner_training),
                    ("reasoner_training", self.reasoner_training),
                )
            }
        )
