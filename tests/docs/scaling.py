"""Writes the tables of docs/scaling.md that the planner computes: `python -m tests.docs.scaling`.

`tests/docs/test_scaling_page.py` fails when they are stale.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from racro.config import Recipe, loading
from racro.planning.given import Gpus, Lengths, Rates
from racro.planning.load import Load, load
from racro.planning.split import Found, NoSplit, Search

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
BEGIN, END = "<!-- made by the planner -->\n", "<!-- end -->\n"
RATES = Rates(lengths=Lengths(prompt=1200, caption=400, answer=2000))
SIZES = {"3B": ("3b", ()), "7B": ("7b", ()), "32B, adapter": ("32b", ()), "32B": ("32b", ("captioner.lora=null",))}
NODES = (1, 8, 64)


def text(place: Path) -> str:
    """What stands between BEGIN and END. place: a folder for configurations of models."""
    loads = {name: load(_recipe(size, place, more), RATES) for name, (size, more) in SIZES.items()}
    plain, said = loads["7B"]
    works = {name: work for name, (work, _) in loads.items()}
    return "\n".join([*_splits(works), "", *_assumptions(said), "", *_growth(plain), ""])


def page(place: Path) -> str:
    """docs/scaling.md with these tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + text(place) + END + rest.partition(END)[2]


def _recipe(size: str, place: Path, more: tuple[str, ...]) -> Recipe:
    from tests.support import qwen

    models = f"captioner.model={qwen.captioner_folder(size, place)}", f"reasoner.model={qwen.reasoner_folder(place)}"
    return loading.load(f"racro-{size}", [*models, *more])


def _found(work: Load, nodes: int) -> Found:
    return Search(work, Gpus(nodes=nodes, gpu="H100"), RATES).best()


def _splits(works: dict[str, Load]) -> Iterator[str]:
    heads = "captioner", "GPUs", "trainer", "captioner", "reasoner", "captions, s", "answers, s", "update, s", "hours"
    yield f"| {' | '.join(heads)} | GPU hours |"
    yield "|---" * 10 + "|"
    for name, work in works.items():
        for nodes in NODES:
            try:
                found = _found(work, nodes)
            except NoSplit as error:
                yield f"| {name} | {nodes * 8} | does not fit: {str(error).partition(';')[0]} |" + " |" * 7
                continue
            [times] = found.times
            gpus, parallel, hours = found.split.gpus, found.split.parallel, found.run.seconds / 3600
            cells = [
                name,
                str(nodes * 8),
                _role(gpus["trainer"], found.run.busy["trainer"] / found.run.seconds),
                *(
                    _role(gpus[role], found.run.busy[role] / found.run.seconds, parallel[role])
                    for role in ("captioner", "reasoner")
                ),
                f"{times.captions:.0f}",
                f"{times.rewards[0][1]:.0f}",
                f"{times.update:.1f}",
                f"{hours:.1f}",
                f"{hours * sum(gpus.values()):,.0f}",
            ]
            yield f"| {' | '.join(cells)} |"


def _role(gpus: int, busy: float, parallel: int = 1) -> str:
    each = f" ({parallel} a copy)" if parallel > 1 else ""
    return f"{gpus}{each}, {busy:.0%}"


def _assumptions(said: list[str]) -> Iterator[str]:
    gpus = Gpus(gpu="H100")
    text = (
        f"Taken for granted: H100s with {gpus.bytes / 1e9:.0f} GB, {gpus.flops / 1e12:.0f} TFLOP/s and "
        f"{gpus.reads / 1e9:,.0f} GB/s of memory, in nodes of {gpus.gpus}; {gpus.between(1) / 1e9:.0f} GB/s between "
        f"GPUs of a node, {gpus.network:g} GB/s to another node, {gpus.storage:g} GB/s to the root; "
        + "; ".join(said)
        + ". Percentages say how much of the time a role works."
    )
    yield from textwrap.wrap(text, 120)


def _growth(work: Load) -> Iterator[str]:
    plain, recipe = _found(work, 8).run.seconds, work.recipe

    def changed(**changes: int) -> Found:
        rollout = recipe.rollout.model_copy(update=changes)
        return _found(load(recipe.model_copy(update={"rollout": rollout}), RATES)[0], 8)

    def longer(**changes: int) -> Found:
        lengths = RATES.lengths.model_copy(update=changes)
        return _found(load(recipe, RATES.model_copy(update={"lengths": lengths}))[0], 8)

    cases = {
        "problems, 512": changed(problems=512),
        "captions of a problem, 8": changed(group_size=8),
        "tokens of a caption, 800": longer(caption=800),
        "tokens of an answer, 4,000": longer(answer=4000),
        "tokens of a prompt, 2,400": longer(prompt=2400),
        "GPUs, 128": _found(work, 16),
    }
    yield f"| twice as many (7B, 64 GPUs, {plain / 3600:.2f} hours) | hours | factor |"
    yield "|---|---|---|"
    for name, found in cases.items():
        yield f"| {name} | {found.run.seconds / 3600:.2f} | {found.run.seconds / plain:.2f} |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = page(Path(folder))
    PAGE.write_text(made, encoding="utf-8")
