"""The memory table of docs/gpus.md is what the formula says, and its placements fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from racro.config import Captioner, Lora, Runtime, TrainerPlacement, UpdateSettings, loading
from racro.models import colocation, memory, sizes
from racro.processes.gpus import GIB, Memory
from tests.conftest import REPOSITORY
from tests.support import qwen

PAGE = REPOSITORY / "docs" / "gpus.md"
H100 = Memory(free=81559 * 2**20, total=81559 * 2**20)
"""What nvidia-smi shows of an H100 with 80 GB."""
WORLDS = (1, 2, 4, 8)
Row = tuple[str, Lora | None, UpdateSettings]
KINDS: list[Row] = [
    ("all weights", None, UpdateSettings()),
    ("all weights, `adamw_8bit`", None, UpdateSettings(optimizer="adamw_8bit")),
    ("adapter of rank 16", Lora(), UpdateSettings()),
]


def cell(found: sizes.Sizes, lora: Lora | None, update: UpdateSettings, world: int) -> str:
    place = TrainerPlacement(gpus=tuple(range(world)), shard="fsdp" if world > 1 else "none")
    need = memory.trainer(found, Captioner(lora=lora), update, Runtime(trainer=place))
    return f"{need.certain / GIB:.0f}, {need.likely / GIB:.0f}"


def table(place: Path) -> str:
    """As it stands in the page."""
    lines = ["| trained | " + " | ".join(f"{n} GPU{'s' * (n > 1)}" for n in WORLDS) + " |", "|---" * 5 + "|"]
    for size in ("3b", "7b", "32b"):
        folder = qwen.captioner_folder(size, place)
        for name, lora, update in KINDS:
            found = sizes.captioner(folder, lora, ())
            cells = " | ".join(cell(found, lora, update, world) for world in WORLDS)
            lines.append(f"| {size.upper()}, {name} | {cells} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_what_the_formula_says(tmp_path: Path) -> None:
    assert table(tmp_path) in PAGE.read_text()


def test_the_placements_fit_what_they_are_for(tmp_path: Path) -> None:
    """One, two and eight GPUs: nothing is refused, nothing warned of."""
    section = PAGE.read_text().partition("## One, two, eight GPUs")[2].partition("\n## ")[0]
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in section.split("```yaml\n")[1:]]
    cases = [(1, "3b"), (1, "7b"), (2, "3b"), (8, "7b")]
    for (count, size), content in zip(cases, [blocks[0], *blocks], strict=True):
        content["captioner"]["model"] = str(qwen.captioner_folder(size, tmp_path))
        content["reasoner"]["model"] = str(qwen.reasoner_folder(tmp_path))
        recipe = loading.parse(content, "page")
        there = dict.fromkeys(range(count), H100)
        found = colocation.placed(recipe, range(count), vllm=True)
        assert found.gpus == list(there), (count, size)
        colocation.refuse(recipe, found, there)
        assert colocation.warnings(recipe, found, there) == [], (count, size)


@pytest.mark.parametrize("change", [{"update": {"optimizer": "adamw_8bit"}}, {"trainer": {"optimizer": "offload"}}])
def test_all_weights_of_3b_on_one_gpu(change: dict[str, dict[str, str]], tmp_path: Path) -> None:
    found = sizes.captioner(qwen.captioner_folder("3b", tmp_path), None, ())
    update = UpdateSettings.model_validate(change.get("update", {}))
    runtime = Runtime(trainer=TrainerPlacement.model_validate(change.get("trainer", {})))
    assert memory.trainer(found, Captioner(), update, runtime).likely < 75 * GIB
