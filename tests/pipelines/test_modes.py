"""Modes vote, best, clues, shots and check through the flow `evaluate`: who is asked what, how often, and the score.

Models are scripts, and each score is computed here once more, from what the scripts say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.evaluation import evaluate
from racro.config import ModeSettings, Recipe, loading
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request
from racro.evaluation.compare import read_results
from racro.prompts import plain_text
from racro.rewards.choosing import CannotChoose
from racro.rewards.protocol import Case
from racro.schema import Mode, Result, Verdict
from racro.summary import EvaluationSummary
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.asked import PICTURE

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str | None]:
    """Three questions: `How high, 1?` and so on; the answer is the number."""
    (tmp_path / "own.png").write_bytes(PICTURE)
    lines = [{"question": f"How high, {i}?", "answer": str(i), "image": "own.png"} for i in (1, 2, 3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"own": f"{tmp_path}/own.jsonl"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The last message of each request to any engine, and how many completions were asked for."""
    seen: list[tuple[str, int]] = []
    generate = ScriptedEngine.generate

    def watched(self: ScriptedEngine, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        read = list(requests)
        seen.extend((plain_text(one.prompt.messages[-1]), one.sampling.n) for one in read)
        return generate(self, read)

    monkeypatch.setattr(ScriptedEngine, "generate", watched)
    return seen


def recipe(captioner: list[dict[str, Any]], reasoner: list[dict[str, Any]], *overrides: str) -> Recipe:
    """Scripts by rules; those of the captioner match the user's message, as those of the reasoner do."""
    engines = [
        f"{role}.engine={json.dumps({'type': 'scripted', 'rules': rules})}"
        for role, rules in (("captioner", captioner), ("reasoner", reasoner))
    ]
    return loading.load(
        EMBEDDED_RECIPE, [*TINY, *engines, "rollout.max_tokens=1000", "reasoner.max_tokens=1000", *overrides]
    )


def says(when: str, *replies: str) -> dict[str, Any]:
    return {"when": f"(?s){when}", "replies": list(replies)}


def run(
    made: Recipe, own: dict[str, str | None], modes: tuple[Mode, ...], root: Path, name: str, **settings: Any
) -> tuple[EvaluationSummary, list[Result]]:
    given = ModeSettings.model_validate(settings)
    summary = evaluate(made, "initial", own, modes, run=name, root=f"{root}/runs", settings=given)
    return summary, list(read_results(f"{root}/runs", name))


def executed(summary: EvaluationSummary) -> dict[str, int]:
    return {name: stage.executed for name, stage in summary.stages.items() if stage.executed}


def accuracy(summary: EvaluationSummary) -> float:
    [entry] = summary.entries
    assert entry.headline and entry.headline.name == "accuracy" and entry.headline.n == 3
    return entry.headline.value


VOTES = recipe(
    [says("Please describe", "short", "a longer one", "the longest of all")],
    [
        says("image: short.*high, 1", r"\boxed{1}"),  # 1, 4, 1: the majority is right
        says("image: a longer.*high, 1", r"\boxed{4}"),
        says("image: short.*high, 2", r"\boxed{7}"),  # 7, 2, 7: the majority is wrong
        says("image: a longer.*high, 2", r"\boxed{2}"),
        says("image: (?:short|a longer).*high, 3", "I do not know"),  # nothing, nothing, 3
        says("longest.*high, 1", r"it is \boxed{1.0}"),
        says("longest.*high, 2", r"\boxed{7}"),
        says("longest.*high, 3", r"\boxed{3}"),
    ],
)


def test_the_majority_of_the_answers_from_sampled_captions_wins(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]]
) -> None:
    summary, rows = run(VOTES, own, ("vote",), tmp_path, "vote", captions=3)
    said = [["1", "4", "1.0"], ["7", "2", "7"], [None, None, "3"]]
    won = [Counter(float(s) for s in votes if s).most_common(1)[0][0] for votes in said]
    assert accuracy(summary) == sum(w == g for w, g in zip(won, (1, 2, 3), strict=True)) / 3 == 2 / 3
    assert executed(summary) == {"load": 1, "describe-samples": 1, "answer": 1, "grade": 1, "aggregate": 1}
    assert Counter(n for text, n in asked if "Please describe" in text) == {3: 3}, "one request of 3 captions each"
    assert Counter(n for text, n in asked if "Please describe" not in text) == {1: 9}, "each caption is answered once"
    first = [row for row in rows if row.sample == 0]
    assert [(row.caption, row.extracted) for row in first] == [
        ("short", "1"),
        ("short", "7"),
        ("the longest of all", "3"),
    ]
    assert [row.sample for row in rows] == [0, 1, 2] * 3
    assert "the caption that was chosen" in (tmp_path / "runs" / "vote" / "report.html").read_text()
    assert sorted(str(row.extracted) for row in rows if row.question == "How high, 1?") == ["1", "1.0", "4"]
    values = {metric.name: metric.value for metric in summary.entries[0].metrics}
    assert values["pass@1"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert values["majority of 3"] == values["accuracy"]
    again, _ = run(VOTES, own, ("vote", "best"), tmp_path, "again", captions=3, kind={"type": "length"})
    assert executed(again) == {"describe-best-length": 1, "answer": 1, "grade": 1, "aggregate": 1}


def shortest(cases: list[Case], wanted: int) -> list[float]:
    """A reward for the tests: the caption nearest to a number of characters. It must not get to see the answer."""
    assert all(case.problem.answer == "" for case in cases)
    return [-abs(len(case.rollout.caption) - wanted) for case in cases]


@pytest.mark.parametrize(
    ("kind", "caption", "right"),
    [
        ({"type": "length", "budget": 1, "limit": 1000}, "short", 1 / 3),
        (
            {
                "type": "python",
                "function": "tests.pipelines.test_modes:shortest",
                "settings": {"wanted": 12},
                "version": 1,
            },
            "a longer one",
            1 / 3,
        ),
    ],
)
def test_a_reward_chooses_the_caption(
    tmp_path: Path, own: dict[str, str | None], kind: dict[str, Any], caption: str, right: float
) -> None:
    summary, rows = run(VOTES, own, ("best",), tmp_path, "best", captions=3, kind=kind)
    assert [row.caption for row in rows] == [caption] * 3
    assert accuracy(summary) == right
    assert {row.mode for row in rows} == {"best"}


def test_the_captioner_judges_its_own_captions(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]]
) -> None:
    judging = [says("A text regarding an image: a longer", "Yes."), says("Does the text contains", "No.")]
    made = recipe([*judging, *_rules(VOTES.captioner)], _rules(VOTES.reasoner))
    _, rows = run(made, own, ("best",), tmp_path, "best", captions=3, kind={"type": "describes"})
    assert [row.caption for row in rows] == ["a longer one"] * 3
    assert sum("Does the text contains" in text for text, _ in asked) == 3, "equal captions are judged once"


