"""What the reasoner is asked: the seed of a question comes from its content, and each is asked once."""

from __future__ import annotations

from racro.config import ScriptedReply
from racro.engines.protocol import Completion, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import reasoner_messages
from racro.rollouts.reasoner import answer
from tests.support.counted import Counted

QUESTION = "What is the height of the red bar?"
UNKNOWN = ScriptedReply(replies=(r"\boxed{unknown}",))


def test_a_question_s_seed_comes_from_its_content() -> None:
    pairs = [(QUESTION, "one"), (QUESTION, "two"), ("another?", "one")]

    def seeds(pairs: list[tuple[str, str]], seed: int) -> dict[str, int]:
        engine = Counted(UNKNOWN)
        answer(pairs, engine, Sampling(), seed)
        return engine.asked

    first = seeds(pairs, 0)
    assert seeds([*pairs[::-1], pairs[0]], 0) == first
    assert len({*first.values(), *seeds(pairs, 1).values()}) == 6


def test_the_embedded_reasoner_answers_from_captions() -> None:
    from racro.engines.local.transformers import TransformersEngine

    engine = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", 8)
    pairs = [(QUESTION, "The red bar is 3."), (QUESTION, "The blue bar is 5."), (QUESTION, "The red bar is 3.")]
    ticks: list[tuple[int, int]] = []
    answers = answer(pairs, engine, Sampling(temperature=0.0, max_tokens=64), 0, lambda *tick: ticks.append(tick))
    assert ticks == [(1, 2), (2, 2)]
    assert set(answers) == set(pairs)
    assert len(reasoner_messages(*pairs[0])) == 2
    assert all(isinstance(a, Completion) and a.finish_reason in ("stop", "length") for a in answers.values())
