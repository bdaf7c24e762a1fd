"""The share of a caption's claims that are true, as two judges say or as the scene does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from racro import config
from racro.config import ScriptedReply
from racro.data.images import sha256
from racro.embedded import world
from racro.embedded.sentences import state
from racro.rewards.correctness import Correctness, claims, verdicts_in
from racro.rewards.protocol import Case, Value
from racro.schema import ImageRef
from tests.support.cases import group
from tests.support.judges import Listening, means

SPLITTER = ScriptedReply(when=r"(?s)### Caption\n(.*), (.*)", replies=("1. \\1\n2. \\2",))


def values(cases: Sequence[Case], splitter: Listening, judge: Listening, claims: int = 20) -> list[Value]:
    given = means({"splitter": splitter, "judge": judge})
    return list(Correctness(config.CorrectnessReward(claims=claims)).score(cases, given))


@given(st.lists(st.sampled_from(["true", "false", "not visible"]), min_size=1, max_size=12))
def test_the_value_is_the_share_of_true_claims(verdicts: list[str]) -> None:
    lines = "\n".join(f"- claim {i}" for i in range(len(verdicts)))
    reply = "\n".join(f"{i}. {verdict}" for i, verdict in enumerate(verdicts, 1))
    splitter, judge = Listening(ScriptedReply(replies=(lines,))), Listening(ScriptedReply(replies=(reply,)))
    [found] = values(group(["A caption."]), splitter, judge)
    assert found.value == sum(v == "true" for v in verdicts) / len(verdicts)


def test_claims_go_to_the_judge_with_the_image(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "red").save(image)
    ref = ImageRef(path=str(image), sha256=sha256(image.read_bytes()))
    splitter, judge = Listening(SPLITTER), Listening(ScriptedReply(replies=("1. true\n2. not visible",)))
    found = values(group(["a cat, a dog", "a cat, a dog"], images=(ref,)), splitter, judge)
    assert [(v.value, v.detail) for v in found] == [(0.5, "1 true, 0 false, 1 not visible")] * 2
    assert len(splitter.requests) == len(judge.requests) == 1
    assert [image.size for image in judge.requests[0].prompt.images] == [(30, 20)]
    assert "1. a cat\n2. a dog" in judge.texts[0]
    assert splitter.requests[0].prompt.images == ()


def test_no_claims_are_worth_nothing_and_no_judgement_is_no_value() -> None:
    splitter = Listening(
        ScriptedReply(when="empty", replies=("None.",)), ScriptedReply(when="mute", replies=("",)), SPLITTER
    )
    judge = Listening(
        ScriptedReply(when="(?s)odd.*not have this form", replies=("2. false 1. true",)),
        ScriptedReply(when="odd", replies=("true",)),
        ScriptedReply(replies=("I do not know",)),
    )
    found = values(group(["empty", "mute", "odd, two", "any, two"]), splitter, judge)
    assert [(v.value, v.fault) for v in found] == [(0.0, ""), (None, "unreadable"), (0.5, ""), (None, "unreadable")]


def test_an_image_that_cannot_be_read_costs_its_captions(tmp_path: Path) -> None:
    ref = ImageRef(path=str(tmp_path / "missing.png"), sha256="0" * 64)
    [found] = values(group(["a, b"], images=(ref,)), Listening(SPLITTER), Listening(ScriptedReply(replies=("true",))))
    assert (found.value, found.fault) == (None, "refused")


def test_only_so_many_claims_are_looked_at() -> None:
    judge = Listening(ScriptedReply(replies=("true",)))
    [found] = values(group(["a, b"]), Listening(SPLITTER), judge, claims=1)
    assert found.value == 1.0 and "1. a" in judge.texts[0] and "2." not in judge.texts[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. A cat.\n2) A dog.\n\n- A mouse", ("A cat.", "A dog.", "A mouse")),
        ("3 bars are red.", ("3 bars are red.",)),
        ("none", ()),
        ("", None),
        ("  \n ", None),
    ],
)
def test_how_claims_are_read(text: str, expected: tuple[str, ...] | None) -> None:
    assert claims(text, 20) == expected


def test_how_verdicts_are_read() -> None:
    assert verdicts_in("1. True\n2: not_visible\n3 FALSE", 3) == ("true", "not visible", "false")
    assert verdicts_in("true, true", 3) is None
    assert verdicts_in("1. Not true\n2. This is not true.", 2) == ("false", "false")
    assert verdicts_in("1. untrue\n2. not-visible\n3. It isn't true", 3) == ("false", "not visible", "false")
    assert verdicts_in("1. not false", 1) is None
    assert verdicts_in("Claim 1 is true.\nClaim 2 is true, not false.", 2) is None


def test_in_the_embedded_world_the_scene_says_what_is_true() -> None:
    for made in world.generate("train", 6, 20):
        right = [state(fact, len(made.scenes)) for fact in made.facts]
        wrong = [state(fact._replace(height=fact.height % 8 + 1), len(made.scenes)) for fact in made.facts]
        captions = ["A chart.", " ".join(right), " ".join([*right, *wrong]), wrong[0]]
        kind = Correctness(config.CorrectnessReward(by="scene"))
        found = kind.score(group(captions, scene=made.scene_json()), means({}))
        assert [v.value for v in found] == [0.0, 1.0, 0.5, 0.0]
