"""From question and images to an answer: the model card's three prompts in its order, and nothing lost on the way."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from racro import config
from racro.answering import cases
from racro.answering.cases import Answer, Question, Unanswerable
from racro.answering.pipeline import Racro
from racro.config import ScriptedReply
from racro.data.images import BadImage
from racro.embedded import world
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.prefetcher import Prefetcher
from racro.engines.protocol import Completion, EngineLost, Generation, Prompt, Refusal, Request, Sampling
from racro.engines.worker.client import Worker
from racro.errors import BadInput
from racro.models.folders import ModelNotFound
from racro.schema import Verdict

WHITE = Image.new("RGB", (56, 28), "white")


class Scribe(ScriptedEngine):
    """A scripted engine that keeps what it was asked, call by call."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.calls: list[tuple[list[Prompt], Sampling]] = []
        self.closed = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        asked = list(requests)
        if asked:
            [sampling] = {request.sampling for request in asked}
            self.calls.append(([request.prompt for request in asked], sampling))
        return super().generate(asked)

    def close(self) -> None:
        self.closed += 1


def scribes(answer: str = r"\boxed{3}", **reply: object) -> tuple[Scribe, Scribe]:
    """A captioner that writes CAPTION and TENTATIVE, and a reasoner."""
    eyes = Scribe(ScriptedReply(when="describe the image", replies=("CAPTION",)), ScriptedReply(replies=("TENTATIVE",)))
    return eyes, Scribe(ScriptedReply(replies=(answer,), **reply))


def final(answer: str, max_tokens: int | None = None, **reply: object) -> Answer:
    with Racro(*scribes(answer, **reply), max_tokens=max_tokens) as racro:
        return racro.answer(WHITE, "How many?", "3")


# --- prompts ----------------------------------------------------------------------------------------------------------

# Written out here once more, as the model card has them: a change in racro.prompts must not go unnoticed.
CAPTION = [
    {
        "role": "system",
        "content": [
            {
                "type": "text",
                "text": "You are given an image and a relevant question. Based on the query, please describe the "
                "image in detail. Do not try to answer the question.",
            }
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "image"},
            {
                "type": "text",
                "text": "Question: How many?\nPlease describe the image. DO NOT try to answer the question!",
            },
        ],
    },
]
TENTATIVE = [
    {
        "role": "user",
        "content": [
            {"type": "image"},
            {
                "type": "text",
                "text": "How many? Please think step by step. The final answer MUST BE put in \\boxed{}.",
            },
        ],
    }
]
JOINT = (
    "In the following text, you will receive a detailed caption of an image and a relevant question. In addition, you "
    "will be provided with a tentative model response. You goal is to answer the question using these information.\n\n"
    "### The detailed caption of the provided image: CAPTION\n\n"
    "### Note that the caption might contain incorrect solutions, do not be misguided by them.\n\n"
    "### A problem to be solved: How many?\n\n"
    "### A tentative model response: TENTATIVE\n\n"
    "### Note that the above tentative response might be inaccurate (due to calculation errors, incorrect "
    "logic/reasoning and so on), under such a case, please ignore it and give your own solutions. However, if you do "
    "not have enough evidence to show it is wrong, please output the tentative response.\n\n"
    "### Please think step by step. The final answer MUST BE put in \\boxed{}."
)


def test_the_three_prompts_are_the_model_cards() -> None:
    eyes, mind = scribes()
    answer = Racro(eyes, mind).answer(WHITE, "How many?")
    assert (answer.caption, answer.attempt, answer.final, answer.verdict) == ("CAPTION", "TENTATIVE", "3", None)
    [(looks, greedy)], [([joint], sampled)] = eyes.calls, mind.calls
    assert [look.messages for look in looks] == [CAPTION, TENTATIVE]
    assert all(look.images[0].tobytes() == WHITE.tobytes() for look in looks)
    assert (greedy.temperature, greedy.n) == (0.0, 1)
    assert joint.images == ()
    assert [m["role"] for m in joint.messages] == ["system", "user"]
    assert [m["content"][0]["text"] for m in joint.messages] == ["You are a helpful assistant.", JOINT]
    assert (sampled.temperature, sampled.top_p, sampled.n) == (0.6, 0.95, 1)


