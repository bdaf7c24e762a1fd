"""docs/map.md says what the code says about itself, and every folder says which question it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.map import PAGE, REPOSITORY, ROOTS, Undescribed, description, packages, page


def test_the_map_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(REPOSITORY), "docs/map.md is stale: run `make map` and commit it"


@pytest.mark.parametrize("root", [root for root in ROOTS if root != "tests"])
def test_every_folder_answers_a_question(root: str) -> None:
    silent = [
        str(folder.relative_to(REPOSITORY))
        for folder in packages(REPOSITORY / root)
        if "?" not in description(folder / "__init__.py")
    ]
    assert silent == [], "open the docstring of __init__.py with the question that the folder answers"


def test_a_new_file_makes_the_map_stale_and_one_without_a_word_is_named(tmp_path: Path) -> None:
    for root in ROOTS:
        (tmp_path / root).mkdir()
        (tmp_path / root / "__init__.py").write_text('"""What is it?"""\n')
    before = page(tmp_path)
    (tmp_path / "racro" / "reward.py").write_text('"""One line\nand its end.\n\nMore."""\n')
    (tmp_path / "infra" / "pool.yaml").write_text("# A pool. More about it.\n# And more.\nname: x\n")
    after = page(tmp_path)
    assert set(after.splitlines()) - set(before.splitlines()) >= {
        "| [reward.py](../racro/reward.py) | One line and its end. |",
        "| [pool.yaml](../infra/pool.yaml) | A pool. |",
    }
    (tmp_path / "tasks" / "silent.py").write_text("x = 1\n")
    with pytest.raises(Undescribed, match=r"silent\.py does not say what it is"):
        page(tmp_path)
