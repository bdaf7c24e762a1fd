"""Cells that hold no text cost their row, with the reason; nothing of Python's own spelling gets into a question."""

from __future__ import annotations

import datetime
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.benchmarks import own_data
from racro.config import Columns, TableProblems
from racro.data import filters
from racro.data.cells import Unreadable, Unusable
from racro.data.problems import Prepared
from racro.data.rows import Files, check, draft_row, with_placeholders
from racro.data.sources import BadSource
from tests.support.examples import examples
from tests.unit.data.test_problems import everything, jsonl, numbered, row

COLUMNS = Columns(uid="uid", kind="kind", category="category", origin="origin", choices="choices", pass_rate="rate")
GOOD = {"question": "How many?", "answer": "3", "image": numbered(0), "uid": "u", "kind": None, "category": "c"}
GOOD |= {"origin": "o", "choices": None, "rate": 0.5}

texts = st.text(max_size=20) | st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
texts |= st.sampled_from(["<|im_start|>", "a\0b", "\ud83d", "<image>", "[{'from': 1}]"])
texts |= st.just('[{"role": "user", "content": "q"}]')
scalars = texts | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=8) | st.dates()
scalars |= st.decimals(allow_nan=True) | st.just(Unreadable()) | st.timedeltas()
parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image", "image_url", "x"]),
        "text": scalars,
        "image": scalars,
        "image_url": scalars | st.fixed_dictionaries({"url": scalars}),
    },
)
roles = st.sampled_from(["user", "human", "system", "assistant", "tool"]) | scalars
turns = st.fixed_dictionaries({"role": roles, "content": scalars | st.lists(parts | scalars, max_size=3)})
messages = st.lists(turns | st.fixed_dictionaries({"from": roles, "value": scalars}), max_size=3)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def written(cell: Any) -> list[str]:
    """All texts in a cell."""
    if isinstance(cell, str):
        return [cell]
    if isinstance(cell, dict):
        cell = list(cell.values())
    return [text for part in cell for text in written(part)] if isinstance(cell, list) else []


@settings(max_examples=examples(400), deadline=None)
@given(st.data())
def test_any_cell_gives_a_problem_or_a_reason(data: st.DataObject) -> None:
    hostile = data.draw(st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=3, unique=True))
    cells = GOOD | {name: data.draw(messages | anything, name) for name in hostile}
    try:
        traits = filters.select(cells, TableProblems(source="x", columns=COLUMNS))
        draft = with_placeholders(draft_row(7, cells, COLUMNS))
        problem = check(draft, None, Files())
    except Unusable as error:
        dropped = error.row("table", 7)
        dropped.model_dump_json().encode()
        assert dropped.reason and "\n" not in dropped.detail and "\0" not in dropped.detail
        return
    problem.model_dump_json().encode()
    assert traits.category == problem.category
    for line in problem.question.replace("<image>", "\n").split("\n"):
        options = any(line.startswith(f"({letter}) ") for letter in "ABC")
        assert options or any(line in text for text in written(cells["question"]))


json_cells = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional={n: json_cells for n in GOOD if n != "image"}), min_size=1, max_size=12)
)
def test_every_row_is_kept_or_dropped(hostile: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = [GOOD | {"image": f"{i}.png", "uid": f"u{i}"} | cells for i, cells in enumerate(hostile)]
        rows.append(GOOD | {"image": "0.png", "uid": "the good one"})
        source = jsonl(Path(name), rows)
        made = everything(source, Path(name), columns=COLUMNS, max_bad_share=1)
    assert len(made.problems) + len(made.dropped) == len(rows)
    assert sum(made.statistics.unusable.values()) == len(made.dropped)


REFUSED = {
    "question is no text": {"question": [5, 5.0, ["a"], {"a": 1}, b"a", datetime.date(2020, 1, 1), float("nan"), True]},
    "answer is no text": {"answer": [["a"], {"a": 1}, b"a", datetime.date(2020, 1, 1), float("inf"), Unreadable()]},
    "category is no text": {"category": [["a"], {"a": 1}, float("nan"), True, datetime.date(2020, 1, 1)]},
    "uid is no text": {"uid": [["a"], {"a": 1}, float("nan"), True, b"u"]},
    "broken characters": {name: ["a\ud83d", "\0"] for name in ("question", "answer", "category", "uid")},
    "special token in the text": {"question": ["a <|im_end|> b", "<|image_pad|>?", "x <｜end▁of▁sentence｜>"]},
}


@pytest.mark.parametrize(
    ("reason", "name", "cell"),
    [(reason, name, cell) for reason, by in REFUSED.items() for name, cells in by.items() for cell in cells],
)
def test_what_is_no_text_is_refused(reason: str, name: str, cell: Any) -> None:
    with pytest.raises(Unusable) as caught:
        check(draft_row(0, GOOD | {name: cell}, COLUMNS), None, Files())
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "cell", "text"), [("uid", 7, "7"), ("category", 3, "3"), ("answer", Decimal("2.50"), "2.50")]
)
def test_numbers_are_text_where_names_and_answers_are_wanted(name: str, cell: Any, text: str) -> None:
    problem = check(draft_row(0, GOOD | {name: cell}, COLUMNS), None, Files())
    assert getattr(problem, name) == text


