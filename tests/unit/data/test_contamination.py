"""Overlap with benchmarks: a picture is known however it was stored, another one is not; long texts by their words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from racro import config
from racro.data.contamination import MIN_WORDS, NEAR, Index, fingerprints, look, normal_text
from racro.data.problems import load
from racro.schema import Fingerprint, Problem
from tests.support.examples import examples
from tests.support.virl39k import drawing, encoded


def bits_apart(first: Image.Image, second: Image.Image) -> int:
    both = [np.frombuffer(bytes.fromhex(look(image)), dtype=np.uint8) for image in (first, second)]
    return int(np.bitwise_count(both[0] ^ both[1]).sum())


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, form, **options))).convert("RGB")


COPIES = {
    "jpeg": lambda image: stored(image, "JPEG", quality=60),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "palette": lambda image: image.quantize(32).convert("RGB"),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
}


@pytest.mark.parametrize("copy", COPIES)
@settings(max_examples=examples(15), deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_copy_looks_the_same(copy: str, seed: int) -> None:
    image = drawing(seed, (240, 180))
    assert bits_apart(image, COPIES[copy](image)) <= NEAR


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True))
def test_another_picture_does_not(seeds: list[int]) -> None:
    first, second = (drawing(seed, (240, 180)) for seed in seeds)
    assert bits_apart(first, second) > NEAR


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_pictures_without_content_look_alike(mode: str) -> None:
    assert bits_apart(Image.new(mode, (30, 20), 1), Image.new("RGB", (500, 1), "red")) == 0


WORDS = "In the figure AB is parallel to CD and the angle at E is 40 degrees; find the angle at F"


@pytest.mark.parametrize(
    "told",
    [
        WORDS.upper(),
        f"<image>\n{WORDS}.",
        f"{WORDS}? Choices: (A) 40 (B) 50",
        f"{WORDS}\n(A) 40\n(B) 50",
        f"{WORDS}\nOptions: A. 40",
        WORDS.replace(" ", "\n"),
        WORDS.replace("40", "４０"),
    ],
)
def test_the_same_words_are_the_same_text(told: str) -> None:
    assert normal_text(told) == normal_text(WORDS) != ""


def test_other_words_and_few_words_are_not() -> None:
    assert normal_text(WORDS.replace("40", "50")) != normal_text(WORDS)
    assert normal_text("How many objects are there in the picture?") == ""
    assert normal_text(" ".join(["word"] * MIN_WORDS)) != ""


def problem(question: str, *images: tuple[Path, Image.Image]) -> dict[str, Any]:
    for path, image in images:
        image.save(path)
    return {"question": question, "answer": "3", "image": [path.name for path, _ in images]}


def prepared(folder: Path, rows: list[dict[str, Any]], marks: list[Fingerprint] | None = None) -> Any:
    (folder / "rows.json").write_text(json.dumps(rows))
    source = config.TableProblems(source=str(folder / "rows.json"), heldout_share=1e-6, overlapping="keep")
    return load(source, str(folder), seed=0, fingerprints=marks or [])


def test_each_benchmark_is_named_once_by_its_strongest_evidence(tmp_path: Path) -> None:
    asked = problem(WORDS, (tmp_path / "a.png", drawing(1)), (tmp_path / "b.png", drawing(2)))
    questions: tuple[Problem, ...] = prepared(tmp_path, [asked]).problems
    marks = [*fingerprints("one", questions, str(tmp_path)), *fingerprints("two", questions, str(tmp_path))]
    rows = [
        problem(WORDS, (tmp_path / "c.png", drawing(2)), (tmp_path / "d.png", drawing(1).resize((160, 100)))),
        problem("What?", (tmp_path / "e.jpg", drawing(1))),
        problem(WORDS, (tmp_path / "f.png", drawing(7))),
        problem("What?", (tmp_path / "g.png", drawing(8))),
    ]
    found = prepared(tmp_path, rows, marks).overlaps
    expected = [(row, name, by) for row, by in ((0, "image"), (1, "look"), (2, "text")) for name in ("one", "two")]
    assert [(overlap.row, overlap.benchmark, overlap.by) for overlap in found] == expected


def test_an_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    row = problem(WORDS, (tmp_path / "a.png", drawing(1)))
    assert prepared(tmp_path, [row]).overlaps == ()
    assert Index([]).looks == []
