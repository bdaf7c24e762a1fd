"""The entry of the held-out problems as a training shows it: headline, accuracy by category, names in MLflow."""

from __future__ import annotations

from racro.evaluation.heldout import by_category, heldout_question, score_of, tracked
from racro.evaluation.results import entry, results
from racro.schema import Entry, ModelOutput, Problem, Verdict

SAID = {
    Verdict.CORRECT: (r"\boxed{3}", "stop"),
    Verdict.WRONG: (r"\boxed{4}", "stop"),
    Verdict.UNPARSED: ("hm", "stop"),
    Verdict.TRUNCATED: ("so", "length"),
    Verdict.FAILED: ("", "deadline"),
}


def made(verdicts: list[tuple[Verdict, str]]) -> Entry:
    """The entry of problems with these verdicts and categories."""
    problem = {"question": "How high?", "answer": "3", "kind": "integer", "choices": (), "images": (), "scene": None}
    questions = [
        heldout_question(Problem(uid=str(i), category=category, **problem))  # type: ignore[arg-type]
        for i, (_, category) in enumerate(verdicts)
    ]
    answers = [
        ModelOutput(uid=str(i), sample=0, prompt="[]", text=text, tokens=1, finish_reason=finish, error=None)  # type: ignore[arg-type]
        for i, (text, finish) in enumerate(SAID[verdict] for verdict, _ in verdicts)
    ]
    return entry(questions, list(results(questions, "text", None, "r", [], [], answers)))


MIXED = made(
    [
        (Verdict.CORRECT, "b"),
        (Verdict.WRONG, "a"),
        (Verdict.UNPARSED, "b"),
        (Verdict.TRUNCATED, "b"),
        (Verdict.FAILED, "z"),
    ]
)


def test_failed_answers_are_in_no_share_and_unparsed_ones_are_not_right() -> None:
    score = score_of(MIXED)
    assert (score.accuracy, score.n) == (0.25, 4)
    assert score.stderr == (0.25 * 0.75 / 4) ** 0.5
    assert (score.truthful, score.states_asked, score.leaks) == (None,) * 3
    assert {name: (s.value, s.n) for name, s in by_category(MIXED).items()} == {"a": (0.0, 1), "b": (1 / 3, 3)}


def test_metrics_have_the_same_names_in_every_training() -> None:
    found = tracked(MIXED)
    shares = {"accuracy", "accuracy_a", "accuracy_b"}
    assert found.keys() == shares | {f"{s}_stderr" for s in shares} | {f"verdict_{v.value}" for v in Verdict}
    assert all(found[f"verdict_{verdict.value}"] == 1 for verdict in Verdict)
    assert found["accuracy_a"] == 0 and found["accuracy_a_stderr"] > 0
