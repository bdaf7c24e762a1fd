"""What `tests.bench.gpu_rows` measures on: a model with random weights, noise images, made-up captions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from racro.data.images import sha256
from racro.models.folders import EMBEDDED, load_processor
from racro.schema import ImageRef, Problem, Rollout, ScoredRollout
from racro.training.bins import Lengths
from racro.training.planning import Group, Plan, plan
from racro.training.prompts import PromptEncoder, prompt_ids
from tests.support import qwen
from tests.support.scoring import scored

POLICY = "random"
ONE_STEP = 10**4
"""Problems of an optimizer step: more than there are."""


@dataclass(frozen=True)
class Workload:
    """Lengths and numbers."""

    side: int
    """Of an image, in pixels: 28 for each token in a row."""
    shortest: int
    """Tokens of a caption."""
    longest: int
    groups: int
    """Of an update."""
    captions: int
    """Of a group."""
    tokens: int
    """Of a bin."""
    bins: tuple[int, ...]
    """Sizes that are tried for the largest bin, ascending."""
    written: tuple[int, int]
    """Problems and tokens for a caption that the engine writes."""


PAPER = Workload(
    side=924,
    shortest=300,
    longest=500,
    groups=12,
    captions=4,
    tokens=8192,
    bins=(8192, 16384, 32768, 65536, 131072),
    written=(16, 128),
)
TINY = Workload(
    side=56,
    shortest=6,
    longest=10,
    groups=4,
    captions=4,
    tokens=512,
    bins=(512, 1024),
    written=(2, 6),
)


def write_model(size: str, folder: Path, device: torch.device) -> int:
    """Write a model with random weights; its number of parameters.

    The tokenizer is the embedded one; the vocabulary has the real size.
    """
    processor = load_processor(EMBEDDED / "captioner")
    ids = processor.tokenizer.convert_tokens_to_ids
    end, padding = ids("<|im_end|>"), ids("<|endoftext|>")
    settings = qwen.config(
        size,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=padding,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = Qwen2_5_VLForConditionalGeneration(settings)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, padding
    model.save_pretrained(folder)
    processor.image_processor = Qwen2VLImageProcessorPil(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": 1024 * 1024},
    )
    processor.save_pretrained(folder)
    return sum(value.numel() for value in model.parameters())


def problems(count: int, place: Path, side: int) -> list[Problem]:
    """Problems with a noise image each."""
    made = []
    for number in range(count):
        file = place / f"{number}.png"
        if not file.exists():
            noise = random.Random(number).randbytes(3 * (side // 4) ** 2)
            Image.frombytes("RGB", (side // 4, side // 4), noise).resize((side, side)).save(file)
        made.append(
            Problem(
                uid=str(number),
                question=f"What is the height of the red bar in picture {number}?",
                answer="1",
                kind="integer",
                category="",
                choices=(),
                images=(ImageRef(path=str(file), sha256=sha256(file.read_bytes())),),
                scene=None,
            )
        )
    return made


def made_up(load: Workload, chosen: list[Problem], encoder: PromptEncoder, vocabulary: int) -> Plan:
    """Captions of random words for each problem, in one optimizer step; log-probs are those of equal chances."""
    dice, chance = random.Random(0), -math.log(vocabulary)
    rows = []
    for problem in chosen:
        [prompt] = prompt_ids(encoder.encode([problem]))
        for sample in range(load.captions):
            length = dice.randint(load.shortest, load.longest)
            rows.append(
                Rollout(
                    uid=problem.uid,
                    sample=sample,
                    policy=POLICY,
                    prompt_ids=tuple(prompt),
                    completion_ids=tuple(dice.randrange(32, 256) for _ in range(length)),
                    logprobs=(chance,) * length,
                    finish_reason="length",
                    caption="",
                )
            )
    return plan(half_right(rows), {problem.uid: problem for problem in chosen}, POLICY, ONE_STEP)


def lengths(group: Group) -> Lengths:
    """Of a group of a plan."""
    return Lengths(len(group.rollouts[0].prompt_ids), tuple(len(row.completion_ids) for row in group.rollouts))


def sum_of(own: Lengths) -> int:
    """Tokens of a group, its prompt once."""
    return own.prompt + sum(own.captions)


def half_right(rows: Sequence[Rollout]) -> list[ScoredRollout]:
    """Every other caption of each group is right."""
    return scored(rows, [float(row.sample % 2) for row in rows])
