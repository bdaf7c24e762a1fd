"""Requests to `racro serve` from many clients at once: latency, throughput, and whether any is lost.

python -m tests.bench.serving [REQUESTS] [CLIENTS]

Prints a table for docs/performance.md. The server and the clients share this machine's cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai

from racro.embedded import world
from tests.support.served import KEY, Served, png


class Took(NamedTuple):
    """Seconds of one request."""

    first: float
    """Until the first piece of text."""
    last: float
    right: bool


def main(requests: int, clients: int) -> None:
    """Ask, first one at a time, then all clients at once."""
    problems = list(world.generate("heldout", 1, requests))
    with tempfile.TemporaryDirectory() as folder:
        options = ["--api-key", KEY, "--no-page", "--concurrency", str(max(16, clients)), "--queue", str(requests)]
        with Served(Path(folder), *options) as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=600)
            ask(client, problems[0])  # the first pass through a model is slower
            print("| clients | requests | lost | right | requests / s | first text p50 | p50 | p95 | p99 | max |")
            print("|---|---|---|---|---|---|---|---|---|---|")
            for crowd, asked in ((1, problems[: max(1, requests // 10)]), (clients, problems)):
                row(client, asked, crowd)


def row(client: openai.OpenAI, problems: Sequence[world.BarProblem], clients: int) -> None:
    """One line of the table."""
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        took = list(pool.map(lambda problem: ask(client, problem), problems))
    seconds = time.monotonic() - began
    made = [one for one in took if one is not None]
    last = np.array([one.last for one in made])
    cells: list[Any] = [
        clients,
        len(problems),
        len(problems) - len(made),
        f"{np.mean([one.right for one in made]):.0%}",
    ]
    cells += [f"{len(made) / seconds:.1f}", f"{np.median([one.first for one in made]):.2f} s"]
    cells += [f"{np.percentile(last, share):.2f} s" for share in (50, 95, 99, 100)]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def ask(client: openai.OpenAI, problem: world.BarProblem) -> Took | None:
    """One streamed answer; None if there was an error."""
    urls = [f"data:image/png;base64,{png(image)}" for image in problem.images()]
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    question: Any = {"role": "user", "content": [*parts, {"type": "text", "text": problem.question}]}
    began, first, final = time.monotonic(), 0.0, ""
    try:
        for chunk in client.chat.completions.create(model="racro", messages=[question], temperature=0, stream=True):
            delta = chunk.choices[0].delta
            first = first or (time.monotonic() - began if getattr(delta, "reasoning_content", None) else 0.0)
            final = (chunk.model_extra or {}).get("racro", {}).get("final", final)
    except openai.APIError as error:
        print(f"lost: {error}", file=sys.stderr)
        return None
    return Took(first, time.monotonic() - began, final == problem.answer)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:] or ("200", "16")))
