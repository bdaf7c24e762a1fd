"""We-Math testmini (Qiao et al., arXiv 2407.01284): problems of two or three steps; each step is also a question.

A family is a whole problem with its one-step questions. There are four outcomes. If the whole is wrong: insufficient
knowledge (IK) if a step is wrong too, inadequate generalization (IG) if none is. If the whole is right: complete
mastery (CM) if the steps are right too, all of them (strict) or any (loose); otherwise rote memorization (RM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from racro.benchmarks.benchmark import Benchmark, Item, Part
from racro.benchmarks.metrics import Graded, Scores, accuracy, by_label, families, ratio, scored
from racro.data.cells import Unusable
from racro.data.golds import read_gold
from racro.data.rows import Draft
from racro.data.sources import Row
from racro.schema import Metric, Verdict

WHOLE = "multi"
ONE_STEP = "one-step"
_KEY = re.compile(rf"2steps_([12]|{WHOLE})|3steps_([123]|{WHOLE})")


def _read_row(number: int, row: Row, split: str) -> Item:
    family, key = str(row["ID"]), str(row["key"])  # 2steps_17, 2steps_multi: the ID is the family's
    if not _KEY.fullmatch(key):
        raise Unusable("unknown part", f"key {key!r} is not a step of a problem of two or three steps")
    steps, _, part = key.partition("_")
    concept = [("knowledge concept", row["knowledge concept"])] if part != WHOLE else []
    draft = Draft(
        uid=f"{family}/{part}",
        question=f"{row['question']}\nOption: {row['option']}",
        gold=read_gold(row["answer"], "choice", row["option"], row["question"]),
        images=[row["image_path"]],
        category=key,
    )
    return Item(
        draft,
        labels=[("steps", steps.replace("steps", "-step") if part == WHOLE else ONE_STEP), *concept],
        family=family,
        part=key,
    )


def parts_of(key: str) -> set[str]:
    """All parts of the family of a part. For "2steps_1": steps 1 and 2, and the whole."""
    steps = key.partition("_")[0]
    return {f"{steps}_{part}" for part in (*range(1, int(steps[0]) + 1), WHOLE)}


def score(graded: Sequence[Graded]) -> Scores:
    """The authors' four measures, strict and loose, over the F families whose parts all have a verdict.

    Score = (F - 0.5 IG - RM - IK) / F = (CM + 0.5 IG) / F. The rate of RM is RM / (CM + RM), as published.
    """
    found = families(graded)
    whole_F, all_F, any_F = [], [], []
    for family in found.values():
        right = {g.question.part: g.verdict is Verdict.CORRECT for g in scored(family)}
        if right.keys() == parts_of(family[0].question.part or ""):
            steps = [is_right for part, is_right in right.items() if not str(part).endswith(WHOLE)]
            whole_F.append(right[next(part for part in right if str(part).endswith(WHOLE))])
            all_F.append(all(steps))
            any_F.append(any(steps))
    IG_F = [steps and not whole for whole, steps in zip(whole_F, all_F, strict=True)]
    IK_F = [not steps and not whole for whole, steps in zip(whole_F, all_F, strict=True)]

    def mastery(name: str, steps_F: Sequence[bool]) -> list[Metric]:
        CM_F = [whole and steps for whole, steps in zip(whole_F, steps_F, strict=True)]
        RM_F = [whole and not steps for whole, steps in zip(whole_F, steps_F, strict=True)]
        return [
            *ratio(f"score ({name})", [CM + 0.5 * IG for CM, IG in zip(CM_F, IG_F, strict=True)]),
            *ratio(f"complete mastery ({name})", CM_F),
            *ratio(f"rote memorization ({name})", RM_F, whole_F),
        ]

    metrics = [
        *mastery("strict", all_F),
        *mastery("loose", any_F),
        *ratio("insufficient knowledge", IK_F),
        *ratio("inadequate generalization", IG_F),
    ]
    return Scores(
        metrics=(*metrics, *accuracy(graded), *by_label(graded)),
        unscored=len(graded) - len(scored(graded)),
        families=len(found),
        incomplete=len(found) - len(whole_F),
    )


TESTMINI = Benchmark(
    name="wemath",
    source="We-Math/We-Math",
    parts=(Part("testmini", ("testmini.json", "data/testmini.json")),),
    columns=("ID", "key", "question", "option", "answer", "image_path", "knowledge concept"),
    read_row=_read_row,
    score=score,
)
