"""Recipes: what ships parses and says what the paper says; every mistake is one line with the key and the remedy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.config import (
    AnswerReward,
    DescribesReward,
    FactsReward,
    McqReward,
    PythonReward,
    Recipe,
    SelfReward,
    loading,
)
from racro.config.loading import BadRecipe
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY
from tests.support.examples import examples

SHIPPED = sorted((REPOSITORY / "racro" / "recipes").glob("*.yaml"), key=lambda file: file.stem)

KNOWN = ", ".join(file.stem for file in SHIPPED)

PAPER = {
    "seed": 0,
    "captioner.dtype": "bfloat16",
    "captioner.engine.type": "vllm",
    "reasoner.model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "reasoner.temperature": 1.0,
    "reasoner.top_p": 1.0,
    "reasoner.max_tokens": 8192,
    "rollout.problems": 256,
    "rollout.group_size": 4,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "rollout.max_tokens": 8192,
    "update.mini_batch": 128,
    "update.learning_rate": 1e-6,
    "update.warmup_steps": 0,
    "update.beta": 1e-3,
    "update.clip_low": 0.2,
    "update.weight_decay": 0.01,
    "update.max_grad_norm": 1.0,
    "evaluation.temperature": 0.6,
    "evaluation.top_p": 0.95,
    "problems.type": "virl39k",
    "problems.source": "TIGER-Lab/ViRL39K",
    "problems.without_origins": ("DeepScaleR",),
}
"""What RACRO v1 and the caption stage of RAPID have in common."""
RAPID = {
    "update.clip_high": 0.25,
    "rewards": (AnswerReward(), DescribesReward(weight=0.1, gate="answer")),
}
"""The caption stage."""
OWN_ANSWERS = {
    "objective": "answer",
    "rollout.group_size": 8,
    "rewards": (AnswerReward(),),
    "update.beta": 0.0,
    "update.clip_high": 0.3,
}
"""RAPID's stages of its own answers."""
OWN = {
    "racro-3b": {
        "captioner.model": "Qwen/Qwen2.5-VL-3B-Instruct",
        "iterations": 100,
        "update.clip_high": 0.2,
        "rewards": (AnswerReward(),),
    },
    "racro-7b": {
        "captioner.model": "Qwen/Qwen2.5-VL-7B-Instruct",
        "iterations": 100,
        "update.clip_high": 0.2,
        "rewards": (AnswerReward(),),
    },
    "rapid-3b": {"captioner.model": "Qwen/Qwen2.5-VL-3B-Instruct", **RAPID},
    "rapid-7b": {"captioner.model": "Qwen/Qwen2.5-VL-7B-Instruct", **RAPID},
    "rapid-32b": {
        "captioner.model": "Qwen/Qwen2.5-VL-32B-Instruct",
        "captioner.lora.rank": 64,
        "iterations": 150,
        "update.learning_rate": 1e-5,
        **RAPID,
    },
    "racro-32b": {
        "captioner.model": "Qwen/Qwen2.5-VL-32B-Instruct",
        "captioner.lora.rank": 64,
        "iterations": 100,
        "update.learning_rate": 1e-5,
        "update.clip_high": 0.2,
        "rewards": (AnswerReward(),),
    },
}


def value(recipe: Recipe, path: str) -> Any:
    found: Any = recipe
    for key in path.split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    return found


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_recipe_parses_and_survives_being_written(file: Path, tmp_path: Path) -> None:
    recipe = loading.load(str(file))
    (tmp_path / "again.yaml").write_text(loading.dump(recipe))
    assert loading.load(str(tmp_path / "again.yaml")) == recipe


@pytest.mark.parametrize("name", OWN)
def test_the_paper_recipes_carry_the_papers_values(name: str) -> None:
    recipe = loading.load(str(REPOSITORY / "racro" / "recipes" / f"{name}.yaml"))
    expected = PAPER | OWN[name]
    assert {path: value(recipe, path) for path in expected} == expected


