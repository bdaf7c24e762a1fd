"""Updates raise the reward: in bfloat16, of an adapter, with a frozen vision tower, on several images and mixed sizes.

The reward is the oracle's: does a caption of a few words state what the question asks for? Few updates on few problems,
which are captioned again with fresh samples; the rise is measured problem by problem.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from racro import config
from racro.data import problems
from racro.data.images import sha256
from racro.embedded import oracle
from racro.engines.local.transformers import TransformersEngine
from racro.models.folders import EMBEDDED
from racro.rewards.composition import compose, terms
from racro.rewards.kinds import kind_of
from racro.rewards.protocol import Case, Means
from racro.rollouts import captioner
from racro.schema import ImageRef, Problem, RewardRow, ScoredRollout
from racro.training import planning
from racro.training.trainer import Trainer, Training

INITIAL = EMBEDDED / "captioner"
COUNT, GROUP, UPDATES = 32, 8, 6
ROLLOUT = config.RolloutSettings(problems=COUNT, group_size=GROUP, max_tokens=12)
RUNTIME = config.Runtime(device="cpu", gradient_checkpointing=False, trainer=config.TrainerPlacement(tokens=4096))
SETTINGS = config.UpdateSettings(learning_rate=6e-4, beta=0.01, mini_batch=COUNT // 2, weight_decay=0.0)


def pool(table: Path, fits: Callable[[Problem], bool]) -> list[Problem]:
    """The first problems of the embedded world that are fit."""
    made = problems.load(config.EmbeddedProblems(count=600), str(table), seed=0).problems
    return [problem for problem in made if fits(problem)][:COUNT]


def cut(problem: Problem, table: Path, bars: int) -> Problem:
    """The problem with the first bars of its image alone."""
    scene = json.loads(problem.scene or "")
    [file] = problem.images
    name = f"{Path(file.path).stem}-{bars}.png"
    Image.open(table / file.path).crop((0, 0, 28 * bars, 28)).save(table / name)
    image = ImageRef(path=name, sha256=sha256((table / name).read_bytes()))
    scene["images"] = [shown[:bars] for shown in scene["images"]]
    return problem.model_copy(update={"images": (image,), "scene": json.dumps(scene)})


def bars_needed(problem: Problem) -> int:
    """How many bars of the image, from the left, hold all that is asked for."""
    scene = json.loads(problem.scene or "")
    colours = [colour for colour, _ in scene["images"][0]]
    return max(colours.index(colour) + 1 for _, colour, _ in scene["asked"])


def states_asked(cases: list[Case]) -> list[float]:
    """1 for a caption that states what the question asks for."""
    return [float(oracle.inspect(c.rollout.caption, c.problem.scene or "").states_asked) for c in cases]


def rewards(rows: Sequence[ScoredRollout]) -> dict[str, float]:
    """Mean reward by problem."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.uid, []).append(row.reward or 0.0)
    return {uid: statistics.fmean(values) for uid, values in found.items()}


def rise(
    chosen: list[Problem],
    table: Path,
    place: Path,
    section: config.Captioner,
    seed: int = 0,
    score: Callable[[list[Case]], list[float]] | None = None,
    **changes: Any,
) -> tuple[float, float]:
    """How much a few updates raise the mean reward on fresh samples, and the standard error over problems.

    `score`: values of captions; None: does the caption state what is asked for?
    """
    known = {problem.uid: problem for problem in chosen}
    engine = TransformersEngine.captioner(str(INITIAL), section.dtype, "cpu", COUNT)
    trainer = Trainer(Training(INITIAL, section, 1.0, SETTINGS.model_copy(update=changes), RUNTIME, seed), None)

    def sampled(iteration: int) -> list[ScoredRollout]:
        made = captioner.caption(chosen, str(table), "policy", engine, ROLLOUT, seed, iteration, deadline=600)
        rollouts = captioner.in_order(list(made), chosen)
        values = (score or states_asked)([Case(known[row.uid], row) for row in rollouts])
        table_of = [
            RewardRow(uid=row.uid, sample=row.sample, value=value, detail="", response=None, verdict=None)
            for row, value in zip(rollouts, values, strict=True)
        ]
        return compose(rollouts, [table_of], terms([config.AnswerReward()]))

    rows, step = sampled(0), 0
    first = rows
    for iteration in range(1, UPDATES + 1):
        work = planning.plan(rows, {problem.uid: problem for problem in chosen}, "policy", SETTINGS.mini_batch)
        step += int(trainer.update(work, str(table), step)["steps"])
        trainer.export(place / str(iteration))
        engine.swap(str(place / str(iteration)))
        rows = sampled(iteration)
    before, after = rewards(first), rewards(rows)
    gains = [after[uid] - before[uid] for uid in before]
    return statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))


F32 = config.Captioner(model="embedded", dtype="float32")
CASES: dict[str, tuple[config.Captioner, dict[str, Any]]] = {
    "bfloat16": (F32.model_copy(update={"dtype": "bfloat16"}), {}),
    "adapter": (F32.model_copy(update={"lora": config.Lora(rank=8, alpha=32)}), {"learning_rate": 1e-3}),
    "frozen vision": (F32, {"freeze": ("vision",)}),
    "several images": (F32, {}),
    "mixed sizes": (F32, {}),
}
SURE = 3.0
"""Standard errors. Of three seeds each, the smallest rises were 8.4, 6.1, 8.6, 12.5 and 4.9 of them."""


@pytest.mark.parametrize("case", CASES)
def test_a_few_updates_raise_the_reward(case: str, tmp_path: Path) -> None:
    table = tmp_path / "table"
    section, changes = CASES[case]
    if case == "several images":
        chosen = pool(table, lambda problem: len(problem.images) == 2)
    elif case == "mixed sizes":
        whole = pool(table, lambda problem: len(problem.images) == 1 and bars_needed(problem) < 4)
        chosen = [cut(problem, table, max(2, bars_needed(problem))) for problem in whole]
        assert len({Image.open(table / problem.images[0].path).size for problem in chosen}) > 1
    else:
        chosen = pool(table, lambda problem: len(problem.images) == 1)
    risen, error = rise(chosen, table, tmp_path, section, **changes)
    assert risen > SURE * error, f"{risen:.3f} ± {error:.3f}"


KINDS: dict[str, config.Reward] = {
    "facts": config.FactsReward(by="scene"),
    "mcq": config.McqReward(by="scene", rounds=4),
    "confidence": config.ConfidenceReward(lead="\\boxed{"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_moves_its_own_quantity(kind: str, tmp_path: Path) -> None:
    """Alone and without a judge; the confidence is that of the embedded reasoner, about one bar.

    Not correctness: what the embedded captioner says is true to begin with.
    """
    table = tmp_path / "table"
    one_bar = kind == "confidence"
    chosen = pool(table, lambda p: len(p.images) == 1 and (p.category == "value" or not one_bar))
    reasoner = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", 64) if one_bar else None
    means = Means(seed=0, iteration=0, deadline=600, reasoner=reasoner)

    def score(cases: list[Case]) -> list[float]:
        return [found.value or 0.0 for found in kind_of(KINDS[kind]).score(cases, means)]

    risen, error = rise(chosen, table, tmp_path, F32, score=score)
    assert risen > SURE * error, f"{risen:.3f} ± {error:.3f}"
