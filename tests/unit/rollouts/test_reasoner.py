"""Equal questions are asked once; what says nothing about a caption leaves it unscored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from racro import config
from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Completion, Generation, Refusal, Request, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import describes_messages, reasoner_messages
from racro.rollouts.reasoner import answer, reason
from racro.schema import Problem, Rollout, ScoredRollout, Verdict

QUESTION = "What is the height of the red bar?"
PROBLEMS = {
    "p": Problem(
        uid="p", question=QUESTION, answer="3", kind="integer", category="value", choices=(), images=(), scene=None
    )
}
READER = ScriptedReply(when=r"The red bar is (\d)", replies=(r"So it is \boxed{\1}.",))
UNKNOWN = ScriptedReply(replies=(r"\boxed{unknown}",))


class Counted(ScriptedEngine):
    """A scripted engine that remembers its prompts and seeds."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.asked: dict[str, int] = {}
        self.sampling: Sampling | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """The last request first."""
        asked = list(requests)
        for request in asked:
            self.sampling = request.sampling
            text = request.prompt.messages[-1]["content"][0]["text"]
            assert text not in self.asked, "asked twice"
            self.asked[text] = request.seed
        yield from reversed(list(super().generate(asked)))


def rollout(caption: str, finish_reason: str = "stop", sample: int = 0) -> Rollout:
    return Rollout(
        uid="p",
        sample=sample,
        policy="digest",
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(0.0,),
        finish_reason=finish_reason,  # type: ignore[arg-type]
        caption=caption,
    )


def scored(
    captions: Sequence[str | Rollout],
    engine: ScriptedEngine,
    policy: ScriptedEngine | None = None,
    reasoner: config.Reasoner | None = None,
    rewards: config.RewardSettings | None = None,
    deadline: float = 60.0,
) -> list[ScoredRollout]:
    rows = [c if isinstance(c, Rollout) else rollout(c, sample=i) for i, c in enumerate(captions)]
    settings = reasoner or config.Reasoner(max_tokens=100, temperature=0.7, top_p=0.9)
    return list(reason(rows, PROBLEMS, engine, settings, rewards or config.RewardSettings(), policy, 0, 0, deadline))


def test_right_and_wrong_captions_are_told_apart() -> None:
    rows = scored(["The red bar is 3.", "The red bar is 4.", "A chart."], Counted(READER, UNKNOWN))
    assert [(r.verdict, r.reward) for r in rows] == [
        (Verdict.CORRECT, 1.0),
        (Verdict.WRONG, 0.0),
        (Verdict.WRONG, 0.0),
    ]
    assert [r.sample for r in rows] == [0, 1, 2]
    assert rows[0].response == r"So it is \boxed{3}."
    assert rows[0].describes is None


def test_equal_questions_are_asked_once_and_all_answered() -> None:
    engine = Counted(READER, UNKNOWN)
    rows = scored(["The red bar is 3.", "A chart.", "The red bar is 3.", "A chart."], engine)
    assert len(engine.asked) == 2
    assert [r.reward for r in rows] == [1.0, 0.0, 1.0, 0.0]
    assert engine.sampling == Sampling(n=1, temperature=0.7, top_p=0.9, max_tokens=100, deadline=60.0)


def test_a_question_s_seed_comes_from_its_content() -> None:
    pairs = [(QUESTION, "one"), (QUESTION, "two"), ("another?", "one")]

    def seeds(pairs: list[tuple[str, str]], seed: int) -> dict[str, int]:
        engine = Counted(UNKNOWN)
        answer(pairs, engine, Sampling(), seed)
        return engine.asked

    first = seeds(pairs, 0)
    assert seeds([*pairs[::-1], pairs[0]], 0) == first
    assert len({*first.values(), *seeds(pairs, 1).values()}) == 6


@pytest.mark.parametrize(
    ("rule", "verdict", "reward"),
    [
        (ScriptedReply(replies=("I see many things.",)), Verdict.UNPARSED, 0.0),
        (ScriptedReply(replies=("hm " * 200,)), Verdict.TRUNCATED, 0.0),
        (ScriptedReply(replies=(r"\boxed{3} " + "hm " * 200,)), Verdict.CORRECT, 1.0),
        (ScriptedReply(replies=(r"\boxed{3}",), delay=3600), Verdict.FAILED, None),
        (ScriptedReply(replies=("\\boxed{" * 12,)), Verdict.UNPARSED, 0.0),
    ],
    ids=["no answer", "too long", "too long after the answer", "never", "garbage"],
)
def test_a_broken_reasoner_has_its_own_verdicts(rule: ScriptedReply, verdict: Verdict, reward: float | None) -> None:
    [row] = scored(["The red bar is 3."], Counted(rule), deadline=0.1)
    assert (row.verdict, row.reward) == (verdict, reward)