def test_each_engine_is_called_once_for_many_questions() -> None:
    eyes, mind = scribes()
    asked = [Question([WHITE], f"How many {i}?") for i in range(20)]
    answers = list(Racro(eyes, mind).answer_many(asked))
    assert [type(answer) for answer in answers] == [Answer] * 20
    assert [len(prompts) for prompts, _ in eyes.calls] == [40], "caption and attempt, side by side"
    assert [len(prompts) for prompts, _ in mind.calls] == [20]


def test_placeholders_say_where_images_stand_and_do_not_reach_the_reasoner() -> None:
    eyes, mind = scribes()
    Racro(eyes, mind).answer([WHITE, WHITE], "<image> or <image>: which is taller?")
    parts = eyes.calls[0][0][1].messages[0]["content"]
    assert [part["type"] for part in parts] == ["image", "text", "image", "text"]
    assert "<image>" not in mind.calls[0][0][0].messages[1]["content"][0]["text"]


# --- what becomes of the reasoner's text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reasoning", "found", "verdict"),
    [
        (r"<think>1 + 2</think>It is \boxed{3}.", "1 + 2\n\nIt is \\boxed{3}.", "3", "correct"),
        (r"1 + 2</think>\boxed{4}", "1 + 2\n\n\\boxed{4}", "4", "wrong"),  # templates that open the block themselves
        ("The answer is 3.", "The answer is 3.", "3", "correct"),
        ("<think>hm</think> I cannot tell you ", "hm\n\nI cannot tell you", "I cannot tell you", "unparsed"),
        (r"<think>it may be \boxed{3}", r"it may be \boxed{3}", "", "unparsed"),
    ],
)
def test_the_final_answer_is_the_graders(text: str, reasoning: str, found: str, verdict: str) -> None:
    answer = final(text)
    assert (answer.reasoning, answer.final, answer.verdict) == (reasoning, found, verdict)
    assert answer.finish.answer == "stop"


def test_what_was_cut_off_shows() -> None:
    answer = final("The answer is 12, because", max_tokens=16)
    assert (answer.finish.answer, answer.final, answer.verdict) == ("length", "", Verdict.TRUNCATED)
    assert answer.reasoning == "The answer is 12"
    assert answer.finish.caption == "stop"
    answer = final(r"\boxed{3} is the answer, because", max_tokens=16)
    assert (answer.finish.answer, answer.final, answer.verdict) == ("length", "3", Verdict.CORRECT)


def test_who_ran_out_of_time_gives_no_answer_and_the_reasoner_is_not_asked_about_half_a_caption() -> None:
    eyes, mind = scribes(delay=3600)
    hurry = config.Runtime(request_deadline=0.1)
    answer = Racro(eyes, mind, runtime=hurry).answer(WHITE, "How many?", "3")
    assert (answer.caption, answer.finish.answer, answer.final) == ("CAPTION", "deadline", "")
    assert answer.verdict is Verdict.FAILED
    slow = Scribe(ScriptedReply(replies=("late",), delay=3600))
    mind.calls.clear()
    answer = Racro(slow, mind, runtime=hurry).answer(WHITE, "How many?", "3")
    assert (answer.finish.caption, answer.finish.answer, answer.verdict) == ("deadline", "deadline", Verdict.FAILED)
    assert mind.calls == []


# --- questions that cannot be asked -----------------------------------------------------------------------------------

BAD: list[tuple[Question, type[BadInput], str]] = [
    (Question([WHITE], " \n"), BadInput, "the question is empty; ask something"),
    (Question([], "How many?"), BadInput, "no image; a question needs one at least"),
    (Question([WHITE], "<image><image>?"), BadInput, "2 <image> placeholders in the question, but 1 image; give as"),
    (
        Question(["/nowhere.png"], "?"),
        BadImage,
        "/nowhere.png: no such image; give a file in a format like PNG or JPEG",
    ),
    (Question([b"text"], "?"), BadImage, r"image 1: not a readable image \(UnidentifiedImageError\); give a file"),
    (Question(["nothing://x.png"], "?"), BadImage, "nothing://x.png: cannot be read .*; give an image file that can"),
    (Question([WHITE], "?", r"\boxed{3"), BadInput, "gold: broken gold: .*; write the right answer alone"),
]


