"""`racro grade`: predictions in a file are graded again, in our fields or in the authors' own layouts."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli import grading
from racro import predictions
from racro.predictions import BadPredictions, mathvista
from racro.schema import Verdict


def own(**fields: Any) -> dict[str, Any]:
    row = {"question": "How many?", "answer": "3", "response": r"\boxed{3}", "answer_type": "integer"}
    return {**row, **fields}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def vista(pid: int, **fields: Any) -> dict[str, Any]:
    """A row of a result file as MathVista's authors publish it."""
    row = {
        "question": "How long is it?",
        "choices": ["3 cm", "12 cm", "14 cm"],
        "unit": None,
        "precision": None,
        "answer": "12 cm",
        "question_type": "multi_choice",
        "answer_type": "text",
        "pid": str(pid),
        "metadata": {"language": "english", "source": "made", "task": "measuring", "skills": ["arithmetic", "algebra"]},
        "query": "Hint: ...\nQuestion: How long is it?\nChoices:\n(A) 3 cm\n(B) 12 cm\n(C) 14 cm",
        "response": "So the answer is (B).",
        "extraction": "B",
        "prediction": "12 cm",
        "true_false": True,
    }
    return {**row, **fields}


def number(pid: int, **fields: Any) -> dict[str, Any]:
    free = {"choices": None, "question_type": "free_form", "answer_type": "integer", "answer": "7"}
    return vista(pid, **{**free, **fields})


VISTA = [
    vista(1),
    vista(2, response="It is 14 cm.", extraction="14 cm", true_false=False),
    vista(3, response="The image is missing, I cannot answer.", extraction="N/A", true_false=False),
    vista(4, response="I cannot say.", extraction="12", true_false=True),
    number(5, response="There are 7 bars.", extraction="7", true_false=True),
    number(6, response="There are 7 bars.", extraction="7.9", true_false=True),
    number(7, response="Who knows?", extraction=None, true_false=False),
    number(8, answer_type="float", precision=1, answer="2.0", response="**2.04**", extraction="2.04"),
    vista(
        9,
        query="Question: How long is it?\nChoices:\n(A) 12 cm\n(B) 3 cm\n(C) 14 cm",
        response="The answer is (A).",
        extraction="A",
        true_false=False,
    ),
]


@pytest.fixture
def vista_file(tmp_path: Path) -> Path:
    path = tmp_path / "output_made.json"
    path.write_text(json.dumps({row["pid"]: row for row in VISTA}), encoding="utf-8")
    return path


def test_the_five_verdicts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endless = own(answer="9x", answer_type="expression", response=r"\boxed{9^{9^{9^{9}}}}")
    rows = [
        own(),
        own(response=r"\boxed{4}"),
        own(response="I would not know"),
        own(response=r"\boxed{3", finish_reason="length"),
        endless,
        own(response="", finish_reason="deadline"),
        own(answer=r"\boxed{3"),
    ]
    out = tmp_path / "graded.jsonl"
    grading.run(lines(tmp_path / "made.jsonl", rows), None, out)
    said = capsys.readouterr().out
    assert said.splitlines()[1].split()[:6] == ["response", "1", "1", "1", "1", "2"]
    assert "accuracy 25.0 ± 21.7 % (n 4)" in said
    assert "1 without a usable gold answer" in said and "broken gold" in said
    written = [json.loads(line) for line in out.read_text().splitlines()]
    verdicts = ["correct", "wrong", "unparsed", "truncated", "failed", "failed", None]
    assert [row["verdict"] for row in written] == verdicts
    assert written[1]["extracted"] == "4"


