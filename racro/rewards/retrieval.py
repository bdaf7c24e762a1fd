"""Reward `retrieval` (after No Detail Left Behind, arXiv 2409.03025): does the caption tell its image from others?

In text form, which is ours: a judge gets captions of this image and of look-alike ones, and says which of them is of
the same image as the caption. Captions of one problem are compared with the same other problems.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import partial

from racro import config
from racro.data.contamination import look
from racro.data.images import BadImage, open_image
from racro.engines.protocol import Prompt, prompt_seed
from racro.rewards.judging import Ask, NoJudgement, judgements, unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rewards.wording import RETRIEVAL_DIGEST, retrieval_messages
from racro.schema import Problem

MAX_TOKENS = 16
ALONE = Value(None, "nothing to compare with", fault="alone")


class Retrieval(Kind[config.RetrievalReward]):
    """1 if the judge finds the caption of the same image, 0 if not, None if it names none."""

    version = 1
    prompts = RETRIEVAL_DIGEST
    needs = frozenset(("gate", "judges"))
    blind = True
    remedy = "raise rollout.problems, or look at what the judge answers"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts captions."""
        groups: dict[str, list[Case]] = {}
        for case in cases:
            groups.setdefault(case.problem.uid, []).append(case)
        others = alike([group[0].problem for group in groups.values()], means.images, self.settings.candidates - 1)
        asks: list[Ask[bool]] = []
        places: dict[int, int] = {}
        for place, case in enumerate(cases):
            uid = case.problem.uid
            partner = _partner(case, groups[uid])
            if unasked(case) is None and partner is not None and others[uid]:
                rivals = [groups[other][0].rollout.caption for other in others[uid]]
                places[place] = len(asks)
                asks.append(_ask(case, partner, rivals, means))
        found = judgements(means.judges["judge"], asks, 0.0, MAX_TOKENS, means)
        for place, case in enumerate(cases):
            if (stand_in := unasked(case)) is not None:
                yield stand_in
            elif place not in places:
                yield ALONE
            else:
                judged = found[places[place]]
                right = "right" if judged is True else "wrong"
                yield judged.value if isinstance(judged, NoJudgement) else Value(float(judged), right)


def alike(problems: Sequence[Problem], images: str, count: int) -> dict[str, list[str]]:
    """For each problem, the uids of the `count` others whose first image looks most like its own.

    By the distance of perceptual hashes. A problem that shows the same file is no other image and is left out; so are
    images that cannot be read.
    """
    looks: dict[str, tuple[str, int]] = {}
    for problem in problems:
        try:
            ref = problem.images[0]
            looks[problem.uid] = ref.sha256, int(look(open_image(ref, images)), 16)
        except (BadImage, IndexError):
            continue

    def nearest(uid: str) -> list[str]:
        if uid not in looks:
            return []
        sha256, own = looks[uid]
        others = [(bin(own ^ other).count("1"), name) for name, (file, other) in looks.items() if file != sha256]
        return [name for _, name in sorted(others)[:count]]

    return {problem.uid: nearest(problem.uid) for problem in problems}


def _partner(case: Case, group: Sequence[Case]) -> str | None:
    """Another caption of the same image: the next one of the group."""
    place = next(i for i, other in enumerate(group) if other.rollout.sample == case.rollout.sample)
    rest = [other for other in (*group[place + 1 :], *group[:place]) if other.rollout.finish_reason != "deadline"]
    return rest[0].rollout.caption if rest else None


def _ask(case: Case, partner: str, rivals: Sequence[str], means: Means) -> Ask[bool]:
    uid, caption = case.problem.uid, case.rollout.caption
    candidates = [partner, *rivals]
    order = random.Random(f"retrieval:{means.seed}:{means.iteration}:{uid}").sample(
        range(len(candidates)), len(candidates)
    )
    right = order.index(0) + 1

    def read(text: str) -> bool | None:
        found = re.search(r"\d+", text)
        return int(found[0]) == right if found and 1 <= int(found[0]) <= len(candidates) else None

    shown = [candidates[i] for i in order]
    seed = prompt_seed(means.seed, "retrieval", means.iteration, uid, case.rollout.sample)
    return Ask(case.problem, partial(_prompt, caption, shown), read, seed)


def _prompt(caption: str, candidates: Sequence[str], again: bool) -> Prompt:
    return Prompt(retrieval_messages(caption, candidates))