OTHERS = {
    "caprl-3b": {
        "rewards": (McqReward(rounds=8),),
        "rollout.group_size": 8,
        "update.learning_rate": 1e-6,
        "judges.reader.model": "Qwen/Qwen2.5-3B-Instruct",
    },
    "vision-sr1-3b": {"rewards": (SelfReward(),), "rollout.group_size": 8, "update.beta": 1e-2},
    "perception-r1-7b": {
        "rewards": (
            AnswerReward(),
            FactsReward(weight=0.7),
            PythonReward(
                name="repetition",
                function="racro.rewards.examples:repetition",
                settings={"size": 20},
                version=1,
                weight=2,
            ),
        ),
    },
}
"""What is known of the settings of other papers."""


@pytest.mark.parametrize("name", OTHERS)
def test_recipes_of_other_papers_carry_what_is_known_of_them(name: str) -> None:
    recipe = loading.load(name)
    assert {path: value(recipe, path) for path in OTHERS[name]} == OTHERS[name]


@pytest.mark.parametrize(("name", "iterations"), [("rapid-7b", (200, 150)), ("rapid-3b", (200, 150, 100))])
def test_rapid_answers_by_itself_before_it_captions(name: str, iterations: tuple[int, ...]) -> None:
    recipe = loading.load(name)
    assert tuple(phase.iterations for phase in recipe.phases) == iterations
    for number, phase in enumerate(recipe.phases):
        expected = PAPER | (RAPID | {"objective": "caption"} if number == 1 else OWN_ANSWERS)
        assert {path: value(phase, path) for path in expected} == expected
        assert recipe.stages[number].start == "fresh"


def test_the_defaults_are_those_of_the_3b_paper_recipe() -> None:
    shipped = loading.load(str(REPOSITORY / "racro" / "recipes" / "racro-3b.yaml"))
    plain = Recipe()
    roles = {
        role: getattr(shipped, role).model_copy(update={"engine": getattr(plain, role).engine})
        for role in ("captioner", "reasoner")
    }
    assert shipped.model_copy(update={"problems": plain.problems, "runtime": plain.runtime, **roles}) == plain


# --- mistakes ---------------------------------------------------------------------------------------------------------

FILE = EMBEDDED_RECIPE

