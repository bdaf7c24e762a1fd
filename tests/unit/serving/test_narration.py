"""A stream's pieces add up to the whole answer, however the texts arrive; parts come in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from racro.answering.cases import STEPS, Answer, Finish, Step
from racro.rollouts.thoughts import CLOSE, OPEN
from racro.serving.completion import Answered, Completion, Usage
from racro.serving.narration import Written, content, divide, reasoning

PIECES = st.sampled_from(["<think>", "</think>", "<", "</thi", "a", "\n", " ", "B.", "\\boxed{3}", "é"])
TEXT = st.lists(PIECES, max_size=6).map("".join).filter(lambda t: CLOSE not in t or t.lstrip().startswith(OPEN))
TEXTS = st.fixed_dictionaries(dict.fromkeys(STEPS, TEXT))
"""Thoughts that end have begun: engines add a beginning that a chat template writes."""


def arrivals(texts: dict[Step, str], cuts: list[int]) -> Iterator[Written]:
    """Caption and attempt side by side, piece by piece; then the answer."""
    cuts = cuts or [1]
    captioner, reasoner = STEPS[:2], STEPS[2:]
    for steps, before in ((captioner, ()), (reasoner, captioner)):
        for cut in sorted(cuts):
            yield Written({step: texts[step][:cut] for step in steps} | {s: texts[s] for s in before}, set(before))
        yield Written({step: texts[step] for step in (*before, *steps)}, {*before, *steps})


@given(TEXTS, st.lists(st.integers(0, 30), max_size=6))
def test_pieces_add_up_to_the_whole(texts: dict[Step, str], cuts: list[int]) -> None:
    whole = Written(texts, frozenset(STEPS))
    finish = Finish(caption="stop", attempt="stop", answer="stop")
    answer = Answer(caption="", attempt="", reasoning="", final="", finish=finish)
    answered = Answered(answer, whole, Usage((5, 6), (7, 8)), 1.0)
    completion = Completion("racro")
    events = [completion.begin()]
    for written in arrivals(texts, cuts):
        events += completion.pieces(written)
    events += completion.end(answered, include_usage=True)
    assert events[-1] == "data: [DONE]\n\n" and all(event.startswith("data: ") for event in events)
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    message = Completion("racro").whole(answered)["choices"][0]["message"]
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name, "") for delta in deltas) == message[name]
    assert chunks[-1]["usage"]["total_tokens"] == 26 and chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_parts_stand_in_order_under_their_titles() -> None:
    texts: dict[Step, str] = {"caption": "A bar.", "attempt": "Three?", "answer": "<think>Hm.</think>\\boxed{3}"}
    early = Written({"caption": "A", "attempt": "Three?"}, {"attempt"})
    assert reasoning(early) == "Caption:\nA", "the attempt waits for the caption"
    whole = Written(texts, frozenset(STEPS))
    assert reasoning(whole) == "Caption:\nA bar.\n\nTentative answer:\nThree?\n\nThinking:\nHm."
    assert content(whole) == "\\boxed{3}"
    assert "Second caption:\nThree?" in reasoning(Written(texts, frozenset(STEPS), "check"))


@given(st.text("<think>/ab ", max_size=30), st.integers(0, 30))
def test_what_was_said_is_never_taken_back(text: str, cut: int) -> None:
    before, after = divide(text[:cut], False), divide(text, False)
    final = divide(text, True)
    for early, late, last in zip(before, after, final, strict=True):
        assert late.startswith(early.rstrip()) or (not late and not early.strip())
        assert last.startswith(late.rstrip())
