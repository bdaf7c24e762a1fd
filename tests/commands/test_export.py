"""`racro export`: a trained captioner on disk and on the hub, with a card; mistakes are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.models.folders import model_digest
from racro.summary import Summary
from tests.commands.test_cli import environment
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import hub
from tests.support.forkserver import Done, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Path, Summary]:
    """Root and summary of a training."""
    root = tmp_path_factory.mktemp("root")
    return root, train(loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1"]), run="small", root=str(root))


@pytest.fixture(scope="module")
def done(trained: tuple[Path, Summary], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, hub.Hub, list[Done]]:
    """Every command of this file, in one working directory."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "work").mkdir()
    root, summary = trained
    with hub.served() as there:
        commands = [
            ["export", "small", "--root", str(root), "--out", "captioner", "--push", "me/captioner", "--private"],
            ["export", summary.policy.digest[:10], "--root", str(root), "--out", "captioner"],
            ["export", summary.policy.digest[:10], "--root", str(root), "--out", "half", "--dtype", "bfloat16"],
            ["export", "initial", "--recipe", "embedded", "--out", "first"],
            ["export", "nobody", "--out", "other"],
            ["export", "small", "--root", str(root), "--out", "x", "--merge"],
            ["export", "initial", "--recipe", "embedded", "--out", "again", "--push", "no slash/and space"],
        ]
        settings = {"HF_ENDPOINT": there.url, "HF_TOKEN": there.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        results = run(commands, ["tasks.choose"], folder / "work", environment(folder, **settings))
    return folder / "work", there, results


def test_a_run_is_exported_with_its_figures(
    done: tuple[Path, hub.Hub, list[Done]], trained: tuple[Path, Summary]
) -> None:
    folder, _, (first, again, half, initial, *_) = done
    assert first.code == 0, first.err
    exported = folder / "captioner"
    assert model_digest(exported) == trained[1].policy.digest
    assert trained[1].final.share.percent in (exported / "README.md").read_text()
    assert again.code == 2 and "--out captioner: is not empty" in again.err
    assert half.code == 0, half.err
    size = (exported / "model.safetensors").stat().st_size
    assert (folder / "half" / "model.safetensors").stat().st_size < 0.6 * size
    assert initial.code == 0, initial.err
    assert "Not known" in (folder / "first" / "README.md").read_text()


def test_it_is_on_the_hub_file_by_file(done: tuple[Path, hub.Hub, list[Done]]) -> None:
    folder, there, (first, *_) = done
    assert there.repositories == {"me/captioner": True}
    assert there.files == {file.name: file.read_bytes() for file in (folder / "captioner").iterdir()}
    assert f"uploaded to {there.url}/me/captioner" in first.out
    assert b'folder = "me/captioner"' in there.files["README.md"]


def test_a_mistake_is_one_line(done: tuple[Path, hub.Hub, list[Done]]) -> None:
    _, _, (*_, nobody, merged, name) = done
    for result, line in (
        (nobody, "racro: --policy nobody: no policy is there"),
        (merged, "racro: --merge: this captioner is a whole model already"),
        (name, "racro: --push no slash/and space: "),
    ):
        assert result.code == 2, result.err
        ours = [line for line in result.err.splitlines() if line.startswith("racro: ")]
        [said] = [line for line in ours if not line.startswith("racro: looking for the captioner ")]
        assert said.startswith(line) and "Traceback" not in result.err
