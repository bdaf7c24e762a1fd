"""Rows in the published schemas become questions as their authors ask them; nothing is lost without being counted."""

from __future__ import annotations

import io
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from racro.benchmarks import BENCHMARKS, first, own_data
from racro.config import Columns
from racro.data.golds import Gold
from racro.data.images import open_image, sha256
from racro.data.sources import BadSource
from racro.grading import grade
from racro.schema import Label, Question, Verdict
from racro.storage import artifacts
from tests.support import benchmark_rows as made
from tests.support.benchmark_rows import Row

CASES: dict[str, tuple[Callable[..., Row], str, str]] = {
    "mathvista": (made.mathvista, "testmini", "decoded_image"),
    "mathvision": (made.mathvision, "test", "decoded_image"),
    "mathverse": (made.mathverse, "testmini", "image"),
    "mathverse-all": (made.mathverse, "testmini", "image"),
    "mmmu": (made.mmmu, "validation", "image_1"),
    "wemath": (made.wemath, "testmini", "image_path"),
}
"""Benchmarks of one split: a row, the split, the column of its image."""


def read(name: str, rows: Sequence[Row], folder: Path) -> tuple[list[Question], dict[str, int]]:
    """The questions of some rows, and how many were dropped for which reason."""
    if name == "dynamath":
        for i in range(1, 11):
            made.shard(folder / "hub/data", f"sample_variant{i}", rows)
    else:
        made.shard(folder / "hub/data", CASES[name][1], rows)
    loaded = BENCHMARKS[name].read(str(folder / "hub"), str(folder / "out"))
    return list(loaded.questions), dict(Counter(row.reason for row in loaded.dropped))


def only(name: str, row: Row, folder: Path) -> Question:
    questions, dropped = read(name, [row], folder)
    assert not dropped
    return questions[0]


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_one_data_set_in_every_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, split, column = CASES[name]
    rows = [make(i) for i in range(1, 40)]
    benchmark, out = BENCHMARKS[name], str(tmp_path / "out")
    forms = {
        "file": str(made.shard(tmp_path / "hub", split, rows)),
        "folder": str(tmp_path / "hub"),
        "saved": str(made.saved(tmp_path / "saved", {split: rows}, [column])),
    }
    read = {form: benchmark.read(source, out) for form, source in forms.items()}
    asked = []

    def load_dataset(source: str, config: str | None, split: str) -> Any:
        asked.append((source, config, split))
        share = len(rows) // max(1, len(benchmark.configs))
        chosen = rows[(len(asked) - 1) * share : len(asked) * share] if benchmark.configs else rows
        return datasets.Dataset.from_list(chosen).cast_column(column, datasets.Image())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    read["hub"] = benchmark.read(None, out)
    assert asked == [(benchmark.source, config, split) for config in benchmark.configs or (None,)]
    for form in ("folder", "saved"):
        assert read[form] == read["file"], form
    assert read["hub"].questions == read["file"].questions[: len(read["hub"].questions)] != ()
    assert len(read["file"].questions) == 39 and not read["file"].dropped
    for i, question in enumerate(read["file"].questions, 1):
        assert question.benchmark == name
        assert [ref.sha256 for ref in question.images] == [sha256(made.cell(i)["bytes"])]
        assert open_image(question.images[0], out).getpixel((0, 0)) == (i, 7, 7)
        assert grade(f"\\boxed{{{question.answer}}}", "stop", Gold.of(question)).verdict is Verdict.CORRECT


def test_subjects_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    for subject in ("Art", "Math"):
        made.shard(tmp_path / "hub" / subject, "validation", [made.mmmu(i, subject) for i in (1, 2)])
        made.shard(tmp_path / "hub" / subject, "dev", [made.mmmu(9, subject)])
        made.saved(tmp_path / "saved" / subject, {"validation": [made.mmmu(i, subject) for i in (1, 2)]}, ["image_1"])
    for form in ("hub", "saved"):
        questions = BENCHMARKS["mmmu"].read(str(tmp_path / form), str(tmp_path / "out")).questions
        assert [q.category for q in questions] == ["Art", "Art", "Math", "Math"], form
        assert Label(name="discipline", value="Science") in questions[2].labels


