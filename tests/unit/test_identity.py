"""What is the same and what is not: the digests behind every cache key and artifact folder."""

from __future__ import annotations

import dataclasses
import inspect
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro import config, schema
from racro.identity import computed, digest, fingerprint
from racro.rewards.composition import terms
from racro.schema import Handle, Policy, ProblemTable, RolloutTable
from tasks.caption import caption, solve
from tasks.compose import compose
from tasks.generate import answer, attempt, describe
from tasks.grade import aggregate, grade
from tasks.parity import parity
from tasks.prepare import fingerprint as fingerprint_stage
from tasks.prepare import prepare, prepare_table
from tasks.profile import profile
from tasks.questions import load
from tasks.reward import STAGES as REWARDS
from tasks.reward import needed
from tasks.running.policies import RUNTIME, Identity
from tasks.select import select
from tasks.update import update
from tests.support.cases import problem
from tests.support.examples import examples

EVALUATION = (load, describe, attempt, answer, grade, aggregate)
TRAINING = (prepare, fingerprint_stage, parity, select, caption, solve, *REWARDS.values(), compose, profile, update)
STAGES = {task.name: task for task in (*TRAINING, *EVALUATION)}

VALUES: dict[str, tuple[Any, Any]] = {
    "problems": tuple(ProblemTable(uri="a", rows=1, digest=d) for d in "ab"),
    "policy": tuple(Policy(uri="a", rows=0, digest=d) for d in "ab"),
    "initial": tuple(Policy(uri="a", rows=0, digest=d) for d in "ab"),
    "rollouts": tuple(RolloutTable(uri="a", rows=1, digest=d) for d in "ab"),
    "scored": tuple(schema.ScoredTable(uri="a", rows=1, digest=d) for d in "ab"),
    "reasoner_model": tuple(schema.FrozenModel(uri="a", rows=0, digest=d) for d in "ab"),
    "problems_config": (config.EmbeddedProblems(), config.EmbeddedProblems(count=3)),
    "captioner": (config.Captioner(), config.Captioner(dtype="float32")),
    "reasoner": (config.Reasoner(), config.Reasoner(top_p=0.5)),
    "rollout": (config.RolloutSettings(), config.RolloutSettings(group_size=5)),
    "settings": (config.AnswerReward(), config.AnswerReward(truncated="unscored")),
    "gate": (None, schema.RewardTable(uri="a", rows=1, digest="a")),
    "tables": tuple((schema.RewardTable(uri="a", rows=1, digest=d),) for d in "ab"),
    "terms": tuple(terms((config.AnswerReward(weight=weight),)) for weight in (1.0, 0.5)),
    "advantage": (config.GroupAdvantage(), config.EmaAdvantage()),
    "curriculum": (config.UniformCurriculum(), config.PoolsCurriculum()),
    "before": (None, schema.ScoredTable(uri="a", rows=1, digest="a")),
    "refills": ((), ((RolloutTable(uri="a", rows=1, digest="c"), ()),)),
    "references": ((), ((RolloutTable(uri="a", rows=1, digest="c"), ()),)),
    "checked_by": (None, "answer"),
    "chosen": (None, schema.StandingTable(uri="a", rows=1, digest="a")),
    "profile": (None, schema.PassRateTable(uri="a", rows=1, digest="a")),
    "values": tuple((schema.RewardTable(uri="a", rows=1, digest=d),) for d in "ab"),
    "count": (1, 2),
    "round": (0, 1),
    "category": (None, "a"),
    "judges": (None, {"judge": (config.Judge(model="m"), schema.FrozenModel(uri="a", rows=0, digest="a"))}),
    "judge_names": (None, {"judge": "mine"}),
    "title": ("answer", "mine"),
    "election": (1, 2),
    "config": (config.UpdateSettings(), config.UpdateSettings(beta=0.5)),
    "benchmarks": ((), (schema.FingerprintTable(uri="a", rows=1, digest="a"),)),
    "questions": tuple(schema.QuestionTable(uri="a", rows=1, digest=d) for d in "ab"),
    "stamp": ("a", "b"),
    "heldout": (None, 5),
    "part": tuple(schema.QuestionPart(uri="a", rows=1, digest="a", start=start) for start in (0, 1)),
    "parts": tuple((schema.QuestionPart(uri="a", rows=1, digest=d, start=0),) for d in "ab"),
    **{
        name: (None, schema.WritingTable(uri="a", rows=1, digest="a"))
        for name in ("captions", "attempts", "answers", "graded")
    },
    "name": ("mathvista", "wemath"),
    "source": (None, "a"),
    "columns": (None, config.Columns()),
    "mode": ("caption", "joint"),
    "samples": (1, 2),
    "max_tokens": (1, 2),
    "seed": (0, 1),
    "iteration": (0, 1),
    "temperature": (0.5, 1.0),
    "top_p": (0.5, 1.0),
    "runtime": (config.Runtime(), config.Runtime(device="cpu", retries=7, reason_batch=1)),
    "root": ("here", "there"),
    "ahead": (None, (config.Reasoner(), schema.FrozenModel(uri="a", rows=0, digest="a"))),
    "max_gap": (0.1, 0.2),
    "max_unscored": (0.1, 0.2),
    "keep": (True, False),
    "save": (True, False),
    "objective": ("caption", "answer"),
    "writer": (None, Policy(uri="a", rows=0, digest="c")),
    "remember": (False, True),
}
"""Two values of each input of any stage."""


