"""What `racro evaluate` and `racro compare` are given on the command line, right and wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.cli.evaluate_options import benchmarks, modes, reasoners
from racro.config import loading
from racro.config.loading import BadRecipe
from tests.conftest import EMBEDDED_RECIPE
from tests.support import driver

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


def test_one_line_says_what_to_mend(tmp_path: Path) -> None:
    wrong = {
        (
            "evaluate",
            EMBEDDED_RECIPE,
            "--mode",
            "blind",
        ): "--mode blind: not known; one of caption, direct",
        ("evaluate", EMBEDDED_RECIPE, "--benchmark", "own", "--benchmark", "own=x"): "own is named twice",
        ("evaluate", EMBEDDED_RECIPE, "--run", "a/b"): "--run a/b: a name is letters",
        ("compare", "one", "two"): "one: no finished evaluation under runs; name a run of racro evaluate",
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith(driver.STATE)}
    for done, says in zip(driver.run(list(wrong), [], tmp_path, ours), wrong.values(), strict=True):
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("racro: ") and says in done.err and done.err.count("\n") == 1