def test_ten_variants(tmp_path: Path) -> None:
    for i in range(1, 11):
        made.shard(tmp_path, f"sample_variant{i}", [made.dynamath(n, question=f"{n}, {i}") for n in (1, 2)])
    questions, dropped = BENCHMARKS["dynamath"].read(str(tmp_path), str(tmp_path / "out"))
    assert [(q.family, q.part) for q in questions] == [(n, str(i)) for n in "12" for i in range(1, 11)]
    assert all(q.question.startswith(f"{q.family}, {q.part} ") for q in questions) and not dropped
    with pytest.raises(BadSource, match="one part of dynamath; name the folder that holds"):
        BENCHMARKS["dynamath"].read(str(tmp_path / "sample_variant1-00000-of-00001.parquet"), str(tmp_path))


def test_folders_of_authors(tmp_path: Path) -> None:
    png = made.picture()
    dynamath = {"7": {"question": "How long?", "answer": "2.5", "image": "image/image7.png", "answer_type": "float"}}
    dynamath["7"] |= {"subject": "algebra", "level": "high school"}
    mathvista = made.mathvista(3)
    del mathvista["decoded_image"]
    wemath = made.wemath(1, image_path="2steps/image/1-1.png")
    mathverse = made.mathverse(4, image="images_version_5/image_4.png")
    folders = {
        "logicvista": (("dataset.json", {"v1_1": made.logicvista(1)}, {"images/v1_1.png": png}), "v1_1"),
        "dynamath": (("trial2/dataset.json", dynamath, {"trial2/image/image7.png": png}), "7/2"),
        "mathvista": (("data/testmini.json", {"3": mathvista}, {"data/images/3.png": png}), "3"),
        "wemath": (("testmini.json", [wemath], {"2steps/image/1-1.png": png}), "2steps_1/1"),
        "mathverse": (("testmini.json", [mathverse], {"images/images_version_5/image_4.png": png}), "4"),
    }
    for name, (files, uid) in folders.items():
        folder = made.authors(tmp_path / name, *files)
        questions, dropped = BENCHMARKS[name].read(str(folder), str(tmp_path / "out"))
        assert [q.uid for q in questions] == [uid] and not dropped, (name, dropped)
        assert questions[0].images[0].sha256 == sha256(png)
    assert not (tmp_path / "out").exists()  # the images stay where they are


def test_jsonl_of_mathvision_beside_its_images(tmp_path: Path) -> None:
    row = made.mathvision(4)
    del row["decoded_image"]
    made.authors(tmp_path, "data/test.jsonl", row, {"images/4.png": made.picture()})
    questions, dropped = BENCHMARKS["mathvision"].read(str(tmp_path), str(tmp_path / "out"))
    assert questions[0].images[0].path == f"{tmp_path}/images/4.png" and not dropped


def test_mistakes_of_the_user_are_one_line(tmp_path: Path) -> None:
    made.shard(tmp_path / "vision", "testmini", [made.mathvision(1)])
    made.shard(tmp_path / "empty", "testmini", [made.mathverse(1, problem_version="Text Lite")])
    cases = [
        ("logicvista", None, r"^logicvista is not on Hugging Face; name the folder of its authors: logicvista=FOLDER$"),
        ("mathvista", "nowhere/at/all", r"^nowhere/at/all: no such file or folder"),
        (
            "mathvista",
            str(tmp_path / "vision"),
            r"vision is not mathvista: no column 'pid' among id, question, options",
        ),
        ("mathvision", str(tmp_path / "vision"), r"has no split 'test', it has the splits testmini"),
        ("mathverse", str(tmp_path / "empty"), r"empty holds no question of mathverse$"),
    ]
    for name, source, message in cases:
        with pytest.raises(BadSource, match=message) as caught:
            BENCHMARKS[name].read(source, str(tmp_path / "out"))
        assert "\n" not in str(caught.value)


# --- wording and golds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "asked", "gold"),
    [
        (
            {"unit": "years", "answer": "12"},
            "Hint: Please answer the question requiring an integer answer and provide the final value, "
            "e.g., 1, 2, 3, at the end.\nQuestion: How long is AB, case 1? (Unit: years)",
            Gold("12", "integer", unit="years"),
        ),
        (
            {"answer_type": "float", "precision": 1.0, "answer": "1.2"},
            "Hint: Please answer the question requiring a floating-point number with one decimal place and provide "
            "the final value, e.g., 1.2, 1.3, 1.4, at the end.\nQuestion: How long is AB, case 1?",
            Gold("1.2", "float", precision=1),
        ),
        (
            {"answer_type": "list", "answer": "[2014, 2016]"},
            "Hint: Please answer the question requiring a Python list as an answer and provide the final list, "
            "e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.\nQuestion: How long is AB, case 1?",
            Gold("[2014, 2016]", "list"),
        ),
        (
            {"question_type": "multi_choice", "answer_type": "text", "choices": ["135°", "145°"], "answer": "145°"},
            "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
            "Question: How long is AB, case 1?\nChoices:\n(A) 135°\n(B) 145°",
            Gold("B", "choice", ("135°", "145°")),
        ),
    ],
    ids=["integer with unit", "float", "list", "choice"],
)
def test_mathvista_is_asked_in_its_own_words(changes: Row, asked: str, gold: Gold, tmp_path: Path) -> None:
    question = only("mathvista", made.mathvista(1, **changes), tmp_path)
    assert question.question == asked
    assert Gold.of(question) == gold._replace(question=asked)
    assert [x.value for x in question.labels if x.name == "skills"] == ["geometry reasoning", "algebraic reasoning"]