KINDS = "answer, confidence, correctness, describes, facts, format, length, mcq, minimal, python, retrieval, self"
OVERRIDES = {
    "update.learning_rte=1": f"{FILE}: update.learning_rte: unknown key; did you mean learning_rate?",
    "problms.count=1": f"{FILE}: problms: unknown key; did you mean problems?",
    "rewards.0.zzz=1": f"{FILE}: rewards.0.zzz: unknown key; known keys here: gate, max_unscored, name, truncated, ",
    "rewards.0.weight=much": f"{FILE}: rewards.0.weight: input should be a valid number, ",
    "rewards.0.type=fun": f"{FILE}: rewards.0.type: must be one of {KINDS}",
    "rewards=[{weight: 1}]": f"{FILE}: rewards.0.type: must be one of {KINDS}",
    "rewards=[{type: python, version: 1}]": f"{FILE}: rewards.0.function: is required; put it into the recipe, ",
    "rewards=[{type: minimal}]": f"{FILE}: rewards.0: minimal needs a gate: ",
    "rewards=[{type: describes, gate: answer}]": f"{FILE}: rewards: describes: gate: answer is not a reward above it",
    "rewards=[{type: answer}, {type: describes}, {type: length, gate: describes}]": f"{FILE}: rewards: length: gate: "
    "describes is never above 0 (describes), and would turn length around; name a reward from 0 to 1",
    "rewards=[{type: self}, {type: answer}]": f"{FILE}: rewards: answer must stand above self",
    "rewards=[]": f"{FILE}: rewards: give at least one reward",
    "rewards.1.weight=2": "--set rewards.1.weight=2: rewards is a list; give the number of an entry (0 to 0), or all ",
    "rewards.first.weight=2": "--set rewards.first.weight=2: rewards is a list; give the number of an entry (0 to 0)",
    "rewards.1=2": "--set rewards.1=2: rewards is a list; give the number of an entry (0 to 0), or all of it as ",
    "rewards.0.weight.x=2": "--set rewards.0.weight.x=2: weight is a value, it has no keys below it",
    "runtime.captioner.gpus.0=1": "--set runtime.captioner.gpus.0=1: runtime.captioner.gpus is a list; give the number "
    "of an entry (it has none), or all of it as runtime.captioner.gpus=[...]",
    "reward.penalty=0.1": f"{FILE}: reward: is a list now; write rewards: [{{type: answer}}, {{type: describes, "
    "weight: 0.1, gate: answer}]",
    "reward={kind: answer, truncated: unscored, max_unscored: 0.5}": f"{FILE}: reward: is a list now; write rewards: "
    "[{type: answer, truncated: unscored, max_unscored: 0.5}]",
    "reasoner.engine={type: scripted, rulez: []}": f"{FILE}: reasoner.engine.rulez: unknown key; did you mean rules?",
    "problems.columns.question=a": f"{FILE}: problems.columns: unknown key; did you mean count?",
    "update.learning_rate=fast": f"{FILE}: update.learning_rate: input should be a valid number, ",
    "iterations=1.5": f"{FILE}: iterations: input should be a valid integer, ",
    "iterations=true": f"{FILE}: iterations: give a number, not true",
    "update.learning_rate=off": f"{FILE}: update: learning_rate: give a number, not false",
    "runtime=3": f"{FILE}: runtime: input should be a valid dictionary",
    "update.clip_low=1": f"{FILE}: update.clip_low: input should be less than 1, not 1",
    "runtime.timeouts.caption=0": f"{FILE}: runtime.timeouts.caption: input should be greater than 0, not 0",
    "captioner.dtype=int8": f"{FILE}: captioner.dtype: input should be 'float32', 'bfloat16' or 'float16', not 'int8'",
    "update.mini_batch=999": f"{FILE}: update.mini_batch (999 problems) is larger than rollout.problems (128): ",
    "problems.type=table": f"{FILE}: problems.source: is required; put it into the recipe, or --set problems.source=",
    "problems.type=csv": f"{FILE}: problems.type: must be one of embedded, table, virl39k",
    "problems={}": f"{FILE}: problems.type: must be one of embedded, table, virl39k",
    "captioner.engine={type: [1]}": f"{FILE}: captioner.engine.type: must be one of scripted, server, transformers, "
    "vllm",
    "runtime.captioner.gpus=[0, 0]": f"{FILE}: runtime.captioner.gpus: [0, 0] names a GPU twice; name each once",
    "runtime.reasoner={gpus: [1, 2], tensor_parallel: 4}": f"{FILE}: runtime.reasoner: gpus: [1, 2] are fewer than "
    "tensor_parallel x data_parallel = 4; ",
    "runtime.captioner.gpus=[-1]": f"{FILE}: runtime.captioner.gpus: give a list of the numbers of GPUs",
    "seed": "--set seed: write it as path=value, for example --set update.learning_rate=1e-6",
    "=1": "--set =1: write it as path=value",
    "update..beta=1": "--set update..beta=1: write it as path=value",
    "seed.x=1": "--set seed.x=1: seed is a value, it has no keys below it",
    "seed=[1": "--set seed=[1: line 1 not valid YAML: ",
    "seed=!!python/object:os.system x": "--set seed=!!python/object:os.system x: line 1 not valid YAML: ",
}


