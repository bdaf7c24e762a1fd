"""Does a judge agree with people? A reward's values for captions that have labels, compared with the labels.

A judge is measured before it is believed. Called by the command `racro judge`, which opens the judges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from racro import config
from racro.data import sources
from racro.data.cells import Unusable, is_number, text_of
from racro.data.known import read_facts, read_mcq
from racro.data.rows import INLINE_FOLDER, Files, image_items, image_ref, inline_ref
from racro.errors import BadInput
from racro.rewards.protocol import Case, Value
from racro.schema import Frozen, Problem, Rollout, Share
from racro.schema.shares import Z

COLUMNS = ("uid", "question", "answer", "image", "facts", "mcq", "scene")
"""Columns that a file may have beside `caption` and `label`: what the reward needs of them."""


class BadLabels(BadInput):
    """A file with labels that cannot be used."""


class Labelled(NamedTuple):
    """A caption, and what somebody says that it is worth."""

    case: Case
    label: float
    """0 to 1."""


class Agreement(Frozen):
    """How far values and labels agree, both divided into good and bad at a threshold."""

    reward: str
    threshold: float
    n: int
    """Captions with a value and a label."""
    unscored: int
    """Captions that the reward gave no value."""
    accuracy: Share | None
    """Share of captions about which both say the same; None without any."""
    kappa: float | None
    """Cohen's: agreement beyond chance, 1 at most; None where one of them says the same of all captions."""
    kappa_interval: tuple[float, float] | None
    """95 %, by the large-sample standard error."""
    counts: dict[str, int]
    """`both`, `neither`, `judge` (only the judge finds it good) and `label`."""
    faults: dict[str, int]
    """Why captions have no value, with how many."""


def read(file: Path, folder: Path) -> list[Labelled]:
    """The rows of a .jsonl, .json or .parquet file. Images without a file are written into `folder`.

    Raises BadLabels, with the number of the first row that cannot be used; BadSource.
    """
    source = sources.open_source(str(file), None)
    for name in ("caption", "label"):
        if name not in source.columns:
            raise BadLabels(f"{file}: no column {name}; give each row a caption and a label from 0 to 1")
    wanted = ["caption", "label", *(name for name in COLUMNS if name in source.columns)]
    files, found = Files(), []
    for number, row in enumerate(source.rows(wanted)):
        try:
            found.append(_labelled(number, row, source.base, files, folder))
        except Unusable as error:
            raise BadLabels(f"{file}: row {number}: {error}; correct it or leave it out") from error
    if not found:
        raise BadLabels(f"{file}: no rows; give each row a caption and a label from 0 to 1")
    return sorted(found, key=lambda labelled: labelled.case.problem.uid)  # captions of a problem are neighbours


def of_scenes(labelled: Sequence[Labelled], file: Path) -> list[Labelled]:
    """For rewards that compare with a scene: without facts and questions of the row's own. Raises BadLabels."""
    found = []
    for one in labelled:
        case = one.case
        if not case.problem.scene:
            raise BadLabels(f"{file}: row {case.rollout.sample}: no scene, which this reward compares with; add it")
        problem = case.problem.model_copy(update={"facts": (), "mcq": ()})
        found.append(Labelled(case._replace(problem=problem), one.label))
    return found


def agreement(reward: str, values: Sequence[Value], labels: Sequence[float], threshold: float) -> Agreement:
    """Accuracy and Cohen's kappa (1960) of values against labels."""
    pairs = [
        (value.value >= threshold, label >= threshold)
        for value, label in zip(values, labels, strict=True)
        if value.value is not None
    ]
    n = len(pairs)
    counts = {
        "both": pairs.count((True, True)),
        "neither": pairs.count((False, False)),
        "judge": pairs.count((True, False)),
        "label": pairs.count((False, True)),
    }
    faults: dict[str, int] = {}
    for value in values:
        if value.value is None:
            faults[value.detail] = faults.get(value.detail, 0) + 1
    kappa, interval = _kappa(counts, n)
    return Agreement(
        reward=reward,
        threshold=threshold,
        n=n,
        unscored=len(values) - n,
        accuracy=Share.of(one == other for one, other in pairs),
        kappa=kappa,
        kappa_interval=interval,
        counts=counts,
        faults=faults,
    )


def _kappa(counts: dict[str, int], n: int) -> tuple[float | None, tuple[float, float] | None]:
    if not n:
        return None, None
    same = (counts["both"] + counts["neither"]) / n
    judge, label = (counts["both"] + counts["judge"]) / n, (counts["both"] + counts["label"]) / n
    chance = judge * label + (1 - judge) * (1 - label)
    if chance == 1:
        return None, None
    kappa = (same - chance) / (1 - chance)
    error = math.sqrt(same * (1 - same) / n) / (1 - chance)
    return kappa, (max(-1.0, kappa - Z * error), min(1.0, kappa + Z * error))


def _labelled(number: int, row: dict[str, Any], base: str | None, files: Files, folder: Path) -> Labelled:
    label = row["label"]
    if not (isinstance(label, bool) or is_number(label)) or not 0 <= float(label) <= 1:
        raise Unusable("unreadable label", f"{label!r} is no number from 0 to 1")
    uid = text_of(row.get("uid"), "uid", numbers=True) or str(number)
    problem = Problem(
        uid=uid,
        question=text_of(row.get("question"), "question"),
        answer=text_of(row.get("answer"), "answer", numbers=True),
        kind="text",
        category="all",
        choices=(),
        images=tuple(image_ref(item, base, files) for item in _images(row, folder)),
        scene=text_of(row.get("scene"), "scene") or None,
        facts=read_facts(row.get("facts")),
        mcq=read_mcq(row.get("mcq")),
    )
    rollout = Rollout(
        uid=uid,
        sample=number,
        policy="",
        prompt_ids=(),
        completion_ids=(),
        logprobs=(),
        finish_reason="stop",
        caption=text_of(row["caption"], "caption"),
    )
    return Labelled(Case(problem, rollout), float(label))


def _images(row: dict[str, Any], folder: Path) -> Iterator[Any]:
    """The images of a row; those that came as bytes are written, so that they can be opened later."""
    for item in image_items(row.get("image")):
        if isinstance(item, bytes):
            (folder / INLINE_FOLDER).mkdir(parents=True, exist_ok=True)
            (folder / inline_ref(item).path).write_bytes(item)
        yield item


def measured(reward: config.Reward) -> None:
    """Raises BadLabels unless the reward is a judge's, or takes a judge's place."""
    if not reward.asked and getattr(reward, "by", None) != "scene":
        raise BadLabels(f"rewards: {reward.title}: asks no judge; name a reward that does with --reward")