def test_mathvision_shows_options_unless_they_stand_in_the_image(tmp_path: Path) -> None:
    rows = [
        made.mathvision(1, answer="7"),
        made.mathvision(2, options=["3", "x^2", "5", "6", "7"], answer="B"),
        made.mathvision(3, options=["A", "B", "C", "D", "E"], answer="D"),
        made.mathvision(4, question="Which?\n<image1>", options=["<image2>", "<image3>"], answer="A"),
    ]
    questions, dropped = read("mathvision", rows, tmp_path)
    assert [q.question for q in questions] == [
        "How many cats, case 1?\n<image>",
        "How many cats, case 2?\n<image>\n(A) 3\n(B) x^2\n(C) 5\n(D) 6\n(E) 7",
        "How many cats, case 3?\n<image>",
        "Which?\nimage 1\n(A) image 2\n(B) image 3",  # all of them stand in one image
    ]
    assert [(q.answer, q.kind) for q in questions] == [
        ("7", "integer"),
        ("B", "choice"),
        ("D", "choice"),
        ("A", "choice"),
    ]
    assert not dropped


def test_mathverse_is_the_version_that_only_the_image_asks(tmp_path: Path) -> None:
    versions = ["Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only"]
    rows = [made.mathverse(i, problem_index="1", problem_version=v) for i, v in enumerate(versions, 1)]
    (question,), dropped = read("mathverse", rows, tmp_path)
    assert question.question == rows[0]["query_cot"] and not dropped
    assert (question.answer, question.kind, question.choices) == ("B", "choice", ("40°", "50°", "60°", "70°"))
    questions, dropped = read("mathverse-all", rows, tmp_path)
    assert [q.part for q in questions] == versions and {q.family for q in questions} == {"1"} and not dropped
    free = made.mathverse(1, question_type="free-form", answer="2.5", question_for_eval="Find x.")
    assert only("mathverse", free, tmp_path).kind == "float"


def test_dynamath_asks_for_digits_and_compares_within_a_thousandth(tmp_path: Path) -> None:
    rows = [
        made.dynamath(1),
        made.dynamath(2, answer_type="multiple choice", question="Even? choice: (A) yes (B) no", ground_truth="B"),
        made.dynamath(3, answer_type="text", ground_truth="Sep"),
    ]
    questions, _ = read("dynamath", rows, tmp_path)
    number, choice, text = questions[::10]
    assert number.question == (
        "What is the slope, case 1? Please answer in a floating-point number. "
        "Format it as a three-digit floating-point number."
    )
    verdicts = [grade(f"\\boxed{{{x}}}", "stop", Gold.of(number)).verdict for x in ("1.251", "1.2495", "1.252", "1.2")]
    assert verdicts == [Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG]
    assert (choice.kind, choice.choices, choice.answer) == ("choice", ("yes", "no"), "B")
    assert choice.question.endswith(
        "(B) no Just provide the corresponding choice option, such as 'A', 'B', 'C', or 'D'."
    )
    assert (text.kind, text.question) == ("text", "What is the slope, case 3?")