def test_the_first_of_several_defects_is_named_and_counted(tmp_path: Path) -> None:
    rows = [row(0), row(1, question=5, answer=["x"], image="nowhere.png"), row(2, answer=None, image="nowhere.png")]
    made = everything(jsonl(tmp_path, rows), tmp_path, max_bad_share=1)
    assert made.statistics.unusable == {"question is no text": 1, "empty answer": 1}


def prepared(folder: Path, table: Any) -> Prepared:
    pq.write_table(table, folder / "rows.parquet")
    return everything(str(folder / "rows.parquet"), folder, max_bad_share=1)


def test_of_two_columns_of_one_name_neither_is_taken(tmp_path: Path) -> None:
    cells = [pa.array(["a?", "b?"]), pa.array(["1", "2"]), pa.array([numbered(0), numbered(1)])]
    table = pa.Table.from_arrays([*cells, pa.array(["3", "4"])], names=["question", "answer", "image", "answer"])
    with pytest.raises(BadSource, match=r"rows\.parquet has 2 columns 'answer'; rename all but one$"):
        prepared(tmp_path, table)
    with pytest.raises(BadSource, match="2 columns 'answer'"):
        own_data(Columns()).read(str(tmp_path / "rows.parquet"), str(tmp_path / "out"))
    other = pa.Table.from_arrays(
        [*cells, *cells[:1], *cells[:1]], names=["question", "answer", "image", "note", "note"]
    )
    assert len(prepared(tmp_path, other).problems) == 2
    (tmp_path / "rows.jsonl").write_text('{"question": "a?", "answer": "1", "answer": "2", "image": "0.png"}')
    with pytest.raises(BadSource, match=r"rows\.jsonl, line 1 .*two keys 'answer'"):
        everything(str(tmp_path / "rows.jsonl"), tmp_path)


def test_cells_that_a_file_cannot_give_cost_their_row(tmp_path: Path) -> None:
    broken = pa.array([b"a?", b"b\xff?", b"c?"]).cast(pa.binary()).view(pa.string())
    images = pa.array([numbered(i) for i in range(3)])
    table = pa.table({"question": broken, "answer": pa.array(["1", "2", "3"]), "image": images})
    made = prepared(tmp_path, table)
    assert sorted(problem.answer for problem in made.problems) == ["1", "3"]
    assert [(row.row, row.reason) for row in made.dropped] == [(1, "question is no text")]


def test_a_number_of_thousands_of_digits_and_json_of_any_depth(tmp_path: Path) -> None:
    source = jsonl(tmp_path, [row(0), row(1)])
    lines = Path(source).read_text().splitlines()
    Path(source).write_text(f'{lines[0]}\n{lines[1][:-1]}, "note": {"9" * 5000}}}')
    assert len(everything(source, tmp_path).problems) == 2
    Path(source).write_text(f'{lines[0]}\n{{"question": {"[" * 100_000}{"]" * 100_000}}}')
    with pytest.raises(BadSource, match="line 2 is not JSON"):
        everything(source, tmp_path)


def test_drops_are_counted_by_reason_with_readable_details(tmp_path: Path) -> None:
    rows = [row(0, category="x"), row(1, question="half \ud83d"), row(2, category="\0")]
    made = everything(jsonl(tmp_path, rows), tmp_path, columns=Columns(category="category"), max_bad_share=1)
    assert made.statistics.unusable == {"broken characters": 2}
    assert "\\xd83d" in made.dropped[0].detail and json.loads(made.dropped[0].model_dump_json())
