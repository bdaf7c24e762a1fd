"""`make bench-engines`: captions per second of each engine on the embedded captioner, and its start and swap.

Transformers' own `generate`, our transformers engine, vLLM in a worker, vLLM as a server; 64, 256 and 1,024
prompts x 8 captions, in turns, `--rounds` times; medians. Cold: the engine opened, then 1,024 prompts. Warm: weights
swapped, then 1,024 prompts; what an iteration after the first pays. Not a test: nothing here fails on a time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flows.station import local

SIZES = (64, 256, 1024)
N = 8
MAX_TOKENS = 12
BATCH = 128


def main() -> None:
    """Measure and print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="racro-bench-") as place:
        local.settle(Path(place) / "home")
        measure(Path(place), rounds)


def measure(place: Path, rounds: int) -> None:
    """Everything, in one process; vLLM is in processes of its own."""
    from racro.config import Captioner, EmbeddedProblems, EnginePlacement, Runtime, Server, Transformers, Vllm
    from racro.data import problems
    from racro.data.images import open_image
    from racro.engines.opening import open_captioner
    from racro.engines.protocol import Engine, Generation, Prompt, Request, Sampling
    from racro.models.folders import EMBEDDED
    from racro.prompts import caption_messages

    table = problems.load(EmbeddedProblems(count=max(SIZES)), str(place), seed=0).problems
    prompts = [
        Prompt(caption_messages(p.question, len(p.images)), tuple(open_image(ref, str(place)) for ref in p.images))
        for p in table
    ]
    whole = str(EMBEDDED / "captioner")
    # A swap does not look whether the weights are others.
    models = whole, str(shutil.copytree(whole, place / "other"))
    adapters = adapter(place / "adapter"), adapter(place / "other adapter")
    sampling = Sampling(n=N, temperature=1.0, max_tokens=MAX_TOKENS)
    runtime = Runtime(caption_batch=BATCH, captioner=EnginePlacement(silence=600))
    kinds = {
        "transformers engine": (Transformers(), models),
        "vLLM in a worker": (Vllm(), models),
        "vLLM in a worker, adapter": (Vllm(), adapters),
        "vLLM server": (Server(), models),
    }
    rates: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    walls: dict[tuple[str, str], list[float]] = defaultdict(list)

    def run(engine: Engine, count: int) -> int:
        asked = [Request(key, prompt, sampling, key) for key, prompt in enumerate(prompts[:count])]
        made = [answer for answer in engine.generate(asked) if isinstance(answer, Generation)]
        assert len(made) == count
        return sum(len(c.token_ids) for generation in made for c in generation.completions)

    for _ in range(rounds):
        for count in SIZES:
            rates["transformers generate", count].append(timed(plain, whole, prompts[:count]))
        for name, (kind, (folder, other)) in kinds.items():
            captioner = Captioner(model=folder, dtype="float32", engine=kind)
            start = time.monotonic()
            engine = open_captioner(captioner, folder, runtime, place / f"{type(kind).__name__}.log")
            opened = time.monotonic() - start
            walls[name, "start"].append(opened)
            walls[name, "cold"].append(opened + timed(run, engine, max(SIZES))[0])
            start = time.monotonic()
            engine.swap(other)
            swapped = time.monotonic() - start
            walls[name, "swap"].append(swapped)
            walls[name, "warm"].append(swapped + timed(run, engine, max(SIZES))[0])
            for count in SIZES:
                engine.swap(folder)  # so that no cache remembers the prompts
                rates[name, count].append(timed(run, engine, count))
            engine.close()
    show(rates, walls)


def adapter(folder: Path) -> str:
    """The folder of a new LoRA adapter."""
    from peft import get_peft_model

    from racro.config import Lora
    from racro.models import adapters
    from racro.models.folders import EMBEDDED, load_captioner

    model = load_captioner(EMBEDDED / "captioner", "float32", torch.device("cpu"))
    adapters.save(get_peft_model(model, adapters.fresh(Lora(), model)), folder, "embedded", None)
    return str(folder)


def plain(folder: str, prompts: list) -> int:  # type: ignore[type-arg]
    """`generate` of transformers as its documentation uses it, log-probs included; loading is not measured."""
    from racro.models.folders import load_captioner, load_processor

    if folder not in _loaded:
        _loaded[folder] = (load_captioner(Path(folder), "float32", torch.device("cpu")), load_processor(Path(folder)))
        plain(folder, prompts[:2])
    model, processor = _loaded[folder]
    tokens = 0
    for at in range(0, len(prompts), BATCH):
        part = prompts[at : at + BATCH]
        texts = [processor.apply_chat_template(p.messages, add_generation_prompt=True, tokenize=False) for p in part]
        images = [image for p in part for image in p.images]
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        made = model.generate(
            **inputs,
            do_sample=True,
            num_return_sequences=N,
            max_new_tokens=MAX_TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
        )
        written = made.sequences[:, inputs["input_ids"].shape[1] :]
        tokens += int((written != processor.tokenizer.pad_token_id).sum())
    return tokens


_loaded: dict[str, tuple] = {}  # type: ignore[type-arg]


def timed(work: Callable[..., int], *arguments: Any) -> tuple[float, float]:
    """Seconds, and tokens per second."""
    start = time.monotonic()
    tokens = work(*arguments)
    seconds = time.monotonic() - start
    return seconds, tokens / seconds


def show(rates: dict, walls: dict) -> None:  # type: ignore[type-arg]
    """Medians."""
    names = list(dict.fromkeys(name for name, _ in rates))
    print(f"| captions/s (tokens/s), x {N} | " + " | ".join(f"{count} prompts" for count in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in names:
        cells = []
        for count in SIZES:
            seconds = statistics.median(s for s, _ in rates[name, count])
            tokens = statistics.median(t for _, t in rates[name, count])
            cells.append(f"{N * count / seconds:,.0f} ({tokens:,.0f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| s | start | cold: start + 1,024 x 8 | swap | warm: swap + 1,024 x 8 |\n|---|---|---|---|---|")
    for name in names[1:]:
        cells = [f"{statistics.median(walls[name, what]):.1f}" for what in ("start", "cold", "swap", "warm")]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