@pytest.mark.parametrize(("question", "kind", "line"), BAD, ids=range(len(BAD)))
def test_a_question_that_cannot_be_asked_is_one_clear_line(question: Question, kind: type, line: str) -> None:
    eyes, mind = scribes()
    with pytest.raises(kind, match=f"^{line}") as caught:
        Racro(eyes, mind).answer(question.images, question.question, question.gold)
    assert "\n" not in str(caught.value)
    assert eyes.calls == mind.calls == [], "nobody is asked"


def test_bad_questions_keep_their_places_and_cost_the_others_nothing() -> None:
    mine = BadInput("mine")
    asked: list[Question | BadInput] = [Question([WHITE], "How many?", "3")]
    for question, _, _ in BAD:
        asked += [question, Question([WHITE], "How many?", "3")]
    answers = list(Racro(*scribes()).answer_many([mine, *asked]))
    assert answers.pop(0) is mine
    good, bad = answers[::2], answers[1::2]
    assert all(isinstance(a, Answer) and a.verdict is Verdict.CORRECT for a in good) and len(good) == len(BAD) + 1
    assert [type(a) for a in bad] == [kind if kind is not BadInput else Unanswerable for _, kind, _ in BAD]


def test_questions_are_read_as_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "QUESTIONS", 4)
    taken = 0

    def endless() -> Iterator[Question]:
        nonlocal taken
        while True:
            taken += 1
            yield Question([WHITE], f"How many {taken}?")

    answers = Racro(*scribes()).answer_many(endless())
    for _ in range(6):
        next(answers)
    assert taken <= 9


def test_large_images_are_not_held_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "PIXELS", 3 * WHITE.width * WHITE.height)
    eyes, mind = scribes()
    list(Racro(eyes, mind).answer_many([Question([WHITE] * 2, "?"), *[Question([WHITE], "?")] * 4]))
    assert [len(prompts) for prompts, _ in eyes.calls] == [4, 6]


# --- engines ----------------------------------------------------------------------------------------------------------


def test_engines_that_were_given_stay_open() -> None:
    eyes, mind = scribes()
    with Racro(eyes, mind) as racro:
        racro.answer(WHITE, "How many?")
    assert eyes.closed == mind.closed == 0


def test_a_wrong_name_shows_before_a_model_is_loaded(tmp_path: Path) -> None:
    for models in ((str(tmp_path), "embedded"), ("embedded", str(tmp_path))):
        with pytest.raises(ModelNotFound, match=r"model: the folder .* holds no config.json"):
            Racro(*models).answer(WHITE, "How many?")


def test_sections_of_a_recipe_are_models_too() -> None:
    rules = (ScriptedReply(when="describe the image", replies=("CAPTION",)), ScriptedReply(replies=("3",)))
    engine = config.Scripted(rules=rules)
    with Racro(config.Captioner(engine=engine), config.Reasoner(engine=engine)) as racro:
        assert racro.answer(WHITE, "How many?").final == "3"


def test_a_lost_engine_is_opened_anew(tmp_path: Path) -> None:
    """The reasoner in a process of its own, which is killed."""
    mind = config.Reasoner(engine=config.Scripted(rules=(ScriptedReply(replies=("3",)),)))
    apart = config.Runtime(reasoner=config.EnginePlacement(worker=True))
    with Racro(scribes()[0], mind, runtime=apart, log=tmp_path / "log") as racro:
        assert racro.answer(WHITE, "How many?").final == "3"
        first = racro.open()[1]
        assert isinstance(first, Prefetcher) and isinstance(first.engine, Worker) and not first.lost
        os.kill(first.engine.pid, signal.SIGKILL)
        while not first.lost:
            with contextlib.suppress(EngineLost):
                racro.answer(WHITE, "How many?")
        assert racro.answer(WHITE, "How many?").final == "3"
        second = racro.open()[1]
        assert second is not first
    assert isinstance(second, Prefetcher) and isinstance(second.engine, Worker)
    with pytest.raises(ProcessLookupError):
        os.kill(second.engine.pid, 0)


# --- the embedded pair ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[Racro]:
    with Racro() as racro:
        yield racro


@pytest.fixture(scope="module")
def heldout() -> list[world.BarProblem]:
    return list(world.generate("heldout", 5, 64))


