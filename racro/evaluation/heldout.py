"""Policy x held-out problems -> judgements, and judgements -> metrics, none without its standard error and n.

Not a benchmark (those say where problems come from). Called by the stage evaluate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from racro import config
from racro.embedded import oracle
from racro.engines.protocol import Completion, Engine, Refusal, Sampling, prompt_seed
from racro.rewards.answer import counts
from racro.rollouts.captioner import Progress, Refused, greedy, ignored, silent
from racro.rollouts.reasoner import UNANSWERED, answer, no_question, question_to, verdict_of
from racro.schema import Judgement, Problem, Verdict

Inspect = Callable[[str, str], oracle.Facts]
"""(caption, scene) -> what the caption states and whether it is so."""


def evaluate(
    problems: Sequence[Problem],
    images_base: str,
    captioner: Engine,
    reasoner: Engine,
    caption_tokens: int,
    answer_tokens: int,
    evaluation: config.EvaluationSettings,
    seed: int,
    deadline: float,
    progress: Progress = silent,
    inspect: Inspect = oracle.inspect,
    refused: Refused = ignored,
) -> Iterator[Judgement]:
    """Greedy captions, answered by the reasoner with the evaluation's sampling; one judgement per problem, in order.

    `caption_tokens` and `answer_tokens` are the limits of training. No iteration enters the seeds: equal captions get
    equal answers at every evaluation. Progress counts captions, then unique questions to the reasoner. What an engine
    refuses is failed, like what was not finished in time.
    """
    sampling = Sampling(1, evaluation.temperature, evaluation.top_p, answer_tokens, deadline)
    own = prompt_seed(seed, "evaluate")
    captions: list[Completion] = [UNANSWERED] * len(problems)
    written = greedy(problems, images_base, captioner, caption_tokens, deadline, progress, refused=refused)
    for place, caption in written:
        captions[place] = caption
        if no_question(caption.text, caption.finish_reason) is None:
            reasoner.prefetch([question_to(problems[place].question, caption.text, sampling, own)])
    pairs = [(problem.question, caption.text) for problem, caption in zip(problems, captions, strict=True)]
    finished = [caption.finish_reason != "deadline" for caption in captions]
    unasked = [no_question(caption.text, caption.finish_reason) for caption in captions]
    asked = [pair for pair, stand_in in zip(pairs, unasked, strict=True) if stand_in is None]
    answers = answer(asked, reasoner, sampling, own, progress)
    for problem, pair, done, stand_in in zip(problems, pairs, finished, unasked, strict=True):
        response = stand_in or answers[pair]
        if isinstance(response, Refusal):
            refused(problem, response.reason)
            response = UNANSWERED
        verdict = verdict_of(response, problem)
        yield judgement(problem, pair[1], done, response.text, verdict, inspect)


def judgement(
    problem: Problem,
    caption: str,
    finished: bool,
    response: str,
    verdict: Verdict,
    inspect: Inspect = oracle.inspect,
) -> Judgement:
    """One problem; its caption, if it was finished, held against the scene, if one is known."""
    facts = None if not finished or problem.scene is None else inspect(caption, problem.scene)
    return Judgement(
        uid=problem.uid,
        category=problem.category,
        question=problem.question,
        answer=problem.answer,
        caption=caption,
        response=response,
        verdict=verdict,
        facts_stated=None if facts is None else facts.stated,
        facts_true=None if facts is None else facts.true,
        states_asked=None if facts is None else facts.states_asked,
        leaks=None if facts is None else facts.leaks,
    )


class Rate(BaseModel):
    """A share with its standard error and the number of cases behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    stderr: float
    n: int


class EvaluationMetrics(BaseModel):
    """What an evaluation says. A rate is None where there was nothing to count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: Rate | None
    """Right answers among all that have a verdict about the model; unparsed and truncated ones are not right."""
    by_category: dict[str, Rate]
    """Accuracy by category, in alphabetical order; categories without a verdict are left out."""
    truthful: Rate | None
    """True ones among the facts stated; n counts facts."""
    states_asked: Rate | None
    """Captions that state, truthfully, every fact asked for."""
    leaks: Rate | None
    """Captions that announce an answer."""
    verdicts: dict[str, int]
    unscored: int
    """Failed ones: the reasoner or the time ran out, which says nothing about the model. In no accuracy."""


def aggregate(judgements: Sequence[Judgement]) -> EvaluationMetrics:
    """The metrics of one evaluation."""
    scored = [j for j in judgements if j.verdict is not Verdict.FAILED]
    categories = sorted({j.category for j in scored})
    return EvaluationMetrics(
        accuracy=rate([_right(j) for j in scored]),
        by_category={c: r for c in categories if (r := rate([_right(j) for j in scored if j.category == c]))},
        truthful=_truthful([(j.facts_stated, j.facts_true or 0) for j in judgements if j.facts_stated]),
        states_asked=rate([j.states_asked for j in judgements if j.states_asked is not None]),
        leaks=rate([j.leaks for j in judgements if j.leaks is not None]),
        verdicts=counts(j.verdict for j in judgements),
        unscored=len(judgements) - len(scored),
    )


def _right(judgement: Judgement) -> bool:
    return judgement.verdict is Verdict.CORRECT


def rate(cases: Sequence[bool]) -> Rate | None:
    """Share of true cases, with the standard error sqrt(p (1 - p) / n) of independent ones."""
    n = len(cases)
    if n == 0:
        return None
    share = sum(cases) / n
    return Rate(value=share, stderr=math.sqrt(share * (1 - share) / n), n=n)


def _truthful(captions: Sequence[tuple[int, int]]) -> Rate | None:
    """Share of true facts over (stated, true) of captions, each with at least one.

    The facts of one caption come from one look at one image, so captions, not facts, are the independent cases: the
    standard error is that of a ratio over clusters. With one fact per caption it equals that of `rate`.
    """
    stated = sum(s for s, _ in captions)
    if stated == 0:
        return None
    share = sum(t for _, t in captions) / stated
    return Rate(value=share, stderr=math.sqrt(sum((t - share * s) ** 2 for s, t in captions)) / stated, n=stated)