def test_wemath_and_logicvista(tmp_path: Path) -> None:
    question = only("wemath", made.wemath(3, "3steps_2"), tmp_path)
    assert question.question == "3steps_2: x = ( )\nOption: A. 3, 4;B. 4, 3; C. 5; D. No correct answer"
    assert (question.uid, question.family, question.part) == ("3steps_3/2", "3steps_3", "3steps_2")
    assert (question.answer, question.choices) == ("C", ("3, 4", "4, 3", "5", "No correct answer"))
    rows = {f"v1_{i}": made.logicvista(i, answer=a) for i, a in enumerate(["C", "A, C", "3"])}
    folder = made.authors(tmp_path, "dataset.json", rows, {f"images/v1_{i}.png": made.picture() for i in range(3)})
    one, two, number = BENCHMARKS["logicvista"].read(str(folder), str(tmp_path)).questions
    assert [q.kind for q in (one, two, number)] == ["choice", "choices", "integer"]
    assert grade("\\boxed{C and A}", "stop", Gold.of(two)).verdict is Verdict.CORRECT
    assert {x.value for x in one.labels if x.name == "capability"} == {"diagram", "ocr", "diagram and ocr"}


# --- several images ---------------------------------------------------------------------------------------------------


def test_mmmu_places_up_to_seven_images_where_they_are_mentioned(tmp_path: Path) -> None:
    images = {f"image_{i}": made.cell(i) for i in range(1, 8)}
    question = "Compare <image 2> with <image 1>; is <image 2> older?"
    options = "['<image 3>', '<image 4>', '<image 5>', '<image 6>', '<image 7>']"
    found = only("mmmu", made.mmmu(1, question=question, options=options, **images), tmp_path)
    assert found.question == (
        "Compare image 2 <image> with image 1 <image>; is image 2 older?\n\n(A) image 3 <image>\n(B) image 4 <image>\n"
        "(C) image 5 <image>\n(D) image 6 <image>\n(E) image 7 <image>"
    )
    shown = [open_image(ref, str(tmp_path / "out")).getpixel((0, 0)) for ref in found.images]
    assert shown == [(i, 7, 7) for i in (2, 1, 3, 4, 5, 6, 7)]


def test_mmmu_images_that_no_text_mentions_come_first(tmp_path: Path) -> None:
    some = only("mmmu", made.mmmu(1, question="See <image 1>.", options="['a', 'b']", image_2=made.cell(2)), tmp_path)
    assert some.question == "<image>See image 1 <image>.\n\n(A) a\n(B) b"
    assert [ref.sha256 for ref in some.images] == [sha256(made.cell(i)["bytes"]) for i in (2, 1)]
    none = only("mmmu", made.mmmu(1, question="See them.", image_2=made.cell(2)), tmp_path)
    assert "<image>" not in none.question and len(none.images) == 2


def test_mmmu_open_questions_take_the_first_spelling(tmp_path: Path) -> None:
    row = made.mmmu(1, question_type="open", options="[]", answer="['24/7', '3.429']")
    assert only("mmmu", row, tmp_path).answer == "24/7"
    assert only("mmmu", row | {"answer": "8.5"}, tmp_path).kind == "float"


# --- what is dropped --------------------------------------------------------------------------------------------------

NO_OPTION = "choice answer names no option"
BAD: list[tuple[str, Row, str]] = [
    ("mathvista", made.mathvista(2, decoded_image={"bytes": b"no image", "path": None}), "unreadable image"),
    ("mathvista", made.mathvista(2, question_type="multi_choice", choices=["3"], answer="4"), NO_OPTION),
    ("mathvista", made.mathvista(2, answer_type="float", precision=3, answer="1.5"), "unknown precision"),
    ("mathvista", made.mathvista(2, answer_type="formula"), "unknown kind"),
    ("mathvista", made.mathvista(2, answer=None), "missing value"),
    ("mathvista", made.mathvista(1), "duplicate uid"),
    ("mathvision", made.mathvision(2, options=["x", "y"], answer="C"), NO_OPTION),
    ("mathverse", made.mathverse(2, image={"bytes": None, "path": None}), "missing image"),
    ("mathverse", made.mathverse(2, query_cot=" "), "empty question"),
    ("mathverse", made.mathverse(2, answer="E"), NO_OPTION),
    ("mmmu", made.mmmu(2, question="Is <image 3> old?"), "placeholders do not match images"),
    ("mmmu", made.mmmu(2, options="['a', "), "unreadable choices"),
    ("mmmu", made.mmmu(2, image_1=None), "missing value"),
    ("wemath", made.wemath(2, answer="F"), NO_OPTION),
    ("wemath", made.wemath(1), "duplicate uid"),
    ("wemath", made.wemath(2, key="2steps_3"), "unknown part"),
]


@pytest.mark.parametrize(("name", "bad", "reason"), BAD, ids=[f"{name}: {reason}" for name, _, reason in BAD])
def test_a_bad_row_is_dropped_and_counted(name: str, bad: Row, reason: str, tmp_path: Path) -> None:
    make = CASES[name][0]
    questions, dropped = read(name, [make(1), bad, make(3)], tmp_path)
    assert (len(questions), dropped) == (2, {reason: 1})


