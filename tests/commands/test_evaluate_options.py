"""What `racro evaluate` and `racro compare` are given on the command line, right and wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.cli.evaluate_options import benchmarks, mode_settings, modes, reasoners
from racro.config import LengthReward, ModeSettings, loading
from racro.config.loading import BadRecipe
from racro.errors import BadInput
from racro.schema import Mode
from tests.conftest import EMBEDDED_RECIPE
from tests.support import forkserver

RECIPE = loading.load(EMBEDDED_RECIPE)


def test_benchmarks_and_modes() -> None:
    assert benchmarks(["mathvista", "own=s3://b/x=1.jsonl"]) == {"mathvista": None, "own": "s3://b/x=1.jsonl"}
    assert modes(["text", "caption", "text"]) == ("caption", "text")
    assert benchmarks([]) == {} and modes([]) == ()


def test_a_reasoner_is_a_model_with_the_recipes_settings_or_a_section_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("reasoner: {model: other, engine: {type: vllm}, max_tokens: 7}")
    by_name, by_file = reasoners(["Qwen/Qwen3-8B", str(tmp_path / "r.yaml")], RECIPE)
    assert by_name == RECIPE.reasoner.model_copy(update={"model": "Qwen/Qwen3-8B"})
    assert (by_file.model, by_file.engine.type, by_file.max_tokens) == ("other", "vllm", 7)
    places = "runtime.reasoners={Qwen3-8B: {urls: [http://host/v1]}, near: {}}"
    away, near = reasoners(["Qwen/Qwen3-8B", "near"], loading.load(EMBEDDED_RECIPE, [places]))
    assert (away.engine.type, near.engine.type) == ("server", "transformers"), "endpoints need no file"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"not a readable YAML file \(FileNotFoundError\)"),
        ("[", r"not a readable YAML file \(ParserError\)"),
        ("model: x", "holds no section `reasoner`, which a recipe has"),
        ("reasoner: {modell: x}", r"reasoner\.modell: unknown key; did you mean model\?"),
    ],
)
def test_a_bad_file_of_a_reasoner_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "r.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadRecipe, match=rf"r\.yaml: {says}"):
        reasoners([str(file)], RECIPE)


def test_settings_of_modes_are_options() -> None:
    assert mode_settings(["caption"], None, captions=None) == ModeSettings()
    assert mode_settings(["vote"], None, captions=3, caption_temperature=0.5).captions == 3
    assert mode_settings(["best"], "length").kind == LengthReward()
    assert mode_settings(["best", "shots"], "{type: length, budget: 9}", shots=2) == ModeSettings(
        kind=LengthReward(budget=9), shots=2
    )


@pytest.mark.parametrize(
    ("chosen", "kind", "numbers", "says"),
    [
        (["caption"], None, {"captions": 3}, "--captions: no mode uses it; give --mode vote or --mode best too, or"),
        (["vote"], "length", {}, "--kind: no mode uses it; give --mode best too"),
        (["vote"], None, {"captions": 1}, "--captions: Input should be greater than or equal to 2"),
        (["best"], "lenght", {}, "--kind: Input tag 'lenght' found using 'type' does not match any of the expected"),
        (["best"], "{", {}, r"--kind {: not YAML; name a kind, or write"),
        (["best"], None, {}, "mode best: the reward that chooses among the captions is missing; name one of describes"),
        (["best"], "answer", {}, "mode best: answer judges captions by the right answer"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    chosen: list[Mode], kind: str | None, numbers: dict[str, float], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        mode_settings(chosen, kind, **numbers)


def test_one_line_says_what_to_mend(tmp_path: Path) -> None:
    wrong = {
        (
            "evaluate",
            EMBEDDED_RECIPE,
            "--mode",
            "blind",
        ): "--mode blind: not known; one of caption, direct",
        ("evaluate", EMBEDDED_RECIPE, "--benchmark", "own", "--benchmark", "own=x"): "own is named twice",
        ("evaluate", EMBEDDED_RECIPE, "--mode", "best", "--kind", "answer"): "mode best: answer judges captions by",
        ("evaluate", EMBEDDED_RECIPE, "--run", "a/b"): "--run a/b: a name is letters",
        ("compare", "one", "two"): "one: no finished evaluation under runs; name a run of racro evaluate",
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith(forkserver.STATE)}
    for done, says in zip(forkserver.run(list(wrong), tmp_path, ours), wrong.values(), strict=True):
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("racro: ") and says in done.err and done.err.count("\n") == 1
