"""Advantage estimators against small implementations of their formulas, unscored captions included."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.rewards.advantage import Advantages, Group, advantages, estimator, factor, informative
from racro.rewards.composition import Term, compose, terms
from racro.rewards.moments import Ema, Moments, State
from racro.schema import RewardRow
from tests.support.cases import rollout

NAN = math.nan
SETTINGS: dict[str, config.Advantage] = {
    "group": config.GroupAdvantage(),
    "none": config.NoneAdvantage(),
    "batch": config.BatchAdvantage(),
    "ema": config.EmaAdvantage(),
    "gdpo": config.GdpoAdvantage(),
}

numbers = st.sampled_from([0.0, 1.0, 0.5, -1.0, 0.9])


@st.composite
def batches(draw: st.DrawFn, kinds: int = 2) -> list[Group]:
    """Groups of 4 captions with values of some rewards of weights 1 and 0.5; some captions are unscored."""
    weights = [1.0, 0.5][:kinds]
    made = []
    for source in draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=5)):
        rows = [draw(st.one_of(st.none(), st.lists(numbers, min_size=kinds, max_size=kinds))) for _ in range(4)]
        rewards = [None if row is None else math.fsum(w * v for w, v in zip(weights, row, strict=True)) for row in rows]
        unscored: list[float | None] = [None] * kinds
        made.append(Group(rewards, [unscored if row is None else row for row in rows], weights, source))
    return made


def estimated(name: str, groups: list[Group], before: dict[str, Moments] | None = None) -> list[Advantages]:
    settings = SETTINGS[name]
    moving = Ema(settings, before or {}) if isinstance(settings, config.EmaAdvantage) else None
    return estimator(settings, moving)(groups)


def tensor(groups: list[Group]) -> torch.Tensor:
    """P x G rewards; nan: unscored."""
    rows = [[NAN if r is None else r for r in group.rewards] for group in groups]
    return torch.tensor(rows, dtype=torch.float64)


def same(found: list[Advantages], expected: torch.Tensor) -> None:
    assert [[a is None for a in own] for own in found] == expected.isnan().tolist()
    flat = [a for own in found for a in own if a is not None]
    assert flat == pytest.approx(expected[~expected.isnan()].tolist(), abs=1e-6)


def deviation(values: torch.Tensor) -> torch.Tensor:
    """Of a sample; 0 where there are fewer than two."""
    known = values[~values.isnan()]
    return known.std() if len(known) > 1 else torch.tensor(0.0, dtype=torch.float64)


@given(batches())
def test_group_is_grpo(groups: list[Group]) -> None:
    assert estimated("group", groups) == advantages([group.rewards for group in groups])


@given(batches())
def test_none_is_the_distance_from_the_mean(groups: list[Group]) -> None:
    rewards = tensor(groups)
    same(estimated("none", groups), rewards - rewards.nanmean(1, keepdim=True))


@given(batches())
def test_batch_divides_by_the_deviation_of_all_distances(groups: list[Group]) -> None:
    rewards = tensor(groups)
    centred = rewards - rewards.nanmean(1, keepdim=True)
    same(estimated("batch", groups), centred / (deviation(centred) + 1e-6))


@given(batches())
def test_gdpo_is_trls(groups: list[Group]) -> None:
    """`multi_objective_aggregation: normalize_then_sum` of TRL, with its own steps on tensors P x G x kinds."""
    values = torch.tensor(
        [[[NAN if v is None else v for v in row] for row in group.terms] for group in groups], dtype=torch.float64
    )
    spread = torch.stack([torch.stack([deviation(g[:, k]) for k in range(2)]) for g in values])[:, None]
    each = (values - values.nanmean(1, keepdim=True)) / (spread + 1e-4)
    total = (each * torch.tensor([1.0, 0.5], dtype=torch.float64)).nansum(-1)
    total[tensor(groups).isnan()] = NAN
    same(estimated("gdpo", groups), (total - total.nanmean()) / (deviation(total) + 1e-4))


@given(st.lists(batches(), min_size=1, max_size=4), st.floats(0, 0.999))
def test_ema_is_onethinkers(iterations: list[list[Group]], decay: float) -> None:
    settings = config.EmaAdvantage(decay=decay)
    state: dict[str, Moments] = {}
    m1: dict[str, float] = {}
    m2: dict[str, float] = {}
    for groups in iterations:
        ema = Ema(settings, state)
        found = ema(groups)
        state = State.model_validate_json(State(ema.moments).model_dump_json()).root
        for source in "ab":
            scores = [r for g in groups if g.source == source for r in g.rewards if r is not None]
            if scores:
                x = torch.tensor(scores, dtype=torch.float64)
                kept = decay if source in m1 else 0.0
                m1[source] = kept * m1.get(source, 0.0) + (1 - kept) * x.mean().item()
                m2[source] = kept * m2.get(source, 0.0) + (1 - kept) * (x * x).mean().item()
        for group, own in zip(groups, found, strict=True):
            scored = torch.tensor([r for r in group.rewards if r is not None], dtype=torch.float64)
            if not len(scored):
                assert own == [None] * 4
                continue
            std = max(m2[group.source] - m1[group.source] ** 2, 1e-6) ** 0.5
            expected = (scored - scored.mean()) / (std + 1e-6)
            if (expected.abs() - 5).abs().min() < 1e-6:
                continue  # rounding decides
            if (expected.abs() > 5).any():
                expected = (scored - scored.mean()) / (scored.std(unbiased=False) + 1e-6)
            assert [a for a in own if a is not None] == pytest.approx(expected.tolist(), abs=1e-5)


def test_ema_by_hand_and_its_guard() -> None:
    ema = Ema(config.EmaAdvantage(), {"a": Moments(mean=0.0, square=1e-4)})
    found = ema([Group([1.0, 0.0], source="a"), Group([0.01, 0.0], source="a")])
    mean, square = 0.01 * 1.01 / 4, 0.99e-4 + 0.01 * 1.0001 / 4
    assert ema.moments["a"].model_dump() == pytest.approx({"mean": mean, "square": square})
    spread = math.sqrt(square - mean**2)
    assert 0.5 / spread > 5
    assert found[0] == pytest.approx([1.0, -1.0], abs=1e-4), "divided by its own deviation"
    assert found[1] == pytest.approx([0.005 / spread, -0.005 / spread], rel=1e-4)


@given(batches(kinds=1))
def test_gdpo_of_one_reward_is_grpo_up_to_its_scale(groups: list[Group]) -> None:
    grpo = [a for own in estimated("group", groups) for a in own if a is not None]
    gdpo = [a for own in estimated("gdpo", groups) for a in own if a is not None]
    spread = deviation(torch.tensor(grpo, dtype=torch.float64)).item()
    assert gdpo == pytest.approx([a / (spread + 1e-4) for a in grpo], abs=2e-3)


# --- what all of them promise -----------------------------------------------------------------------------------------


def every(groups: list[Group]) -> dict[str, list[Advantages]]:
    return {name: estimated(name, groups) for name in SETTINGS}


@pytest.mark.parametrize("name", SETTINGS)
@given(groups=batches(), dice=st.randoms(use_true_random=False))
def test_the_order_of_captions_and_of_groups_is_of_no_account(
    name: str, groups: list[Group], dice: random.Random
) -> None:
    found = estimated(name, groups)
    places = dice.sample(range(len(groups)), len(groups))
    inner = dice.sample(range(4), 4)
    moved = [
        groups[i]._replace(rewards=[groups[i].rewards[j] for j in inner], terms=[groups[i].terms[j] for j in inner])
        for i in places
    ]
    for own, i in zip(estimated(name, moved), places, strict=True):
        assert [a is None for a in own] == [found[i][j] is None for j in inner]
        assert [a or 0.0 for a in own] == pytest.approx([found[i][j] or 0.0 for j in inner], abs=1e-9)


@pytest.mark.parametrize("name", SETTINGS)
@given(groups=batches())
def test_unscored_captions_influence_nothing(name: str, groups: list[Group]) -> None:
    found = estimated(name, groups)
    scored = [
        g._replace(
            rewards=[r for r in g.rewards if r is not None],
            terms=[t for t, r in zip(g.terms, g.rewards, strict=True) if r is not None],
        )
        for g in groups
    ]
    for group, own, without in zip(groups, found, estimated(name, scored), strict=True):
        assert [a is None for a in own] == [r is None for r in group.rewards]
        assert [a for a in own if a is not None] == without
        assert math.fsum(a or 0.0 for a in own) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", SETTINGS)
@given(groups=batches(kinds=1))
def test_a_group_whose_rewards_are_all_equal_has_no_signal_to_the_last_bit(name: str, groups: list[Group]) -> None:
    for group, own in zip(groups, estimated(name, groups), strict=True):
        assert any(own) == informative(group.rewards)


def moved(groups: list[Group], scale: float, shifts: list[float]) -> list[Group]:
    """Rewards and values times `scale`; each group's are shifted by its own number."""

    def one(value: float | None, shift: float) -> float | None:
        return None if value is None else scale * value + shift

    return [
        g._replace(rewards=[one(r, s) for r in g.rewards], terms=[[one(v, s) for v in row] for row in g.terms])
        for g, s in zip(groups, shifts, strict=False)
    ]


