"""A ViRL39K made here, in the published schema: any number of rows, every known defect planted and counted.

Used by its tests and by the measurement of preparation (`tests/bench/preparation.py`).
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("answer", pa.string()),
        ("PassRate_32BTrained", pa.float64()),
        ("PassRate_7BBase", pa.float64()),
        ("category", pa.string()),
        ("source", pa.string()),
        ("qid", pa.string()),
        ("image", pa.list_(pa.string())),
    ]
)
CATEGORIES = ("(GradeSchool) Geometric", "(GradeSchool) Non-Geo Math", "Tables/Diagrams/Charts", "Spatial Reasoning")
ANSWERS = ("7", "B", "3.5", "yes", "\\frac{1}{2}", "120^\\circ", "x=5", "(1, 2)", "50\\%", "1,200", "Paris")
LONG_QUESTION = (
    "A ladder of length {} leans on a wall, and its foot slides away at a steady speed; how fast is its top?"
)

Row = dict[str, Any]
Files = dict[str, bytes]


def drawing(seed: int, size: tuple[int, int] = (84, 56)) -> Image.Image:
    """A picture like no other: boxes and lines on white."""
    draw = random.Random(seed)
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        ends = [(draw.randrange(size[0]), draw.randrange(size[1])) for _ in range(2)]
        colour = tuple(draw.randrange(200) for _ in range(3))
        pen.line(ends, fill=colour, width=draw.randrange(2, 6))
        pen.rectangle(
            [*map(min, *ends), *map(max, *ends)], fill=colour if draw.random() < 0.4 else None, outline=colour
        )
    return image


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# --- rows -------------------------------------------------------------------------------------------------------------


def good(i: int, images: int = 1) -> tuple[Row, Files]:
    """A row without fault. One of 16 shows several images; half have no pass rate of the 7B model."""
    names = [f"images/Made-{i}-{k}.png" for k in range(images)]
    row = {
        "question": "<image>" * images + f"What is the answer to question {i}?",
        "answer": f"\\boxed{{{ANSWERS[i % len(ANSWERS)]}}}",
        "PassRate_32BTrained": (0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0)[i % 8],
        "PassRate_7BBase": -1.0 if i % 2 else 0.5,
        "category": CATEGORIES[i % 4],
        "source": "Made",
        "qid": f"Made-{i}",
        "image": names,
    }
    return row, {name: encoded(drawing(10 * i + k)) for k, name in enumerate(names)}


Defect = Callable[[Row, Files], None]


def _text_only(row: Row, files: Files) -> None:
    row.update(source="DeepScaleR", image=[], question="What is 2 + 2?")
    files.clear()


def _cell(column: str, value: Any) -> Defect:
    return lambda row, files: row.update({column: value})


def _question(change: Callable[[str], str]) -> Defect:
    return lambda row, files: row.update(question=change(row["question"]))


def _image(data: bytes | None) -> Defect:
    def spoil(row: Row, files: Files) -> None:
        name = row["image"][0]
        if data is None:
            del files[name]
        else:
            files[name] = data

    return spoil


def _converted(mode: str, form: str) -> Defect:
    """No defect: an image as some are."""

    def convert(row: Row, files: Files) -> None:
        name = row["image"][0]
        files[name] = encoded(Image.open(io.BytesIO(files[name])).convert(mode), form)

    return convert


UNUSABLE: dict[str, list[tuple[Defect, int]]] = {
    "broken gold": [
        (_cell("answer", "\\boxed{3"), 1),
        (_cell("answer", "\\boxed{\\frac{1}{2}"), 1),
        (_cell("answer", "\\boxed{5}}"), 1),
        (_cell("answer", "\\boxed{1} and \\boxed{2}"), 1),
    ],
    "empty answer": [(_cell("answer", "\\boxed{}"), 1), (_cell("answer", None), 1)],
    "gold is not equal to itself": [(_cell("answer", f"\\boxed{{{'a' * 1200}}}"), 1)],
    "missing image": [(_image(None), 1), (_image(None), 3), (_cell("image", []), 1)],
    "unreadable image": [(_image(b"this is no picture"), 1), (_image(encoded(drawing(0))[:60]), 1)],
    "placeholders do not match images": [(_question(lambda q: f"<image>{q}"), images) for images in (1, 3)],
    "empty question": [(_cell("question", "<image>"), 1), (_cell("question", None), 1)],
    "duplicate uid": [(_cell("qid", "Made-0"), 1)],
    "empty uid": [(_cell("qid", None), 1)],
    "pass rate is no share": [(_cell("PassRate_32BTrained", 75.0), 1)],
}
"""Reason -> how a row of so many images is spoiled."""

REPAIRED: list[tuple[Defect, int]] = [
    (_question(lambda q: q.replace("<image>", "")), 1),
    (_question(lambda q: q.replace("<image>", "")), 3),
    (_question(lambda q: q.replace("<image>", "", 1)), 3),
    (_question(lambda q: q.replace("<image>", "", 2)), 3),
]
HARMLESS: list[tuple[Defect, int]] = [
    (_cell("PassRate_32BTrained", -1.0), 1),
    (_cell("PassRate_32BTrained", None), 1),
    (_cell("PassRate_32BTrained", float("nan")), 1),
    (_cell("answer", "4"), 1),
    (_cell("answer", " \\boxed{4} "), 1),
    (_cell("question", "In the first <image>, but not in <image>, what is <image>?"), 3),
    *((_converted(mode, form), 1) for mode, form in (("P", "PNG"), ("CMYK", "JPEG"), ("LA", "PNG"), ("1", "BMP"))),
]


# --- a benchmark, and rows that overlap with it -----------------------------------------------------------------------


def asked_about(question: int) -> Image.Image:
    """The picture of a benchmark's question."""
    return drawing(10**9 + question, (120, 90))


