"""Which of several answers wins a vote? The most frequent one, as in self-consistency (arXiv 2203.11171)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

ELECTION = 2
"""Version of who wins. To be raised in the commit that changes it; part of the identity of what counts votes."""


def elect(
    answers: Sequence[str | None], alike: Callable[[str, str], bool], abstains: Callable[[str], bool]
) -> int | None:
    """Number of the first answer that is given most often, and of the first of equally frequent ones.

    `alike`: do two answers mean the same? `abstains`: does an answer say only that there is none? Such ones win only
    where there are no others. None among the answers has no vote. None if there is no answer.
    """
    given = [None if answer is None or abstains(answer) else answer for answer in answers]
    if all(answer is None for answer in given):
        given = list(answers)
    groups: list[list[int]] = []
    for number, answer in enumerate(given):
        if answer is None:
            continue
        for group in groups:
            if alike(answer, given[group[0]] or ""):
                group.append(number)
                break
        else:
            groups.append([number])
    return max(groups, key=len)[0] if groups else None