def key(stage: str, inputs: dict[str, Any]) -> str:
    policy = STAGES[stage].cache_policy
    assert isinstance(policy, Identity)
    return policy.compute_key(SimpleNamespace(), inputs, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", STAGES)
def test_runtime_and_root_change_no_key_and_every_other_input_does(stage: str) -> None:
    names = list(inspect.signature(STAGES[stage].fn).parameters)
    inputs = {name: VALUES[name][0] for name in names}
    before = key(stage, inputs)
    assert before.startswith(f"artifacts/{stage}/")
    kept = {name for name in names if key(stage, inputs | {name: VALUES[name][1]}) == before}
    assert kept == set(RUNTIME).intersection(names)
    assert key(stage, dict(reversed(inputs.items()))) == before


def test_inputs_that_came_later_are_no_part_of_a_key_until_they_are_given() -> None:
    """What was made before they existed stays valid."""
    later = {
        "caption": {"chosen"},
        "compose": {"advantage", "problems", "before", "refills", "references", "checked_by"},
        "grade": {"election"},
        "aggregate": {"election"},
        "update": {"objective", "writer"},
    }
    for stage, names in later.items():
        inputs = {name: VALUES[name][0] for name in inspect.signature(STAGES[stage].fn).parameters} | {
            name: inspect.signature(STAGES[stage].fn).parameters[name].default for name in names
        }
        without = {name: value for name, value in inputs.items() if name not in names}
        assert key(stage, inputs) == key(stage, without)
        for name in names:
            assert key(stage, inputs | {name: VALUES[name][1]}) != key(stage, without)


def test_what_models_can_read_is_in_the_key_of_foreign_tables_alone() -> None:
    inputs = {name: VALUES[name][0] for name in inspect.signature(prepare.fn).parameters}
    reader = schema.PromptReader(uri="a", rows=0, digest="a", room=5)
    others = (
        reader.model_copy(update=change)
        for change in ({"digest": "b"}, {"room": 6}, {"room": None}, {"template_kwargs": {"enable_thinking": False}})
    )
    keys = {table_key(inputs, captioner, reader) for captioner in (None, reader, *others)}
    assert len(keys | {key("prepare", inputs)}) == 7
    assert table_key(inputs, reader.model_copy(update={"uri": "elsewhere"}), reader) in keys


def table_key(inputs: dict[str, Any], captioner: schema.PromptReader | None, reasoner: schema.PromptReader) -> str:
    assert isinstance(prepare_table.cache_policy, Identity)
    named = inputs | {"captioner": captioner, "reasoner": reasoner}
    return prepare_table.cache_policy.compute_key(SimpleNamespace(), named, {})  # type: ignore[arg-type]


def test_a_reward_s_stage_depends_on_what_its_kind_needs_alone() -> None:
    rewards = (
        config.AnswerReward(),
        config.DescribesReward(gate="answer"),
        config.LengthReward(),
        config.MinimalReward(gate="answer"),
        config.PythonReward(function="a:b", version=1),
        config.McqReward(),
        config.FactsReward(),
        config.CorrectnessReward(),
        config.ConfidenceReward(),
        config.SelfReward(),
        config.RetrievalReward(),
    )
    names = ("policy", "captioner", "reasoner_model", "reasoner", "gate", "judges", "judge_names")
    judged = {"gate", "judges", "judge_names"}
    found = {r.type: {n for n, v in needed(r, **dict.fromkeys(names, 1)).items() if v is not None} for r in rewards}
    assert found == {
        "answer": {"reasoner_model", "reasoner"},
        "describes": {"policy", "captioner", "gate"},
        "length": set(),
        "minimal": {"gate"},
        "python": {"gate"},
        "mcq": judged,
        "facts": judged,
        "correctness": judged,
        "confidence": {"reasoner_model", "reasoner", "gate"},
        "self": {"policy", "captioner", "gate"},
        "retrieval": judged,
    }


def test_a_stage_that_asks_no_judge_has_the_key_that_it_had_before_there_were_judges() -> None:
    inputs = {name: VALUES[name][0] for name in inspect.signature(REWARDS["answer"].fn).parameters}
    before = {name: value for name, value in inputs.items() if name not in ("judges", "judge_names")}
    assert key("reward-answer", inputs) == key("reward-answer", before)


def test_a_judge_counts_by_what_it_is_and_not_by_its_name() -> None:
    judge, model = config.Judge(model="m"), schema.FrozenModel(uri="a", rows=0, digest="a")
    base = {name: VALUES[name][0] for name in inspect.signature(REWARDS["facts"].fn).parameters}

    def of(name: str, own: config.Judge = judge, digest: str = "a") -> str:
        settings = config.FactsReward(judge=name).alone()
        found = {"judge": (own, model.model_copy(update={"digest": digest}))}
        return key("reward-facts", base | {"settings": settings, "judges": found, "judge_names": {"judge": name}})

    assert of("one") == of("other")
    assert len({of("one"), of("one", config.Judge(model="m", temperature=0.5)), of("one", digest="b")}) == 3


def test_recipes_and_problems_without_judges_and_facts_keep_their_digests() -> None:
    assert "judges" not in computed(config.Recipe())
    assert not {"facts", "mcq"} & fingerprint(config.Columns()).keys()
    assert not {"facts", "mcq"} & fingerprint(problem()).keys()
    known = problem().model_copy(update={"facts": (schema.ImageFact(text="A bar."),)})
    assert digest(known) != digest(problem())


def test_no_two_stages_share_a_key() -> None:
    inputs = {name: both[0] for name, both in VALUES.items()}
    assert len({key(stage, inputs) for stage in STAGES}) == len(STAGES)


CHANGES: dict[str, dict[str, Any]] = {
    "prepare": {"heldout": st.none() | st.integers(1)},
    "caption": {
        "rollout": st.builds(config.RolloutSettings, group_size=st.integers(2, 9), temperature=st.floats(0.1, 2))
    },
    "update": {"config": st.builds(config.UpdateSettings, beta=st.floats(0, 1), mini_batch=st.integers(1, 99))},
}


@pytest.mark.parametrize("stage", CHANGES)
def test_keys_are_equal_exactly_where_the_inputs_are(stage: str) -> None:
    base = {name: VALUES[name][0] for name in inspect.signature(STAGES[stage].fn).parameters}
    runtimes = st.builds(config.Runtime, device=st.text(), caption_batch=st.integers(1), retries=st.integers(0))
    draws = st.fixed_dictionaries(CHANGES[stage] | {"seed": st.integers(0, 3), "runtime": runtimes, "root": st.text()})

    @settings(max_examples=examples(60), deadline=None)
    @given(draws, draws)
    def check(one: dict[str, Any], other: dict[str, Any]) -> None:
        same = all(one[name] == other[name] for name in one if name not in ("runtime", "root"))
        assert (key(stage, base | one) == key(stage, base | other)) == same

    check()


# --- digests ----------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.integers(0), st.text(min_size=1))
def test_a_handle_is_its_content_wherever_it_lies(here: str, there: str, rows: int, content: str) -> None:
    assert digest(Policy(uri=here, rows=rows, digest=content)) == digest(Policy(uri=there, rows=0, digest=content))


def test_handles_differ_by_content_kind_and_step() -> None:
    handles = [
        Policy(uri="a", rows=0, digest="x"),
        Policy(uri="a", rows=0, digest="y"),
        Policy(uri="a", rows=0, digest="x", step=1),
        RolloutTable(uri="a", rows=0, digest="x"),
        Handle(uri="a", rows=0, digest="x"),
        ProblemTable(uri="a", rows=0, digest="x", dropped=1),
    ]
    assert len({digest(handle) for handle in handles}) == len(handles)
    evidence = Policy(uri="b", rows=0, digest="x", weights="w", trainer_digest="t")
    assert digest(evidence) == digest(handles[0]), "what came out does not change what was computed from it"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=examples(30), deadline=None)