def benchmark(folder: Path, questions: int = 8) -> str:
    """LogicVista in its authors' layout; question 0 is long enough to be known by its words."""
    (folder / "images").mkdir(parents=True)
    rows = {}
    for i in range(questions):
        asked_about(i).save(folder / "images" / f"{i}.png")
        rows[f"v1_{i}"] = {
            "imagename": f"{i}.png",
            "question": LONG_QUESTION.format(5) if i == 0 else f"Which comes next, A, B or C? Case {i}",
            "answer": "A",
            "reasoning": "",
            "skill": ["inductive"],
            "broad_capability": ["diagram"],
            "specific_capability": ["diagram"],
        }
    (folder / "dataset.json").write_text(json.dumps(rows))
    return str(folder)


def _shows(change: Callable[[Image.Image], bytes] | None) -> Defect:
    """Show the picture of the benchmark's question 3, changed."""

    def show(row: Row, files: Files) -> None:
        image = asked_about(3)
        files[row["image"][-1]] = encoded(image) if change is None else change(image)

    return show


OVERLAPPING: dict[str, list[tuple[Defect, int]]] = {
    "image": [(_shows(None), 1), (_shows(None), 3)],
    "look": [
        (_shows(lambda image: encoded(image, "JPEG", quality=70)), 1),
        (_shows(lambda image: encoded(image.resize((240, 180)))), 1),
        (_shows(lambda image: encoded(image.convert("L"), "BMP")), 1),
    ],
    "text": [(_cell("question", "<image> " + LONG_QUESTION.format(5).upper() + " Choices: (A) 1 (B) 2"), 1)],
}


# --- the whole --------------------------------------------------------------------------------------------------------


class Made:
    """A made data set and what preparation must find in it."""

    def __init__(self, folder: Path, rows: int, overlapping: bool = False, zipped: bool = False) -> None:
        self.folder = folder
        self.unusable = {reason: len(ways) for reason, ways in UNUSABLE.items()}
        self.repaired = len(REPAIRED)
        self.overlaps = {by: len(ways) for by, ways in OVERLAPPING.items()} if overlapping else {}
        self.text_only = 5
        planted = [*(way for ways in UNUSABLE.values() for way in ways), *REPAIRED, *HARMLESS]
        planted += [(_text_only, 1)] * self.text_only
        if overlapping:
            planted += [way for ways in OVERLAPPING.values() for way in ways]
        self.rows = rows
        self.problems = rows - self.text_only - sum(self.unusable.values()) - sum(self.overlaps.values())
        _write(folder, list(self._made(rows, planted)), zipped)

    def _made(self, rows: int, planted: list[tuple[Defect, int]]) -> Iterator[tuple[Row, Files]]:
        """Row 0 is good, its uid is the one that comes twice; defects are spread evenly."""
        every = (rows - 1) // len(planted)
        for i in range(rows):
            defect, images = (None, 1 if i % 16 else 2)
            if i % every == every // 2 + 1 and i // every < len(planted):
                defect, images = planted[i // every]
            row, files = good(i, images)
            if defect is not None:
                defect(row, files)
            yield row, files


def _write(folder: Path, made: list[tuple[Row, Files]], zipped: bool) -> None:
    """The layout of the hub: a parquet file, and beside it images.zip, or what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row for row, _ in made], SCHEMA), folder / "39Krelease.parquet")
    images = {name: data for _, files in made for name, data in files.items()}
    if zipped:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, data in images.items():
                archive.writestr(name, data)
    else:
        (folder / "images").mkdir(exist_ok=True)
        for name, data in images.items():
            (folder / name).write_bytes(data)