def refused(path: str, *overrides: str) -> str:
    with pytest.raises(BadRecipe) as caught:
        loading.load(path, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_bad_override_is_one_line_with_the_key_and_the_remedy(override: str) -> None:
    assert refused(EMBEDDED_RECIPE, override).startswith(OVERRIDES[override])


FILES = {
    "cut": (b"update: {beta: 1", "line 1 not valid YAML: "),
    "tab": (b"a: 1\n\tb: 2", "line 2 not valid YAML: "),
    "zero": (b"seed: 1\x00", "not valid YAML: unacceptable character #x0000"),
    "list": (b"- seed: 1", "a recipe is a mapping of keys to values, not a list"),
    "text": (b"hello", "a recipe is a mapping of keys to values, not a str"),
    "binary": (bytes(range(256)), "not a readable text file (UnicodeDecodeError); give the path of a YAML file"),
    "twice": (b"update: {beta: 1}\nseed: 1\nupdate: {mini_batch: 2}", "line 3 not valid YAML: update stands twice"),
    "merges": (
        b"runtime: {captioner: {<<: {eager: true}, <<: {tensor_parallel: 2}}}",
        "line 1 not valid YAML: << stands twice",
    ),
    "alias": (b"seed: *one", "line 1 not valid YAML: found undefined alias 'one'"),
    "alone": (b"runtime: &a {captioner: *a}", "runtime.captioner.captioner: unknown key; "),
    "documents": (b"seed: 1\n---\nseed: 2", "line 2 not valid YAML: but found another document"),
    "lines": (b'"up\\ndate": 1', "up date: unknown key; did you mean update?"),
    "number": (b"1: 2", "1: keys should be strings"),
    "deep": (b"[" * 1500, "not valid YAML: nested too deeply"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_line_with_its_name(name: str, tmp_path: Path) -> None:
    content, message = FILES[name]
    file = tmp_path / f"{name}.yaml"
    file.write_bytes(content)
    found = refused(str(file))
    assert found.startswith(f"{file}:") and message in found


def test_a_missing_file_a_folder_and_an_impossible_name_are_one_line_each(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/none.yaml", f"{EMBEDDED_RECIPE}/x"):
        assert refused(path) == f"{path}: no such recipe file; known names: {KNOWN}"
    assert (
        refused(str(tmp_path)) == f"{tmp_path}: not a readable text file (Is a directory); give the path of a YAML file"
    )
    assert "not a readable text file" in refused("./" + "x" * 5000)
    assert "not a readable text file" in refused("./a\0b")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file.stem).write_text("seed: 7\n")
    (tmp_path / file.name).write_text("seed: 8\n")
    monkeypatch.chdir(tmp_path)
    assert loading.load(file.stem) == loading.load(str(file))
    assert loading.load(f"./{file.stem}").seed == 7, "a slash makes it a path"
    assert loading.load(file.name).seed == 8, "so does .yaml"


@pytest.mark.parametrize(
    ("name", "says"),
    [("embeded", "did you mean embedded?"), ("racro3b", "did you mean racro-3b?"), ("zzz", "known names: "), ("", "")],
)
def test_an_unknown_name_lists_those_that_are_known(name: str, says: str) -> None:
    found = refused(name)
    assert found.startswith(f"{name}: no recipe has this name; ") and says in found and KNOWN in found


def test_more_mistakes_are_counted(tmp_path: Path) -> None:
    assert refused(EMBEDDED_RECIPE, "seed=-1", "iterations=0").endswith("(and 1 more)")


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert loading.load(str(tmp_path / "empty.yaml")) == Recipe()


# --- overrides --------------------------------------------------------------------------------------------------------


MERGED = "runtime:\n  captioner: &place {tensor_parallel: 2}\n  reasoner:\n    <<: *place\n    eager: true\nseed: 3\n"


@pytest.mark.parametrize("written", [MERGED, MERGED.replace("\n", "\r\n"), "\ufeff" + MERGED, f"---\n{MERGED}...\n"])
def test_anchors_and_merge_keys_are_read_with_any_line_ends(written: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(written.encode())
    read = loading.load(str(tmp_path / "recipe.yaml"))
    place = read.runtime.reasoner
    assert (place.tensor_parallel, place.eager, read.runtime.captioner.eager, read.seed) == (2, True, None, 3)


def test_overrides_are_yaml_and_the_last_one_counts() -> None:
    changed = loading.load(
        EMBEDDED_RECIPE, ["update.beta=1e-2", "update.beta=0.5", "problems.count = 7", "reasoner.revision=null"]
    )
    assert (changed.update.beta, changed.reasoner.revision) == (0.5, None)
    assert changed.problems.model_dump() == {"type": "embedded", "count": 7}


def test_an_entry_of_a_list_is_given_by_its_number() -> None:
    changed = loading.load("rapid-7b", ["rewards.1.weight=0.2", "rewards.0.truncated=unscored"])
    assert changed.rewards == (
        AnswerReward(truncated="unscored"),
        DescribesReward(weight=0.2, gate="answer"),
    )
    unwritten = loading.load(EMBEDDED_RECIPE, ["rewards.0.weight=0.2"])  # the file names no rewards
    assert unwritten.rewards == (AnswerReward(weight=0.2),)
    whole = loading.load(EMBEDDED_RECIPE, ["rewards=[{type: answer}, {type: length, weight: 0.5, gate: answer}]"])
    assert [(reward.type, reward.weight, reward.gate) for reward in whole.rewards] == [
        ("answer", 1.0, None),
        ("length", 0.5, "answer"),
    ]
    other = loading.override(changed, ["rewards.1.type=length", "rewards.1.weight=3"], "--axis")
    assert (other.rewards[1].type, other.rewards[1].weight, other.rewards[1].gate) == ("length", 3.0, None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_another_type_takes_the_place_of_a_section(order: tuple[int, int]) -> None:
    overrides = ("problems.type=table", "problems.source=rows.jsonl")
    changed = loading.load(EMBEDDED_RECIPE, [overrides[i] for i in order])
    assert changed.problems.model_dump(exclude_defaults=True) == {"source": "rows.jsonl"}
    assert loading.load(EMBEDDED_RECIPE, ["problems.type=embedded"]) == loading.load(EMBEDDED_RECIPE)


# --- dump -> load -----------------------------------------------------------------------------------------------------

positive = st.floats(0, exclude_min=True, allow_infinity=False)
share = st.floats(0, 1)
words = st.text(min_size=1, max_size=12)
engines = st.one_of(
    st.just({"type": "transformers"}),
    st.fixed_dictionaries(
        {
            "type": st.just("scripted"),
            "rules": st.lists(
                st.fixed_dictionaries(
                    {"when": words, "replies": st.lists(words, max_size=2)},
                    optional={"delay": st.floats(0, 9), "tokens": st.integers(1, 99)},
                ),
                max_size=2,
            ),
        }
    ),
)
sections = st.fixed_dictionaries(
    {
        "problems": st.one_of(
            st.fixed_dictionaries({"type": st.just("embedded"), "count": st.integers(1)}),
            st.fixed_dictionaries(
                {"type": st.just("table"), "source": words, "max_bad_share": share},
                optional={"columns": st.fixed_dictionaries({"question": words, "uid": st.none() | words})},
            ),
        ),
    },
    optional={
        "seed": st.integers(0, 2**31 - 1),
        "captioner": st.fixed_dictionaries({"model": words, "revision": st.none() | words, "engine": engines}),
        "reasoner": st.fixed_dictionaries({"engine": engines, "top_p": st.floats(0, 1, exclude_min=True)}),
        "rewards": st.tuples(
            st.fixed_dictionaries({"type": st.just("answer"), "truncated": st.sampled_from(["wrong", "unscored"])}),
            st.fixed_dictionaries({"type": st.just("describes"), "weight": share, "gate": st.just("answer")}),
            st.fixed_dictionaries(
                {"type": st.just("python"), "function": st.just("a.b:c"), "version": st.integers(1, 9)},
                optional={
                    "settings": st.dictionaries(
                        words, st.integers() | words | st.lists(st.integers(), max_size=2), max_size=2
                    )
                },
            ),
        ).map(list),
        "update": st.fixed_dictionaries({"learning_rate": st.floats(0, 1), "beta": positive, "clip_high": positive}),
        "runtime": st.fixed_dictionaries({"device": words, "timeouts": st.fixed_dictionaries({"update": positive})}),
    },
)


@settings(max_examples=examples(60), deadline=None)
@given(sections)
def test_a_recipe_that_is_written_and_read_is_the_same(content: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(content)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(loading.dump(recipe))
        file.flush()
        assert loading.load(file.name) == recipe


@settings(max_examples=examples(40), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | words,
        lambda v: st.lists(v) | st.dictionaries(words, v),
        max_leaves=6,
    ),
    st.sampled_from(["", *Recipe.model_fields, "problems.type", "captioner.engine", "update.beta"]),
)
def test_whatever_stands_in_a_recipe_it_loads_or_is_one_line(found: Any, path: str) -> None:
    content: Any = found
    for key in reversed(path.split(".") if path else []):
        content = {key: content}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(content, file, allow_unicode=True)
        file.flush()
        try:
            loading.load(file.name)
        except BadRecipe as error:
            assert str(error).startswith(file.name) and len(str(error).splitlines()) == 1


def test_tiny_overrides_fit_the_recipe_they_are_for() -> None:
    assert loading.load(EMBEDDED_RECIPE, TINY).iterations == 2