def test_the_embedded_pair_answers(pair: Racro, heldout: list[world.BarProblem]) -> None:
    """What its caption lacks, the reasoner takes from the attempt: from captions alone it is under 60 %."""
    answers = list(pair.answer_many(Question(p.images(), p.question, p.answer) for p in heldout))
    right = sum(isinstance(a, Answer) and a.verdict is Verdict.CORRECT for a in answers)
    assert right >= 0.85 * len(heldout)


def test_an_answer_does_not_depend_on_what_else_is_asked(pair: Racro, heldout: list[world.BarProblem]) -> None:
    asked = [Question(p.images(), p.question, p.answer) for p in heldout[:5]]
    alone = [pair.answer(q.images, q.question, q.gold) for q in asked]
    assert list(pair.answer_many(asked)) == alone


def test_parts_come_in_order(pair: Racro, heldout: list[world.BarProblem]) -> None:
    seen: list[tuple[int, str, str]] = []

    def watch(number: int, step: str, completion: Completion) -> None:
        seen.append((number, step, completion.text))

    problem = heldout[0]
    answer = pair.answer(problem.images(), problem.question, watch=watch)
    assert [(number, step) for number, step, _ in seen] == [(0, "caption"), (0, "attempt"), (0, "answer")]
    assert [text for _, _, text in seen][:2] == [answer.caption, answer.attempt]


def test_an_image_may_be_a_path_bytes_or_opened(pair: Racro, heldout: list[world.BarProblem], tmp_path: Path) -> None:
    problem = next(p for p in heldout if len(p.scenes) == 1)
    [image] = problem.images()
    file = tmp_path / "bars.png"
    image.save(file)
    data = file.read_bytes()
    answers = [pair.answer(source, problem.question) for source in (file, str(file), data, image, [image])]
    assert len({answer.model_dump_json() for answer in answers}) == 1


def test_an_image_of_fifty_megapixels_is_scaled_down(pair: Racro) -> None:
    bars = next(p for p in world.generate("heldout", 5, 64) if len(p.scenes) == 1).images()[0]
    buffer = io.BytesIO()
    bars.resize((14_400, 3_600), Image.Resampling.NEAREST).save(buffer, "PNG", compress_level=1)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = pair.answer(buffer.getvalue(), "What is the height of the red bar?")
    assert answer.finish.answer == "stop"
    assert time.monotonic() - started < 60
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    assert grown < 2.5, f"{grown:.1f} GiB"


def test_what_the_model_cannot_take_is_one_line_and_costs_the_others_nothing(
    pair: Racro, heldout: list[world.BarProblem]
) -> None:
    good = Question(heldout[0].images(), heldout[0].question, heldout[0].answer)
    too_long = Question(WHITE, "word " * 3000)
    thin = Question(Image.new("RGB", (1000, 2)), "What is it?")
    smuggled = Question(WHITE, "What is <|image_pad|>?")
    answers = list(pair.answer_many([good, too_long, good, thin, smuggled, good]))
    expected = [Answer, Unanswerable, Answer, Answer, Unanswerable, Answer]
    assert [type(answer) for answer in answers] == expected
    assert answers[0] == answers[2] == answers[5]
    assert not any("\n" in str(answer) for answer in answers if isinstance(answer, BadInput))
    assert "lower max_tokens" in str(answers[1]) and "special token in the text" in str(answers[4])


class Backwards(Scribe):
    """Answers the last request first."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        yield from reversed(list(super().generate(requests)))


def test_answers_keep_the_order_of_the_questions_whatever_the_engines_finish_first() -> None:
    eyes = Backwards(ScriptedReply(when=r"(?s)(\d+)", replies=(r"I see \1",)))
    mind = Backwards(ScriptedReply(when=r"(?s)solved: How many (\d+)", replies=(r"\boxed{\1}",)))
    asked = [Question([WHITE], f"How many {i}?") for i in range(9)] + [Question([WHITE], "How?")]
    seen: list[tuple[int, str]] = []
    *answers, refused = Racro(eyes, mind).answer_many(asked, lambda number, step, _: seen.append((number, step)))
    for number in range(9):
        assert [step for n, step in seen if n == number] == ["caption", "attempt", "answer"]
    assert [a.final for a in answers if isinstance(a, Answer)] == [str(i) for i in range(9)]
    assert isinstance(refused, Unanswerable) and "no rule of the scripted engine" in str(refused)
