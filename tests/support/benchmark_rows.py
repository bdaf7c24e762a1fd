"""Small tables in the true schemas of the benchmarks: the columns and cells of the published data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]


def picture(colour: Any = "red", mode: str = "RGB", size: tuple[int, int] = (12, 8), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, form)
    return buffer.getvalue()


def cell(number: int) -> Row:
    """A Hugging Face image, as parquet has it."""
    return {"bytes": picture((number, 7, 7)), "path": f"{number}.png"}


def mathvista(pid: int, **changes: Any) -> Row:
    metadata = {
        **{"split": "testmini", "language": "english", "img_width": 12, "img_height": 8, "source": "GEOS"},
        **{"category": "math-targeted-vqa", "task": "geometry problem solving", "context": "geometry diagram"},
        **{"grade": "high school", "skills": ["geometry reasoning", "algebraic reasoning"]},
    }
    row = {
        **{"pid": str(pid), "question": f"How long is AB, case {pid}?", "image": f"images/{pid}.png", "unit": None},
        **{"decoded_image": cell(pid), "choices": None, "precision": None, "answer": str(pid), "metadata": metadata},
        **{"question_type": "free_form", "answer_type": "integer", "query": "not read"},
    }
    return row | changes


def mathvision(number: int, **changes: Any) -> Row:
    row = {
        **{"id": str(number), "question": f"How many cats, case {number}?\n<image1>", "options": [], "level": 2},
        **{"image": f"images/{number}.png", "decoded_image": cell(number), "answer": str(number), "solution": None},
        **{"subject": "counting"},
    }
    return row | changes


def mathverse(number: int, **changes: Any) -> Row:
    row = {
        **{"sample_index": str(number), "problem_index": str(number), "problem_version": "Vision Only"},
        **{"question": "", "image": cell(number), "answer": "B", "question_type": "multi-choice"},
        "metadata": {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"},
        "query_wo": "not read",
        "query_cot": "According to the question shown in the image, please first conduct reasoning, and then answer",
        "question_for_eval": "Find the angle.\nChoices:\nA:40°\nB:50°\nC:60°\nD:70°",
    }
    return row | changes


def mmmu(number: int, subject: str = "Art_Theory", **changes: Any) -> Row:
    row = {
        **{"id": f"validation_{subject}_{number}", "question": f"What is shown in <image 1>, case {number}?"},
        **{
            "options": "['Baroque', \"Manet's\", 'Gothic']",
            "explanation": "",
            "answer": "B",
            "img_type": "['Paintings']",
        },
        **{f"image_{i}": None for i in range(1, 8)},
        **{"image_1": cell(number), "topic_difficulty": "Medium", "question_type": "multiple-choice"},
        "subfield": "Art History",
    }
    return row | changes


def wemath(number: int, key: str = "2steps_1", **changes: Any) -> Row:
    row = {
        **{
            "ID": f"{key[:6]}_{number}",
            "split": "testmini",
            "knowledge concept": "Angles",
            "question": f"{key}: x = ( )",
        },
        **{"option": "A. 3, 4;B. 4, 3; C. 5; D. No correct answer", "answer": "C", "image_path": cell(number)},
        **{"key": key, "question number": number, "knowledge concept description": "Angles: ..."},
    }
    return row | changes


def dynamath(number: int, **changes: Any) -> Row:
    row = {
        **{"id": str(number), "question": f"What is the slope, case {number}?", "image": f"image/image{number}.png"},
        **{"decoded_image": cell(number), "ground_truth": f"{number}.25", "answer_type": "float"},
        **{"subject": "algebra", "knowledge_level": "high school"},
    }
    return row | changes


def logicvista(number: int, **changes: Any) -> Row:
    row = {
        **{"imagename": f"v1_{number}.png", "question": "Which choice (A, B, C, or D) completes the series?"},
        **{"answer": "C", "reasoning": "", "skill": ["inductive"], "broad_capability": ["diagram and ocr"]},
        **{"specific_capability": ["sequence"], "imagesource": "x", "sourcelink": "x", "liscenced": "false"},
    }
    return row | changes


def parquet(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
    return path


def shard(folder: Path, split: str, rows: Sequence[Row]) -> Path:
    """A file as the hub names it."""
    return parquet(folder / f"{split}-00000-of-00001.parquet", rows)


def saved(folder: Path, splits: dict[str, Sequence[Row]], images: Sequence[str]) -> Path:
    """A folder of save_to_disk whose image columns are Hugging Face images."""
    made = {}
    for split, rows in splits.items():
        dataset = datasets.Dataset.from_list(list(rows))
        for column in images:
            dataset = dataset.cast_column(column, datasets.Image())
        made[split] = dataset
    datasets.DatasetDict(made).save_to_disk(folder)
    return folder


def authors(folder: Path, file: str, rows: Sequence[Row] | dict[str, Row], images: dict[str, bytes]) -> Path:
    """A folder as on GitHub: one json file, and images beside it."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(rows))
    for name, data in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
