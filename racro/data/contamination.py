"""Does a training row show or ask what a benchmark asks? Compared are image bytes, the look of the pixels, the words.

The perceptual hash is pHash with 255 bits: 16 x 16 low frequencies of a 64 x 64 cosine transform, each compared with
their median. On the benchmarks' own images, compressed or resized copies differ in at most 20 bits, images of different
benchmarks in 64 or more (docs/data.md). Knows nothing of tables; called by `racro.data.problems`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from racro.data.images import open_image
from racro.prompts import IMAGE_TAG
from racro.schema import Fingerprint, Overlap, Problem

SIDE, FREQUENCIES = 64, 16
NEAR = 24
"""Bits of 255 in which two copies of one picture may differ."""
MIN_WORDS = 12
"""Shorter questions ("How many are there?") are asked about many images."""
THREADS = 4

_COSINES = np.cos(np.pi * np.outer(np.arange(FREQUENCIES), 2 * np.arange(SIDE) + 1) / (2 * SIDE))
_OPTIONS = re.compile(r"\b(?:choices|options)\s*:|(?:^|(?<=\s))\(?a[.)]\s")


def look(image: Image.Image) -> str:
    """Perceptual hash of decoded pixels, 64 hex digits. Size, compression and brightness hardly change it."""
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    spectrum = (_COSINES @ np.asarray(grey, dtype=np.float64) @ _COSINES.T).ravel()[1:]  # the mean is brightness
    spectrum = spectrum.round(3)  # an empty picture is then all zeros, without rounding noise
    return np.packbits(spectrum > np.median(spectrum)).tobytes().hex()


def normal_text(question: str) -> str:
    """The question's words, without options, case, punctuation and placeholders; "" when they are too few."""
    text = unicodedata.normalize("NFKC", question.replace(IMAGE_TAG, " ")).casefold()
    words = re.findall(r"\w+", _OPTIONS.split(text)[0])
    return " ".join(words) if len(words) >= MIN_WORDS else ""


def fingerprints(benchmark: str, questions: Iterable[Problem], base: str) -> Iterator[Fingerprint]:
    """The fingerprint of each question; `base` is the folder of their table. Raises `racro.data.images.BadImage`."""

    def fingerprint(question: Problem) -> Fingerprint:
        return Fingerprint(
            benchmark=benchmark,
            uid=question.uid,
            sha256=tuple(image.sha256 for image in question.images),
            look=tuple(look(open_image(image, base)) for image in question.images),
            text=normal_text(question.question),
        )

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(fingerprint, questions)


class Source(NamedTuple):
    """Where a fingerprint comes from."""

    benchmark: str
    question: str


class Index:
    """The fingerprints of all benchmarks, ready for lookup."""

    def __init__(self, fingerprints: Iterable[Fingerprint]) -> None:
        self.images: dict[str, set[Source]] = defaultdict(set)
        self.texts: dict[str, set[Source]] = defaultdict(set)
        looks: dict[str, set[Source]] = defaultdict(set)
        for known in fingerprints:
            source = Source(known.benchmark, known.uid)
            for sha256 in known.sha256:
                self.images[sha256].add(source)
            for seen in known.look:
                looks[seen].add(source)
            if known.text:
                self.texts[known.text].add(source)
        self.looks = list(looks.values())
        self.bits = _bits(list(looks))

    def overlaps(self, row: int, problem: Problem, looks: Mapping[str, str]) -> list[Overlap]:
        """One for each benchmark that the problem overlaps with: its first question, by the strongest evidence.

        `looks`: perceptual hash by content hash; must hold the problem's images.
        """
        found: dict[str, Overlap] = {}
        by: Literal["image", "look", "text"]
        for by, sources in (
            ("image", set().union(*(self.images.get(image.sha256, ()) for image in problem.images))),
            ("look", set().union(*(self._near(looks[image.sha256]) for image in problem.images))),
            ("text", self.texts.get(normal_text(problem.question), set())),
        ):
            for benchmark, question in sorted(sources):
                overlap = Overlap(row=row, uid=problem.uid, benchmark=benchmark, question=question, by=by)
                found.setdefault(benchmark, overlap)
        return list(found.values())

    def _near(self, seen: str) -> set[Source]:
        distances = np.bitwise_count(self.bits ^ _bits([seen])).sum(axis=1)
        return set().union(*(self.looks[i] for i in np.flatnonzero(distances <= NEAR)))


def _bits(looks: Sequence[str]) -> np.ndarray:
    """Hashes as (n, 4) words of 64 bits."""
    return np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint64).reshape(-1, 4)
