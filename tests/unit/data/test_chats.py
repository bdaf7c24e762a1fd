"""Questions as chat messages, in every common layout, become the same problem as a plain question with its images."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from racro.benchmarks import own_data
from racro.config import Columns, TableProblems
from racro.data.cells import Unusable
from racro.data.chats import asked_in, messages_in
from racro.data.images import open_image
from racro.data.problems import load
from tests.unit.data.test_problems import everything, jsonl, numbered, row

TEXT = {"type": "text", "text": "How many?"}
URI = "data:image/png;base64," + base64.b64encode(numbered(5)).decode()
SYSTEM, REPLY = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Three."}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


LAYOUTS: dict[str, Any] = {
    "content is text": [{"role": "user", "content": "How many?"}],
    "text and image": [user({"type": "image"}, TEXT)],
    "with system and reply": [SYSTEM, user({"type": "image"}, TEXT), REPLY],
    "image_url, data": [user({"type": "image_url", "image_url": {"url": URI}}, TEXT)],
    "image_url, path": [user({"type": "image_url", "image_url": "5.png"}, TEXT)],
    "image, path": [user({"type": "image", "image": "5.png"}, TEXT)],
    "image without a type": [user({"image": "5.png"}, {"text": "How many?"})],
    "responses": [user({"type": "input_image", "image_url": URI}, {"type": "input_text", "text": "How many?"})],
    "with nulls": [user({"type": "image", "image": "5.png", "text": None}, TEXT | {"image": None})],
    "ShareGPT": [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "Three."}],
    "JSON": json.dumps([user({"type": "image", "image": "5.png"}, TEXT)]),
    "JSON over several lines": "\ufeff " + json.dumps([user({"type": "image", "image": "5.png"}, TEXT)], indent=1),
    "one message": user({"type": "image", "image": "5.png"}, TEXT),
    "a whole record, JSON": json.dumps({"messages": [{"role": "developer", "content": "Be brief."}, user(TEXT)]}),
    "Python text": str([user({"type": "image", "image": "5.png"}, TEXT)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_problem(tmp_path: Path, layout: str) -> None:
    chat = LAYOUTS[layout]
    brings = any(source in str(chat) for source in ("5.png", "data:"))
    lines = [row(0, question=chat, answer="3", image=None if brings else "5.png"), *map(row, range(1, 6))]
    source = jsonl(tmp_path, lines)
    found = next(problem for problem in everything(source, tmp_path).problems if problem.uid == "0")
    asked = own_data(Columns()).read(source, str(tmp_path)).questions[0]
    for problem in (found, asked):
        assert problem.question.replace("<image>", "").strip() == "How many?"
        assert [open_image(ref, str(tmp_path)).getpixel((0, 0)) for ref in problem.images] == [(5, 0, 7)]
        assert problem.question.count("<image>") in (0, 1)


def test_images_stand_where_the_messages_show_them() -> None:
    parts = ({"type": "image", "image": "a"}, {"type": "text", "text": "Is"}, {"type": "image", "image": "b"}, TEXT)
    assert asked_in([user(*parts)]) == ("<image>Is\n<image>How many?", ("a", "b"))


def test_a_table_of_chats_needs_no_column_of_images(tmp_path: Path) -> None:
    image = {"type": "image", "image": numbered(5), "text": None}
    rows = [{"question": [user(image, TEXT | {"image": None})], "answer": str(i)} for i in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    source = str(tmp_path / "rows.parquet")
    made = load(TableProblems(source=source, heldout_share=1e-6), str(tmp_path / "out"), 0)
    assert len(made.problems) == 9
    assert open_image(made.problems[0].images[0], str(tmp_path / "out")).getpixel((0, 0)) == (5, 0, 7)
    asked = own_data(Columns(image="question")).read(source, str(tmp_path / "out")).questions
    assert [problem.images for problem in asked] == [problem.images for problem in made.problems]


@pytest.mark.parametrize(
    ("reason", "chat"),
    [
        ("chat of several turns", [user(TEXT), REPLY, user(TEXT)]),
        ("empty question", [SYSTEM]),
        ("unknown chat layout", [user({"type": "video", "video": "a.mp4"}, TEXT)]),
        ("unknown chat layout", [user({"type": "text", "text": ["How"]})]),
        ("unknown chat layout", [{"role": "user", "content": {"text": "How many?"}}]),
        ("unknown chat layout", [user(TEXT), {"role": "tool", "content": "5"}]),
        ("missing image", [user({"type": "image", "image": "a.png"}, {"type": "image"}, TEXT)]),
        ("unknown chat layout", json.dumps([user(TEXT)])[:-1]),
        ("unknown chat layout", json.dumps([{"role": "user"}])),
        ("broken characters", [user({"type": "text", "text": "\ud83d"})]),
    ],
)
def test_other_conversations_are_refused(reason: str, chat: Any) -> None:
    with pytest.raises(Unusable) as caught:
        asked_in(messages_in(chat) or pytest.fail("no messages"))
    assert caught.value.reason == reason


def test_images_in_messages_and_in_a_column_are_refused(tmp_path: Path) -> None:
    rows = [row(0), row(1, question=[user({"type": "image", "image": "0.png"}, TEXT)])]
    assert [dropped.reason for dropped in everything(jsonl(tmp_path, rows), tmp_path, max_bad_share=1).dropped] == [
        "images in two columns"
    ]