JUDGED = {
    "reader": {
        "model": "m",
        "engine": {"type": "scripted", "rules": [says(r"into claims.*### Caption\n([\w ]+)", r"\1")]},
    },
    "seer": {
        "model": "v",
        "sees": "image",
        "engine": {"type": "scripted", "rules": [says("a longer one", "1. true"), says("", "1. false")]},
    },
}


def test_judges_choose_the_caption_whose_claims_are_true(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]]
) -> None:
    made = Recipe.model_validate(VOTES.model_dump(mode="json") | {"judges": JUDGED})
    summary, rows = run(made, own, ("best",), tmp_path, "best", captions=3, kind={"type": "correctness"})
    assert [row.caption for row in rows] == ["a longer one"] * 3
    assert sum("into claims" in text for text, _ in asked) == 9, "each caption of each question"
    assert executed(summary)["describe-best-correctness"] == 1
    other = {**JUDGED, "idle": JUDGED["reader"]}  # a judge that is not asked
    again, _ = run(
        Recipe.model_validate(VOTES.model_dump(mode="json") | {"judges": other}),
        own,
        ("best",),
        tmp_path,
        "again",
        captions=3,
        kind={"type": "correctness", "splitter": "reader"},
    )
    assert executed(again) == {}, "a judge was named; what it is stays the same"


def _rules(section: Any) -> list[dict[str, Any]]:
    return [rule.model_dump() for rule in section.engine.rules]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (
            None,
            "mode best: the reward that chooses among the captions is missing; name one of describes, format, length",
        ),
        ({"type": "answer"}, "mode best: answer judges captions by the right answer .*must not use; name one of"),
        ({"type": "self"}, "mode best: self judges captions by the right answer .*must not use; name one of"),
        ({"type": "correctness"}, "mode best: rewards: correctness: splitter: no judges see text; add one"),
        ({"type": "correctness", "by": "scene"}, "mode best: correctness judges captions by the right answer or"),
        ({"type": "minimal", "gate": "answer"}, "mode best: minimal judges captions by the right answer"),
        ({"type": "length", "gate": "answer"}, "mode best: length has the gate answer, and one reward chooses"),
    ],
)
def test_a_reward_that_needs_the_answer_is_refused_before_anything_starts(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]], kind: dict[str, Any] | None, line: str
) -> None:
    with pytest.raises(CannotChoose, match=line):
        run(VOTES, own, ("best",), tmp_path, "best", kind=kind)
    assert asked == []


