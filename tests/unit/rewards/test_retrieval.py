"""A judge finds the caption of the same image among those of look-alike ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from racro import config
from racro.config import ScriptedReply
from racro.data.images import sha256
from racro.prompts import plain_text
from racro.rewards.protocol import Case
from racro.rewards.retrieval import Retrieval, alike
from racro.schema import ImageRef, Problem
from tests.support.cases import problem, rollout
from tests.support.judges import Listening, means


class Matcher(Listening):
    """A judge that looks for the description that begins with the caption's first word."""

    def __init__(self) -> None:
        super().__init__(ScriptedReply(replies=("?",)))

    def generate(self, requests: object) -> object:  # type: ignore[override]
        """Its numbers."""
        for request in requests:  # type: ignore[attr-defined]
            self.requests.append(request)
            text = plain_text(request.prompt.messages[-1])
            word = text.split("### Caption\n")[1].split()[0]
            found = re.findall(rf"^(\d+)\. {word}", text, re.MULTILINE)
            yield from Listening(ScriptedReply(replies=(found[0] if found else "1",))).generate([request])


@pytest.fixture
def shown(tmp_path: Path) -> list[Problem]:
    """Six problems; the images of neighbours (0 and 1, 2 and 3, 4 and 5) look almost the same."""
    problems = []
    for number in range(6):
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).rectangle(
            (40 * (number // 2), 10, 40 * (number // 2) + 30, 60 + number % 2), fill="black"
        )
        path = tmp_path / f"{number}.png"
        image.save(path)
        ref = ImageRef(path=path.name, sha256=sha256(path.read_bytes()))
        problems.append(problem(str(number), images=(ref,)))
    return problems


def test_the_others_are_those_that_look_most_alike(shown: list[Problem], tmp_path: Path) -> None:
    found = alike(shown, str(tmp_path), 3)
    assert [found[str(n)][0] for n in range(6)] == ["1", "0", "3", "2", "5", "4"]
    assert all(len(set(others)) == 3 and name not in others for name, others in found.items())
    same = problem("again", images=shown[0].images)
    assert alike([shown[0], same], str(tmp_path), 3) == {"0": [], "again": []}, "the same file is no other image"
    assert alike([shown[0], problem("bare")], str(tmp_path), 3) == {"0": [], "bare": []}


def test_the_value_says_whether_the_judge_finds_the_caption_of_the_same_image(
    shown: list[Problem], tmp_path: Path
) -> None:
    words = ["zero", "one", "two", "three", "four", "five"]
    captions = [[f"{word} a", f"{word} b", "nothing at all"] for word in words]
    cases = [
        Case(one, rollout(caption, sample=i, uid=one.uid))
        for one, own in zip(shown, captions, strict=True)
        for i, caption in enumerate(own)
    ]
    judge = Matcher()
    given = means({"judge": judge})
    object.__setattr__(given, "images", str(tmp_path))
    found = list(Retrieval(config.RetrievalReward(candidates=3)).score(cases, given))
    assert [v.value for v in found[::3]] == [1.0] * 6, "its partner is another caption of the same image"
    assert {v.value for v in found[1::3]} <= {0.0, 1.0} and 0.0 in {v.value for v in found[1::3]}
    for n, text in enumerate(judge.texts[::3]):
        numbers = re.findall(r"^\d\. (\w+)", text, re.MULTILINE)
        assert len(numbers) == 3 and words[n] in numbers and words[n ^ 1] in numbers


def test_without_others_or_without_a_number_there_is_no_value(shown: list[Problem], tmp_path: Path) -> None:
    alone = [Case(shown[0], rollout(caption, sample=i, uid="0")) for i, caption in enumerate(["a", "b"])]
    given = means({"judge": Listening(ScriptedReply(replies=("none of them, or 7",)))})
    object.__setattr__(given, "images", str(tmp_path))
    assert [v.fault for v in Retrieval(config.RetrievalReward()).score(alone, given)] == ["alone"] * 2
    two = [*alone, Case(shown[1], rollout("c", uid="1"))]
    faults = [v.fault for v in Retrieval(config.RetrievalReward()).score(two, given)]
    assert faults == ["unreadable", "unreadable", "alone"]
