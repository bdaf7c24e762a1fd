"""Questions in the modes of an evaluation other than joint: all captions, then what the mode asks, then all answers.

What is asked is `racro.evaluation.rounds`; here the texts find their questions. Called by `racro.answering.pipeline`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from racro.answering.cases import SECOND, Case, Keep, Step, Unanswerable, Watch
from racro.benchmarks.metrics import alike
from racro.config import ModeSettings
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.engines.protocol import Completion, Engine, Generation, Sampling
from racro.evaluation import modes, rounds
from racro.grading import boxed, extract, final_part
from racro.grading.abstaining import abstains
from racro.rewards import choosing
from racro.rewards.protocol import Means
from racro.rollouts.looking import Asked
from racro.rollouts.votes import elect
from racro.schema import Gold, Mode, ModelOutput, Problem, Rollout, Shot

NOT_ASKED = "[]"
"""The prompt of a text that was not needed, or for which nobody could be asked."""


@dataclass(frozen=True)
class Asking:
    """Who is asked, and how."""

    captioner: Engine
    reasoner: Engine
    greedy: Sampling
    """Of the captioner."""
    sampled: Sampling
    """Of the reasoner."""
    seed: int
    settings: ModeSettings
    shots: Sequence[Shot] = ()


def answer(cases: Sequence[Case], mode: Mode, asking: Asking, watch: Watch, keep: Keep) -> None:
    """Have the cases answered in any mode but joint. What cannot be asked becomes the error of its case."""

    def kept(name: str, rows: Iterable[ModelOutput]) -> list[ModelOutput]:
        found = list(rows)
        for row in found:
            if row.prompt != NOT_ASKED:
                keep(int(row.uid), name, row)
        return found

    known = {str(case.number): case for case in cases if case.error is None}
    problems = [_problem(uid, case.question) for uid, case in known.items()]

    def asked_of(problem: Problem) -> Asked:
        return Asked(problem.uid, problem.question, lambda: known[problem.uid].images)

    captions = _captions(problems, mode, asking, asked_of, kept)
    more: list[ModelOutput] = []
    how = asking.reasoner, asking.sampled, asking.seed
    if mode == "clues":
        count = asking.settings.clues
        asked = kept("sub-questions", rounds.ask_clues(problems, captions, count, *how))
        answered = rounds.answer_clues(problems, asked_of, asked, count, asking.captioner, asking.greedy)
        more = kept("clues", answered)
    if mode == "check":
        checked = kept("check", modes.in_order(modes.answer(mode, problems, captions, [], *how), problems))
        more = kept("again", rounds.caption_again(problems, asked_of, checked, asking.captioner, asking.greedy))
        answers = list(rounds.answer_again(problems, captions, more, checked, *how))
        kept("answer", (row for row in answers if row not in checked))
    else:
        answers = kept("answer", modes.answer(mode, problems, captions, more, *how, shots=asking.shots))
    second = {row.uid: row for row in more}
    for uid, case in known.items():
        rows = [row for row in answers if row.uid == uid]
        number = _winner(rows, case.question)
        captioned = [row for row in captions if row.uid == uid]
        case.steps = tuple(s for s in case.steps if s != "attempt" or mode in SECOND)
        _take(case, "caption", captioned[number if len(captioned) > 1 else 0], watch)
        if uid in second:
            _take(case, "attempt", second[uid], watch)
        if case.error is None:
            _take(case, "answer", rows[number], watch)


def _captions(
    problems: Sequence[Problem],
    mode: Mode,
    asking: Asking,
    asked_of: rounds.AskedOf,
    kept: Callable[[str, Iterable[ModelOutput]], list[ModelOutput]],
) -> list[ModelOutput]:
    """One greedy caption of each question; all that were sampled, or the best of them, where the mode says so."""
    settings, sampling = asking.settings, asking.greedy
    if mode in modes.SAMPLED:
        sampling = Sampling(
            settings.captions, settings.caption_temperature, 1.0, sampling.max_tokens, sampling.deadline
        )
    made = list(rounds.sample_captions(problems, asked_of, "", asking.captioner, sampling, asking.seed))
    rows = kept("caption", modes.in_order((row for rows, _ in made for row in rows), problems))
    if mode != "best":
        return rows
    grouped: dict[str, list[Rollout]] = defaultdict(list)
    for _, group in made:
        for rollout in group:
            grouped[rollout.uid].append(rollout)
    rollouts = [rollout for problem in problems for rollout in grouped[problem.uid]]
    means = Means(seed=asking.seed, iteration=0, deadline=sampling.deadline, policy=asking.captioner)
    values = choosing.values(choosing.require(settings.kind), problems, rollouts, means)
    return list(rounds.favourites(rows, rollouts, [value.value for value in values]))


def _problem(uid: str, question: str) -> Problem:
    """A question as evaluations know it. Its images are found by its uid."""
    return Problem(uid=uid, question=question, answer="", kind="text", category="", choices=(), images=(), scene=None)


def _winner(rows: Sequence[ModelOutput], question: str) -> int:
    """Number of the row whose answer is most frequent; of the first row that a model wrote if there is no answer.

    "Unknown" wins only where nothing else is answered.
    """
    votes = [_vote(row) if row.error is None else None for row in rows]
    number = elect(votes, lambda one, other: _same(one, other, question), lambda answer: abstains(answer, question))
    return number if number is not None else next((i for i, row in enumerate(rows) if row.error is None), 0)


def _vote(row: ModelOutput) -> str | None:
    """The answer in a text; of one that was cut off only a closed box: "the answer is 1" may be the beginning of 12."""
    return extract(row.text) if row.finish_reason == "stop" else boxed(final_part(row.text))


def _same(one: str, other: str, question: str) -> bool:
    """Do two answers mean the same? Their kind is read from the second."""
    try:
        return alike(one, other, read_gold(other, None, None, question))
    except BadGold:
        return alike(one, other, Gold(other, "text"))


def _take(case: Case, step: Step, row: ModelOutput, watch: Watch) -> None:
    """A text, or the reason why there is none. Where the time ran out there is none either, and no error."""
    late = step == "answer" and any(text.finish_reason == "deadline" for text in case.written.values())
    if row.error is not None and not late:
        case.error = case.error or Unanswerable(row.error)
    elif not late:
        case.take(step, Generation(0, (), (Completion((), (), row.text, row.finish_reason),)), watch)
