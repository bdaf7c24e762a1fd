"""Rollouts x frozen LLM -> scored rollouts: the reasoner answers from each caption, the answer is graded.

Not an engine and not the grader. Called by the stage reason; `question_to` also by
`racro.evaluation.modes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from racro import config
from racro.engines.prefetcher import Ahead
from racro.engines.protocol import Completion, Engine, Prompt, Sampling, prompt_seed
from racro.grading import grade
from racro.prompts import describes_messages, reasoner_messages
from racro.rewards.answer import reward
from racro.rollouts.captioner import Progress, silent
from racro.schema import Gold, Problem, Rollout, ScoredRollout, Verdict

JUDGEMENT_TOKENS = 8
"""Room for "Yes." in any tokenizer."""

UNANSWERED = Completion((), (), "", "deadline")
"""Stands where the reasoner was not asked, because the caption itself was not finished in time."""


def question_to(question: str, caption: str, seed: int) -> tuple[Prompt, int]:
    """The prompt, and its seed. That comes from the content: the answer does not depend on what else is asked."""
    return Prompt(reasoner_messages(question, caption)), prompt_seed(seed, "reason", question, caption)


def answer(
    pairs: Iterable[tuple[str, str]], engine: Engine, sampling: Sampling, seed: int, progress: Progress = silent
) -> list[Completion]:
    """One answer for each (question, caption), in order. Equal pairs are asked once.

    Pairs may arrive slowly: an engine that takes questions ahead gets each as it comes.
    """
    asked: list[tuple[str, str]] = []
    for pair in pairs:
        asked.append(pair)
        if isinstance(engine, Ahead):
            prompt, own = question_to(*pair, seed)
            engine.ask(prompt, sampling, own)
    unique = list(dict.fromkeys(asked))
    prompts, seeds = zip(*(question_to(*pair, seed) for pair in unique), strict=True) if unique else ((), ())
    answers: dict[tuple[str, str], Completion] = {}
    for pair, generation in zip(unique, engine.generate(prompts, sampling, seeds), strict=True):
        answers[pair] = generation.completions[0]
        progress(len(answers), len(unique))
    return [answers[pair] for pair in asked]


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
    """Does each caption describe an image, as the policy itself judges (RAPID)? None where time ran out."""
    unique = list(dict.fromkeys(captions))
    sampling = Sampling(n=1, temperature=0.0, max_tokens=JUDGEMENT_TOKENS, deadline=deadline)
    prompts = [Prompt(describes_messages(caption)) for caption in unique]
    judged: dict[str, bool | None] = {}
    for caption, generation in zip(unique, policy.generate(prompts, sampling, [0] * len(unique)), strict=True):
        said = generation.completions[0]
        judged[caption] = None if said.finish_reason == "deadline" else said.text.strip().lower().startswith("yes")
        progress(len(judged), len(unique))
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
) -> Iterator[ScoredRollout]:
    """The rollouts with response, verdict and reward, in order.

    `problems` by uid. `policy`, the engine that wrote the captions, judges them where the reward has a penalty; it may
    be None otherwise. A caption that was cut by the deadline is failed without being asked: the engine was slow, which
    says nothing about it. Progress counts unique questions, first those to the reasoner, then those to the policy.
    """
    if rewards.penalty and policy is None:
        raise ValueError("reward.penalty > 0 needs the policy's engine: the policy judges its own captions")
    finished = [rollout for rollout in rollouts if rollout.finish_reason != "deadline"]
    pairs = [(problems[rollout.uid].question, rollout.caption) for rollout in finished]
    answers = iter(answer(pairs, engine, *training_sampling(reasoner, seed, iteration, deadline), progress))
    completions = [UNANSWERED if rollout.finish_reason == "deadline" else next(answers) for rollout in rollouts]
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
