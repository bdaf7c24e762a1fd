"""Reference captions: where they join, that they act nowhere else, and what an own small ViSurf makes of the same."""

from __future__ import annotations

import math
import re
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.embedded import world
from racro.embedded.oracle import inspect
from racro.identity import digest
from racro.rewards.composition import Term, compose
from racro.rollouts import references
from racro.rollouts.curriculum import learned
from racro.schema import RewardRow, Rollout
from tests.support.cases import problem, rollout

G = 4
TERMS = (Term(name="answer", weight=1.0, gate=None), Term(name="length", weight=0.5, gate=None))
right = st.sampled_from([0.0, 1.0, None])
worth = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=G + 1, max_size=G + 1)
batches = st.lists(st.tuples(st.lists(right, min_size=G, max_size=G), worth, right), min_size=1, max_size=2)
"""For each problem: is each caption right, the lengths' values (the reference's last), is the reference right?"""
Batch = list[tuple[list[float | None], list[float], float | None]]


def row(of: Rollout, value: float | None) -> RewardRow:
    return RewardRow(uid=of.uid, sample=of.sample, value=value, detail="", response=None, verdict=None)


def encode(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def scored(batch: Batch, kind: config.Advantage) -> list[list[tuple[float | None, float | None, bool]]]:
    """(reward, advantage, is it a reference?) of each caption of each group, as the stages make them."""
    captions = [rollout(f"caption {i}", uid=f"p{p}", sample=i) for p in range(len(batch)) for i in range(G)]
    answers = [row(c, value) for c, value in zip(captions, [v for own, _, _ in batch for v in own], strict=True)]
    lengths = [row(c, value) for c, value in zip(captions, [v for _, own, _ in batch for v in own[:G]], strict=True)]
    problems = {f"p{p}": problem(f"p{p}", reference="known") for p in range(len(batch))}
    known = list(references.refer(references.wanting(captions, answers), problems, encode))
    of_problem = [int(one.uid[1:]) for one in known]
    tables = [
        [row(one, batch[p][2]) for one, p in zip(known, of_problem, strict=True)],
        [row(one, batch[p][1][G]) for one, p in zip(known, of_problem, strict=True)],
    ]
    rows, values = references.joined((captions, [answers, lengths]), (known, tables), 0)
    made = compose(rows, values, TERMS, kind)
    groups: list[list[tuple[float | None, float | None, bool]]] = [[] for _ in batch]
    for one in made:
        groups[int(one.uid[1:])].append((one.reward, one.advantage, one.reference))
    assert [r.sample for r in rows] == [i for own in groups for i in range(len(own))]
    return groups


def visurf(own: list[float | None], lengths: list[float], known: float | None, divided: bool) -> list[float | None]:
    """Advantages of a group and its reference, the reference's reward being the mean where a caption is right."""
    known_answers = [0.0] * G if {*own} == {None} else own  # a reward without any value does not count
    rewards = [None if a is None else a + 0.5 * b for a, b in zip(known_answers, lengths[:G], strict=True)]
    scored = [reward for reward in rewards if reward is not None]
    if 1.0 in own or known != 1.0 or 0.0 not in own:
        rewards.append(statistics.fmean(scored) if scored else None)
    else:
        rewards.append(1.0 + 0.5 * lengths[G])
    every = [reward for reward in rewards if reward is not None]
    mean = statistics.fmean(every) if every else 0.0
    scale = statistics.stdev(every) + 1e-6 if divided and len(every) > 1 else 1.0
    return [None if reward is None else (reward - mean) / scale for reward in rewards]


@given(batches)
def test_advantages_are_those_of_visurf(batch: Batch) -> None:
    """By the estimator `none` exactly; GRPO's deviation counts a reference that acts nowhere there, and not here."""
    for group, (own, lengths, known) in zip(scored(batch, config.NoneAdvantage()), batch, strict=True):
        expected = visurf(own, lengths, known, divided=False)
        found: list[float | None] = [advantage for _, advantage, _ in group]
        found += [0.0 if any(a is not None for a in found) else None] * (G + 1 - len(found))
        assert found == [None if value is None else pytest.approx(value, abs=1e-9) for value in expected]
    for group, (own, lengths, known) in zip(scored(batch, config.GroupAdvantage()), batch, strict=True):
        if len(group) > G:
            expected = visurf(own, lengths, known, divided=True)
            assert [a for _, a, _ in group] == [None if v is None else pytest.approx(v, abs=1e-4) for v in expected]


@given(batches, st.sampled_from([config.GroupAdvantage(), config.NoneAdvantage(), config.EmaAdvantage()]))
def test_groups_with_a_right_caption_are_as_without_references(batch: Batch, kind: config.Advantage) -> None:
    if isinstance(kind, config.EmaAdvantage):
        kind = config.GroupAdvantage(by_pass_rate="answer")
    alone = scored([(own, lengths, None) for own, lengths, _ in batch], kind)
    for group, plain, (own, _, known) in zip(scored(batch, kind), alone, batch, strict=True):
        joins = known == 1.0 and 0.0 in own and 1.0 not in own
        assert [is_known for _, _, is_known in group] == [False] * G + [True] * joins
        assert [reward for reward, _, _ in group[:G]] == [reward for reward, _, _ in plain]
        if not joins:
            assert group == plain
        elif kind.by_pass_rate:  # the policy's pass rate is 0, whatever the reference is worth
            (best,) = (a for _, a, is_known in group if is_known)
            values = [reward for reward, _, _ in group if reward is not None]
            one = (group[G][0] or 0.0) - statistics.fmean(values)
            assert best == pytest.approx(1.5 * one / (statistics.stdev(values) + 1e-6), abs=1e-3)


def test_a_problem_without_reference_has_none_and_curricula_do_not_see_any() -> None:
    captions = [rollout("a", sample=i) for i in range(2)]
    wanting = references.wanting(captions, [row(c, 0.0) for c in captions])
    assert [one.sample for one in wanting] == [1]
    assert list(references.refer(wanting, {"p": problem()}, encode)) == []
    [known] = references.refer(wanting, {"p": problem(reference="the bar")}, encode)
    assert (known.sample, known.completion_ids, known.logprobs, known.policy) == (2, encode("the bar"), (), "digest")
    values = [[row(c, 0.0) for c in captions] + [row(known, 1.0)]]
    made = compose([*captions, known], values, TERMS[:1])
    assert learned({}, made) == {"p": (0.0, 0.0)}
    assert [one.caption for one in references.own(made)] == ["a", "a"]
    assert not math.isclose(made[-1].advantage or 0.0, 0.0)


@given(st.integers(0, 500))
def test_the_embedded_world_has_a_true_reference_for_each_problem(index: int) -> None:
    asked = world.problem("train", 0, index)
    text = references.reference_of(problem(scene=asked.scene_json()))
    found = inspect(text, asked.scene_json())
    assert found.states_asked and found.true == found.stated == len(asked.asked) and not found.leaks
    assert references.reference_of(problem(scene=asked.scene_json(), reference="mine")) == "mine"


REFUSED: dict[str, dict[str, Any]] = {
    "and with objective answer none are written": {"objective": "answer"},
    "no reward says which are; add {type: answer}": {"rewards": [{"type": "length"}]},
    "name the column that holds them in problems.columns.reference": {"problems": {"type": "table", "source": "a"}},
}


@pytest.mark.parametrize("line", REFUSED)
def test_references_that_could_never_join_are_refused_with_the_reason(line: str) -> None:
    wanted = {"rollout": {"references": True}}
    with pytest.raises(ValueError, match=re.escape(line)):
        config.Recipe.model_validate({**wanted, **REFUSED[line]})
    config.Recipe.model_validate(wanted)


def test_captions_are_sampled_the_same_with_references() -> None:
    plain, joined = config.RolloutSettings(), config.RolloutSettings(references=True)
    assert digest(joined) != digest(plain) == digest(joined.alone())