@given(st.dictionaries(st.text(max_size=5), plain, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_is_of_no_account(value: dict[str, Any], dice: Any) -> None:
    items = list(value.items())
    dice.shuffle(items)
    assert digest(dict(items)) == digest(value)


@given(st.lists(st.integers(), unique=True, min_size=2))
def test_the_order_of_a_list_is_and_a_tuple_is_a_list(value: list[int]) -> None:
    assert digest(value) != digest(value[::-1])
    assert digest(tuple(value)) == digest(value)


@dataclasses.dataclass
class Plain:
    x: int = 1


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "value", [b"bytes", {1, 2}, Path("x"), object(), Plain(), Colour.RED, 1j, len, {1: "a"}, {"a": 1, ("b",): 2}]
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"key": v}], ids=["bare", "list", "dict"])
def test_what_has_no_identity_raises_at_any_depth(value: Any, wrap: Any) -> None:
    """Above all, keys of dicts: {1: x} and {"1": x} would become one."""
    with pytest.raises(TypeError, match="has no identity"):
        digest(wrap(value))


def test_a_config_counts_with_its_defaults() -> None:
    assert digest(config.UpdateSettings()) == digest(config.UpdateSettings(beta=1e-3))
    assert digest(config.Transformers()) != digest(config.Scripted())
    assert fingerprint(config.AnswerReward())["truncated"] == "wrong"
    assert digest([1, "1", 1.0, True, None]) != digest(["1", 1, 1.0, True, None])