def test_own_fields_say_what_is_asked_for(tmp_path: Path) -> None:
    rows = [
        own(question_type="multi_choice", choices=["x", "y"], answer="y", response="(B)", answer_type="text"),
        own(question_type="multi_choice", choices=["x", "y"], answer="B", response="y", answer_type="text"),
        own(answer_type="float", precision=1, answer="2.0", response="2.04"),
        own(answer_type="float", tolerance=0.5, answer="2.0", response="2.4"),
        own(answer_type="float", unit="cm", answer="2", response="20 mm"),
        own(answer_type="list", answer="[1, 2]", response="(1, 2)"),
        own(answer_type="choices", answer="A, C", response="C and A"),
        own(answer_type=None, answer="x = 5", response="The answer is 5", extraction="x=5", true_false=True),
    ]
    read = predictions.read(lines(tmp_path / "made.jsonl", rows), None)
    assert [found and found.verdict for found in predictions.grades(read)] == [Verdict.CORRECT] * len(rows)
    assert read[-1].by_rule is read[-1].published is Verdict.CORRECT and read[-1].is_answer


def test_mathvista_by_its_authors_rule_and_by_ours(vista_file: Path) -> None:
    read = predictions.read(vista_file, "mathvista")
    right = [row["true_false"] for row in VISTA]
    assert [p.by_rule is Verdict.CORRECT for p in read] == right
    ours = [found is not None and found.verdict is Verdict.CORRECT for found in predictions.grades(read)]
    assert ours == [True, False, False, False, True, True, False, True, True], "the letter is that of the query's order"
    assert [p.is_answer for p in read] == [True, True, False, False, True, True, False, True, True]
    scores = predictions.scores(read, [p.by_rule for p in read], "mathvista")
    assert (scores.metrics[0].value, scores.metrics[0].n) == (5 / 8, 8)
    assert {m.name for m in scores.metrics} >= {"accuracy / task / measuring", "accuracy / skills / algebra"}


def test_mathvista_prints_how_lucky_the_rule_is(vista_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grading.run(vista_file, "mathvista", None)
    said = capsys.readouterr().out
    assert "the rule on the extraction and the file agree on 8 of 8 (100.0%)" in said
    assert "of those with an extraction that is an answer, on 5 of 6" in said
    assert "finds 1 of 2 extractions right that are no answer: 11.1 points" in said


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("N/A", "No", 2)],
)
def test_edit_distance(one: str, other: str, steps: int) -> None:
    assert mathvista.distance(one, other) == mathvista.distance(other, one) == steps