def test_the_captioner_answers_the_reasoners_sub_questions(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]]
) -> None:
    made = recipe(
        [
            says("Please describe", "a bar"),
            says("What colour", "It is red."),
            says("How many units", "Three."),
        ],
        [
            says("solved: How high, 1.*at most", "1. What colour is it?\n2. How many units?"),
            says("solved: How high, 2.*at most", "Let me see.\n- How many units?"),
            says("solved: How high, 3.*at most", ""),
            says("Answer: It is red.*Answer: Three.*high, 1", r"\boxed{1}"),
            says("Answer: Three.*high, 2", r"\boxed{9}"),
            says("image: a bar\n\n### Question: How high, 3", r"\boxed{3}"),
        ],
    )  # fmt: skip
    summary, rows = run(made, own, ("clues",), tmp_path, "clues", clues=5)
    assert accuracy(summary) == 2 / 3
    stages = {"load": 1, "describe": 1, "answer-asking": 1, "describe-clues": 1, "answer-clues": 1}
    assert executed(summary) == stages | {"grade": 1, "aggregate": 1}
    assert len(asked) == 3 + 3 + 3 + 3, "captions, sub-questions, three of them answered, answers"
    assert (
        rows[0].attempt
        == "Question: What colour is it?\nAnswer: It is red.\n\nQuestion: How many units?\nAnswer: Three."
    )
    page = (tmp_path / "runs" / "clues" / "report.html").read_text()
    assert "sub-questions, answered" in page and "What colour is it?" in page
    assert "own answer</h5>" not in page, "that is another mode's"
    assert str(rows[0].attempt_prompt).count('{"type": "image"}') == 2
    assert (rows[1].attempt, rows[2].attempt) == ("Question: How many units?\nAnswer: Three.", "")
    asked.clear()
    fewer, _ = run(made, own, ("caption",), tmp_path, "caption")
    assert executed(fewer)["answer"] == 1 and "describe" not in executed(fewer), "the caption is shared"
    repeated, _ = run(made, own, ("clues",), tmp_path, "once-more", clues=5)
    assert executed(repeated) == {}


def test_a_caption_that_is_not_enough_brings_a_second_one(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]]
) -> None:
    made = recipe(
        [
            says("missing: (the height of \\S+ \\d).*describe the image again", r"now with \1"),
            says("Please describe", "a bar"),
        ],
        [
            says("second caption.*now with the height of bar 2.*high, 2", r"\boxed{2}"),
            says("second caption.*now with the height of bar 3.*high, 3", r"\boxed{cannot be answered}"),
            says("high, 1", r"\boxed{1}"),
            says("high, (\\d)", r"\boxed{Cannot be answered}. the height of bar \1 is missing."),
        ],
    )
    summary, rows = run(made, own, ("check",), tmp_path, "check")
    assert accuracy(summary) == 2 / 3, "the first at once, the second from two captions, the third never"
    stages = {"load": 1, "describe": 1, "answer-check": 1, "describe-again": 1, "answer-again": 1}
    assert executed(summary) == stages | {"grade": 1, "aggregate": 1}
    assert len(asked) == 3 + 3 + 2 + 2, "captions, answers, and again for two of three"
    assert [row.attempt for row in rows] == ["", "now with the height of bar 2", "now with the height of bar 3"]
    assert [row.verdict for row in rows] == [Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG]
    assert "cannot be answered" in rows[0].prompt and "second caption" in rows[1].prompt


def test_solved_examples_come_from_the_training_problems(
    tmp_path: Path, own: dict[str, str | None], asked: list[tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    made = recipe(
        [says("Please describe", "a bar")],
        [
            says("### Answer: \\\\boxed.*### Answer: \\\\boxed.*Now solve.*high, (\\d)", r"\boxed{\1}"),
            says(".", r"\boxed{0}"),
        ],
        "problems.count=16",
    )
    summary, rows = run(made, own, ("shots", "caption"), tmp_path, "shots", shots=2)
    scores = {entry.mode: entry.headline and entry.headline.value for entry in summary.entries}
    assert scores == {"shots": 1.0, "caption": 0.0}
    assert sum("Please describe" in text for text, _ in asked) == 3 + 2
    prompts = [json.loads(row.prompt)[-1]["content"][0]["text"] for row in rows if row.mode == "shots"]
    solved = {prompt.split("Now solve")[0] for prompt in prompts}
    assert len(solved) == 1 and "How high" not in solved.pop(), "the same for all, and none of the benchmark's"
    assert "solved examples are asked for" not in caplog.text
    more, _ = run(made, own, ("shots",), tmp_path, "more", shots=17)
    assert "17 solved examples are asked for; there are 16, of 16 training problems" in caplog.text
    assert executed(more) == {"describe-shots": 1, "answer-shots": 1, "grade": 1, "aggregate": 1}