def test_a_key_with_a_neutral_default_is_no_part_of_the_identity_until_it_is_set() -> None:
    """Recipes that were run before the key existed keep their digests."""
    for section in (config.Captioner, config.Reasoner):
        assert "template_kwargs" not in fingerprint(section())
        assert digest(section(template_kwargs={})) == digest(section())
        assert digest(section(template_kwargs={"enable_thinking": False})) != digest(section())


def test_keys_that_came_later_count_when_they_are_set() -> None:
    """Unset they are no part of any digest; the order of frozen parts does not matter."""
    for changed in (config.Captioner(max_pixels=5), config.Captioner(min_pixels=5), config.Captioner(min_pixels=4)):
        assert digest(changed) != digest(config.Captioner())
    assert digest(config.Captioner(max_pixels=5)) != digest(config.Captioner(min_pixels=5))
    for engine in (config.Vllm, config.Server):
        assert fingerprint(engine()).keys() == {"type", "quantization", "max_model_len"}
        assert digest(engine(kv_cache_dtype="fp8")) != digest(engine())
    assert not {"freeze", "optimizer"} & fingerprint(config.UpdateSettings()).keys()
    assert digest(config.UpdateSettings(optimizer="adamw_8bit")) != digest(config.UpdateSettings())
    frozen = config.UpdateSettings(freeze=("vision", "merger", "vision"))
    assert (
        digest(frozen) == digest(config.UpdateSettings(freeze=("merger", "vision"))) != digest(config.UpdateSettings())
    )
    reader = schema.PromptReader(uri="a", rows=0, digest="a", room=5)
    assert fingerprint(reader).keys() == {"handle", "digest", "room", "template_kwargs"}
    assert digest(reader.model_copy(update={"max_pixels": 5})) != digest(reader)
    assert schema.PromptReader.model_validate_json(reader.model_dump_json()) == reader


def test_the_digests_of_recipes_that_were_run_stay() -> None:
    """Fixed values: a digest that changes sends every artifact of an old root back to the start."""
    assert digest(config.Captioner()) == "e9ee7532c479cf5fb8f4569faecb6ea3f31900348176ece3588ac8d1310dbfac"
    assert digest(config.Captioner(lora=config.Lora()))[:16] == "9e1c8338b5c68357"
    assert digest(config.Reasoner()) == "5dee9438097006289c4e41906f9d2378318d89e9dd7416f43123ccf128e1345b"
    assert digest(config.UpdateSettings())[:16] == "510462e5b5580f8d"
    assert digest(config.Captioner(engine=config.Vllm()))[:16] == "e7a74e6798a7ebe1"
    assert digest(config.Reasoner(engine=config.Server()))[:16] == "44f85c2d31999bbe"
