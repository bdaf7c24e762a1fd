"""One question in each mode: who is asked what and how often, what the answer shows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from racro import config
from racro.answering.cases import ANSWERING, Answer, Question, Unanswerable
from racro.answering.pipeline import Racro
from racro.answering.shots import read_shots
from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Completion, Generation, Refusal, Request
from racro.errors import BadInput
from racro.prompts import plain_text
from racro.schema import Mode, ModelOutput, Shot, Verdict

WHITE = Image.new("RGB", (56, 28), "white")


class Scribe(ScriptedEngine):
    """A scripted engine that keeps what it was asked: the text, the number of images, and of completions."""

    def __init__(self, *rules: tuple[str, tuple[str, ...]], delay: float = 0.0) -> None:
        super().__init__([ScriptedReply(when=f"(?s){when}", replies=says, delay=delay) for when, says in rules])
        self.asked: list[tuple[str, int, int]] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """The last request first."""
        read = list(requests)
        self.asked += [(plain_text(r.prompt.messages[-1]), len(r.prompt.images), r.sampling.n) for r in read]
        yield from reversed(list(super().generate(read)))


def answered(
    mode: Mode, eyes: Scribe, mind: Scribe, questions: int = 1, shots: tuple[Shot, ...] = (), **settings: object
) -> list[Answer]:
    given = config.ModeSettings.model_validate(settings)
    racro = Racro(eyes, mind, mode=mode, settings=given, shots=shots)
    found = list(racro.answer_many([Question(WHITE, f"How high, {i}?", str(i)) for i in range(1, questions + 1)]))
    assert all(isinstance(one, Answer) for one in found), found
    return [one for one in found if isinstance(one, Answer)]


def test_caption_asks_once_each() -> None:
    eyes, mind = Scribe(("describe", ("a bar",))), Scribe((r"image: a bar.*high, (\d)", (r"\boxed{\1}",)))
    answers = answered("caption", eyes, mind, 3)
    assert [(a.caption, a.attempt, a.final, a.verdict) for a in answers] == [
        ("a bar", "", str(i), Verdict.CORRECT) for i in (1, 2, 3)
    ]
    assert answers[0].finish.attempt is None
    assert [(images, n) for _, images, n in eyes.asked] == [(1, 1)] * 3
    assert [(images, n) for _, images, n in mind.asked] == [(0, 1)] * 3


def test_vote_shows_the_caption_that_won() -> None:
    eyes = Scribe(("describe", ("one", "two", "three", "four")))
    mind = Scribe(("one", (r"\boxed{7}",)), ("two|four", (r"\boxed{1}",)), ("three", (r"\boxed{\frac{2}{2}}",)))
    [answer] = answered("vote", eyes, mind, captions=4)
    assert (answer.caption, answer.final, answer.verdict) == ("two", "1", Verdict.CORRECT)
    assert [n for *_, n in eyes.asked] == [4] and [n for *_, n in mind.asked] == [1] * 4


def test_best_answers_from_the_favourite_only() -> None:
    eyes, mind = Scribe(("describe", ("quite long", "short", "longest of all"))), Scribe(("", (r"\boxed{1}",)))
    kind = {"type": "length", "budget": 1, "limit": 100}
    [answer] = answered("best", eyes, mind, captions=3, kind=kind)
    assert answer.caption == "short"
    assert [text for text, *_ in mind.asked if "short" in text] == [text for text, *_ in mind.asked] != []


def test_clues_are_answered_from_the_image() -> None:
    eyes = Scribe(("describe", ("a bar",)), ("What colour", ("Red.",)), ("How many", ("Three.",)))
    mind = Scribe(("at most 2 short", ("1) What colour?\n2) How many?\n3) Why?",)), ("Red.*Three", (r"\boxed{1}",)))
    [answer] = answered("clues", eyes, mind, clues=2)
    assert answer.attempt == "Question: What colour?\nAnswer: Red.\n\nQuestion: How many?\nAnswer: Three."
    assert (answer.verdict, len(eyes.asked), len(mind.asked)) == (Verdict.CORRECT, 3, 2)
    assert all(images == 1 for _, images, _ in eyes.asked)


def test_check_asks_again_only_where_something_is_missing() -> None:
    eyes = Scribe(("missing: the height of bar 2", ("bar 2 is 2 high",)), ("Please describe", ("a bar",)))
    mind = Scribe(
        ("second caption.*bar 2 is 2 high", (r"\boxed{2}",)),
        ("high, 1", (r"\boxed{1}",)),
        ("high, 2", (r"\boxed{\text{Cannot be answered}}: the height of bar 2.",)),
    )
    answers = answered("check", eyes, mind, 2)
    assert [(a.attempt, a.final) for a in answers] == [("", "1"), ("bar 2 is 2 high", "2")]
    assert (len(eyes.asked), len(mind.asked)) == (3, 3)


def test_shots_come_before_the_question() -> None:
    shots = tuple(Shot(uid=str(i), question=f"Q{i}", caption=f"C{i}", answer=f"A{i}") for i in (1, 2))
    mind = Scribe((r"C1.*Q1.*boxed\{A1\}.*C2.*Q2.*boxed\{A2\}.*a bar.*high, 1", (r"\boxed{1}",)))
    [answer] = answered("shots", Scribe(("describe", ("a bar",))), mind, shots=shots)
    assert answer.verdict is Verdict.CORRECT


@pytest.mark.parametrize("mode", ANSWERING)
def test_each_mode_keeps_order_shows_parts_and_isolates_a_question_that_cannot_be_asked(mode: Mode) -> None:
    eyes = Scribe(("high, [13]", ("a bar", "b")), ("What colour", ("red",)))
    mind = Scribe(("at most", ("What colour?",)), (r"high, (\d)", (r"\boxed{\1}",)))
    settings = config.ModeSettings(captions=2, kind=config.LengthReward())
    racro = Racro(eyes, mind, mode=mode, settings=settings, shots=[Shot(uid="", question="Q", caption="C", answer="A")])
    seen: list[tuple[int, str]] = []

    def watch(number: int, step: str, completion: Completion) -> None:
        seen.append((number, step))

    questions = [Question(WHITE, f"How high, {i}?", str(i)) for i in (1, 2, 3)]
    first, refused, third = racro.answer_many(questions, watch)
    assert isinstance(first, Answer) and isinstance(third, Answer)
    assert (first.final, third.final) == ("1", "3")
    assert isinstance(refused, Unanswerable) and "no rule of the scripted engine" in str(refused)
    steps = [step for number, step in seen if number == 0]
    assert steps == (["caption", "attempt", "answer"] if mode in ("joint", "clues", "check") else ["caption", "answer"])


@pytest.mark.parametrize("mode", ANSWERING)
def test_every_text_is_kept_with_its_prompt(mode: Mode) -> None:
    eyes = Scribe(("What is missing", ("bar 1 is 1 high",)), ("Please describe", ("a bar", "b")), ("", ("red",)))
    cannot = r"\boxed{\text{Cannot be answered}}: the height."
    mind = Scribe(
        ("at most", ("What colour?",)),
        ("second caption", (r"\boxed{1}",)),
        ("do not guess", (cannot,)),
        ("", (r"\boxed{1}",)),
    )
    settings = config.ModeSettings(captions=2, kind=config.LengthReward())
    racro = Racro(eyes, mind, mode=mode, settings=settings, shots=[Shot(uid="", question="Q", caption="C", answer="A")])
    kept: list[tuple[int, str, ModelOutput]] = []
    [answer] = racro.answer_many([Question(WHITE, "How high, 1?")], keep=lambda *text: kept.append(text))
    assert isinstance(answer, Answer)
    assert len(kept) == sum(n for *_, n in [*eyes.asked, *mind.asked]), "each text that was asked for"
    names = {"joint": ["attempt"], "clues": ["sub-questions", "clues"], "check": ["check", "again"]}
    assert {name for _, name, _ in kept} == {"caption", "answer", *names.get(mode, [])}
    prompts = [plain_text(json.loads(row.prompt)[-1]) for *_, row in kept]
    assert sorted({*prompts}) == sorted({text for text, *_ in [*eyes.asked, *mind.asked]})
    assert {number for number, *_ in kept} == {0}


@pytest.mark.parametrize("mode", [mode for mode in ANSWERING if mode != "joint"])
def test_who_runs_out_of_time_gives_no_answer_and_no_error(mode: Mode) -> None:
    eyes, mind = Scribe(("", ("late",)), delay=3600), Scribe(("", (r"\boxed{1}",)))
    settings = config.ModeSettings(captions=2, kind=config.LengthReward())
    shots = [Shot(uid="", question="Q", caption="C", answer="A")]
    hurry = config.Runtime(request_deadline=0.05)
    answer = Racro(eyes, mind, runtime=hurry, mode=mode, settings=settings, shots=shots).answer(WHITE, "How?", "1")
    assert (answer.finish.caption, answer.finish.answer, answer.final) == ("deadline", "deadline", "")
    assert answer.verdict is Verdict.FAILED and mind.asked == []


def test_what_cannot_work_is_refused_at_once() -> None:
    for mode in {*get_args(Mode)} - {*ANSWERING}:
        with pytest.raises(BadInput, match=f"mode {mode}: questions are not answered like that; one of joint, "):
            Racro(mode=mode)
    with pytest.raises(BadInput, match=r"mode best: the reward that chooses .* is missing"):
        Racro(mode="best")
    with pytest.raises(BadInput, match="mode best: answer judges captions by the right answer"):
        Racro(mode="best", settings=config.ModeSettings(kind=config.AnswerReward()))
    with pytest.raises(BadInput, match="mode best: correctness asks judges, which only evaluations do; name one of d"):
        Racro(mode="best", settings=config.ModeSettings(kind=config.CorrectnessReward()))
    with pytest.raises(BadInput, match="mode shots: no solved example"):
        Racro(mode="shots")


def test_examples_are_drawn_by_seed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "shots.jsonl"
    line = '{"question": "q%d", "caption": "c", "answer": "a"}\n'
    file.write_text("".join(line % i for i in range(20)))
    three, five, other = (read_shots(str(file), n, seed) for n, seed in ((3, 0), (5, 0), (5, 1)))
    assert three == five[:3] and len({shot.question for shot in five}) == 5 and other != five
    assert not caplog.records
    assert len(read_shots(str(file), 21, 0)) == 20
    assert "21 solved examples are asked for, but it holds only 20" in caplog.text
    for content, says in (
        ("", "holds no solved example; give lines like"),
        ('\n{"question": "q"}', "line 2: not a line like .*KeyError"),
        ("[", "line 1: not a line like"),
        ('{"question": "q", "caption": "", "answer": "a"}', "line 1: caption is not a text"),
    ):
        file.write_text(content)
        with pytest.raises(BadInput, match=says):
            read_shots(str(file), 1, 0)
    with pytest.raises(BadInput, match=r"nowhere\.jsonl: cannot be read"):
        read_shots(f"{tmp_path}/nowhere.jsonl", 1, 0)


@pytest.mark.parametrize(
    ("said", "final"),
    [
        ((r"\boxed{unknown}", r"\boxed{unknown}", r"\boxed{1}"), "1"),
        (("The answer is unknown.", "Cannot say.", r"\boxed{1}"), "1"),
        ((r"\boxed{unknown}", "nothing", "nothing"), "unknown"),
    ],
)
def test_unknown_wins_only_where_nothing_else_is_answered(said: tuple[str, ...], final: str) -> None:
    eyes = Scribe(("describe", ("one", "two", "three")))
    mind = Scribe(*zip(("one", "two", "three"), ((text,) for text in said), strict=True))
    [answer] = answered("vote", eyes, mind, captions=3)
    assert answer.final == final


@given(st.lists(st.sampled_from(["1", "2", "3", "none"]), min_size=2, max_size=7))
def test_the_vote_is_that_of_a_plain_count(said: list[str]) -> None:
    eyes = Scribe(("describe", tuple(f"caption {i}." for i in range(len(said)))))
    mind = Scribe(
        *((rf"caption {i}\.", (r"I cannot say" if s == "none" else rf"\boxed{{{s}}}",)) for i, s in enumerate(said))
    )
    numbers = [s for s in said if s != "none"]
    most = max((numbers.count(n) for n in numbers), default=0)
    won = next((n for n in numbers if numbers.count(n) == most), None)
    [answer] = answered("vote", eyes, mind, captions=len(said))
    assert answer.final == (won or "I cannot say")