def table(path: Path, rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def test_logicvista_compares_sets_of_letters(tmp_path: Path) -> None:
    head = ["", "id", "reasoning skill", "capability", "true answer", "M answer extracted", "M answer raw", "match?"]
    file = table(
        tmp_path / "M.csv",
        [
            head,
            [0, "v1_0", "['inductive']", "['diagram', 'ocr']", "['c']", "['c']", "C", 1],
            [1, "v1_1", "['spatial']", "['ocr']", "['a', 'c']", "['c', 'a']", "Options C and A.", 1],
            [2, "v1_2", "['spatial']", "['ocr']", "['a', 'c']", "['a']", "A", 0],
            [3, "v1_3", "['spatial']", "['ocr']", "['']", "['zzzzz']", "none", 0],
        ],
    )
    read = predictions.read(file, "logicvista")
    assert [p.by_rule for p in read] == [p.published for p in read]
    assert [found and found.verdict.value for found in predictions.grades(read)] == [
        "correct",
        "correct",
        "wrong",
        None,
    ]


def test_logicvista_answers_are_graded_by_the_data_set_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "M-answers.json"
    file.write_text(json.dumps({"v1_0": {"answer": "The answer is B."}, "v1_1": {"answer": "C and A"}}))
    with pytest.raises(predictions.BadPredictions, match=r"dataset\.json beside it"):
        predictions.read(file, "logicvista")
    row = {"question": "Which one?", "skill": ["inductive"], "broad_capability": ["ocr"]}
    golds = {"v1_0": "B", "v1_1": "A, C", "v1_2": "D"}
    dataset = {name: row | {"imagename": f"{name}.png", "answer": gold} for name, gold in golds.items()}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    read = predictions.read(file, "logicvista")
    assert [found and found.verdict.value for found in predictions.grades(read)] == ["correct", "correct"]
    file.write_text(json.dumps({"v2": {"answer": "B"}}))
    with pytest.raises(predictions.BadPredictions, match="v2 is not a question"):
        predictions.read(file, "logicvista")


def test_dynamath_counts_a_question_when_all_variants_are_right(tmp_path: Path) -> None:
    head = ["Question ID", "Variant 1", "Variant 2", "# of correct per question", "Topic", "Difficulty Level"]
    rows = [["Q1", "correct", "correct", 2, "algebra", "high school"], ["Q2", "correct", "fail", 1, "algebra", "x"]]
    file = table(tmp_path / "M.csv", [head, *rows, ["# of correct per variant", 2, 1, "", "", ""]])
    read = predictions.read(file, "dynamath")
    scores = predictions.scores(read, [p.published for p in read], "dynamath")
    assert {m.name: m.value for m in scores.metrics[:2]} == {"worst case of 2 variants": 0.5, "average": 0.75}


def test_wemath_takes_the_letter_after_the_word_answer(tmp_path: Path) -> None:
    base = {"ID": "1", "question": "?", "option": "A. 3; B. 4", "answer": "B", "knowledge concept": "Angles"}
    rows = [
        {**base, "key": "2steps_1", "response": "Thinking: ... <<Answer>>: B."},
        {**base, "key": "2steps_2", "response": "Answer: A"},
        {**base, "key": "2steps_multi", "response": "The answer is 4"},
    ]
    file = tmp_path / "made.json"
    file.write_text(json.dumps(rows))
    read = predictions.read(file, "wemath")
    assert [p.by_rule and p.by_rule.value for p in read] == ["correct", "wrong", "wrong"]
    assert [found and found.verdict.value for found in predictions.grades(read)] == ["correct", "wrong", "correct"]
    ours = predictions.scores(read, [found and found.verdict for found in predictions.grades(read)], "wemath")
    assert {m.name: m.value for m in ours.metrics}["complete mastery (loose)"] == 1


@pytest.mark.parametrize(
    ("content", "benchmark", "said"),
    [
        ("", None, "holds no predictions|line 1|neither rows"),
        ("[]", None, "holds no predictions"),
        ("3", None, "neither a list nor"),
        ("[3]", None, "row 0 is not an object but int"),
        ('{"question": "?"}', None, "row 0 has no field 'answer'; it has question"),
        ('{"question": "?"}\nnot json', None, "line 2 is not JSON"),
        (json.dumps(own(finish_reason="tired")), None, "finish_reason 'tired' is not one of: stop, length, deadline"),
        (json.dumps(own(precision="many", answer_type="float")), None, "row 0: .*correct precision"),
        (json.dumps([own(pid=1), own(pid=1)]), None, "'1' occurs 2 times"),
        (json.dumps([own(answer=r"\boxed{")]), None, "nothing can be graded"),
        (json.dumps([own()]), "mathvista", "has no field 'choices'"),
        ("a,b\n1,2\n", "logicvista", "no column 'id'"),
        ("a,b\n1,2\n", "dynamath", "is it DynaMath's CSV"),
        ("[]", "mathviesta", "no such layout; known are: mathvista, logicvista"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_line(
    tmp_path: Path, content: str, benchmark: str | None, said: str
) -> None:
    file = tmp_path / "made.jsonl"
    file.write_text(content)
    with pytest.raises(BadPredictions, match=said) as caught:
        grading.run(file, benchmark, None)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPredictions, match="cannot be read"):
        grading.run(tmp_path / "none.json", None, None)
    (tmp_path / "image.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(BadPredictions, match="not a UTF-8 text"):
        grading.run(tmp_path / "image.json", None, None)
    with pytest.raises(BadPredictions, match=r"--out .* cannot be written"):
        grading.run(lines(tmp_path / "made.jsonl", [own()]), None, tmp_path / "no" / "folder.jsonl")


def test_the_command_loads_neither_prefect_nor_torch(tmp_path: Path) -> None:
    file = lines(tmp_path / "made.jsonl", [own(), own(response="4")])
    program = (
        "import sys\nfrom flows.cli import main as cli\n"
        f"sys.argv = ['racro', 'grade', {str(file)!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "loaded = {'torch', 'prefect', 'mlflow', 'transformers', 'datasets', 'sympy'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=1000)
    assert done.returncode == 0, done.stderr
    assert "accuracy 50.0" in done.stdout