@pytest.mark.parametrize("name", ["group", "none", "batch", "gdpo"])
@given(groups=batches(kinds=1), shift=st.sampled_from([1.0, -3.0]))
def test_a_constant_for_all_captions_of_a_problem_changes_nothing(name: str, groups: list[Group], shift: float) -> None:
    shifted = moved(groups, 1.0, [shift * i for i in range(len(groups))])
    for own, before in zip(estimated(name, shifted), estimated(name, groups), strict=True):
        assert [a or 0.0 for a in own] == pytest.approx([a or 0.0 for a in before], abs=1e-6)


@given(batches(kinds=1))
def test_a_constant_for_all_problems_changes_nothing_in_ema(groups: list[Group]) -> None:
    for own, before in zip(
        estimated("ema", moved(groups, 1.0, [2.0] * len(groups))), estimated("ema", groups), strict=True
    ):
        assert [a or 0.0 for a in own] == pytest.approx([a or 0.0 for a in before], abs=1e-4)


@pytest.mark.parametrize(("name", "times"), [("group", 1), ("none", 10), ("batch", 1), ("gdpo", 1), ("ema", 1)])
@given(groups=batches(kinds=1))
def test_rewards_ten_times_as_large(name: str, times: int, groups: list[Group]) -> None:
    """They change what is not divided by a deviation, and nothing else, up to the small number beside it."""
    larger = estimated(name, moved(groups, 10.0, [0.0] * len(groups)))
    for own, before in zip(larger, estimated(name, groups), strict=True):
        assert [a or 0.0 for a in own] == pytest.approx([times * (a or 0.0) for a in before], rel=5e-3, abs=1e-9)


