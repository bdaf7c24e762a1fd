"""Rollouts x frozen LLM -> scored rollouts: the reasoner answers from each caption, the answer is graded.

Not an engine and not the grader. Called by the stage reason; `question_to` by everything that asks the reasoner about a
caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from racro import config
from racro.engines.protocol import Completion, Engine, Generation, Prompt, Refusal, Request, Sampling, prompt_seed
from racro.grading import grade
from racro.prompts import describes_messages, reasoner_messages
from racro.rewards.answer import reward
from racro.rollouts.captioner import Progress, Refused, ignored, missing, silent
from racro.schema import FinishReason, Gold, Problem, Rollout, ScoredRollout, Verdict

JUDGEMENT_TOKENS = 8
"""Room for "Yes." in any tokenizer."""

UNANSWERED = Completion((), (), "", "deadline")
"""Stands for an answer that there is not: the caption was not finished in time, or the reasoner refused it."""
NO_CAPTION = Completion((), (), "", "length")
"""Stands for an answer that there is not: the token limit came before the caption began."""


def question_to(question: str, caption: str, sampling: Sampling, seed: int, key: int = 0) -> Request:
    """What the reasoner is asked. The request's seed comes from the content: the answer depends on nothing else."""
    own = prompt_seed(seed, "reason", question, caption)
    return Request(key, Prompt(reasoner_messages(question, caption)), sampling, own)


def answer(
    pairs: Sequence[tuple[str, str]], engine: Engine, sampling: Sampling, seed: int, progress: Progress = silent
) -> dict[tuple[str, str], Completion | Refusal]:
    """The answer to each different (question, caption), or why the engine refuses it."""
    unique = list(dict.fromkeys(pairs))
    requests = (question_to(*pair, sampling, seed, key) for key, pair in enumerate(unique))
    return {unique[made.key]: one(made) for made in _watched(engine.generate(requests), len(unique), progress)}


def one(made: Generation | Refusal) -> Completion | Refusal:
    """The only completion of a generation with n = 1; a refusal as it is."""
    return made if isinstance(made, Refusal) else made.completions[0]


def _watched(answers: Iterator[Generation | Refusal], total: int, progress: Progress) -> Iterator[Generation | Refusal]:
    for done, made in enumerate(answers, 1):
        yield made
        progress(done, total)


def no_question(caption: str, finish_reason: FinishReason) -> Completion | None:
    """What stands for the answer from a caption about which the reasoner is not asked; None if it is asked."""
    if finish_reason == "deadline":
        return UNANSWERED
    return NO_CAPTION if missing(caption, finish_reason) else None


def training_sampling(reasoner: config.Reasoner, seed: int, iteration: int, deadline: float) -> tuple[Sampling, int]:
    """How the reasoner is sampled in one iteration, and the seed of its questions."""
    sampling = Sampling(1, reasoner.temperature, reasoner.top_p, reasoner.max_tokens, deadline)
    return sampling, prompt_seed(seed, "iteration", iteration)


def verdict_of(completion: Completion, problem: Problem) -> Verdict:
    """The reasoner's output held against the gold answer."""
    return grade(completion.text, completion.finish_reason, Gold.of(problem)).verdict


def describes(
    captions: Sequence[str], policy: Engine, deadline: float, progress: Progress = silent
) -> dict[str, bool | None]:
    """Does each caption describe an image, as the policy itself judges (RAPID)? None if time ran out or it refused."""
    unique = list(dict.fromkeys(captions))
    sampling = Sampling(n=1, temperature=0.0, max_tokens=JUDGEMENT_TOKENS, deadline=deadline)
    requests = (Request(key, Prompt(describes_messages(caption)), sampling, 0) for key, caption in enumerate(unique))
    judged: dict[str, bool | None] = {}
    for made in _watched(policy.generate(requests), len(unique), progress):
        said = one(made)
        if isinstance(said, Refusal) or said.finish_reason == "deadline":
            judged[unique[made.key]] = None
        else:
            judged[unique[made.key]] = said.text.strip().lower().startswith("yes")
    return judged


def reason(
    rollouts: Sequence[Rollout],
    problems: Mapping[str, Problem],
    engine: Engine,
    reasoner: config.Reasoner,
    rewards: config.RewardSettings,
    policy: Engine | None,
    seed: int,
    iteration: int,
    deadline: float,
    progress: Progress = silent,
    refused: Refused = ignored,
) -> Iterator[ScoredRollout]:
    """The rollouts with response, verdict and reward, in order.

    `problems` by uid. `policy`, the engine that wrote the captions, judges them if the reward has a penalty; it may be
    None otherwise. A caption that was cut by the deadline is failed without being asked: the engine was slow, which
    says nothing about the caption. A caption that the reasoner refuses is failed too. If a thinking captioner used up
    its tokens before the caption began, the reasoner is not asked either and the verdict is truncated: the policy wrote
    too much, and `reward.truncated` says what that earns. Progress counts unique questions, first those to the
    reasoner, then those to the policy.
    """
    if rewards.penalty and policy is None:
        raise ValueError("reward.penalty > 0 needs the policy's engine: the policy judges its own captions")
    pairs = [(problems[rollout.uid].question, rollout.caption) for rollout in rollouts]
    unasked = [no_question(rollout.caption, rollout.finish_reason) for rollout in rollouts]
    asked = [pair for pair, stand_in in zip(pairs, unasked, strict=True) if stand_in is None]
    answers = answer(asked, engine, *training_sampling(reasoner, seed, iteration, deadline), progress)
    completions = []
    for pair, rollout, stand_in in zip(pairs, rollouts, unasked, strict=True):
        made = stand_in or answers[pair]
        if isinstance(made, Refusal):
            refused(problems[rollout.uid], made.reason)
            made = UNANSWERED
        completions.append(made)
    verdicts = [verdict_of(c, problems[r.uid]) for r, c in zip(rollouts, completions, strict=True)]
    judged: dict[str, bool | None] = {}
    if rewards.penalty and policy is not None:
        right = [r.caption for r, verdict in zip(rollouts, verdicts, strict=True) if verdict is Verdict.CORRECT]
        judged = describes(right, policy, deadline, progress)
    for rollout, completion, verdict in zip(rollouts, completions, verdicts, strict=True):
        described = judged.get(rollout.caption) if verdict is Verdict.CORRECT else None
        yield ScoredRollout(
            **dict(rollout),
            response=completion.text,
            verdict=verdict,
            describes=described,
            reward=reward(verdict, described, rewards),
        )