def test_truncated_can_be_unscored() -> None:
    [row] = scored(
        ["x"], Counted(ScriptedReply(replies=("hm " * 200,))), rewards=config.RewardSettings(truncated="unscored")
    )
    assert (row.verdict, row.reward) == (Verdict.TRUNCATED, None)


def test_a_caption_that_was_not_finished_in_time_is_failed_without_being_asked() -> None:
    engine = Counted(READER, UNKNOWN)
    cut = [rollout("The red bar is 3.", "deadline"), rollout("The red bar is 3.", "length", 1)]
    rows = scored(cut, engine)
    assert [(r.verdict, r.reward) for r in rows] == [(Verdict.FAILED, None), (Verdict.CORRECT, 1.0)]
    assert len(engine.asked) == 1


def test_a_refused_caption_is_failed_and_reported() -> None:
    refusals: list[tuple[str, str]] = []
    rows = list(
        reason(
            [rollout("The red bar is 3."), rollout("A chart.", sample=1)],
            PROBLEMS,
            Counted(READER),
            config.Reasoner(max_tokens=100),
            config.RewardSettings(),
            *(None, 0, 0, 60.0),
            refused=lambda problem, why: refusals.append((problem.uid, why)),
        )
    )
    assert [(r.verdict, r.reward) for r in rows] == [(Verdict.CORRECT, 1.0), (Verdict.FAILED, None)]
    [(uid, why)] = refusals
    assert uid == "p" and "no rule" in why


# --- RAPID's penalty --------------------------------------------------------------------------------------------------

JUDGE = (
    ScriptedReply(when="### A text regarding an image: The answer", replies=("No.",)),
    ScriptedReply(replies=(" YES",)),
)
PENALTY = config.RewardSettings(penalty=0.1)


def test_the_policy_judges_right_captions_once_each_and_only_those() -> None:
    policy = Counted(*JUDGE)
    captions = ["The red bar is 3.", "The answer: The red bar is 3.", "The red bar is 3.", "A chart."]
    rows = scored(captions, Counted(READER, UNKNOWN), policy, rewards=PENALTY)
    assert [(r.describes, r.reward) for r in rows] == [(True, 1.0), (False, 0.9), (True, 1.0), (None, 0.0)]
    assert set(policy.asked) == {describes_messages(c)[-1]["content"][0]["text"] for c in captions[:2]}
    assert policy.sampling is not None
    assert policy.sampling.temperature == 0


@pytest.mark.parametrize("rule", [{"delay": 3600}, {"when": "nothing like it"}], ids=["never", "refused"])
def test_a_judgement_that_never_comes_costs_nothing(rule: dict[str, Any]) -> None:
    policy = Counted(ScriptedReply(replies=("No.",), **rule))
    [row] = scored(["The red bar is 3."], Counted(READER), policy, rewards=PENALTY, deadline=0.1)
    assert (row.describes, row.reward) == (None, 1.0)


def test_a_penalty_without_a_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="policy"):
        scored(["x"], Counted(UNKNOWN), rewards=PENALTY)


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


@pytest.mark.parametrize(("truncated", "earned"), [("wrong", 0.0), ("unscored", None)])
def test_a_captioner_that_thinks_to_its_limit_is_truncated_and_nobody_is_asked(truncated: Any, earned: Any) -> None:
    engine = Counted(READER, UNKNOWN)
    rewards = config.RewardSettings(truncated=truncated)
    rows = [rollout("", "length"), rollout("The red bar is 3.", "length", 1), rollout("", "stop", 2)]
    scored = list(reason(rows, PROBLEMS, engine, config.Reasoner(), rewards, None, 0, 0, 60.0))
    assert [row.verdict for row in scored] == [Verdict.TRUNCATED, Verdict.CORRECT, Verdict.WRONG]
    assert [row.reward for row in scored] == [earned, 1.0, 0.0]
    assert len(engine.asked) == 2