@pytest.mark.parametrize("name", ["batch", "gdpo", "ema"])
def test_what_a_new_problem_replaced_enters_no_deviation(name: str) -> None:
    kept = [Group([1.0, 0.0], [[1.0], [0.0]], [1.0], "a"), Group([0.5, 0.0], [[0.5], [0.0]], [1.0], "a")]
    dropped = Group([1.0, 1.0], [[1.0], [1.0]], [1.0], "a", replaced=True)
    assert estimated(name, [*kept, dropped]) == [*estimated(name, kept), [0.0, 0.0]]


# --- difficulty -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "times"), [(0.0, 1.5), (0.25, 1.5), (0.26, 1.2), (0.75, 1.2), (0.76, 1.0), (1.0, 1.0), (None, 1.0)]
)
def test_hard_problems_count_more(rate: float | None, times: float) -> None:
    assert factor(rate) == times


def composed(
    values: dict[str, list[float | None]], advantage: config.Advantage, weights: dict[str, float]
) -> list[Any]:
    rollouts = [rollout(sample=i) for i in range(len(next(iter(values.values()))))]
    tables = [
        [RewardRow(uid="p", sample=i, value=v, detail="", response=None, verdict=None) for i, v in enumerate(column)]
        for column in values.values()
    ]
    return compose(rollouts, tables, [Term(name=n, weight=weights[n], gate=None) for n in values], advantage)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "ema"])
def test_the_pass_rate_is_the_mean_of_the_reward_that_is_named(name: str) -> None:
    values: dict[str, list[float | None]] = {"answer": [1.0, 0.0, 0.0, 0.0, None], "length": [0.1, 0.2, 0.3, 0.9, 1.0]}
    weights = {"answer": 1.0, "length": 0.5}
    plain = composed(values, SETTINGS[name], weights)
    scaled = composed(values, SETTINGS[name].model_copy(update={"by_pass_rate": "answer"}), weights)
    assert [row.advantage for row in scaled] == [a and a * 1.5 for a in (row.advantage for row in plain)]
    assert [row.reward for row in scaled] == [row.reward for row in plain]


def test_gdpo_takes_rewards_apart_that_a_sum_hides() -> None:
    """Captions whose sums are equal differ by kind: GDPO weighs by the spread of each kind, GRPO sees no difference."""
    values: dict[str, list[float | None]] = {"answer": [1.0, 0.0, 0.0], "length": [0.0, 1.0, 0.5]}
    weights = {"answer": 1.0, "length": 1.0}
    assert [row.reward for row in composed(values, SETTINGS["gdpo"], weights)] == [1.0, 1.0, 0.5]
    grpo = [row.advantage for row in composed(values, SETTINGS["group"], weights)]
    gdpo = [row.advantage for row in composed(values, SETTINGS["gdpo"], weights)]
    assert grpo[0] == grpo[1] and gdpo[0] != pytest.approx(gdpo[1], abs=0.1)


def test_gates_and_weights_of_0_count_in_gdpo_as_in_the_sum() -> None:
    gate = terms((config.LengthReward(name="mask", weight=0), config.AnswerReward(gate="mask")))
    rows = [[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]]
    tables = [
        [RewardRow(uid="p", sample=i, value=v, detail="", response=None, verdict=None) for i, v in enumerate(column)]
        for column in rows
    ]
    found = compose([rollout(sample=i) for i in range(4)], tables, gate, config.GdpoAdvantage())
    assert [row.reward for row in found] == [1.0, 0.0, 0.0, 1.0]
    expected = estimated("gdpo", [Group([1.0, 0.0, 0.0, 1.0], [[1.0], [0.0], [0.0], [1.0]], [1.0])])
    assert [[row.advantage for row in found]] == expected


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_a_pass_rate_of_no_reward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"advantage\.by_pass_rate: facts is no reward of this recipe; .* answer"):
        config.Recipe(advantage=config.NoneAdvantage(by_pass_rate="facts"))


def test_the_default_is_no_part_of_a_recipes_digest() -> None:
    from racro.identity import computed, recipe_digest

    assert "advantage" not in computed(config.Recipe())
    digests = {recipe_digest(config.Recipe(advantage=settings)) for settings in SETTINGS.values()}
    assert len(digests) == 5 and recipe_digest(config.Recipe()) in digests
