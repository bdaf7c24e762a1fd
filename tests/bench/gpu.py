"""`make bench-gpu`: the engine and the update step on a full-size Qwen2.5-VL with random weights, on one GPU.

Random weights need no hub and cost what trained ones cost: tokens per second, memory, log-prob gap between the engine
in bfloat16 and the trainer. The tokenizer is the embedded one, the vocabulary is padded to the real size. Accuracy
means nothing here. Prints one JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from racro import config
from racro.data.images import sha256
from racro.engines.local.transformers import TransformersEngine
from racro.models.folders import EMBEDDED, load_processor
from racro.rollouts import captioner
from racro.schema import ImageRef, Problem, ScoredRollout, Verdict
from racro.training.planning import plan
from tests.support.updating import update

SIZES: dict[str, dict[str, Any]] = {
    "3b": {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "intermediate_size": 11008},
    "tiny": {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
}


def build(size: str, folder: Path) -> int:
    """Write a random Qwen2.5-VL of the given size with its processor; returns its number of parameters."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    processor = load_processor(EMBEDDED / "captioner")
    ids = processor.tokenizer.convert_tokens_to_ids
    text = SIZES[size]
    rotary = text["hidden_size"] // text["num_attention_heads"] // 2
    settings = Qwen2_5_VLConfig(
        text_config={
            **text,
            "vocab_size": 151936,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [rotary // 4, rotary * 3 // 8, rotary * 3 // 8],
            },
            "bos_token_id": None,
            "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
            "tie_word_embeddings": True,
            "use_sliding_window": False,
        },
        vision_config={
            "depth": 32 if size == "3b" else 2,
            "hidden_size": 1280,
            "num_heads": 16,
            "intermediate_size": 3420,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2_5_VLForConditionalGeneration(settings).to(torch.bfloat16)
    model.generation_config.eos_token_id = ids("<|im_end|>")
    model.generation_config.pad_token_id = ids("<|endoftext|>")
    model.save_pretrained(folder)
    processor.image_processor = Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 56 * 56, "longest_edge": 1024 * 1024}
    )
    processor.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def problems(count: int, folder: Path, side: int) -> list[Problem]:
    """Problems with one noise image of side x side pixels each."""
    made = []
    for i in range(count):
        file = folder / f"{i}.png"
        image = Image.frombytes("RGB", (side // 8, side // 8), random.Random(i).randbytes(3 * (side // 8) ** 2))
        image.resize((side, side)).save(file)
        ref = ImageRef(path=str(file), sha256=sha256(file.read_bytes()))
        question = f"What is the height of the red bar in picture {i}?"
        made.append(
            Problem(
                uid=str(i),
                question=question,
                answer="1",
                kind="integer",
                category="",
                choices=(),
                images=(ref,),
                scene=None,
            )
        )
    return made


def measured(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run `work`, print its figures with seconds and peak memory."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    figures = work()
    seconds = time.monotonic() - start
    if "tokens" in figures:
        figures["tokens_per_s"] = round(figures["tokens"] / seconds)
    memory = {"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1)} if gpu else {}
    print(json.dumps({"what": name, "seconds": round(seconds, 2), **figures, **memory}), flush=True)
    return figures


def main() -> None:
    """Build, caption, update; stop at the first batch that does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="3b")
    parser.add_argument("--side", type=int, default=448, help="image side in pixels")
    parser.add_argument("--tokens", type=int, default=256, help="caption length")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 64], help="problems per engine batch")
    parser.add_argument("--bins", type=int, nargs="+", default=[4096, 8192], help="tokens per pass of the update")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parameters = build(options.size, folder / "model")
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        print(json.dumps({"model": options.size, "parameters": parameters, "device": name}), flush=True)
        engine = TransformersEngine.captioner(str(folder / "model"), "bfloat16", "auto", 1)
        rows: list[ScoredRollout] = []
        for batch in options.batches:
            chosen = problems(batch, folder, options.side)
            engine.batch = batch
            rows = caption(engine, chosen, options.tokens)
        engine.close()
        first = problems(8, folder, options.side)
        kept = [row for row in rows if int(row.uid) < len(first)]
        for tokens in options.bins:
            measured(f"update, bins of {tokens} tokens", lambda m=tokens: step(kept, first, folder, m))  # type: ignore[misc]


def caption(engine: TransformersEngine, chosen: list[Problem], tokens: int) -> list[ScoredRollout]:
    """Four captions of each problem in one batch."""
    settings = config.RolloutSettings(group_size=4, max_tokens=tokens)
    rows: list[ScoredRollout] = []

    def work() -> dict[str, Any]:
        made = list(captioner.caption(chosen, "", "p", engine, settings, 0, 0, 1e9))
        extra = {"response": "", "verdict": Verdict.CORRECT, "describes": None}
        rows.extend(ScoredRollout(**dict(r), **extra, reward=float(r.sample % 2)) for r in made)
        total = sum(len(r.completion_ids) for r in made)
        return {"captions": len(made), "tokens": total, "prompt_tokens": len(made[0].prompt_ids)}

    measured(f"caption, {len(chosen)} problems x 4", work)
    return rows


def step(rows: list[ScoredRollout], chosen: list[Problem], folder: Path, tokens: int) -> dict[str, Any]:
    """One optimizer step on the captions, bfloat16 autocast over float32 weights."""
    work = plan(rows, {p.uid: p for p in chosen}, "p", len(chosen))
    metrics = update(
        work,
        images_base="",
        policy=folder / "model",
        initial=folder / "model",
        out=folder / f"policy-{tokens}",
        step=0,
        captioner=config.Captioner(dtype="bfloat16"),
        temperature=1.0,
        config=config.UpdateSettings(mini_batch=len(chosen), max_logprob_gap=1.0),
        runtime=config.Runtime(trainer=config.TrainerPlacement(tokens=tokens)),
        seed=0,
    )
    figures = {name: round(metrics[name], 5) for name in ("logprob_gap", "importance_ratio", "grad_norm", "kl")}
    return {"captions": len(rows), "tokens": sum(len(r.completion_ids) for r in rows), **figures}


if __name__ == "__main__":
    main()
