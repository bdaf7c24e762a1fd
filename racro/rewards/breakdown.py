"""An iteration by what its problems are: rewards, right answers and lengths for each category and each origin."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from racro.embedded.oracle import inspect
from racro.rewards.measures import measured
from racro.schema import Problem, ScoredRollout, Verdict

MOST = 20
"""Values of a trait that get metrics, the most frequent ones; the others are only in the sums."""

Rows = Sequence[ScoredRollout]


def overall(rows: Rows, problems: Mapping[str, Problem]) -> dict[str, float]:
    """What is known of all captions of an iteration beside their rewards."""
    return _answers(rows) | _leaks(rows, problems)


def by_trait(rows: Rows, titles: Sequence[str], traits: Mapping[str, str]) -> dict[str, float]:
    """The same and the rewards for each value of a trait, named VALUE/METRIC; nothing if all problems have the same.

    `titles`: of the rewards of the sum, in the order of `values`. `traits`: by the uid of a problem.
    """
    groups: dict[str, list[ScoredRollout]] = defaultdict(list)
    for row in rows:
        if row.uid in traits:
            groups[traits[row.uid]].append(row)
    if len(groups) < 2:
        return {}
    frequent = sorted(groups, key=lambda value: (-len(groups[value]), value))[:MOST]
    return {f"{value}/{name}": number for value in frequent for name, number in _group(groups[value], titles).items()}


def _group(rows: Rows, titles: Sequence[str]) -> dict[str, float]:
    found = measured(rows, [row.reward for row in rows])
    metrics = {
        "reward": found["mean"],
        "problems": found["groups"],
        "groups_informative": len({row.uid for row in rows if row.advantage}),
        "tokens_mean": statistics.fmean(len(row.completion_ids) for row in rows),
        "cut_share": statistics.fmean(row.finish_reason != "stop" for row in rows),
    }
    if len(titles) > 1:
        for i, title in enumerate(titles):
            values = [row.values[i] for row in rows]
            if any(value is not None for value in values):
                metrics[f"reward_{title}"] = measured(rows, values)["mean"]
    return metrics | _answers(rows)


def _answers(rows: Rows) -> dict[str, float]:
    """Of answers that say something: the shares that are right, and in which no answer was found."""
    known = Counter(row.verdict for row in rows if row.verdict not in (None, Verdict.FAILED))
    count = known.total()
    if not count:
        return {}
    return {"pass_rate": known[Verdict.CORRECT] / count, "unparsed_share": known[Verdict.UNPARSED] / count}


def _leaks(rows: Rows, problems: Mapping[str, Problem]) -> dict[str, float]:
    """Of captions of known scenes."""
    scenes = ((row.caption, problems[row.uid].scene) for row in rows if row.uid in problems)
    facts = [inspect(caption, scene) for caption, scene in scenes if scene is not None]
    return {"leaks": statistics.fmean(one.leaks for one in facts)} if facts else {}
