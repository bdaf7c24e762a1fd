"""Each line of questions gives one line, also where its text cannot be written as UTF-8."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from flows.answering_lines import answer_lines, as_line
from racro.answering.pipeline import Racro
from racro.config.engines import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.predictions import grades, read


def test_broken_characters_cost_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    good = {"images": str(tmp_path / "a.png"), "question": "How many?"}
    lines = [
        json.dumps(good | change).encode()
        for change in (
            {"id": "first"},
            {"question": "How \ud83d many?"},
            {"question": "How \0 many?"},
            {"gold": "\udc00"},
            {"gold": float("nan")},
            {"images": "\ud83d.png"},
            {"images": ["\ud83d.png"]},
            {"id": "\ud83d"},
            {"key \ud83d": 1},
            {"id": "last \u2028\u2029\x85 of all"},
        )
    ]
    lines.insert(4, b'{"images": "a.png", "question": "\xff"}')
    engine = ScriptedEngine([ScriptedReply(replies=("\\boxed{3}",))])
    with Racro(engine, engine) as racro:
        said = list(answer_lines(racro, lines))
    assert all(len(as_line(line).splitlines()) == 1 for line in said)
    written = [json.loads(as_line(line).encode("utf-8")) for line in said]
    last = written[-1]["id"]
    assert last == "last \u2028\u2029\x85 of all"
    assert [line["id"] for line in written] == ["first", 2, 3, 4, 5, 6, 7, 8, "\ud83d", 10, last]
    assert ["final" in line for line in written] == [line["id"] in ("first", "\ud83d", last) for line in written]
    assert "broken characters" in written[1]["error"] and "no path of a file" in written[6]["error"]


def test_broken_characters_in_a_file_of_predictions_cost_no_verdict(tmp_path: Path) -> None:
    rows = [{"question": "q \ud83d", "answer": "5", "response": "\\boxed{5} \udc00"}, {"question": "q", "answer": "\0"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"response": "x"} | row) for row in rows))
    found = read(tmp_path / "rows.jsonl", None)
    (first, second) = grades(found)
    assert first is not None and first.verdict.value == "correct"
    assert second is None and found[1].trouble
    for prediction in found:
        prediction.question.model_dump_json().encode()


def test_a_row_ends_where_json_lines_end_it(tmp_path: Path) -> None:
    """Not at other characters that end lines elsewhere, which JSON writes as they are."""
    row = {"question": "q \u2028\u2029\x85 r", "answer": "5", "response": "5"}
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row, ensure_ascii=False)}\r\n" * 2, encoding="utf-8")
    assert [prediction.question.question for prediction in read(tmp_path / "rows.jsonl", None)] == [row["question"]] * 2
