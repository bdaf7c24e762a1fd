"""Which rewards undo which hack, on the embedded world: `python -m tests.bench.rewards`.

Trains the embedded captioner under each composition of rewards, in the world as it ships and in one where captions that
give the answer away pay (`tests.bench.hacked_world`), from three seeds, and prints a table for each world: means over
seeds with their standard errors. What is done is kept under --root: the same command goes on where it was stopped.
`--short` takes smaller trainings.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import hacked_world

ANSWER = "{type: answer}"
LENGTH = "{type: length, weight: 0.2, budget: 4, limit: 12}"
FACTS = "{type: facts, by: scene, weight: 0.5}"
CORRECTNESS = "{type: correctness, by: scene, weight: 0.5}"
SEVERAL = f"rewards=[{ANSWER}, {LENGTH}, {FACTS}, {CORRECTNESS}]"
ARMS: dict[str, tuple[str, ...]] = {
    "answer": (f"rewards=[{ANSWER}]",),
    "answer + describes": (f"rewards=[{ANSWER}, {{type: describes, weight: 0.1, gate: answer}}]",),
    "answer + 5 describes": (f"rewards=[{ANSWER}, {{type: describes, weight: 0.5, gate: answer}}]",),
    "answer + length": (f"rewards=[{ANSWER}, {LENGTH}]",),
    "answer + facts": (f"rewards=[{ANSWER}, {FACTS}]",),
    "answer + correctness": (f"rewards=[{ANSWER}, {CORRECTNESS}]",),
    "answer + confidence": (
        "rewards=[{type: answer, weight: 0.5}, {type: confidence, lead: '\\boxed{', weight: 0.5}]",
    ),
    "answer + mcq": (f"rewards=[{ANSWER}, {{type: mcq, by: scene, weight: 0.5}}]",),
    "all four, sum": (SEVERAL,),
    "all four, gdpo": (SEVERAL, "advantage.type=gdpo"),
}
"""Compositions. `all four` are answer, length, facts and correctness."""
WORLDS = ("shipped", "hacked")
EVERY = ("evaluation.every=100", "runtime.checkpoint_every=100")
SHORT = (
    "iterations=6",
    "problems.count=256",
    "rollout.problems=32",
    "update.mini_batch=8",
    "evaluation.problems=256",
)
TIGHT = "rollout.max_tokens=5"
"""Of the hacked world: room for one statement, or for an announced answer."""
HONEST = "with the shipped reasoner"


def study(worlds: Sequence[str], arms: Sequence[str], seeds: int, root: Path, more: Sequence[str]) -> dict[str, Any]:
    """The figures of all trainings: by world and arm a list, one dict for each seed."""
    from flows.station import local

    home = local.settle(root / "home")
    found: dict[str, Any] = {world: {arm: [] for arm in arms} for world in worlds}
    with local.prefect_server(home):
        from racro.config import loading
        from racro.identity import recipe_digest

        for world in worlds:
            models = hacked_world.build(root / "models") if world == "hacked" else {}
            chosen = [f"{role}.model={folder}" for role, folder in models.items()]
            chosen += [TIGHT] if models else []
            for seed in range(seeds):
                for arm in arms:
                    settings = [*EVERY, *more, *ARMS[arm], *chosen, f"seed={seed}"]
                    recipe = loading.load("embedded", settings)
                    file = root / "figures" / f"{recipe_digest(recipe)}.json"
                    if not file.is_file():
                        figures = trained(recipe, world, root)
                        file.parent.mkdir(exist_ok=True)
                        file.write_text(json.dumps(figures))
                    found[world][arm].append(json.loads(file.read_text()))
                    print(f"{world}, {arm}, seed {seed}: {file.read_text()}", flush=True)
    return found


def trained(recipe: Any, world: str, root: Path) -> dict[str, float]:
    """One training, and what the tables need of it."""
    from flows.evaluation import evaluate
    from flows.training import train
    from racro.identity import recipe_digest
    from tasks.running.stages import Stages

    seconds, described = 0.0, []
    run = Stages.run

    def watched(self: Stages, task: Any, *names: Any, **inputs: Any) -> Any:
        nonlocal seconds
        handle = run(self, task, *names, **inputs)
        record = Stages.record(handle)
        seconds += record.seconds  # as it was when it was made: arms share what they have in common
        if task.name == "describe":
            described.append(record.metrics["tokens"] / handle.rows)
        return handle

    Stages.run = watched  # type: ignore[method-assign]
    try:
        name, place = recipe_digest(recipe)[:12], str(root / "runs")
        final = train(recipe, run=name, root=place).final
    finally:
        Stages.run = run  # type: ignore[method-assign]
    figures = {
        "accuracy": final.accuracy,
        "truthful": math.nan if final.truthful is None else final.truthful,
        "states asked": final.states_asked or 0.0,
        "leaks": final.leaks or 0.0,
        "length": described[-1],
        "seconds": seconds,
        "n": final.n,
    }
    if world == "hacked":
        shipped = recipe.reasoner.model_copy(update={"model": "embedded"})
        plain = evaluate(recipe, policy=name, modes=("caption",), reasoners=(shipped,), run=f"{name}-o", root=place)
        [entry] = plain.entries
        figures[HONEST] = next(metric.value for metric in entry.metrics if metric.name == "accuracy")
    return figures


def shown(values: Sequence[float], factor: float = 1.0, digits: int = 1) -> str:
    """Mean and standard error over seeds; a dash where nothing is known."""
    known = [value * factor for value in values if not math.isnan(value)]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(known) / math.sqrt(len(known)):,.{digits}f}" if len(known) > 1 else mean


def table(arms: dict[str, list[dict[str, float]]]) -> str:
    """A world's table in Markdown."""
    shares = ["accuracy", "truthful", "states asked", "leaks"]
    shares += [HONEST] if any(HONEST in run for runs in arms.values() for run in runs) else []
    lines = [f"| rewards | {', % | '.join(shares)}, % | length, tokens | seconds |", f"|{'---|' * (len(shares) + 3)}"]
    for arm, runs in arms.items():
        cells = [shown([run[share] for run in runs], 100) for share in shares]
        cells += [shown([run["length"] for run in runs]), shown([run["seconds"] for run in runs], digits=0)]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="smaller trainings and fewer held-out problems")
    parser.add_argument("--root", type=Path, default=Path("rewards"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key of all arms")
    given = parser.parse_args()
    root = given.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    more = [*(SHORT if given.short else ()), *given.set]
    found = study(given.worlds, given.arms, given.seeds, root, more)
    for world, arms in found.items():
        held_out = next(run["n"] for runs in arms.values() for run in runs)
        print(f"\n{world} world, {given.seeds} seeds, {held_out:.0f} held-out problems\n\n{table(arms)}")


if __name__ == "__main__":
    main()