def test_dynamath_without_a_gold_answer(tmp_path: Path) -> None:
    questions, dropped = read("dynamath", [made.dynamath(1), made.dynamath(2, ground_truth="nan")], tmp_path)
    assert len(questions) == 10 and dropped == {"answer is not of its kind": 10}


# --- images -----------------------------------------------------------------------------------------------------------


def test_images_of_any_mode_and_size_arrive_as_they_are(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.linspace(0, 65535, 40 * 20).reshape(20, 40).astype(np.uint16))
    pictures = [
        made.picture(3, "P", (1, 4000)),
        made.picture((0, 255, 255, 0), "CMYK", (4000, 1), "TIFF"),
        made.picture((255, 0, 0, 128), "RGBA", (33, 7)),
        made.picture(1, "1", (1, 1)),
        made.picture((9, 9), "LA"),
        made.picture("blue", size=(3000, 2000), form="JPEG"),
    ]
    buffer = io.BytesIO()
    ramp.save(buffer, "PNG")
    pictures.append(buffer.getvalue())
    rows = [made.mathverse(i, image={"bytes": data, "path": None}) for i, data in enumerate(pictures)]
    questions, dropped = read("mathverse", rows, tmp_path)
    assert not dropped and [q.images[0].sha256 for q in questions] == [sha256(data) for data in pictures]
    opened = [open_image(q.images[0], str(tmp_path / "out")) for q in questions]
    assert [image.mode for image in opened] == ["RGB"] * len(pictures)
    sizes = [image.size for image in opened]
    assert sizes == [(21, 4000), (4000, 21), (33, 7), (1, 1), (12, 8), (3000, 2000), (40, 20)]
    assert opened[1].getpixel((2000, 10)) == (255, 0, 0) and opened[1].getpixel((2000, 0)) == (255, 255, 255)


def test_a_shared_image_is_written_once_and_the_table_holds_no_pixels(tmp_path: Path) -> None:
    rows = [made.mathverse(i, image=made.cell(1)) for i in range(80)]
    questions, _ = read("mathverse", rows, tmp_path)
    assert len(questions) == 80 and len(list((tmp_path / "out/images").iterdir())) == 1
    artifacts.write_table(str(tmp_path / "table"), questions, Question)
    assert sum(file.stat().st_size for file in (tmp_path / "table").iterdir()) < 20_000


# --- own data, limits, imports ----------------------------------------------------------------------------------------


def test_own_data_by_column_mapping(tmp_path: Path) -> None:
    rows = [
        {"q": f"How many <image>, case {i}?", "gold": f"\\boxed{{{i}}}", "pics": [made.cell(i)], "n": i, "topic": topic}
        for i, topic in enumerate(["counting", None, "algebra"])
    ]
    made.shard(tmp_path / "mine", "test", rows)
    columns = Columns(question="q", answer="gold", image="pics", uid="n", category="topic")
    benchmark = own_data(columns)
    questions, dropped = benchmark.read(str(tmp_path / "mine"), str(tmp_path / "out"))
    assert [(q.uid, q.answer, q.category) for q in questions] == [
        ("0", "0", "counting"),
        ("1", "1", "all"),
        ("2", "2", "algebra"),
    ]
    assert not dropped and open_image(questions[2].images[0], str(tmp_path / "out")).getpixel((0, 0)) == (2, 7, 7)
    with pytest.raises(BadSource, match="no column 'question' among q, gold"):
        own_data(Columns()).read(str(tmp_path / "mine"), str(tmp_path / "out"))


def test_a_limit_does_not_cut_a_family(tmp_path: Path) -> None:
    keys = ["2steps_1", "2steps_2", "2steps_multi"]
    questions, _ = read("wemath", [made.wemath(i, key) for key in keys for i in range(5)], tmp_path)
    for limit, families in ((1, 1), (3, 1), (4, 2), (15, 5), (99, 5)):
        chosen = first(questions, limit)
        assert len(chosen) == 3 * families == 3 * len({q.family for q in chosen})
    singles, _ = read("mathvision", [made.mathvision(i) for i in range(5)], tmp_path)
    assert len(first(singles, 2)) == 2


def test_the_registry_loads_neither_torch_nor_datasets() -> None:
    code = (
        "import sys, racro.benchmarks; print([m for m in ('torch', 'datasets', 'sympy', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
