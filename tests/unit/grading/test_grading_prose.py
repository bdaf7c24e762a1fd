"""The answer in prose without a box: what an output concludes, read for the kind asked for; a refusal has none."""

from __future__ import annotations

import pytest

from racro.grading import grade
from racro.schema import AnswerKind, Gold, Verdict

ANGLES = ("30°", "45°", "60°", "75°")
POLAR = ("Yes", "No")


@pytest.mark.parametrize(
    ("kind", "choices", "gold", "response"),
    [
        ("choice", ANGLES, "C", "The sum is 180°. Therefore the angle is 60°."),
        ("choice", ANGLES, "C", "Thus, the answer is C (60°)."),
        (
            "choice",
            ANGLES,
            "C",
            "The correct answer is **(C) 60°**.\n\nBecause 180° - 120° = 60°.\n\nI hope this helps!",
        ),
        ("choice", ANGLES, "C", "(C)\nThe figure shows it."),
        ("choice", ANGLES, "C", "Option (A) is wrong, so the correct option letter is C."),
        ("choice", ANGLES, "C", "C is the correct option.</s>"),
        ("choice", ("soup", "water"), "A", 'The correct answer is "soup." Soup has few carbs, unlike bread.'),
        ("choice", POLAR, "B", "No, this function is not convex."),
        ("choice", POLAR, "A", "(A) Yes\nThe bars are equal."),
        ("integer", (), "23", "$10 + $13 = $23\n\nHannah needs $23."),
        ("integer", (), "3", "There are three bars with values larger than 4."),
        ("integer", (), "2", "There are 2 algorithms with accuracies higher than 9."),
        ("integer", (), "8", "So, the perimeter is 2*3 + 2*1 = 8 cm.\n\nIs there anything else I can help you with?"),
        ("integer", (), "70", "The highest rating is **70**. The others range from **20** to **60**."),
        (
            "integer",
            (),
            "80",
            "Therefore the best is 100% - 20% = 80% better.\n\nName | Accuracy\n--- | ---\nWheat | 100%",
        ),
        ("float", (), "4.4", "Based on this, the length of the ladder is 4.40 meters."),
        ("choices", (), "A, B", "It follows that proposals A and B complete the diagrams."),
        ("expression", (), "2x+1", "Adding both sides gives $y = 2x+1$."),
        ("yesno", (), "no", "Is it red? No, it is blue."),
        ("text", (), "Paris", "Paris"),
    ],
)
def test_a_conclusion_is_an_answer(kind: AnswerKind, choices: tuple[str, ...], gold: str, response: str) -> None:
    found = grade(response, "stop", Gold(gold, kind, choices))
    assert found.verdict is Verdict.CORRECT, found


@pytest.mark.parametrize(
    ("kind", "choices", "response"),
    [
        ("choice", ANGLES, "The picture shows no triangle, so the question cannot be answered."),
        ("choice", ANGLES, "That gives 20°, but none of the options match. There might be a mistake."),
        ("choice", ANGLES, "It is either 30° or 45°."),
        ("choice", POLAR, "The image does not provide enough information to answer the question."),
        ("choice", ANGLES, "(C) 60°\n(D) 75°\n(E) 90°\n(F) 105°"),
        ("integer", (), "Sorry, I can't help with images of people yet."),
        ("integer", (), "I see 3 bars and 4 lines"),
        ("yesno", (), "The bar is tall."),
        ("text", (), "First look at the bars.\nThen compare them with the lines."),
    ],
)
def test_what_concludes_nothing_has_no_answer(kind: AnswerKind, choices: tuple[str, ...], response: str) -> None:
    assert grade(response, "stop", Gold("7", kind, choices)).verdict is Verdict.UNPARSED


@pytest.mark.parametrize(
    ("question", "response", "says"),
    [
        ("Is Dark Blue the roughest?", "Dark Blue is not the roughest.", "no"),
        ("Is Dark Blue the roughest?", "Based on the chart, Dark Blue is the roughest.", "yes"),
        ("Is Black less than Blue?", "Black is greater than Blue.", "no"),
        ("Is Black less than Blue?", "Black is less than Blue.", "yes"),
    ],
)
def test_a_question_restated_is_answered(question: str, response: str, says: str) -> None:
    assert grade(response, "stop", Gold(says, "yesno", question=question)).verdict is Verdict.CORRECT
    letter = "A" if says == "yes" else "B"
    assert grade(response, "stop", Gold(letter, "choice", POLAR, question=question)).verdict is Verdict.CORRECT


def test_a_box_comes_before_what_is_said_after_it() -> None:
    assert grade(r"So \boxed{3}. The answer is 4.", "stop", Gold("3", "integer")).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("response", "gold", "kind"),
    [
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2", "set"),
        (r"\boxed{(1, 2)}, \boxed{(3, 4)}", "(3,4), (1,2)", "set"),
        (r"First \boxed{7}. Then \boxed{1} \text{ or } \boxed{2}", "1, 2", "set"),
    ],
)
def test_several_boxes_side_by_side_are_one_answer(response: str, gold: str, kind: AnswerKind) -> None:
    assert grade(response, "stop", Gold(gold, kind)).verdict is Verdict.CORRECT
