"""Each mode asks what it says; what cannot be asked costs nobody else an answer, and is a failure, not a zero."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request, Sampling
from racro.evaluation.modes import answer, captioner_outputs, in_order
from racro.evaluation.results import entry, results
from racro.prompts import attempt_messages, caption_messages, reasoner_messages
from racro.schema import Mode, ModelOutput, Verdict
from tests.support.asked import NAME, PICTURE, question

SAMPLING = Sampling(1, 0.6, 0.95, 100, 60.0)


class Recorded(ScriptedEngine):
    """Remembers what it was asked."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.asked: list[tuple[str, int]] = []
        self.sampling: set[Sampling] = set()

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """The last request first."""
        asked = list(requests)
        self.asked += [(json.dumps(request.prompt.messages), request.seed) for request in asked]
        self.sampling |= {request.sampling for request in asked}
        yield from reversed(list(super().generate(asked)))


def output(uid: str, text: str, **changes: object) -> ModelOutput:
    made = ModelOutput(uid=uid, sample=0, prompt="[]", text=text, tokens=1, finish_reason="stop", error=None)
    return made.model_copy(update=changes)


SAYS = ScriptedReply(replies=(r"\boxed{3}",))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the picture is."""
    (tmp_path / NAME).write_bytes(PICTURE)
    return str(tmp_path)


CAPTIONS = [output("a", "a red bar"), output("b", "a blue bar")]
ATTEMPTS = [output("a", "three"), output("b", "four")]
QUESTIONS = [question("a", "<image>How high?", "3"), question("b", "How <image> wide?", "4")]


@pytest.mark.parametrize(
    ("mode", "seen"), [("caption", ["a red bar"]), ("joint", ["a red bar", "three"]), ("text", [])]
)
def test_the_reasoner_sees_the_question_and_what_the_mode_gives_it_and_no_placeholder(
    mode: Mode, seen: list[str]
) -> None:
    engine = Recorded(SAYS)
    captions, attempts = (rows if rows[0].text in seen else [] for rows in (CAPTIONS, ATTEMPTS))
    rows = list(answer(mode, QUESTIONS, captions, attempts, engine, SAMPLING, 7))
    assert [row.uid for row in rows] == ["a", "b"]
    assert rows[0].prompt == engine.asked[0][0]
    for text in ("a red bar", "three"):
        assert (text in rows[0].prompt) is (text in seen)
    assert "How high?" in rows[0].prompt and "How wide?" in rows[1].prompt
    assert "<image>" not in rows[0].prompt + rows[1].prompt


def test_captions_are_answered_with_the_prompts_of_training() -> None:
    [row, _] = answer("caption", QUESTIONS, CAPTIONS, [], Recorded(SAYS), SAMPLING, 7)
    assert json.loads(row.prompt) == reasoner_messages(QUESTIONS[0].question, "a red bar")


def test_an_answer_depends_on_nothing_but_its_own_question() -> None:
    alone, among = Recorded(SAYS), Recorded(SAYS)
    list(answer("joint", QUESTIONS[1:], CAPTIONS[1:], ATTEMPTS[1:], alone, SAMPLING, 7))
    list(answer("joint", QUESTIONS, CAPTIONS, ATTEMPTS, among, SAMPLING, 7))
    assert alone.asked == among.asked[1:]


def test_equal_prompts_are_asked_once() -> None:
    engine = Recorded(SAYS)
    twins = [question("a", "How high?", "3"), question("b", "How high?", "3")]
    rows = list(answer("text", twins, [], [], engine, SAMPLING, 7))
    assert len(engine.asked) == 1
    assert [row.text for row in rows] == [r"\boxed{3}"] * 2


def test_the_captioner_is_asked_greedily_with_its_images(folder: str) -> None:
    for messages in (caption_messages, attempt_messages):
        engine = Recorded(ScriptedReply(replies=("seen",)))
        rows = in_order(captioner_outputs(QUESTIONS, folder, engine, messages, 100, 60.0), QUESTIONS)
        assert [json.loads(row.prompt) for row in rows] == [messages(q.question, 1) for q in QUESTIONS]
        assert [row.text for row in rows] == ["seen", "seen"]
        assert engine.sampling == {Sampling(1, 0.0, 1.0, 100, 60.0)}, "greedy"


def test_a_question_that_cannot_be_asked_fails_alone_and_says_why(folder: str) -> None:
    lost = question("b", "How wide?", "4").images[0].model_copy(update={"path": "nowhere.png"})
    questions = [QUESTIONS[0], QUESTIONS[1].model_copy(update={"images": (lost,)}), question("c", "How deep?", "5")]
    captions = in_order(captioner_outputs(questions, folder, Recorded(SAYS), caption_messages, 100, 60.0), questions)
    assert [row.error is None for row in captions] == [True, False, True]
    assert re.search(r"nowhere\.png: no such image", captions[1].error or "")
    reasoner = Recorded(ScriptedReply(when="How high", replies=(r"\boxed{3}",)))  # no rule for the third: refused
    answers = list(answer("caption", questions, captions, [], reasoner, SAMPLING, 7))
    graded = list(results(questions, "caption", "c", "r", captions, [], answers))
    assert [row.verdict for row in graded] == [Verdict.CORRECT, Verdict.FAILED, Verdict.FAILED]
    assert graded[1].error == captions[1].error
    assert "no rule of the scripted engine matches" in (graded[2].error or "")
    table = entry(questions, graded)
    assert (table.questions, table.correct, table.failed) == (3, 1, 2)
    assert table.headline and (table.headline.value, table.headline.n) == (1.0, 1)


def test_a_caption_that_ran_out_of_time_is_not_answered() -> None:
    captions = [CAPTIONS[0], output("b", "a bl", finish_reason="deadline")]
    engine = Recorded(SAYS)
    rows = list(answer("caption", QUESTIONS, captions, [], engine, SAMPLING, 7))
    assert len(engine.asked) == 1
    assert [(row.finish_reason, row.error) for row in rows] == [
        ("stop", None),
        ("deadline", "the captioner ran out of time"),
    ]


def test_the_reasoner_reads_no_thoughts_and_gets_no_caption_that_never_began() -> None:
    captions = [
        output("a", "<think>hm, a bar</think>a red bar"),
        output("b", "<think>so many bars", finish_reason="length"),
    ]
    engine = Recorded(SAYS)
    rows = list(answer("caption", QUESTIONS, captions, [], engine, SAMPLING, 7))
    assert [("a red bar" in asked, "hm, a bar" in asked) for asked, _ in engine.asked] == [(True, False)]
    graded = list(results(QUESTIONS, "caption", "c", "r", captions, [], rows))
    assert [row.verdict for row in graded] == [Verdict.CORRECT, Verdict.TRUNCATED]
    assert [row.caption for row in graded] == ["a red bar", ""]
    assert [row.response for row in graded] == [r"\boxed{3}", ""]
